"""The texts that a study was about, found again by what its folder says."""

from __future__ import annotations

from repeng.benchmarks.loaded import load_benchmark
from repeng.distributions.schema import Distribution
from repeng.errors import BadInput
from repeng.places import Place
from repeng.study.settings import Study


def texts_of(results: Place) -> dict[str, Distribution]:
    """The distributions of the study in a results folder; none where its study or data is no longer there."""
    if not (results / "study.toml").is_file():
        return {}
    study = Study.read(results / "study.toml", {})
    try:
        world = load_benchmark(
            study.benchmark,
            study.data,
            limit=study.limit,
            reading=study.reading,
            partial=study.partial,
            **study.shifts_asked,
        )
        return world.distributions
    except BadInput:
        return {}
