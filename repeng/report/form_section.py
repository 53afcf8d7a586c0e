"""What the chat template changes: methods that a study asked in plain and in chat form, paired over the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repeng.metrics import Evaluation, mean_paired_difference
from repeng.report.answer import Row
from repeng.report.comparisons import with_holm
from repeng.report.frames import in_order, items_of, shift_frame, units_of
from repeng.report.predictions import Key, same_items
from repeng.results import ResultRow, figure_name
from repeng.results.verdicts import LEVEL
from repeng.study.text_forms import form_pairs

TITLE = "What the chat template changes"


def form_rows(rows: Sequence[ResultRow], evaluations: Mapping[Key, Evaluation]) -> list[Row]:
    """One row a method that is there in both forms; none where no method is.

    Means are over the shifts that both forms scored on the same items; the difference, chat minus plain, is paired over
    them, with an interval over prompts, a p-value, and that corrected (Holm) over all methods of the table.

    Args:
        rows: of a study.
        evaluations: of the same study.
    """
    frame = shift_frame(rows)
    measured = frame[frame["accuracy"].notna()]
    many = measured["figure"].nunique() > 1
    found: list[Row] = []
    for (model, figure), own in measured.groupby(["model", "figure"], sort=False):
        names = dict(own[["method", "name"]].to_numpy().tolist())
        for plain, chat in form_pairs(in_order(own["method"])):
            shifts = own.loc[own["method"] == plain, ["source", "target"]].itertuples(index=False, name=None)
            shared = [
                (target, one, other)
                for source, target in shifts
                if (one := evaluations.get((str(model), chat, source, target))) is not None
                and (other := evaluations.get((str(model), plain, source, target))) is not None
                and same_items(one, other)
            ]
            if not shared:
                continue
            targets, ones, others = (list(values) for values in zip(*shared, strict=True))
            difference = mean_paired_difference(ones, others, targets)
            means = (sum(one.accuracy for one in each) / len(each) for each in (others, ones))
            found.append(
                {
                    "method": names[plain],
                    **({"figure": figure_name(str(figure))} if many else {}),
                    "shifts": len(shared),
                    **dict(zip(("plain", "chat"), means, strict=True)),
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p,
                    "p_holm": None,
                }
            )
    return with_holm(found)


def form_sentence(found: Sequence[Row]) -> str:
    """Which methods the chat form changes, as far as tests tell; empty without a row."""
    if not found:
        return ""
    changed = [row for row in found if row["p_holm"] is not None and row["p_holm"] < LEVEL]
    of = f"{len(found)} method{'s' if len(found) > 1 else ''}"
    if not changed:
        return f"Paired tests (Holm) do not tell the chat form from the plain one for any of {of}."
    named = ", ".join(
        f"{row['method']} by {row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})" for row in changed
    )
    return f"By paired tests (Holm) the chat form changes {len(changed)} of {of}: {named}."


def form_caption(figures: Sequence[str]) -> str:
    """What the table is, of accuracies that are these."""
    return (
        "Means over shifts of each method with its texts as they are and with the chat template. The difference is "
        f"chat minus plain over the same {items_of(figures)}, its interval and p over {units_of(figures)}; p is also "
        "corrected (Holm) for all methods of the table."
    )
