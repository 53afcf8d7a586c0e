"""Labelled texts on the command line: a whole run, and probes from the store, each figure named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_samples import Repeng

from repeng.benchmarks.mini import mini_distributions


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statements of facts, next to the pairs that they come from."""
    folder = tmp_path_factory.mktemp("claims")
    (distribution,) = mini_distributions(names=["facts"], limit=20).values()
    for name, split in distribution.splits.items():
        texts, pairs = [], []
        for example in split.examples:
            group = str(example.prompt)
            pairs.append(
                {"prompt": group, "responses": dict(zip(example.responses, example.labels, strict=True))},
            )
            texts += [
                {"statement": group + text, "label": int(label), "group": group}
                for text, label in zip(example.responses, example.labels, strict=True)
            ]
        for kind, rows in (("statements", texts), ("pairs", pairs)):
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_run_and_a_score_of_statements_and_pairs_name_their_figures(
    repeng: Repeng, claims: Path, tmp_path: Path
) -> None:
    flags = ("--data", claims, "--store", tmp_path / "store")
    said = repeng("run", *flags, "--out", tmp_path / "out", "--methods", "mms,length")
    assert said.code == 0 and "pair accuracy or AUROC of labelled texts" in " ".join(said.out.split())
    assert "Labelled texts, means over 2 shifts" in said.out and "means: AUROC" in said.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'id="texts"' in page and "of labelled texts</strong> mms" in page and "Contradictions" not in page
    found = repeng("report", tmp_path / "out", "--out", tmp_path / "again.html", "--json").json
    assert Path(found["report"]).read_text().count("texts</summary>") == page.count("texts</summary>") > 0
    fit = repeng("fit", *flags, "--source", "statements", "--probe", "mms", "--out", tmp_path / "p")
    assert fit.code == 0, fit.err
    score = ("score", *flags, "--probe", tmp_path / "p", "--target", "statements", "--target", "pairs")
    texts, pairs = repeng(*score, "--json").json
    assert (texts["figure"], pairs["figure"]) == ("auroc", "pair accuracy")
    assert texts["recall_at_1_low"] <= texts["recall_at_1"] <= texts["recall_at_1_high"]
    assert "balanced_accuracy_low" in texts and "recall_at_1" not in pairs
    shown = repeng(*score).out
    assert f"{texts['accuracy']:.3f}" in shown and "AUROC" in shown and "pair accuracy" in shown
    targets = ("--target", "statements", "--target", "pairs")
    sweep = repeng("sweep", *flags, "--source", "pairs", *targets, "--probe", "mms").out
    assert "AUROC on statements, fitted on pairs" in sweep and "pair accuracy on pairs, fitted on pairs" in sweep
    matrix = repeng("matrix", *flags, "--probe", "mms", "--plot", tmp_path / "m.svg").out
    assert "AUROC of labelled texts in the columns of 2 statements; pair accuracy in the others" in matrix
    assert "statements, AUROC" in (tmp_path / "m.svg").read_text()
