"""How small a model still foretells, shift by shift, what a large one does?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repeng.errors import BadInput
from repeng.places import Place
from repeng.report.answer import Answer, AnswerTable, Row, interval_text
from repeng.report.compare_charts import scatter_chart
from repeng.report.compared_studies import ComparedMethod, ComparedStudy
from repeng.report.page import Picture, grid_of
from repeng.report.scale_tables import (
    ModelPair,
    accuracy_rows,
    billions_of,
    by_size,
    correlation_rows,
    family_of,
    model_pairs,
)

TITLE = "How small a model still foretells, shift by shift, the accuracy of a large one?"
CORRELATIONS_HOW = (
    "Over the shifts that both models have, each once. ceiling: how far two draws of the larger model's prompts would "
    "correlate, at most; of both: how far the two models would if they agreed but for their prompts. Intervals take "
    "shifts as independent; those that share a source or target are less."
)
ACCURACIES_HOW = (
    "Accuracy by model, smallest first; (genies) is a preset of the released rules, which published files follow under "
    "the plain name."
)


def scale_answer(
    studies: Sequence[ComparedStudy],
    methods: Sequence[ComparedMethod],
    paths: Sequence[Place],
) -> Answer:
    """Accuracies of one method on several models, how they correlate, and the smallest that foretells the largest.

    Args:
        studies: read from the paths.
        methods: of them.
        paths: named where they cannot answer.

    Raises:
        BadInput: no method is there on two models.
    """
    pairs = model_pairs(methods)
    if not pairs:
        raise BadInput(f"{', '.join(map(str, paths))}: {_why_no_pair(studies, methods)}")
    compared = list(zip(pairs, correlation_rows(pairs), strict=True))
    families = list(dict.fromkeys(map(_family, compared)))
    of_largest = [_with_the_largest([one for one in compared if _family(one) == family]) for family in families]
    sentences = [_smallest(family, own) for (family, _), own in zip(families, of_largest, strict=True)]
    unknown = list(dict.fromkeys(one.model for one in by_size(methods) if billions_of(one.model) is None))
    if unknown:
        sentences.append(
            f"The size of {', '.join(unknown)} is not known, so that it stands last and is in no sentence: give the "
            "model a name that says it, as NAME-1.5b."
        )
    rows = [row for _, row in compared]
    tables = (
        AnswerTable("correlations", "One model against another, over shifts", CORRELATIONS_HOW, rows),
        AnswerTable("accuracies", "Accuracy, shift by shift", ACCURACIES_HOW, accuracy_rows(pairs)),
    )
    drawn = [pair for own in of_largest for pair, _ in own]
    return Answer("scale", TITLE, tuple(sentences), tables, _pictures(drawn))


def _why_no_pair(studies: Sequence[ComparedStudy], methods: Sequence[ComparedMethod]) -> str:
    """What is there instead of one method on two models, and what to give."""
    held = list(dict.fromkeys(one.model for one in methods))
    apart = dict.fromkeys(model for one in studies for model, *_ in one.predictions if model not in held)
    if apart:
        # A folder of evaluations takes the shifts of the studies that it is given with.
        return (
            f"{', '.join(apart)} and {', '.join(held)} have no shift in common; run a study on shifts that both have, "
            "as with --benchmark genies"
        )
    return f"no method on two models (there is {', '.join(held)}); give results of two models or more"


Compared = tuple[ModelPair, Row]
"""Two models, and how they correlate."""


def _family(one: Compared) -> tuple[str, str]:
    """The method, and what its accuracies are."""
    return family_of(one[0].small.method), one[0].small.figure


def _with_the_largest(compared: Sequence[Compared]) -> list[Compared]:
    """Those whose larger model is the largest of known size, by the smaller's size; all where none is known."""
    sized = [one for one in compared if one[1]["large_billions"] is not None]
    if not sized:
        return list(compared)
    largest = max(sized, key=lambda one: one[1]["large_billions"])[0].large.model
    return [one for one in sized if one[0].large.model == largest]


def _smallest(family: str, own: Sequence[Compared]) -> str:
    """Which is the smallest model whose correlation with the largest one has an interval above 0."""
    largest = own[0][0].large
    if billions_of(largest.model) is None:
        return f"{family}: no two models of known size."
    large = f"{largest.model} ({_size(largest.model)})"
    foretells = [row["pearson_low"] is not None and row["pearson_low"] > 0 for _, row in own]
    place = foretells.index(True) if any(foretells) else len(own)
    failed = "; ".join(f"{pair.small.title}, {_text(row)}" for pair, row in own[:place])
    if place == len(own):
        return f"{family}: no smaller model's correlation with {large} has an interval above 0: {failed}."
    pair, row = own[place]
    said = f"{family}: the smallest model that foretells {large} is of {_size(pair.small.model)}: {pair.small.title}, "
    smaller = f" Smaller, with an interval that is not above 0: {failed}." if failed else ""
    return f"{said}{_text(row)}.{smaller}"


def _text(row: Row) -> str:
    """A correlation with its interval, and what the prompts of both models would allow."""
    if row["pearson"] is None:
        return str(row["blank"])
    both = row["ceiling_of_both"]
    allowed = "" if both is None else f", of {both:.2f} that the prompts of both allow"
    if both == 0:
        allowed = ", and prompts alone explain how one of the two differs from shift to shift"
    return f"Pearson {interval_text(row, 'pearson')} over {row['shifts']} shifts{allowed}"


def _size(model: str) -> str:
    """`3.2M`, `30B`."""
    billions = billions_of(model)
    if billions is None:
        return "of unknown size"
    return f"{billions:g}B" if billions >= 1 else f"{1000 * billions:g}M"


def _pictures(pairs: Sequence[ModelPair]) -> tuple[Picture, ...]:
    rows = []
    for pair in pairs:
        small, large = pair.small.measured, pair.large.measured["accuracy"]
        shared = small[["accuracy", "label"]].join(large, rsuffix="_large", how="inner")
        for source, target in shared.index:
            own = shared.loc[(source, target)]
            names = {"x": pair.small.title, "y": pair.large.title, "shift": f"{source} → {target}"}
            figures = {"x_accuracy": float(own["accuracy"]), "y_accuracy": float(own["accuracy_large"])}
            rows.append({**names, "label": own["label"] or "shift", **figures})
    if not rows:
        return ()
    caption = "A point a shift: the smaller model across, the largest up. On the diagonal both are alike."
    return (Picture("scale-scatter", "Small against large", caption, scatter_chart(pd.DataFrame(rows)), grid_of(rows)),)
