"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def genies_root() -> Path:
    """The folder of real GENIES data: `distributions`, `distribution_shifts`, `results`."""
    for place in (os.environ.get("REPENG_GENIES"), REPOSITORY.parent / "shared" / "genies"):
        if place and (Path(place) / "distributions").is_dir():
            return Path(place)
    pytest.skip("no GENIES data here: name its folder in REPENG_GENIES")
