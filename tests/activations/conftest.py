from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import made_up
from models import make_model

from repeng.activations.model import LanguageModel, load_model
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of an architecture, made once."""
    root = tmp_path_factory.mktemp("models")

    def folder(architecture: str) -> Path:
        place = root / architecture
        return place if place.is_dir() else make_model(architecture, place)

    return folder


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[str], Path]) -> Callable[[str], LanguageModel]:
    """A tiny model of an architecture, loaded once. Not to be changed."""
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
def split() -> Split:
    return made_up(12)


@pytest.fixture(scope="session")
def real_splits(genies_root: Path) -> list[Split]:
    """Some real examples: with empty responses, in Spanish, as code."""
    names = ("alpaca_low_quality", "spanish_output", "code_easy")
    found = load_distributions(genies_root / "distributions", names)
    splits = []
    for name in names:
        examples = (*found[name].train.examples, *found[name].test.examples)
        empty = [example for example in examples if "" in example.responses]
        short = sorted(examples, key=lambda example: len(example.prompt) + max(map(len, example.responses)))
        splits.append(Split(name, "train", tuple(dict.fromkeys([*empty[:1], *short[:3], short[len(short) // 2]]))))
    return splits
