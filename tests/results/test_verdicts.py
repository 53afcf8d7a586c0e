"""What may be said of an accuracy after correction over the study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repeng.results import ResultRow, with_verdicts
from repeng.results.verdicts import ABOVE, BELOW, NOTHING_OVER_CHANCE, NOTHING_OVER_NULL


def row(method: str = "mms", **values: object) -> ResultRow:
    names = {"model": "m", "layers": "", "source": "s", "target": "t", "target_reference": "t"}
    return ResultRow(**{**names, "label": "", "category": "", "method": method, **values})


def test_holm_is_over_every_result_of_the_study_once() -> None:
    rows = [row(target=f"t{number}", accuracy=0.9, p=p) for number, p in enumerate((0.001, 0.02, 0.03))]
    twice = [*rows, replace(rows[0], label="again")]
    found = with_verdicts(twice)
    assert [one.p_corrected for one in found] == pytest.approx([0.003, 0.04, 0.04, 0.003])
    assert [one.verdict for one in found] == [ABOVE] * 4


def test_the_side_is_the_accuracys_and_the_null_is_named_where_there_is_one() -> None:
    found = with_verdicts(
        [
            row("a", accuracy=0.1, p=0.0),
            row("b", accuracy=0.6, p=0.5, null_sd=0.1),
            row("c", accuracy=0.6, p=0.5),
            row("d", accuracy=0.6),
            row("target-tuned:mms", accuracy=0.9, p=0.0),
        ]
    )
    assert [one.verdict for one in found] == [BELOW, NOTHING_OVER_NULL, NOTHING_OVER_CHANCE, "", ""]
    assert [one.p_corrected for one in found] == [0.0, 1.0, 1.0, None, None]
