"""Saving a probe on a disk that fails."""

from __future__ import annotations

from pathlib import Path

import torch
from faults import Scenario, bounded, content, prove, told
from planted import fit_probe, planted

from repeng.probes.io import load, save
from repeng.probes.registry import get_probe


def probe_scenario(folder: Path) -> Scenario:
    """A probe is saved over another."""
    before, after = (fit_probe(get_probe(name), planted().source(), seed=3) for name in ("mms", "lda"))
    save(before, folder)

    def act(work: Path) -> None:
        save(after, work)

    def check(work: Path) -> None:
        found = load(work)
        expected = before if found.name == "mms" else after
        assert found.name == expected.name
        for name, value in found.probe.state().items():
            assert torch.equal(value, expected.probe.state()[name])

    def named(work: Path) -> dict[str, bytes]:
        # Weights that no description names may lie there until the next save.
        described = (work / "probe.json").read_text()
        return {name: held for name, held in content(work).items() if name in described or name == "probe.json"}

    return Scenario(folder, act, check, named)


@bounded(40)
def test_a_saved_probe(bound: int | None, tmp_path: Path) -> None:
    told("probe", prove(probe_scenario(tmp_path / "probe"), bound=bound))
