"""Does zero-shot foretell generalization, and do probes fitted where it is below chance generalise differently?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from repeng.errors import BadInput
from repeng.places import Place
from repeng.report.answer import Answer, AnswerTable, Row, interval_text
from repeng.report.compared_studies import ComparedMethod, ComparedStudy
from repeng.report.gap_chart import gap_chart
from repeng.report.page import Picture, grid_of
from repeng.report.perplexity_tables import AGAINST, correlation_rows, shift_rows
from repeng.report.source_kinds import ABOVE, BELOW, UNTOLD, kind_rows, source_rows
from repeng.results import PAIR_ACCURACY
from repeng.study.text_forms import zero_shot_form

TITLE = (
    "Does what the model finds likely foretell how a method generalises, and do probes generalise differently if "
    "zero-shot is below chance on their source?"
)
CORRELATIONS_HOW = (
    "Over the shifts of a method: its accuracy against zero-shot accuracy, and against the mean over pairs of the "
    "best response's log-probability less the worse one's. baseline: which zero-shot. Intervals take shifts as "
    "independent; those that share a source or target are less."
)
KINDS_HOW = (
    "zero shot below, zero shot above: mean over targets of probes fitted on sources on which zero-shot is below "
    "chance, and above; sources below, sources above: how many. The interval of their difference counts sources and "
    "targets as draws. No correction for the number of methods."
)
SOURCES_HOW = (
    "Zero-shot on the source's own test split: above chance (the better response has the lower perplexity more often "
    "than not) where the interval lies above 1/2, below chance where it lies at or below 1/2; where it holds 1/2 "
    "inside, that cannot be told."
)
SHIFTS_HOW = (
    "right together: correlation over pairs of the method's being right with zero-shot's being right (phi). margin "
    "with gap: rank correlation over pairs of the method's own margin with the gap. Intervals are over prompts."
)


def perplexity_answer(
    studies: Sequence[ComparedStudy],  # noqa: ARG001
    methods: Sequence[ComparedMethod],
    paths: Sequence[Place],
) -> Answer:
    """Accuracies of every method against zero-shot, over shifts and over pairs, and by what zero-shot is on the source.

    Args:
        studies: read from the paths.
        methods: of them; those of labelled texts are left out.
        paths: named where they cannot answer.

    Raises:
        BadInput: no method of pairs, or nothing is known of zero-shot.
    """
    of_pairs = [one for one in methods if one.figure == PAIR_ACCURACY]
    asked = [one for one in of_pairs if zero_shot_form(one.method) is None and one.kind != "chance"]
    shifts = shift_rows(asked, of_pairs)
    if all(row["zero_shot_of_target"] is None for row in shifts):
        given = ", ".join(map(str, paths))
        raise BadInput(
            f"{given}: no method of pairs with zero-shot accuracies next to it; run the study with zero-shot among its "
            "--methods and another, or give the folder of evaluations that holds zero_shot"
        )
    correlations = correlation_rows(shifts)
    sources = source_rows(of_pairs)
    kinds = kind_rows(of_pairs, sources)
    sentences = [
        *(_foretold(correlations, against) for against in AGAINST.values()),
        *_source_sentences(sources),
        *_kind_sentences(kinds),
        *_notes(shifts, [one.title for one in methods if one.figure != PAIR_ACCURACY]),
    ]
    tables = (
        AnswerTable("correlations", "Accuracy against zero-shot, over shifts", CORRELATIONS_HOW, correlations),
        AnswerTable("kinds", "Probes by whether zero-shot is below or above chance on their source", KINDS_HOW, kinds),
        AnswerTable("sources", "Zero-shot on each source", SOURCES_HOW, sources),
        AnswerTable("shifts", "Shift by shift, and pair by pair", SHIFTS_HOW, shifts),
    )
    return Answer("perplexity", TITLE, tuple(filter(None, sentences)), tables, _pictures(shifts))


def _pictures(shifts: Sequence[Row]) -> tuple[Picture, ...]:
    frame = pd.DataFrame(shifts).dropna(subset="gap_of_target")
    if frame.empty:
        return ()
    frame = frame.assign(shift=frame["source"] + " → " + frame["target"], label=frame["label"].replace("", "shift"))
    names = ["method", "shift", "label", "accuracy", "zero_shot_of_target", "gap_of_target"]
    drawn = frame[names].astype({"zero_shot_of_target": float, "gap_of_target": float})
    caption = "A point a shift. Right of the upright dashed line the model finds best responses likelier on average."
    table = grid_of([{str(name): value for name, value in row.items()} for row in drawn.to_dict("records")])
    return (Picture("perplexity-gap", "Accuracy against the log-probability gap", caption, gap_chart(drawn), table),)


def _foretold(rows: Sequence[Row], against: str) -> str:
    """Which methods' accuracy goes along with a figure, which goes against it, and of which that cannot be told."""
    own = [row for row in rows if row["against"] == against]
    known = [row for row in own if row["pearson"] is not None]
    if not known:
        return f"Accuracy against {against}: {_reasons(own)}."
    groups: dict[str, list[str]] = {"rises with it": [], "falls with it": [], "cannot be told": []}
    for row in known:
        groups[_direction(row, "pearson", tuple(groups))].append(f"{row['method']} {interval_text(row, 'pearson')}")
    return f"Accuracy against {against} (Pearson over shifts). {_grouped(groups)}"


