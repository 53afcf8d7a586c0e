from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models import make_model
from small_world import silent, world, write_world

from repeng.benchmarks.settings import Study
from repeng.benchmarks.study import StudyResult, plan_study, run_study

METHODS = ("mms", "cra", "zero-shot", "zero-shot-mean", "zero-shot-genies", "few-shot", "truthfulness", "length")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 3 layers that takes 256 tokens."""
    return make_model("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama", positions=256)


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> str:
    """The same as an argument."""
    return str(tiny_model)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small world: `data` and `shifts.json`."""
    return write_world(tmp_path_factory.mktemp("small-world"), world())


@pytest.fixture(scope="session")
def study_of(tiny_model: Path) -> Callable[..., Study]:
    """A study of the tiny model on a world's folder, with its results and store in another."""

    def study(world_folder: Path, place: Path, **settings: Any) -> Study:
        return Study(
            **{
                "model": str(tiny_model),
                "benchmark": str(world_folder / "shifts.json"),
                "data": str(world_folder / "data"),
                "methods": METHODS,
                "store": str(place / "store"),
                "out": str(place / "out"),
                "device": "cpu",
                **settings,
            }
        )

    return study


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_world: Path, study_of: Callable[..., Study]
) -> StudyResult:
    """A study of every cached kind of method that has run. Not to be written to."""
    plan = plan_study(study_of(small_world, tmp_path_factory.mktemp("finished")))
    return run_study(plan, progress=silent, note=lambda _line: None)
