"""A tiny base model for tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_model


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random Llama."""
    return str(make_model("llama", tmp_path_factory.mktemp("base"), positions=128))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where tuned models go."""
    return tmp_path / "tuned"
