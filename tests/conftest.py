"""Fixtures that many tests share.

What is heavy is imported by the fixtures: the process that only hands out files to others' processes needs none of it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import type_checks  # noqa: F401  (before the first import of repeng)

if TYPE_CHECKING:
    from repeng.distributions.schema import Split
    from repeng.models.load import LanguageModel
    from repeng.study.settings import Study
    from repeng.study.study import StudyOutcome

REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = ("mms", "cra", "zero-shot", "zero-shot-mean", "zero-shot-genies", "few-shot", "truthfulness", "length")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is collected while modules are imported, nothing of which is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def old_objects_are_left_alone() -> None:
    """The garbage collector passes over what was there before a module's tests: modules, and what sessions share.

    Transformers and accelerate collect garbage with every model and run: a third of a second each, of a million objects
    that stay.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def genies_root() -> Path:
    """The folder of real GENIES data: `distributions`, `distribution_shifts`, `results`."""
    for place in (os.environ.get("REPENG_GENIES"), REPOSITORY.parent / "shared" / "genies"):
        if place and (Path(place) / "distributions").is_dir():
            return Path(place)
    pytest.skip("no GENIES data here: name its folder in REPENG_GENIES")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of an architecture, made once."""
    from tiny_models import make_model

    root = tmp_path_factory.mktemp("models")

    def folder(architecture: str) -> Path:
        place = root / architecture
        return place if place.is_dir() else make_model(architecture, place)

    return folder


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[str], Path]) -> Callable[[str], LanguageModel]:
    """A tiny model of an architecture, loaded once. Not to be changed."""
    from repeng.models.load import load_model

    loaded: dict[str, LanguageModel] = {}

    def model(architecture: str) -> LanguageModel:
        if architecture not in loaded:
            loaded[architecture] = load_model(str(folder_of(architecture)), device="cpu")
        return loaded[architecture]

    return model


@pytest.fixture(scope="session")
def llama(model_of: Callable[[str], LanguageModel]) -> LanguageModel:
    return model_of("llama")


@pytest.fixture
def chat_lm(folder_of: Callable[[str], Path]) -> LanguageModel:
    """A model of its own, for templates to be set on its tokenizer."""
    from chat_samples import UNMARKED

    from repeng.models.load import load_model

    lm = load_model(str(folder_of("llama")), device="cpu")
    lm.tokenizer.chat_template = UNMARKED
    return lm


@pytest.fixture
def split() -> Split:
    from made_up import made_up

    return made_up(12)


@pytest.fixture(scope="session")
def real_splits(genies_root: Path) -> list[Split]:
    """Some real examples: with empty responses, in Spanish, as code."""
    from repeng.distributions.load import load_distributions
    from repeng.distributions.schema import Split

    names = ("alpaca_low_quality", "spanish_output", "code_easy")
    found = load_distributions(genies_root / "distributions", names)
    splits = []
    for name in names:
        examples = (*found[name].train.examples, *found[name].test.examples)
        empty = [example for example in examples if "" in example.responses]
        short = sorted(examples, key=lambda example: len(example.prompt) + max(map(len, example.responses)))
        splits.append(Split(name, "train", tuple(dict.fromkeys([*empty[:1], *short[:3], short[len(short) // 2]]))))
    return splits


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 3 layers that takes 256 tokens."""
    from tiny_models import make_model

    return make_model("llama", tmp_path_factory.mktemp("tiny") / "tiny-llama", positions=256)


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> str:
    """The same as an argument."""
    return str(tiny_model)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small world: `data` and `shifts.json`."""
    from small_world import world, write_world

    return write_world(tmp_path_factory.mktemp("small-world"), world())


@pytest.fixture(scope="session")
def study_of(tiny_model: Path) -> Callable[..., Study]:
    """A study of the tiny model on a world's folder, with its results and store in another: each method fitted once."""
    from repeng.study.settings import Study

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
                "fits": 1,
                "nulls": 0,
                **settings,
            }
        )

    return study


@pytest.fixture(scope="session")
def finished_alone(finished: StudyOutcome, tmp_path_factory: pytest.TempPathFactory) -> StudyOutcome:
    """The finished study with the best layer alone. Not to be written to."""
    from small_world import silent

    from repeng.study.study import plan_study, run_study

    study = replace(finished.plan.study, layers="top-k:1", out=str(tmp_path_factory.mktemp("alone") / "out"))
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_world: Path, study_of: Callable[..., Study]
) -> StudyOutcome:
    """A study of every cached kind of method that has run. Not to be written to."""
    from small_world import silent

    from repeng.study.study import plan_study, run_study

    plan = plan_study(study_of(small_world, tmp_path_factory.mktemp("finished")))
    return run_study(plan, progress=silent, note=lambda _line: None)
