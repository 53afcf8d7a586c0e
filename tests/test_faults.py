"""Every write, flush, rename and folder flush of ours fails in turn, the process dies there, or the power goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import Scenario, prove
from made_up import made_up
from small_world import silent

from repeng.activations.capture import Request, capture
from repeng.activations.store import files
from repeng.activations.store.store import Store
from repeng.atomic import append_line, read_lines, write_atomically
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import RepengError
from repeng.models.load import LanguageModel
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

IGNORED = (".lock", ".tmp")
BOUND = 60


def content(folder: Path) -> dict[str, bytes]:
    """Every file but locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(IGNORED)
    }


def told(name: str, counts: Any) -> None:
    print(f"{name}: {dict(counts)}, {counts.total() - counts['calls']} faults")


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

    return Scenario(folder, act, check, content)


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


@pytest.mark.parametrize("bound", [pytest.param(BOUND), pytest.param(None, marks=pytest.mark.slow)])
def test_files(tmp_path: Path, bound: int | None) -> None:
    told("files", prove(file_scenario(tmp_path / "files"), bound=bound and bound * 4))


@pytest.mark.parametrize("bound", [pytest.param(BOUND), pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture(name: str, bound: int | None, tmp_path: Path, llama: LanguageModel) -> None:
    before, after = CAPTURES[name]
    told(name, prove(capture_scenario(tmp_path / "store", llama, before, after), bound=bound))
