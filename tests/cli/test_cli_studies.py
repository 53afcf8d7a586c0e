"""Studies and captures: what is printed where, and exit codes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_samples import Repeng
from small_world import world, write_world


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    repeng: Repeng, study_flags: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*study_flags, "--store", "nowhere", "--out", "nothing", "--dry-run"]
    said = repeng("run", *flags)
    assert said.code == 0
    assert "3 shifts over 4 distributions" in said.out
    assert "to write, " in said.out and "by a short trial here: about" in said.out
    assert "of memory, " in said.out and "probes are fitted and scored in" in said.out
    plan = repeng("run", *flags, "--json").json
    assert plan["tokens_to_capture"] > 1000
    assert plan["capture_seconds_estimate"] > 0
    assert plan["fit_memory_estimate"] > 0 and plan["capture_estimate"]["lacking"] == []
    assert (plan["evaluations_done"], plan["methods"]) == (0, ["mms", "zero-shot", "length"])
    assert {"kind": "few_prompts", "where": "terse", "text": "8"} in plan["cautions"]
    assert "caution: targets of fewer than 30 test prompts" in said.out
    assert repeng("run", *flags, "--strict").code == 2
    assert list(tmp_path.iterdir()) == []


def test_all_methods_can_be_planned(repeng: Repeng, study_flags: tuple[object, ...], tmp_path: Path) -> None:
    said = repeng(
        "run", *study_flags, "--methods", "all", "--store", tmp_path / "s", "--limit", 4, "--dry-run", "--json"
    )
    assert said.code == 0
    assert {"lora", "prompt-tuning"} == set(said.json["tuned_models"])
    assert said.json["tuned_models"]["lora"] == 3


def test_a_run_writes_its_results_and_a_second_reads_them_back(
    repeng: Repeng, study_flags: tuple[object, ...], place: Path
) -> None:
    first = repeng("run", *study_flags, "--json")
    assert first.code == 0
    assert len(first.json["rows"]) == 3 * 3 + 2
    assert first.json["failures"] == []
    assert "parts written" in first.err
    (tests,) = re.findall(r"paired tests of every method: repeng (.*)", first.err)
    assert repeng(*shlex.split(tests)).code == 0
    for name in ("results.csv", "study.toml", "report.html"):
        assert (place / "out" / name).is_file()
    again = repeng("run", place / "out" / "study.toml")
    assert again.code == 0
    assert "the model is not run" in again.err
    assert "0 evaluations made" in again.err
    assert "results.csv" in again.out
    quiet = repeng("run", place / "out" / "study.toml", "--quiet", "--json")
    assert quiet.err == ""
    assert quiet.json == first.json


def test_a_failing_method_is_told_and_the_exit_code_is_1(
    repeng: Repeng, study_flags: tuple[object, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "unlucky"
    folder.mkdir()
    for name in ("train.py", "eval.py"):
        (folder / name).write_text("raise SystemExit('out of luck')")
    said = repeng("run", *study_flags, "--methods", f"length,{folder}", "--out", tmp_path / "o", "--limit", 4, "--json")
    assert said.code == 1
    line = next(line for line in said.err.splitlines() if line.startswith("failed: unlucky"))
    assert "out of luck" in said.err and "evaluation(s)" in line
    assert {row["method"] for row in said.json["rows"] if row["accuracy"] is not None} >= {"length"}
    assert "Traceback" not in said.err.replace("Traceback (most recent call last):", "")


def test_caching_twice_writes_nothing_the_second_time(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    flags = ("--model", place / "tiny", "--data", place / "data", "--store", tmp_path, "--limit", 2, "--device", "cpu")
    more = ("--stimuli", "plain", "--stimuli", r"judge={prompt}{response}\nGood, or bad? Good", "--layers", "1-2")
    first = repeng("cache", *flags, *more, "--json").json
    assert (first["parts_written"], first["parts_reused"]) == (8 * 3, 0)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    second = repeng("cache", *flags, *more, "--json")
    assert (second.json["parts_written"], second.json["parts_reused"]) == (0, 8 * 3)
    assert "all 24 parts are in" in second.err
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")} == before
    listing = repeng("store", "ls", tmp_path, "--json").json
    assert len(listing) == 8
    assert {part.partition(".")[0].partition("-")[0] for row in listing for part in row["parts"]} == {"plain", "judge"}


def test_under_strict_a_caution_ends_a_command_before_the_model_runs(
    repeng: Repeng, study_flags: tuple[object, ...], place: Path, tmp_path: Path
) -> None:
    flags = (*study_flags, "--store", tmp_path / "store", "--out", tmp_path / "out")
    (tmp_path / "study.toml").write_text("strict = true\n")
    data = ("--model", place / "tiny", "--data", place / "data", "--store", tmp_path / "store", "--device", "cpu")
    for said in (
        repeng("run", *flags, "--strict"),
        repeng("run", tmp_path / "study.toml", *flags),
        repeng("cache", *data, "--strict"),
    ):
        assert said.code == 2
        assert "\n  targets of fewer than 30 test prompts: " in said.err.split("error: --strict takes cautions")[1]
        assert said.out == ""
    assert not (tmp_path / "store").exists() and not (tmp_path / "out").exists()


def test_under_strict_what_the_figures_show_ends_a_run_with_1_after_its_results(
    repeng: Repeng, place: Path, tmp_path: Path
) -> None:
    write_world(tmp_path, world(32))
    flags = ("--model", place / "tiny", "--benchmark", tmp_path / "shifts.json", "--data", tmp_path / "data")
    more = ("--store", tmp_path / "s", "--out", tmp_path / "o", "--methods", "mms,length", "--device", "cpu")
    said = repeng("run", *flags, *more, "--strict", "--json")
    assert said.code == 1
    assert "sources that a text-only baseline solves: easy (length 1.00, mms " in said.err.split("error: ")[1]
    assert {caution["kind"] for caution in said.json["cautions"]} == {"text_solved"}
    assert "Sources that a text-only baseline solves" in (tmp_path / "o" / "report.html").read_text()
    assert repeng("run", tmp_path / "o" / "study.toml", "--no-strict").code == 0


def test_an_interrupted_run_says_that_its_work_is_kept(place: Path, tmp_path: Path) -> None:
    flags = ["--model", place / "tiny", "--data", place / "data", "--store", tmp_path / "s", "--out", tmp_path / "o"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from repeng.cli import main; main()", "run", *map(str, flags), "--methods", "mms"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and not (tmp_path / "s").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "what was finished is kept" in err
    assert out == "" and "Traceback" not in err


def test_a_study_of_the_shifts_whose_data_are_there_says_what_it_leaves_out(
    repeng: Repeng, place: Path, tmp_path: Path
) -> None:
    write_world(tmp_path, world(8))
    for file in (tmp_path / "data" / "terse").iterdir():
        file.unlink()
    (tmp_path / "data" / "terse").rmdir()
    data = ("--benchmark", tmp_path / "shifts.json", "--data", tmp_path / "data", "--store", tmp_path / "store")
    flags = ("--model", place / "tiny", *data, "--device", "cpu")
    study = ("--out", tmp_path / "out", "--methods", "length", "--json")
    for command in (("run", *flags, *study), ("cache", *flags)):
        said = repeng(*command)
        assert said.code == 2 and said.out == ""
        assert said.err.endswith("are not there: terse; --partial takes the 2 shifts that have their data\n")
        assert not (tmp_path / "store").exists() and not (tmp_path / "out").exists()
    said = repeng("run", *flags, *study, "--partial")
    assert said.code == 0
    assert "caution: shifts that are left out" in said.err and "1 of the 3 shifts of shifts (no terse)" in said.err
    rows = {(row["source"], row["target"]) for row in said.json["rows"] if row["method"] == "length"}
    assert rows == {("easy", "hard"), ("easy", "polite")}
    # The study's file remembers it; the same with its data whole is another study.
    assert repeng("run", tmp_path / "out" / "study.toml").code == 0
    for again in (("run", *flags, *study), ("run", tmp_path / "out" / "study.toml", "--whole")):
        assert "partial is True there and False here" in repeng(*again).err
    cached = repeng("cache", *flags, "--partial", "--json")
    assert cached.code == 0 and "left out" in cached.err
    assert {path.name for path in (tmp_path / "store").glob("*/*")} >= {"easy", "hard", "polite"}
