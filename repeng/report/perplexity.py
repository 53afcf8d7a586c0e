"""Does low perplexity foretell generalization, and do probes fitted where it does not help generalise differently?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from repeng.errors import BadInput
from repeng.report.answer import Answer, AnswerTable, interval_text
from repeng.report.compared_studies import ComparedMethod, ComparedStudy
from repeng.report.gap_chart import gap_chart
from repeng.report.page import Picture, grid_of
from repeng.report.perplexity_tables import AGAINST, Row, correlation_rows, shift_rows
from repeng.report.source_kinds import BETTER, NOT_BETTER, UNTOLD, kind_rows, source_rows
from repeng.report.zero_shot_baseline import NAMES
from repeng.results import PAIR_ACCURACY

TITLE = (
    "Does what the model finds likely foretell how a method generalises, and do probes fitted where low perplexity is "
    "not better generalise differently?"
)
CORRELATIONS_HOW = (
    "Over the shifts of a method: its accuracy against zero-shot accuracy, and against the mean over pairs of the "
    "best response's log-probability less the worse one's. Intervals take shifts as independent; those that share a "
    "source or target are less."
)
KINDS_HOW = (
    "Mean over targets of probes fitted on sources where low perplexity is not better, and where it is better; the "
    "interval of their difference counts sources and targets as draws. No correction for the number of methods."
)
SOURCES_HOW = (
    "Zero-shot on the source's own test split: low perplexity is better where the interval lies above 1/2, not better "
    "where it lies at or below, and cannot be told where it holds 1/2 inside."
)
SHIFTS_HOW = (
    "right together: correlation over pairs of the method's being right with zero-shot's being right (phi). margin "
    "with gap: rank correlation over pairs of the method's own margin with the gap. Intervals are over prompts."
)


def perplexity_answer(
    studies: Sequence[ComparedStudy],  # noqa: ARG001
    methods: Sequence[ComparedMethod],
    paths: Sequence[Path],
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
    asked = [one for one in of_pairs if one.method not in NAMES and one.kind != "chance"]
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
        _source_sentence(sources),
        *_kind_sentences(kinds),
        *_notes(shifts, [one.title for one in methods if one.figure != PAIR_ACCURACY]),
    ]
    tables = (
        AnswerTable("correlations", "Accuracy against zero-shot, over shifts", CORRELATIONS_HOW, correlations),
        AnswerTable("kinds", "Probes fitted where low perplexity is not better, and where it is", KINDS_HOW, kinds),
        AnswerTable("sources", "What low perplexity is on each source", SOURCES_HOW, sources),
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


def _source_sentence(sources: Sequence[Row]) -> str:
    if not sources:
        return "Which sources have low perplexity for better is not known: no study has zero-shot among its methods."
    many = len({(row["study"], row["model"]) for row in sources}) > 1
    said = []
    for kind in (BETTER, NOT_BETTER, UNTOLD):
        own = [
            f"{row['source']}{' of ' + row['model'] if many else ''}"
            for row in sources
            if row["low_perplexity_is"] == kind
        ]
        named = f" ({', '.join(own)})" if own and kind != BETTER else ""
        said.append(f"{kind} on {len(own)}{named}")
    return f"Of {len(sources)} sources, low perplexity is {'; '.join(said)}."


def _kind_sentences(rows: Sequence[Row]) -> list[str]:
    """What is said of accuracy, and of elicitation where that is known."""
    if all(row["difference"] is None for row in rows):
        return [f"How probes fitted where low perplexity is not better generalise cannot be told: {_reasons(rows)}."]
    found = []
    for figure, compared in dict.fromkeys((row["figure"], row["compared"]) for row in rows):
        own = [row for row in rows if (row["figure"], row["compared"]) == (figure, compared)]
        known = [row for row in own if row["difference"] is not None]
        begin = f"Probes fitted where low perplexity is not better, {figure} less that of the others, {compared}. "
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
    """What the gaps were made of, and what was left out."""
    found = []
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
