"""The frame of an answer: what is said, shown and written, and the errors of asking."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest
from browsers import chromium, open_page, serious_faults  # noqa: F401
from rich.console import Console

from repeng.errors import UnknownName
from repeng.metrics import Estimate
from repeng.report.answer import MOST_ROWS, Answer, AnswerTable, interval_columns, interval_text
from repeng.report.page import Picture, grid_of
from repeng.report.questions import ASKED, answer_question

ROWS = [
    {"method": "mms<b>", "share": 0.25, "share_low": 0.125, "share_high": 0.5, "shifts": 3, "blank": ""},
    {"method": "lat", "share": None, "share_low": None, "share_high": None, "shifts": 0, "blank": ""},
]
LONG = [{"number": number, "square": number**2} for number in range(MOST_ROWS + 1)]


@pytest.fixture(scope="module")
def answer() -> Answer:
    chart = alt.Chart(pd.DataFrame({"x": [1], "y": [2]})).mark_point().encode(x="x", y="y")
    return Answer(
        "made-up",
        "Is it so?",
        ("It may be <i>so</i>.",),
        (
            AnswerTable("shares", "Shares", "A share is a part.", ROWS),
            AnswerTable("none", "Nothing", "Empty.", []),
            AnswerTable("long", "Squares", "Of numbers.", LONG),
        ),
        (Picture("dots", "Dots", "A dot.", chart, grid_of(LONG[:2])),),
    )


def printed(answer: Answer) -> str:
    stream = io.StringIO()
    for item in answer.renderables():
        Console(file=stream, width=120).print(item)
    return stream.getvalue()


def test_the_sentences_come_first_then_each_table_with_what_it_means(answer: Answer) -> None:
    text = printed(answer)
    places = [text.index(one) for one in ("Is it so?", "It may be", "Shares", "0.250 (0.125 to 0.500)", "A share is")]
    assert places == sorted(places)
    assert "Nothing" not in text and "blank" not in text and "share low" not in text
    assert f"Squares: {MOST_ROWS + 1} rows, which --out DIR writes" in text


def test_everything_is_written(answer: Answer, tmp_path: Path) -> None:
    answer.write(tmp_path)
    assert json.loads((tmp_path / "made-up.json").read_text()) == answer.as_dict()
    assert answer.as_dict()["tables"]["shares"] == ROWS and answer.as_dict()["tables"]["none"] == []
    with (tmp_path / "made-up-shares.csv").open() as file:
        read = list(csv.DictReader(file))
    assert (read[0]["share_low"], read[1]["share"]) == ("0.125", "")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("made-up.html", "made-up.json", "made-up-shares.csv", "made-up-long.csv", "dots.svg", "dots.png"),
    }


def test_the_page_escapes_and_folds_what_is_long(answer: Answer, tmp_path: Path) -> None:
    answer.write(tmp_path)
    page = (tmp_path / "made-up.html").read_text()
    assert "It may be &lt;i&gt;so&lt;/i&gt;." in page and "mms&lt;b&gt;" in page and "<script" not in page
    assert "<td>0.250<small>0.125 to 0.500</small></td>" in page
    assert f"<details><summary>{MOST_ROWS + 1} rows</summary>" in page
    for where in ("dots", "shares", "long"):
        assert f'<a href="#{where}">' in page and f'id="{where}"' in page


def test_a_figure_goes_with_its_interval() -> None:
    row = interval_columns("kappa", Estimate(0.5, 0.25, 0.75))
    assert row == {"kappa": 0.5, "kappa_low": 0.25, "kappa_high": 0.75}
    assert interval_text(row, "kappa") == "0.50 (0.25 to 0.75)"
    assert interval_text(interval_columns("kappa", Estimate(0.5)), "kappa") == "0.50 (no interval)"
    assert set(interval_columns("kappa", None).values()) == {None}


def test_an_unknown_question_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=f"unknown question 'why'; choose from {', '.join(sorted(ASKED))}"):
        answer_question("why", [tmp_path])


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_axe_finds_no_serious_fault_in_the_page(
    answer: Answer,
    tmp_path: Path,
    chromium: Any,  # noqa: F811
    scheme: str,
    width: int,
) -> None:
    answer.write(tmp_path)
    page = open_page(chromium, (tmp_path / "made-up.html").as_uri(), scheme=scheme, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.faults == []
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
