"""Stores, data and published evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_samples import Repeng
from planted_store import planted, write_store
from small_world import world, write_world


def test_a_store_is_listed_verified_and_emptied(repeng: Repeng, tmp_path: Path) -> None:
    parts = {(name, "train", "plain", "resid_post"): planted({}, seed=0) for name in ("near", "far")}
    write_store(tmp_path, parts)
    listed = repeng("store", "ls", tmp_path)
    assert "near/train" in listed.out
    rows = repeng("store", "ls", tmp_path, "--json").json
    total = sum(each["bytes"] for each in rows)
    assert f"{total / 1e6:.1f} MB in all" in listed.out
    assert all(sum(each["part_bytes"].values()) == each["bytes"] for each in rows)
    assert repeng("store", "verify", tmp_path).code == 0
    shard = next(tmp_path.glob("*/near/*/*/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    damaged = repeng("store", "verify", tmp_path, "--json")
    assert damaged.code == 1
    assert len(damaged.json) == 1 and str(shard) in damaged.json[0]
    capture = shard.parents[3].name
    assert repeng("store", "rm", capture, "--store", tmp_path, "--distribution", "near").code == 0
    assert not shard.exists() and list(tmp_path.glob("*/far"))
    assert repeng("store", "rm", capture, "--store", tmp_path).code == 0
    assert repeng("store", "ls", tmp_path, "--json").json == []
    assert repeng("store", "rm", capture, "--store", tmp_path).code == 2


def test_a_listing_sums_distributions_parts_and_the_store_and_fits_80_columns(repeng: Repeng, tmp_path: Path) -> None:
    parts = {
        (name, split, "plain", site): planted({}, seed=0)
        for name in ("near", "far")
        for split in ("train", "test")
        for site in ("resid_post", "hook_z")[: 1 + (name == "near")]
    }
    write_store(tmp_path, parts)
    rows = repeng("store", "ls", tmp_path, "--json").json
    listed = repeng("store", "ls", tmp_path).out

    def line(beginning: str) -> list[str]:
        return next(line.split() for line in listed.splitlines() if line.startswith(beginning))

    def megabytes(counts: list[int]) -> str:
        return f"{sum(counts) / 1e6:,.1f}"

    assert line("near/train")[4:7] == ["2", "of", "2"] and line("far/train")[4:7] == ["1", "of", "2"]
    near = [row["bytes"] for row in rows if row["split"][0] == "near"]
    assert line("near in all")[-1] == megabytes(near)
    shown = "plain.resid_post.last"
    assert line(shown)[-1] == megabytes([row["part_bytes"][shown] for row in rows])
    assert f"{megabytes([row['bytes'] for row in rows])} MB of activations" in listed
    table = [line for line in listed.splitlines() if not line.startswith(str(tmp_path))]
    assert max(map(len, table)) <= 80


def test_data_are_listed_checked_and_exported(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    listed = repeng("data", "ls", place / "data", "--json").json
    assert {(row["distribution"], row["split"], row["examples"]) for row in listed} >= {("easy", "train", 8)}
    assert "terse" in repeng("data", "ls", place / "data").out
    checked = repeng("data", "check", place / "data")
    assert checked.code == 0
    assert "caution: targets of fewer than 30 test prompts: easy (8), hard (8), polite (8) and 1 more; " in checked.out
    assert checked.out.endswith("4 distribution(s): no problem, 1 caution(s)\n")
    strict = repeng("data", "check", place / "data", "--strict", "--json")
    assert strict.code == 2
    assert (
        strict.json["problems"] == []
        and {"kind": "few_prompts", "where": "terse", "text": "8"} in strict.json["cautions"]
    )
    broken = tmp_path / "bad"
    write_world(broken, world(4))
    (broken / "data" / "easy" / "test.json").write_text('[{"prompt": "p", "responses": {"a": 1.0, "b": 1.0}}]')
    said = repeng("data", "check", broken / "data", "--json")
    assert said.code == 2
    (problem,) = said.json["problems"]
    assert "easy" in problem["file"] and problem["example"] == 0
    assert repeng("data", "export", "mini", tmp_path / "mini").code == 0
    written = sorted((tmp_path / "mini" / "distributions").iterdir())
    for folder in written[3:]:
        shutil.rmtree(folder)
    few = repeng("data", "check", tmp_path / "mini" / "distributions", "--strict")
    assert len(written) == 31
    assert few.code == 0 and few.out.endswith("\n3 distribution(s): all good\n")


@pytest.mark.slow
def test_the_whole_of_the_embedded_benchmark_is_good(repeng: Repeng, tmp_path: Path) -> None:
    assert repeng("data", "export", "mini", tmp_path / "mini").code == 0
    mini = repeng("data", "check", tmp_path / "mini", "--strict")
    assert mini.code == 0 and mini.out.endswith("\n31 distribution(s): all good\n")


def test_published_evaluations_are_rescored_as_json(repeng: Repeng, genies_root: Path) -> None:
    flags = ("--benchmark", "genies", "--model", "llama-30b", "--methods", "mms")
    said = repeng("rescore", genies_root / "results" / "evaluations", *flags, "--json")
    assert said.code == 0
    assert len(said.json) == 15
    assert {"accuracy", "elicitation", "published_columns"} <= set(said.json[0])


def test_every_command_of_a_store_takes_its_folder_in_either_way(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    store = shutil.copytree(place / "planted", tmp_path / "store")
    for command in ("ls", "verify"):
        first, second = repeng("store", command, store), repeng("store", command, "--store", store)
        assert (first.code, first.out) == (0, second.out)
    ids = list(dict.fromkeys(each["capture"] for each in repeng("store", "ls", store, "--json").json))
    assert repeng("store", "rm", ids[0], store).code == 0
    for other in ids[1:]:
        assert repeng("store", "rm", other, "--store", store).code == 0
    assert "nothing is captured here" in repeng("store", "ls", store).out
