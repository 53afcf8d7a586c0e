"""Every error is one message, with its exit code."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_samples import Repeng

from repeng.atomic import write_atomically
from repeng.errors import BadInput, sentence

WRONG: list[tuple[str, list[str], str]] = [
    ("an unknown command", ["rnu"], "No such command"),
    ("an unknown flag", ["run", "--modle", "x"], "No such option"),
    ("an unknown method", ["run", "--methods", "msm"], "unknown method 'msm'; did you mean mms"),
    ("an unknown benchmark", ["run", "--benchmark", "gnies"], "gnies"),
    ("a benchmark without its data", ["run", "--benchmark", "genies", "--data", "{place}/data"], "are not there"),
    ("no such model", ["run", "--model", "./nowhere"], "./nowhere"),
    ("no such data", ["data", "ls", "./nowhere"], "./nowhere"),
    ("no such study", ["run", "nowhere.toml"], "nowhere.toml: cannot read"),
    ("a study that is no TOML", ["run", "{place}/broken.toml"], "not a TOML file"),
    ("a wrong type in a study", ["run", "{place}/typed.toml"], "seed is 'one': Input should be a valid integer"),
    ("a layer that is not there", ["run", "--layers", "99"], "has layers 0 to"),
    ("layers that are none", ["cache", "--layers", "some"], "give auto, all, top-k:N"),
    ("a limit of nothing", ["run", "--limit", "0"], "--limit"),
    ("an unknown dtype", ["run", "--dtype", "float8"], "unknown dtype 'float8'"),
    ("an unknown stimulus", ["cache", "--stimuli", "plan"], "unknown stimulus 'plan'"),
    ("no such share", ["run", "--augment", "much"], "is no share"),
    ("a share of too much", ["run", "--augment", "200%"], "a share lies between 0% and 100%"),
    ("no method", ["run", "--methods", ""], "name one or more, as mms,zero-shot"),
    ("a device of no kind", ["run", "--device", "gpu"], "unknown device 'gpu'; give auto, cpu, cuda"),
    ("two stores", ["store", "ls", "{place}/planted", "--store", "other"], "name one"),
    ("layers that a fit chooses", ["cache", "--layers", "auto"], "to capture give all, or 3, 4-8 or 3,10-12"),
    ("a file's name nearly right", ["run", "--data", "{place}/dat"], "did you mean {place}/data?"),
    ("a benchmark's name nearly right", ["cache", "--benchmark", "min"], "did you mean mini?"),
    ("an unknown site", ["cache", "--sites", "resid_pst"], "did you mean resid_post or resid_pre?"),
    ("a distribution that is not there", ["cache", "--distributions", "fact"], "did you mean facts?"),
    ("an empty folder to report on", ["report", "{place}"], "give the folder of a finished study"),
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
    ("a device that is not here", ["cache", "--device", "cuda:99"], "device(s) here; give auto or cpu"),
    ("no such device", ["tune", "--source", "facts", "--method", "lora", "--out", "o", "--device", "x"], "device 'x'"),
    ("a device map that is not here", ["cache", "--device-map", "cuda"], "device(s) here; give auto or cpu"),
    ("a device map that is none", ["cache", "--device-map", "meta"], "unknown device 'meta'"),
    ("no stimulus", ["cache", "--stimuli", "", "--no-logprob"], "no stimulus to capture; name one or more"),
    ("a NUL in a study", ["run", "{place}/nul.toml"], "nul.toml: store is"),
    (
        "a parameter out of range",
        ["fit", "--store", "{place}/planted", "--source", "near", "--probe", "logistic(C=-1.0)", "--out", "o"],
        "C is -1.0; it must be above 0",
    ),
    ("endless layers", ["cache", "--layers", "0-99999999999"], "go up to 10,000"),
    ("a seed that no library takes", ["data", "export", "mini", "o", "--seed", "-1"], "--seed"),
    ("a port that is none", ["browse", "--port", "70000"], "--port"),
    ("a parameter without end", ["run", "--methods", "logistic(C=1e999)"], "C is inf; it must be a finite number"),
    ("a device as a study", ["run", "/dev/zero"], "/dev/zero: not a regular file but a device or a pipe"),
    ("an unknown embedded benchmark", ["data", "export", "maxi", "o"], "there is no file or folder 'maxi'"),
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
    (place / "nul.toml").write_text('store = "a\\u0000b"')
    (place / "typed.toml").write_text('seed = "one"')
    said = repeng(*(argument.replace("{place}", str(place)) for argument in arguments))
    assert said.code == 2, said.err
    assert said.out == ""
    assert message.replace("{place}", str(place)) in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_was_raised(repeng: Repeng) -> None:
    with pytest.raises(BadInput):
        repeng("run", "nowhere.toml", "--debug")


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(
    repeng: Repeng, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_keywords: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("repeng.study.study.plan_study", fail)
    said = repeng("run")
    assert said.code == 1
    assert said.err.startswith("error: ZeroDivisionError: by nothing")
    assert "--debug shows where" in said.err


def test_a_full_disk_is_a_sentence_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "results.csv", "x")
    monkeypatch.undo()
    assert sentence(caught.value).startswith(f"{tmp_path / 'results.csv'}: the disk is full; make room")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "x", "a/b"), "a/b: permission denied; change its permissions"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "make room"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "a smaller model"),
        (RuntimeError("Symlink loop from '/a/loop'"), "/a/loop: a link that leads back to itself"),
        (BadInput("layers is 'x'"), "layers is 'x'"),
        (ZeroDivisionError("by nothing"), "ZeroDivisionError: by nothing"),
    ],
)
def test_an_error_becomes_a_sentence_with_the_way_out(error: Exception, says: str) -> None:
    assert says in sentence(error)


ON_DISK: list[tuple[str, list[str], str]] = [
    ("a file for a folder", ["data", "export", "mini", "{tmp}/file"], "a file stands where a folder is needed"),
    ("a folder for a file", ["sweep", "--csv", "{tmp}"], "this is a folder, and a file is needed"),
    ("no name for a file", ["sweep", "--csv", ""], "this is a folder, and a file is needed"),
    ("a link to itself", ["data", "ls", "{tmp}/loop"], "loop"),
    ("a name too long", ["data", "export", "mini", "{tmp}/" + "n" * 300], "the name is longer than the disk takes"),
    ("a name too long to look up", ["data", "ls", "n" * 300], "the name is longer than the disk takes"),
]


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in ON_DISK], ids=[row[0] for row in ON_DISK])
def test_what_the_disk_refuses_is_a_sentence(
    repeng: Repeng, place: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    arguments = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    if arguments[0] == "sweep":
        arguments += ["--store", str(place / "planted"), "--source", "near", "--target", "far", "--probe", "mms"]
    said = repeng(*arguments)
    assert said.code in (1, 2)
    assert message in said.err
    assert "Error" not in said.err and "--debug" not in said.err


def test_a_pipe_or_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(BadInput, match=f"{name}: a device or a pipe, .*; give the name of a file"):
            write_atomically(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()


def start(*arguments: object, limit: int | None = None) -> subprocess.Popen[str]:
    """The command as a process, where it may write files of so many bytes."""
    return subprocess.Popen(
        [sys.executable, "-c", "from repeng.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def test_a_reader_that_leaves_ends_a_command_without_a_word() -> None:
    process = start("data", "ls", "--json")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()


def test_files_that_may_not_be_as_large_as_needed_are_a_sentence(tmp_path: Path) -> None:
    process = start("cache", "--limit", 4, "--store", tmp_path, "-q", limit=10_000)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "larger than files may be here; raise the limit (ulimit -f)" in err and "Traceback" not in err


def writes(pattern: str) -> Callable[[Path], bool]:
    return lambda folder: any(folder.rglob(pattern))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "is_at_work"),
    [
        (["cache", "--store", "{tmp}", "-q"], writes("shard-*")),
        (["tune", "--source", "facts", "--method", "lora", "--out", "{tmp}", "-q"], writes("checkpoint-*")),
    ],
    ids=["while shards are written", "while a model is tuned"],
)
def test_a_command_that_is_stopped_says_so_and_exits_as_signals_do(
    number: signal.Signals, arguments: list[str], is_at_work: Callable[[Path], bool], tmp_path: Path
) -> None:
    process = start(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    until = time.monotonic() + 120
    while not is_at_work(tmp_path) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.strip() == "stopped; what was finished is kept, and the same command goes on from there"
