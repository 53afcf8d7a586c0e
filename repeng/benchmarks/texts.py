"""The texts that a study was about, found again by what its folder says."""

from __future__ import annotations

from pathlib import Path

from repeng.benchmarks.settings import Study
from repeng.benchmarks.world import open_world
from repeng.distributions.schema import Distribution
from repeng.errors import BadInput


def texts_of(results: Path) -> dict[str, Distribution]:
    """The distributions of the study in a results folder; none where its study or data is no longer there."""
    if not (results / "study.toml").is_file():
        return {}
    study = Study.read(results / "study.toml", {})
    try:
        return open_world(study.benchmark, study.data, limit=study.limit).distributions
    except BadInput:
        return {}
