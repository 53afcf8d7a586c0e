"""The command line: what it prints where, its exit codes, and that every error is one message."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from models import make_model
from planted_store import planted, two_worlds, write_store
from small_world import world, write_world

from repeng.cli import app, main


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Repeng = Callable[..., Said]


@pytest.fixture
def repeng(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Repeng]:
    """Runs the command in this process."""
    logger, interrupt = logging.getLogger("repeng"), signal.getsignal(signal.SIGINT)
    before = (list(logger.handlers), logger.propagate)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["repeng", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Said(code, *capsys.readouterr())

    yield run
    logger.handlers[:], logger.propagate = before
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a small world, and a planted store."""
    root = tmp_path_factory.mktemp("cli")
    make_model("llama", root / "tiny", positions=256)
    write_world(root, world(8))
    two_worlds(root / "planted")
    return root


def commands() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []

    def walk(name: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for each, below in command.commands.items():
                walk(f"{name} {each}", below)
        else:
            found.append((name.strip(), command))

    walk("", typer.main.get_command(app))
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_and_option_is_explained(repeng: Repeng, name: str, command: Any) -> None:
    said = repeng(*name.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert command.help
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, f"{name} {parameter.name}"
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in said.out


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = {"run", "cache", "fit", "score", "sweep", "tune", "rescore", "matrix", "compare", "report", "browse"}
    wanted |= {f"data {name}" for name in ("ls", "check", "fetch", "export")}
    assert wanted | {f"store {name}" for name in ("ls", "verify", "rm")} == {name for name, _ in commands()}


@pytest.fixture(scope="module")
def study_flags(place: Path) -> tuple[object, ...]:
    return (
        *("--model", place / "tiny", "--benchmark", place / "shifts.json", "--data", place / "data"),
        *("--store", place / "store", "--out", place / "out", "--methods", "mms,zero-shot,length", "--device", "cpu"),
    )


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    repeng: Repeng, study_flags: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*study_flags, "--store", "nowhere", "--out", "nothing", "--dry-run"]
    said = repeng("run", *flags)
    assert said.code == 0
    assert "3 shifts over 4 distributions" in said.out
    assert "tokens, about" in said.out
    plan = repeng("run", *flags, "--json").json
    assert plan["tokens_to_capture"] > 1000
    assert plan["capture_seconds_estimate"] > 0
    assert (plan["evaluations_done"], plan["methods"]) == (0, ["mms", "zero-shot", "length"])
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


def test_probes_are_fitted_and_scored_from_the_store_alone(
    repeng: Repeng, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repeng.activations.model.load_model", lambda *_a, **_k: pytest.fail("a model was loaded"))
    store = ("--store", place / "planted")
    said = repeng("fit", *store, "--source", "near", "--probe", "mms", "--out", tmp_path / "p", "--json")
    assert said.json["layers"] == [2]
    assert said.json["held_out_accuracy_by_layer"]["2"] == 1.0
    flags = ("score", *store, "--probe", tmp_path / "p", "--target", "near", "--target", "far", "--out", tmp_path / "e")
    scored = repeng(*flags, "--json")
    assert [row["target"] for row in scored.json] == ["near", "far"]
    assert scored.json[0]["accuracy"] > 0.95 > scored.json[1]["accuracy"]
    assert (tmp_path / "e" / "mms" / "toy-near" / "far.json").is_file()
    assert "far" in repeng(*flags).out
    heads = repeng("fit", *store, "--source", "near", "--probe", "mms", "--site", "hook_z", "--out", tmp_path / "h")
    assert "layer(s) 2 head 1" in heads.out
    assert repeng("score", *store, "--probe", tmp_path / "h", "--target", "near", "--json").json[0]["accuracy"] > 0.9
    range_ = repeng(
        "fit", *store, "--source", "near", "--probe", "mms", "--layers", "1-2", "--out", tmp_path / "r", "--json"
    )
    assert range_.json["layers"] == [1, 2]


def test_a_sweep_shows_its_marks_and_writes_a_table_and_a_picture(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    flags = ("sweep", "--store", place / "planted", "--source", "near", "--target", "near", "--target", "like")
    said = repeng(*flags, "--probe", "mms,logistic", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "s.svg")
    assert said.code == 0
    chosen = [line for line in said.out.splitlines() if line.strip().startswith("2 ")]
    assert len(chosen) == 2 and all(line.count("*") == 2 for line in chosen)
    assert "o the target's own best, an oracle" in said.out
    assert (tmp_path / "s.svg").read_text().startswith("<svg")
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    plain = repeng(*flags, "--probe", "mms,logistic", "--json").json
    assert len(rows) == len(plain) == 2 * 2 * 4
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in plain]
    assert sum(row["oracle"] for row in plain) == 4


def test_a_sweep_over_heads_shows_every_head_in_each_form(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    flags = ("sweep", "--store", place / "planted", "--source", "near", "--target", "like", "--site", "hook_z")
    said = repeng(*flags, "--probe", "mms", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "s.svg")
    plain = repeng(*flags, "--probe", "mms", "--json").json
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    units = [(layer, head) for layer in range(4) for head in range(3)]
    assert [(row["layer"], row["head"]) for row in plain] == units
    assert [(int(row["layer"]), int(row["head"])) for row in rows] == units
    grid = [line for line in said.out.splitlines() if re.match(r" *\d  ", line)]
    assert [line.split()[0] for line in grid] == ["0", "1", "2", "3"]
    for layer, line in enumerate(grid):
        accuracies = [f"{row['accuracy']:.3f}" for row in plain if row["layer"] == layer]
        assert re.findall(r"\d\.\d{3}", line) == accuracies
    assert re.search(r"\d\.\d{3}\*", grid[2])
    assert "* the head that the source chose" in said.out
    drawn = (tmp_path / "s.svg").read_text()
    assert len(set(re.findall(r"layer: \d; head: \d; accuracy", drawn))) == len(units)


def test_wide_tables_are_not_cut_in_a_pipe(repeng: Repeng, tmp_path: Path) -> None:
    names = [f"a_distribution_with_a_rather_long_name_{number:02}" for number in range(14)]
    signal_ = planted({2: (0, 4.0)}, seed=0, pairs=10)
    parts = {(name, split, "plain", "resid_post"): signal_ for name in names for split in ("train", "test")}
    write_store(tmp_path, parts)
    said = repeng("matrix", "--store", tmp_path)
    assert said.code == 0
    for number, name in enumerate(names, 1):
        line = next(line for line in said.out.splitlines() if line.startswith(f"{number} {name}"))
        assert line.count(".") == len(names)
    found = repeng("matrix", "--store", tmp_path, "--json").json
    assert found["names"] == names
    assert len(found["cosine"]) == 14


def test_several_captures_in_a_store_make_a_question(repeng: Repeng, tmp_path: Path) -> None:
    parts = {("near", "train", "plain", "resid_post"): planted({2: (0, 4.0)}, seed=0)}
    for name in ("toy-aaaa", "toy-bbbb"):
        write_store(tmp_path, parts, capture=name)
    flags = ("fit", "--store", tmp_path, "--source", "near", "--probe", "mms", "--out", tmp_path / "p")
    said = repeng(*flags)
    assert said.code == 2
    assert "toy-aaaa" in said.err and "choose one with --model" in said.err
    assert repeng(*flags, "--model", "toy-bbbb").code == 0


def test_a_store_is_listed_verified_and_emptied(repeng: Repeng, tmp_path: Path) -> None:
    parts = {(name, "train", "plain", "resid_post"): planted({}, seed=0) for name in ("near", "far")}
    write_store(tmp_path, parts)
    assert "near/train" in repeng("store", "ls", tmp_path).out
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


def test_data_are_listed_checked_and_exported(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    listed = repeng("data", "ls", place / "data", "--json").json
    assert {(row["distribution"], row["split"], row["examples"]) for row in listed} >= {("easy", "train", 8)}
    assert "terse" in repeng("data", "ls", place / "data").out
    assert "all good" in repeng("data", "check", place / "data").out
    broken = tmp_path / "bad"
    write_world(broken, world(4))
    (broken / "data" / "easy" / "test.json").write_text('[{"prompt": "p", "responses": {"a": 1.0, "b": 1.0}}]')
    said = repeng("data", "check", broken / "data", "--json")
    assert said.code == 2
    assert "easy" in str(said.json[0]) and said.json[0]["example"] == 0
    assert repeng("data", "export", "mini", tmp_path / "mini").code == 0
    assert repeng("data", "check", tmp_path / "mini").code == 0


def test_published_evaluations_are_rescored_as_json(repeng: Repeng, genies_root: Path) -> None:
    flags = ("--benchmark", "genies", "--model", "llama-30b", "--methods", "mms")
    said = repeng("rescore", genies_root / "results" / "evaluations", *flags, "--json")
    assert said.code == 0
    assert len(said.json) == 15
    assert {"accuracy", "elicitation", "published_columns"} <= set(said.json[0])


WRONG: list[tuple[str, list[str], str]] = [
    ("an unknown command", ["rnu"], "No such command"),
    ("an unknown flag", ["run", "--modle", "x"], "No such option"),
    ("an unknown method", ["run", "--methods", "msm"], "unknown method 'msm'; choose from"),
    ("an unknown benchmark", ["run", "--benchmark", "gnies"], "gnies"),
    ("a benchmark without its data", ["run", "--benchmark", "genies", "--data", "{place}/data"], "are not there"),
    ("no such model", ["run", "--model", "./nowhere"], "./nowhere"),
    ("no such data", ["data", "ls", "./nowhere"], "./nowhere"),
    ("no such study", ["run", "nowhere.toml"], "nowhere.toml: cannot read"),
    ("a study that is no TOML", ["run", "{place}/broken.toml"], "not a TOML file"),
    ("a wrong type in a study", ["run", "{place}/typed.toml"], "seed is 'one'; it must be int"),
    ("a layer that is not there", ["run", "--layers", "99"], "has layers 0 to"),
    ("layers that are none", ["cache", "--layers", "some"], "give auto, all, top-k:N"),
    ("a limit of nothing", ["run", "--limit", "0"], "--limit"),
    ("an unknown dtype", ["run", "--dtype", "float8"], "unknown dtype 'float8'"),
    ("an unknown stimulus", ["cache", "--stimuli", "plan"], "unknown stimulus 'plan'"),
    ("no such share", ["run", "--augment", "much"], "is no share"),
    (
        "an unknown probe",
        ["fit", "--store", "{place}/planted", "--source", "near", "--probe", "x", "--out", "o"],
        "'x'",
    ),
    (
        "an unknown source",
        ["fit", "--store", "{place}/planted", "--source", "x", "--probe", "mms", "--out", "o"],
        "choose from far, like, near",
    ),
    (
        "a layer that no probe reads",
        ["fit", "--store", "{place}/planted", "--source", "near", "--probe", "mms", "--layers", "9", "--out", "o"],
        "layers 0 to 3",
    ),
    ("an empty store", ["matrix", "--store", "{place}/data"], "no capture here"),
    ("no fitted probe", ["score", "--store", "{place}/planted", "--probe", "x", "--target", "near"], "repeng fit"),
    ("an unknown tuning method", ["tune", "--source", "facts", "--method", "lroa", "--out", "o"], "lroa"),
    ("an unknown embedded benchmark", ["data", "export", "maxi", "o"], "choose from mini"),
]


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_bad_usage_is_one_message_and_exit_code_2(
    repeng: Repeng,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (place / "broken.toml").write_text("seed = ")
    (place / "typed.toml").write_text('seed = "one"')
    said = repeng(*(argument.replace("{place}", str(place)) for argument in arguments))
    assert said.code == 2, said.err
    assert said.out == ""
    assert message in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_was_raised(repeng: Repeng) -> None:
    from repeng.errors import BadInput

    with pytest.raises(BadInput):
        repeng("run", "nowhere.toml", "--debug")


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(
    repeng: Repeng, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_keywords: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("repeng.benchmarks.study.plan_study", fail)
    said = repeng("run")
    assert said.code == 1
    assert said.err.startswith("error: ZeroDivisionError: by nothing")
    assert "--debug shows where" in said.err


def test_the_version_is_printed(repeng: Repeng) -> None:
    assert repeng("--version").out.startswith("repeng 0.")


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
    assert process.returncode == 1
    assert "what was finished is kept" in err
    assert out == "" and "Traceback" not in err
