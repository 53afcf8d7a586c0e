"""Worlds that the tests of watching share."""

from __future__ import annotations

import pytest
from watched_samples import World, make_world

from repeng.models.load import LanguageModel


@pytest.fixture(scope="session")
def exact(llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Activations kept in float32, as they were computed."""
    return make_world(llama, tmp_path_factory.mktemp("exact"), "float32")


@pytest.fixture(scope="session")
def rounded(llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Activations kept in bfloat16, as by default."""
    return make_world(llama, tmp_path_factory.mktemp("rounded"), "bfloat16")
