"""What is said of an erasure follows its intervals."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from repeng.errors import BadInput
from repeng.report.erasure_chart import erasure_chart
from repeng.report.erasure_tables import erasure_tables, verdict
from repeng.steering.eraser import Eraser
from repeng.study.erasure import Erasure, ErasureRow

ROW = ErasureRow(
    *("toy", "facts", "leace", 4, None, "facts", "fresh", "logistic", True, "facts", "pair accuracy", 100, 50, 4),
    *(0.90, 0.85, 0.94, 0.52, 0.44, 0.60, 0.03, -0.38, -0.46, -0.30, 0.0, None, None, None, 0.01, 0.02),
)


def erasure(*rows: ErasureRow) -> Erasure:
    d = torch.eye(3, dtype=torch.float64)[:1]
    eraser = Eraser("resid_post", "leace", ((4, -1),), d[:, :, None], d[:, None], 0 * d)
    return Erasure("toy", "facts", "leace", eraser, 4, None, 20, rows)


def said(*rows: ErasureRow) -> str:
    return verdict(erasure(*rows))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "nothing told from chance, .52 (.44-.60) of .90"),
        ({"after": 0.7, "after_low": 0.65, "after_high": 0.77}, ".70 (.65-.77) left of .90."),
        (
            {"after": 0.88, "after_low": 0.83, "after_high": 0.92, "change": -0.02, "change_high": 0.03},
            ".88 (.83-.92) left of .90, which is no less by its interval",
        ),
        ({"after": 0.3, "after_low": 0.2, "after_high": 0.4}, ".30 (.20-.40) of .90, below chance"),
        ({"before": 0.53, "before_low": 0.45, "before_high": 0.6}, ".53 before was chance already, .52 (.44-.60)"),
        ({"after_low": None, "after_high": None}, "without an interval"),
    ],
)
def test_the_verdict_follows_the_interval(changes: dict[str, float | None], words: str) -> None:
    sentence = said(replace(ROW, **changes))  # type: ignore[arg-type]
    assert sentence.startswith("facts erased by leace at layer 4. On facts linear (logistic): ")
    assert words in sentence


def test_the_first_linear_probe_and_the_first_other_speak() -> None:
    other = replace(ROW, probe="mms", after=0.1)
    network = replace(ROW, probe="mlp", linear=False, after=0.71, after_low=0.65, after_high=0.77)
    sentence = said(ROW, other, network)
    assert "not linear (mlp): .71 (.65-.77) left of .90" in sentence and "mms" not in sentence


def test_those_that_lost_most_are_named() -> None:
    lost = replace(ROW, rows="own", probe="lda", random=0.9, random_low=0.88, random_high=0.92)
    rows = [replace(lost, target=f"d{k}", after=0.5 + k / 50, change=-0.4 + k / 50) for k in range(6)]
    kept = replace(lost, target="kept", after=0.89, change=-0.01, change_high=0.02)
    sentence = said(ROW, *rows, kept)
    assert "fell on 6 of 7 others: d0 .90 to .50, d1 .90 to .52, d2 .90 to .54, d3 .90 to .56, and 2 more" in sentence
    assert "None of 1 other" in said(ROW, kept)
    # Below its random directions alone, or by its interval alone, is not enough.
    assert "None of 1 other" in said(ROW, replace(rows[0], random_low=0.4))


def test_the_tables_fit_100_columns() -> None:
    same = replace(ROW, rows="same", random=0.9, random_low=0.88, random_high=0.92)
    long = [replace(each, target="arithmetic_words", probe="logistic") for each in (ROW, same)]
    lost = [replace(same, rows="own", target=f"a_distribution_{k}", layer=k % 12) for k in range(24)]
    stream = StringIO()
    console = Console(file=stream, width=100)
    shown = erasure_tables(erasure(ROW, same, *long, *lost))
    for each in shown[:-1]:
        console.print(each)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    (row,) = (line for line in lines if line.startswith("4") and " facts " in line)
    assert row.split()[:4] == ["4", "logistic", "facts", ".90"]
    assert ".52 (.44-.60)  -.38 (-.46, -.30)" in row and ".88-.92" in row


def test_the_chart_has_a_panel_a_probe_and_target_and_a_line_a_way() -> None:
    rows = [vars(replace(ROW, by=by, layer=layer)) for by in ("leace", "mms") for layer in (3, 4)]
    drawn = erasure_chart(rows).to_dict()
    (values,) = [values for values in drawn["datasets"].values() if len(values) > 1]
    assert {row["when"] for row in values} == {"before", "after leace", "after mms"}
    assert len(values) == 3 * 2
    with pytest.raises(BadInput, match="no layer to draw"):
        erasure_chart([])
    with pytest.raises(BadInput, match="every head"):
        erasure_chart([vars(replace(ROW, head=1))])
