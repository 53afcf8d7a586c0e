"""Every write, flush, rename and folder flush of ours fails in turn, the process dies there, or the power goes."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import Scenario, bounded, content, prove, told, whole_files
from made_up import made_up
from small_world import SHIFTS, silent, world, write_world

from repeng.activations.capture import Request, capture
from repeng.activations.store import files
from repeng.activations.store.store import Store
from repeng.atomic import append_line, read_lines, write_atomically
from repeng.benchmarks.fetch import fetched_folder, unpack
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import RepengError
from repeng.models.load import LanguageModel
from repeng.report.current import is_current
from repeng.report.html import write_report
from repeng.results import read_results
from repeng.study.results_folder import joined
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study


def file_scenario(folder: Path) -> Scenario:
    folder.mkdir()
    (folder / "x").write_bytes(b"before")

    def act(work: Path) -> None:
        for number in range(len(read_lines(work / "a" / "lines")), 3):
            append_line(work / "a" / "lines", f"line {number}")
        write_atomically(work / "x", b"after that")
        write_atomically(work / "a" / "b" / "y", b"new")

    def check(work: Path) -> None:
        assert (work / "x").read_bytes() in (b"before", b"after that")
        if (work / "a" / "b" / "y").exists():
            assert (work / "a" / "b" / "y").read_bytes() == b"new"
        assert (
            read_lines(work / "a" / "lines") == [f"line {n}" for n in range(3)][: len(read_lines(work / "a" / "lines"))]
        )

    return Scenario(folder, act, check, whole_files)


def capture_scenario(folder: Path, lm: LanguageModel, before: Request | None, after: Request) -> Scenario:
    splits = [made_up(5), made_up(4, "other", "test")]

    def run(work: Path, request: Request = after) -> None:
        capture(lm, splits, request, Store(work), method="batched", storage_dtype="float32")

    if before is not None:
        run(folder, before)
    whole = Store(folder.with_name(f"{folder.name}-whole"))
    capture(lm, splits, after, whole, method="batched", storage_dtype="float32")
    (numbers,) = whole.captures()

    def check(work: Path) -> None:
        # What an index says is there is what it should be, to the bit.
        for index in work.rglob("index.json"):
            (held,) = Store(work).captures()
            part = json.loads(index.read_text())
            where = {"site": part["site"], "token": part["token"]}
            for layer in part["layers"]:
                mine = held.activations(part["distribution"], part["split"], layer=layer, **where)
                theirs = numbers.activations(part["distribution"], part["split"], layer=layer, **where)
                np.testing.assert_array_equal(mine, theirs)
        if list(work.glob("*/capture.json")):
            assert Store(work).verify() == []

    def without_dates(work: Path) -> dict[str, Any]:
        found: dict[str, Any] = dict(content(work))
        for name in found:
            if name.endswith("split.json"):
                held = json.loads(found[name])
                found[name] = {
                    key: value for key, value in held.items() if key not in ("sources", "sha256", "checksum")
                }
        return found

    return Scenario(folder, run, check, without_dates, (OSError, RepengError))


def study_scenario(folder: Path, study: Study) -> Scenario:
    """A method is added to a study that has run."""

    def settings(work: Path) -> Study:
        return replace(study, out=str(work), methods=("length", "mms"))

    def run(wanted: Study) -> None:
        outcome = run_study(plan_study(wanted), progress=silent, note=lambda _line: None)
        assert outcome.failures == ()

    run(replace(settings(folder), methods=("length",)))
    whole = settings(folder.with_name("whole"))
    run(replace(whole, methods=("length",)))
    run(whole)
    expected = content(Path(whole.out))

    def check(work: Path) -> None:
        held = whole_files(work)
        assert {row.method for row in read_results(work / "results.csv")} >= {"length"}
        for name in held:
            if name.startswith("predictions"):
                assert held[name] == expected[name]
        assert joined(settings(work)).methods == ("length", "mms")

    return Scenario(folder, lambda work: run(settings(work)), check, content)


def report_scenario(folder: Path, results: Path) -> Scenario:
    """The figures changed after a report was made."""
    shutil.copytree(results, folder)
    write_report(folder)
    table = folder / "results.csv"
    table.write_bytes(table.read_bytes().replace(b"length", b"longer"))

    def act(work: Path) -> None:
        if not is_current(work / "report.html", work):
            write_report(work)

    def check(work: Path) -> None:
        page = (work / "report.html").read_text()
        assert ("longer" in page) == is_current(work / "report.html", work)

    def named(work: Path) -> dict[str, bool]:
        # Pictures bear ids that no two drawings share.
        return {name: b"longer" in held for name, held in whole_files(work).items() if not name.endswith(".svg")}

    return Scenario(folder, act, check, named)


def unpacking_scenario(folder: Path, data: Path) -> Scenario:
    folder.mkdir()
    with tarfile.open(folder / "archive", "w") as tar:
        tar.add(data, "data")
    expected = content(data)

    def unpacked(work: Path) -> dict[str, bytes]:
        return {name.removeprefix("data/"): held for name, held in content(work / "final").items()}

    def act(work: Path) -> None:
        if fetched_folder("final", work) is None:
            unpack(work / "archive", work / "final", {"name": "made up"})

    def check(work: Path) -> None:
        if fetched_folder("final", work) is not None:
            assert {name: held for name, held in unpacked(work).items() if name != "fetched.json"} == expected

    return Scenario(folder, act, check, unpacked)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHARD_RESPONSES", 8)


PLAIN = (get_stimulus("plain"),)
CAPTURES = {
    "capture": (None, Request(PLAIN, sites=("resid_post", "mlp_out"), layers=(0, 1), logprob=False)),
    "more layers": (
        Request(PLAIN, sites=("resid_post",), layers=(1,), logprob=False),
        Request(PLAIN, sites=("resid_post",), layers=(0, 1), logprob=False),
    ),
}


@bounded(40)
def test_files(bound: int | None, tmp_path: Path) -> None:
    told("files", prove(file_scenario(tmp_path / "files"), bound=bound))


@bounded(4)
@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture(name: str, bound: int | None, tmp_path: Path, llama: LanguageModel) -> None:
    before, after = CAPTURES[name]
    told(name, prove(capture_scenario(tmp_path / "store", llama, before, after), bound=bound))


@bounded(5)
def test_a_study(bound: int | None, tmp_path: Path, study_of: Callable[..., Study]) -> None:
    write_world(tmp_path / "world", {name: world(8)[name] for name in ("easy", "hard")}, SHIFTS[:1])
    study = study_of(tmp_path / "world", tmp_path)
    told("study", prove(study_scenario(tmp_path / "out", study), bound=bound))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_report(tmp_path: Path, finished: StudyOutcome) -> None:
    told("report", prove(report_scenario(tmp_path / "out", finished.out), bound=20))


@bounded(8)
def test_an_archive(bound: int | None, tmp_path: Path, small_world: Path) -> None:
    told("archive", prove(unpacking_scenario(tmp_path / "unpacked", small_world / "data"), bound=bound))
