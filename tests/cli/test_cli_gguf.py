"""Commands on a GGUF file: a study from end to end, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_samples import Repeng
from gguf_files import make_gguf_folder, write_gguf
from small_world import SHIFTS, world, write_world

from repeng.models.fingerprint import cpu_has_bfloat16


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quantised model and a small world of one shift."""
    root = tmp_path_factory.mktemp("gguf-cli")
    write_gguf(make_gguf_folder(root / "tiny", positions=256), root / "tiny.gguf", kind="Q8_0")
    write_world(root, world(8), SHIFTS[:1])
    return root


def flags(room: Path, *more: object) -> tuple[object, ...]:
    where = ("--benchmark", room / "shifts.json", "--data", room / "data", "--store", room / "store")
    return ("--model", room / "tiny.gguf", *where, "--device", "cpu", "--fits", 1, "--nulls", 0, *more)


def test_a_study_of_a_file_runs_once_and_is_found_again(
    repeng: Repeng, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("--methods", "mms,zero-shot,lora(steps=3),few-shot", "--out", room / "out")
    first = repeng("run", *flags(room, *methods, "--json"))
    assert first.code == 0, first.err
    assert first.json["failures"] == []
    rows = [row for row in first.json["rows"] if row["method"] != "target-tuned"]
    assert {row["method"] for row in rows} >= {"mms", "zero-shot", "lora(steps=3)", "few-shot"}
    assert all(row["accuracy"] is not None for row in rows)
    dtype = "bfloat16" if cpu_has_bfloat16() else "float32"
    assert f"texts, computed in {dtype}" in first.err
    before = {file: file.stat().st_mtime_ns for file in (room / "store").rglob("*.safetensors")}

    # Elsewhere, by another spelling of the same file, with new results to be made of what the store holds.
    monkeypatch.chdir(room)
    again = ("--model", "tiny.gguf", "--out", room / "again", "--json")
    second = repeng("run", *flags(room, *methods), *again)
    assert second.code == 0 and "the model is not run" in second.err
    assert {file: file.stat().st_mtime_ns for file in (room / "store").rglob("*.safetensors")} == before
    assert [row["accuracy"] for row in second.json["rows"]] == [row["accuracy"] for row in first.json["rows"]]


def test_quiet_is_quiet_while_weights_are_unpacked(room: Path, tmp_path: Path) -> None:
    # A process of its own: bars are turned off as their library is imported.
    data = ("--model", room / "tiny.gguf", "--data", room / "data", "--store", tmp_path, "--device", "cpu")
    command = ["-c", "from repeng.cli import main; main()", "cache", *map(str, data), "--quiet"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert list(tmp_path.rglob("*.safetensors"))


def test_a_plan_says_the_dtype_and_reads_no_weights(repeng: Repeng, room: Path, tmp_path: Path) -> None:
    empty = ("--store", tmp_path / "s", "--out", tmp_path / "o", "--methods", "mms", "--dry-run")
    for dtype in ("float32", "bfloat16"):
        said = repeng("run", *flags(room, *empty, "--dtype", dtype))
        assert said.code == 0 and f"texts, computed in {dtype}" in said.out
        assert repeng("run", *flags(room, *empty, "--dtype", dtype, "--json")).json["dtype"] == dtype


def test_a_wrong_model_is_one_line(repeng: Repeng, room: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    for name, complaint in (
        (room / "absent.gguf", "there is no such file"),
        (tmp_path / "x.gguf", "no readable GGUF file"),
        (tmp_path, f"its GGUF files are given by name: {tmp_path / 'x.gguf'}"),
    ):
        said = repeng("cache", "--model", name, "--data", room / "data", "--store", tmp_path / "s")
        assert said.code == 2 and said.out == ""
        assert said.err.startswith(f"error: {name}: ") and said.err.count("\n") == 1
        assert complaint in said.err


def test_a_plugin_of_a_folder_is_told_that_it_needs_a_folder(repeng: Repeng, room: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    folder.mkdir()
    for name in ("train.py", "eval.py"):
        (folder / name).write_text("")
    said = repeng("run", *flags(room, "--methods", f"length,{folder}", "--out", tmp_path / "o"))
    assert said.code == 1
    assert "a plug-in loads its model from a folder; save it as one" in said.err
    assert "Traceback" not in said.err
