"""`repeng plot` writes figures and says what to write under them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_samples import Repeng
from made_up_study import make_rows

from repeng.results import write_results


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of two methods; it is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_results(make_rows({"mms": (0.9, 0.8, 0.4, 0.5), "lat": (0.7, 0.6, 0.5, 0.5)}), tmp_path / "results.csv")
    return tmp_path


def test_a_figure_is_a_pdf_in_the_current_folder_with_a_caption_to_begin_with(repeng: Repeng, results: Path) -> None:
    said = repeng("plot", "heat-map", results)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("wrote heat-map.pdf (3.30 x ")
    assert "Pair accuracy of mms, lat on 4 shifts, model tiny." in said.out
    assert (results / "heat-map.pdf").read_bytes().startswith(b"%PDF-")


def test_the_ending_or_the_format_says_what_is_written(repeng: Repeng, results: Path) -> None:
    flags = ("plot", "heat-map", results, "--methods", "lat", "--width", "240pt", "--json")
    found = json.loads(repeng(*flags, "--out", results / "deep" / "a.svg").out)
    assert Path(found["figure"]).read_text().startswith("<svg")
    assert found["width_in"] == pytest.approx(240 / 72, abs=0.02) and found["caption"].startswith(
        "Pair accuracy of lat"
    )
    found = json.loads(repeng(*flags, "--out", results / "b", "--format", "png", "--dpi", "100").out)
    assert Path(found["figure"]) == results / "b.png"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--out", "a.png", "--format", "pdf"), "--out a.png ends in .png, and --format is pdf"),
        (("--out", "a.tiff"), "unknown ending .tiff; end it in .pdf, .svg, .png or .html"),
        (("--format", "eps"), "unknown format 'eps'"),
        (("--dpi", "300"), "--dpi is for a png"),
        (("--methods", "lta"), "unknown method 'lta'"),
        (("--width", "1in"), "width 1in is too narrow for the heat-map figure of 2 methods"),
    ],
)
def test_a_figure_that_cannot_be_is_one_line_and_no_file(
    repeng: Repeng, results: Path, flags: tuple[str, ...], message: str
) -> None:
    said = repeng("plot", "heat-map", results, *flags)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ") and message in said.err and len(said.err.splitlines()) == 1
    assert [path.name for path in results.iterdir()] == ["results.csv"]
