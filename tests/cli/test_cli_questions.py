"""`repeng compare --question`: one answer alone, and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_samples import Repeng
from made_up_study import write_study

ACCURACIES = {"mms": (0.9, 0.8, 0.5, 0.4), "zero-shot": (0.7, 0.72, 0.5, 0.48)}


@pytest.fixture
def studies(tmp_path: Path) -> tuple[Path, Path]:
    """Of one method on two models."""
    for name, model in (("small", "tiny-1b"), ("large", "tiny-7b")):
        write_study(tmp_path / name, ACCURACIES, model=model)
    return tmp_path / "small", tmp_path / "large"


@pytest.mark.parametrize(
    ("question", "begins"), [("scale", "How small a model"), ("perplexity", "Does what the model finds likely")]
)
def test_the_command_gives_that_answer_alone(
    repeng: Repeng, studies: tuple[Path, Path], tmp_path: Path, question: str, begins: str
) -> None:
    said = repeng("compare", *studies, "--question", question, "--json", "--out", tmp_path / "out")
    assert said.code == 0
    held = json.loads(said.out)
    assert held["question"] == question and held["tables"]["correlations"]
    assert (tmp_path / "out" / f"{question}.html").is_file() and not (tmp_path / "out" / "comparison.html").exists()
    plain = repeng("compare", *studies, "--question", question)
    assert plain.out.startswith(begins) and "kappa" not in plain.out


def test_what_cannot_be_asked_is_said(repeng: Repeng, studies: tuple[Path, Path]) -> None:
    both = repeng("compare", *studies, "--question", "scale", "--against", "mms")
    assert (both.code, both.err.strip()) == (2, "error: --against and --question conflict: give only one")
    unknown = repeng("compare", *studies, "--question", "why")
    assert unknown.code == 2 and "unknown question 'why'; choose from" in unknown.err
    alone = repeng("compare", studies[0], "--question", "scale")
    assert alone.code == 2 and "no method on two models (there is tiny-1b)" in alone.err
