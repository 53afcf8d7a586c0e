"""Shifts whose data are at hand, where those of others are not."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from small_world import SHIFTS, world, write_world

from repeng.benchmarks.loaded import load_benchmark
from repeng.distributions.cautions import Caution
from repeng.distributions.schema import Shift
from repeng.errors import BadInput, UnknownName
from repeng.study.cautions import benchmark_cautions


def lacking(folder: Path, *names: str) -> tuple[str, str]:
    """A world's shift file and data, but for some distributions."""
    write_world(folder, world(6))
    for name in names:
        shutil.rmtree(folder / "data" / name)
    return str(folder / "shifts.json"), str(folder / "data")


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("terse", SHIFTS[:2]),
        ("hard", SHIFTS[1:2]),  # the target of one and the reference of another
        ("polite", SHIFTS[:1]),  # a target of one and the source of another
    ],
)
def test_the_shifts_are_left_whose_every_distribution_is_there(
    gone: str, left: tuple[Shift, ...], tmp_path: Path
) -> None:
    shifts, data = lacking(tmp_path, gone)
    found = load_benchmark(shifts, data, partial=True)
    assert found.benchmark.shifts == left
    assert found.benchmark.name == "shifts" and not found.every_pair
    assert set(found.distributions) == {name for one in left for name in (one.source, one.target, one.target_reference)}
    assert found.left_out == 3 - len(left) and found.missing == (gone,)
    cautions = [one for one in benchmark_cautions(found) if one.kind == "left_out"]
    assert cautions == [Caution("left_out", f"{3 - len(left)} of the 3 shifts of shifts", f"no {gone}")]


def test_without_it_the_error_says_how_many_shifts_could_be_had(tmp_path: Path) -> None:
    shifts, data = lacking(tmp_path, "terse")
    with pytest.raises(BadInput, match=r"are not there: terse; --partial takes the 2 shifts that have their data$"):
        load_benchmark(shifts, data)


@pytest.mark.parametrize("partial", [True, False])
def test_where_no_shift_is_left_that_is_an_error_and_no_way_out_is_shown(partial: bool, tmp_path: Path) -> None:
    shifts, data = lacking(tmp_path, "easy", "terse")
    with pytest.raises(BadInput, match=r"2 distribution\(s\) of benchmark shifts are not there: easy, terse$"):
        load_benchmark(shifts, data, partial=partial)


def test_where_everything_is_there_it_changes_nothing(tmp_path: Path) -> None:
    shifts, data = lacking(tmp_path)
    found = load_benchmark(shifts, data, partial=True)
    assert found == load_benchmark(shifts, data)
    assert not [one for one in benchmark_cautions(found) if one.kind == "left_out"]


def test_a_benign_distribution_is_never_left_out(tmp_path: Path) -> None:
    shifts, data = lacking(tmp_path, "hard", "terse")
    found = load_benchmark(shifts, data, partial=True, benign="easy")
    assert set(found.distributions) == {"easy", "polite"}
    (tmp_path / "mine.json").write_text(json.dumps([asdict(SHIFTS[0]), asdict(SHIFTS[1])]))
    # No shift that is left names it, and it is loaded all the same.
    shutil.copytree(tmp_path / "data" / "easy", tmp_path / "data" / "calm")
    found = load_benchmark(str(tmp_path / "mine.json"), data, partial=True, benign="calm")
    assert set(found.distributions) == {"easy", "polite", "calm"}
    with pytest.raises(UnknownName, match="--benign"):
        load_benchmark(str(tmp_path / "mine.json"), data, partial=True, benign="terse")
