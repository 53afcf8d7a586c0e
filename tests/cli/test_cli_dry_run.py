"""A dry run promises nothing that the run cannot do."""

from __future__ import annotations

from pathlib import Path

from cli_samples import Repeng

FILE = """
from repeng.probes import MMS


class Unmade(MMS):
    def __init__(self):
        raise RuntimeError("not today")


class Unfitted(MMS):
    def fit_direction(self, features, labels, pairs):
        raise ValueError("no direction")


class Wide(MMS):
    def response_scores(self, activations):
        return activations


class NoMethod: ...


class Method:
    def fit(self, model, source, *, seed): ...
    def score(self, questions): ...
"""


def test_faults_of_an_own_file_are_found_before_the_model_runs(
    repeng: Repeng, study_flags: tuple[object, ...], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(FILE)
    where = ("--store", tmp_path / "store", "--out", tmp_path / "out", "--limit", 4, "--dry-run")
    own = [f"{mine}:{name}" for name in ("Unfitted", "Wide", "Metod", "NoMethod", "Method")]
    said = repeng("run", *study_flags, *where, "--methods", ",".join(["length", *own]))
    assert said.code == 1
    assert "mine.py:Unfitted: tried on made-up activations it fails: ValueError: no direction" in said.out
    assert (
        "mine.py:Wide: tried on made-up activations of 2 layers and 40 responses it gives scores of shape" in said.out
    )
    assert "mine.py has no Metod; did you mean Method" in said.out
    assert "NoMethod has no method fit and no method score; a method has both" in said.out
    assert said.out.count("failed: ") == 4
    unmade = repeng("run", *study_flags, *where, "--methods", f"{mine}:Unmade")
    assert unmade.code == 2
    assert "mine.py:Unmade: its constructor fails: RuntimeError: not today" in unmade.err
    assert {each.name for each in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


def test_a_method_that_the_texts_are_not_for_is_said_with_its_reason(repeng: Repeng, tmp_path: Path) -> None:
    rows = [f'{{"statement": "number {n} is {"odd" if n % 2 else "even"}", "label": {n % 2}}}' for n in range(40)]
    (tmp_path / "claims.jsonl").write_text("\n".join(rows))
    said = repeng("run", "--data", tmp_path / "claims.jsonl", "--methods", "tfidf,mms-genies", "--dry-run", "--json")
    assert said.code == 1
    assert {failure["method"] for failure in said.json["impossible"]} == {"mms-genies"}
    assert "goes by pairs of responses" in said.json["impossible"][0]["reason"]
