"""Tuning on a disk that fails."""

from __future__ import annotations

from pathlib import Path

from faults import Scenario, bounded, content, prove, told, whole_files
from polite import polite_split

from repeng.tuning.settings import preset_settings
from repeng.tuning.tuned_model import tune

WITHOUT = {"held_out": 0.0, "patience": 0}


def tuning_scenario(folder: Path, base: str) -> Scenario:
    folder.mkdir()
    settings = preset_settings(
        "lora", "default", steps=3, batch_size=2, micro_batch_size=2, checkpoint_every=1, **WITHOUT
    )
    source = polite_split(4)

    def run(root: Path) -> None:
        tune(base, source, method="lora", root=root, settings=settings)

    run(folder.with_name("whole"))
    expected = content(folder.with_name("whole"))

    def check(work: Path) -> None:
        for marker in work.glob("*/tuned.json"):
            assert {name: held for name, held in whole_files(work).items() if "checkpoints" not in name} == expected, (
                marker
            )

    return Scenario(folder, run, check, content)


@bounded(2)
def test_a_tuned_model(bound: int | None, tmp_path: Path, base: str) -> None:
    told("tuned model", prove(tuning_scenario(tmp_path / "tuned", base), bound=bound))
