"""The examples run as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def rich(cells: list[Any]) -> list[str]:
    """Every table and chart that some cells show."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_and_shows_its_charts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "study.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = rich(notebook.cells)
    assert sum("vegaEmbed" in html for html in shown) == 3
    assert sum("<table" in html for html in shown) == 5
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    said = "".join(output.text for output in first.outputs if output.output_type == "stream")
    # A bar shows only where a step takes more than a second.
    assert "evaluations made, 0 read back" in said
    assert (tmp_path / "results" / "mini-mini-first60" / "results.csv").is_file()


def test_the_notebook_of_texts_of_one_s_own_shows_what_it_shows_when_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "python.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    before = [[sorted(output["data"]) for output in cell.outputs] for cell in code]
    assert sum(bool(outputs) for outputs in before) >= 8
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    after = [[sorted(output["data"]) for output in cell.outputs if output.output_type != "stream"] for cell in code]
    assert after == before
    shown = rich(code)
    assert sum("vegaEmbed" in html for html in shown) == 2
    assert sum("<table" in html for html in shown) == 2
    assert list(tmp_path.iterdir()) == []