def _direction(row: Mapping[str, Any], name: str, words: Sequence[str]) -> str:
    """The first word where a figure's interval lies above 0, the second where below, else the third."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return words[2]
    return words[0] if low > 0 else words[1] if high < 0 else words[2]


def _reasons(rows: Iterable[Row]) -> str:
    return "; ".join(dict.fromkeys(row["blank"] for row in rows if row["blank"])) or "there is nothing to compare"


def _source_sentences(sources: Sequence[Row]) -> list[str]:
    """By zero-shot that sources were held against: on how many it is above chance, and on which it is not."""
    if not sources:
        return [
            "On which sources the better response has the lower perplexity is not known: no study has zero-shot among "
            "its methods."
        ]
    many = len({(row["study"], row["model"]) for row in sources}) > 1
    baselines = list(dict.fromkeys(row["baseline"] for row in sources))
    found = []
    for baseline in baselines:
        rows = [row for row in sources if row["baseline"] == baseline]
        kinds = {kind: [row for row in rows if row["zero_shot_is"] == kind] for kind in (ABOVE, BELOW, UNTOLD)}
        below, untold = (_sources_named(kinds[kind], many) for kind in (BELOW, UNTOLD))
        by = f" By {baseline}." if baselines != ["zero-shot"] else ""
        found.append(
            f"The better response has the lower perplexity more often than not on {len(kinds[ABOVE])} of "
            f"{_counted(rows)}, no more often than not on {below}; on {untold} that cannot be told.{by}"
        )
    return found


def _counted(rows: Sequence[Row]) -> str:
    return f"{len(rows)} source{'' if len(rows) == 1 else 's'}"


def _sources_named(rows: Sequence[Row], many: bool) -> str:
    """`2 (facts, code)`: how many, and which; of which model where there are several models or studies."""
    named = ", ".join(f"{row['source']}{' of ' + row['model'] if many else ''}" for row in rows)
    return f"{len(rows)} ({named})" if rows else "0"


def _kind_sentences(rows: Sequence[Row]) -> list[str]:
    """What is said of accuracy, and of elicitation where that is known."""
    if all(row["difference"] is None for row in rows):
        return [f"How probes generalise if zero-shot is below chance on their source cannot be told: {_reasons(rows)}."]
    found = []
    for figure, compared in dict.fromkeys((row["figure"], row["compared"]) for row in rows):
        own = [row for row in rows if (row["figure"], row["compared"]) == (figure, compared)]
        known = [row for row in own if row["difference"] is not None]
        begin = f"Probes with zero-shot below chance on their source, {figure} less that of the others, {compared}. "
        if not known:
            found.append(f"{begin}Cannot be told: {_reasons(own)}.")
            continue
        groups: dict[str, list[str]] = {"higher": [], "lower": [], "cannot be told": []}
        for row in known:
            text = f"{row['method']} {interval_text(row, 'difference')}"
            groups[_direction(row, "difference", tuple(groups))].append(text)
        found.append(begin + _grouped(groups))
    return found


def _grouped(groups: Mapping[str, Sequence[str]]) -> str:
    """`Higher: mms, lat; cannot be told: ccs.`: the groups that have something in them."""
    said = "; ".join(f"{name}: {', '.join(own)}" for name, own in groups.items() if own)
    return f"{said[0].upper()}{said[1:]}."


def _notes(shifts: Sequence[Row], texts: Sequence[str]) -> list[str]:
    """What methods were held against, what the gaps were made of, and what was left out."""
    found = [
        f"Held against {baseline}: {', '.join(dict.fromkeys(own))}."
        for baseline in dict.fromkeys(row["baseline"] for row in shifts)
        if baseline not in ("", "zero-shot") and (own := [r["method"] for r in shifts if r["baseline"] == baseline])
    ]
    hidden = [row for row in shifts if row["gap_of_target"] is None]
    if hidden:
        first = f"{hidden[0]['source']} → {hidden[0]['target']}: {hidden[0]['gap_from']}"
        found.append(f"The gap is unknown for {len(hidden)} of {len(shifts)} rows (as of {first}).")
    if any(row["gap_from"].startswith("probabilities") for row in shifts):
        found.append(
            "Where a file holds no scores, the gap is the log-odds of its probabilities, which released files take "
            "over the padded length: nats a token, not a pair. A probability of exactly 0 or 1 counts as 36.7 nats."
        )
    if texts:
        found.append(f"Left out, as labelled texts have no pairs: {', '.join(texts)}.")
    return found
