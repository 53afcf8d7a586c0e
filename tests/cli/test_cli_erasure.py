"""`repeng erase` on a planted store."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from cli_samples import Repeng

from repeng.steering.eraser import Eraser


@pytest.fixture
def flags(place: Path) -> tuple[object, ...]:
    return ("erase", "--store", place / "planted", "--source", "near", "--draws", "3", "--fits", "2", "--refit", "mms")


def test_an_erasure_is_shown_and_written(repeng: Repeng, flags: tuple[object, ...], tmp_path: Path) -> None:
    files = ("--csv", tmp_path / "e.csv", "--plot", tmp_path / "e.svg", "--out", tmp_path / "eraser")
    said = repeng(*flags, "--target", "like", *files)
    assert said.code == 0
    assert "what else went: lda fitted and tested on each other distribution" in said.out
    assert "near erased by leace at layer 2. On near linear (mms): " in " ".join(said.out.split())
    assert Eraser.load(tmp_path / "eraser").layers == (0, 1, 2, 3)
    assert (tmp_path / "e.svg").read_text().startswith("<svg")
    with (tmp_path / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    plain = repeng(*flags, "--target", "like", "--json").json
    assert [float(row["after"]) for row in rows] == [row["after"] for row in plain["rows"]]
    assert list(plain["verdicts"]) == ["leace"] and "layer 2" in plain["verdicts"]["leace"]


def test_several_ways_have_a_folder_each_and_others_are_chosen(
    repeng: Repeng, flags: tuple[object, ...], tmp_path: Path
) -> None:
    how = ("--by", "leace,mms", "--layers", "1-2", "--others", "far")
    found = repeng(*flags, *how, "--out", tmp_path, "--json").json
    assert {(row["by"], row["layer"]) for row in found["rows"]} == {(by, n) for by in ("leace", "mms") for n in (1, 2)}
    assert {row["fitted_on"] for row in found["rows"]} == {"near", "far"}
    assert Eraser.load(tmp_path / "mms").by == "mms" and Eraser.load(tmp_path / "leace").layers == (1, 2)
    alone = repeng(*flags, "--layers", "2", "--others", "none")
    assert alone.code == 0 and "what else went" not in alone.out


def test_heads_have_tables_and_no_picture(repeng: Repeng, flags: tuple[object, ...], tmp_path: Path) -> None:
    heads = (*flags, "--site", "hook_z", "--layers", "2", "--others", "none")
    assert "2.1" in repeng(*heads).out
    said = repeng(*heads, "--plot", tmp_path / "e.svg")
    assert said.code == 2 and "every head" in said.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "leece"), "unknown probe 'leece'"),
        (("--layers", "auto"), "chooses among layers"),
        (("--others", "near"), "is the source itself"),
        (("--plot", "e.jpg"), "cannot draw 'e.jpg'"),
        (("--target", "elsewhere"), "unknown distribution"),
    ],
)
def test_a_mistake_has_one_sentence(repeng: Repeng, flags: tuple[object, ...], options: tuple[str, str], words) -> None:
    said = repeng(*flags, *options)
    assert said.code == 2 and words in said.err and "Traceback" not in said.err
