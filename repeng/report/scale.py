"""How small a model still foretells, shift by shift, what a large one does?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from repeng.errors import BadInput
from repeng.report.answer import Answer, AnswerTable
from repeng.report.compare_charts import scatter_chart
from repeng.report.compared_studies import ComparedMethod, ComparedStudy
from repeng.report.page import Picture, grid_of
from repeng.report.perplexity import interval_text
from repeng.report.scale_tables import (
    ModelPair,
    Row,
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
ACCURACIES_HOW = "Accuracy by model, smallest first; (genies) is a preset of the released rules, which published files follow."


def scale_answer(
    studies: Sequence[ComparedStudy],  # noqa: ARG001
    methods: Sequence[ComparedMethod],
    paths: Sequence[Path],
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
        held = ", ".join(dict.fromkeys(one.model for one in methods))
        given = ", ".join(map(str, paths))
        raise BadInput(f"{given}: no method on two models (there is {held}); give results of two models or more")
    correlations = correlation_rows(pairs)
    families = list(dict.fromkeys((family_of(one.small.method), one.small.figure) for one in pairs))
    sentences = [_smallest(_of(family, pairs), _of(family, pairs, correlations)) for family in families]
    unknown = list(dict.fromkeys(one.model for one in by_size(methods) if billions_of(one.model) is None))
    if unknown:
        sentences.append(
            f"The size of {', '.join(unknown)} is not known, so that it stands last and is in no sentence: give the "
            "model a name that says it, as NAME-1.5b."
        )
    tables = (
        AnswerTable("correlations", "One model against another, over shifts", CORRELATIONS_HOW, correlations),
        AnswerTable("accuracies", "Accuracy, shift by shift", ACCURACIES_HOW, accuracy_rows(pairs)),
    )
    return Answer("scale", TITLE, tuple(sentences), tables, _pictures(pairs))
