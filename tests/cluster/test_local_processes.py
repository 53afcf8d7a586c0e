"""Processes beside this one: the store and the evaluations of one process, and what happens where one is lost."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from made_up import made_up
from small_world import silent
from store_files import store_files
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from repeng.activations.capture import Request, capture, capture_by_pool
from repeng.activations.store import files as parts
from repeng.activations.store.store import Store
from repeng.cluster.local_processes import LocalPool, begin, call_beside
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.models.load import load_model
from repeng.study import capture_plan, evaluations_beside
from repeng.study.capture_plan import plan_cache
from repeng.study.cautions import Failure
from repeng.study.evaluations import StudyEvaluations
from repeng.study.model_settings import ModelSettings
from repeng.study.settings import Study
from repeng.study.study import plan_study, run_study

HERE = os.getpid()
REQUEST = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), tokens=("last", "response_mean"))
WANTED = (((made_up(9), made_up(14, split="test")), REQUEST),)


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 4)
    yield
    torch.set_num_threads(before)


def here_or_there(said: str, parent: int, seconds: float = 0.0) -> tuple[str, bool]:
    time.sleep(seconds)
    logging.getLogger("somebody").warning("%s was called", said)
    return said, os.getpid() == parent


def ends_its_process(parent: int) -> str:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done here"


def refuses(parent: int) -> None:
    time.sleep(0.2 * (os.getpid() == parent))
    if os.getpid() != parent:
        raise BadInput("not this one")


def test_calls_are_made_here_and_there_and_what_is_logged_there_is_said_here(caplog: pytest.LogCaptureFixture) -> None:
    calls = [partial(here_or_there, str(number), HERE, 0.05) for number in range(12)]
    found = dict(call_beside(begin(1), 1, calls))
    assert [found[number][0] for number in range(12)] == [str(number) for number in range(12)]
    assert {mine for _, mine in found.values()} == {True, False}
    assert sorted(record.getMessage() for record in caplog.records if record.name == "somebody") == sorted(
        f"{number} was called" for number in range(12)
    )
    assert torch.get_num_threads() == 2


def most_threads(parent: int) -> tuple[bool, int, int]:
    time.sleep(0.2)
    pools = [pool["num_threads"] for pool in threadpool_info()]
    return os.getpid() == parent, max(pools), torch.get_num_threads()


def test_linear_algebra_has_one_thread_here_and_there_and_afterwards_as_many_as_before() -> None:
    found = [given for _, given in call_beside(begin(1), 1, [partial(most_threads, HERE)] * 4)]
    assert {here for here, _, _ in found} == {True, False}
    assert {threads for _, *counts in found for threads in counts} == {1}
    assert torch.get_num_threads() == 2


def test_calls_of_a_process_that_is_lost_are_made_here(caplog: pytest.LogCaptureFixture) -> None:
    found = dict(call_beside(begin(1), 1, [partial(ends_its_process, HERE)] * 5))
    assert found == dict.fromkeys(range(5), "done here")
    assert "a process beside this one was lost" in caplog.text
    assert dict(call_beside(begin(1), 1, [partial(here_or_there, "next", HERE)])) == {0: ("next", False)}


def test_what_a_call_raises_there_is_raised_here() -> None:
    with pytest.raises(BadInput, match="not this one"):
        list(call_beside(begin(1), 1, [partial(refuses, HERE)] * 4))


def test_blocks_read_beside_are_those_of_one_process_to_the_byte(tmp_path: Path) -> None:
    settings = ModelSettings("mini")
    load = partial(settings.load_as, settings.identity)
    for splits, request in WANTED:
        capture(load_model("mini"), splits, request, Store(tmp_path / "one"))
    pool = LocalPool(begin(1), 1, load, settings.identity)
    summary = capture_by_pool(pool, settings.outline, WANTED, Store(tmp_path / "two"), identity=settings.identity)
    assert summary.parts_written > 0
    assert store_files(tmp_path / "two") == store_files(tmp_path / "one")


def test_blocks_of_a_process_that_is_lost_are_read_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = ModelSettings("mini")
    load = partial(settings.load_as, settings.identity)
    for splits, request in WANTED:
        capture(load_model("mini"), splits, request, Store(tmp_path / "one"))
    executor = begin(1)
    pool = LocalPool(executor, 1, load, settings.identity)
    executor.submit(ends_its_process, HERE)
    capture_by_pool(pool, settings.outline, WANTED, Store(tmp_path / "two"), identity=settings.identity)
    assert "a process beside this one was lost" in caplog.text
    assert store_files(tmp_path / "two") == store_files(tmp_path / "one")


def test_another_model_of_the_same_name_is_refused() -> None:
    settings = ModelSettings("mini")
    with pytest.raises(BadInput, match="not the one that was announced"):
        LocalPool(begin(1), 1, load_model_in_bfloat16, settings.identity)


def load_model_in_bfloat16() -> object:
    return load_model("mini", dtype="bfloat16")


def test_a_small_model_with_much_to_read_is_read_beside_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = made_up(9)
    wanted = {split: capture_plan.cache_needs((get_stimulus("plain"),), ("resid_post",), ("last",), logprob=False)}

    def n_beside(**settings: object) -> int:
        return plan_cache(ModelSettings("mini", **settings), tmp_path, wanted).n_beside  # type: ignore[arg-type]

    assert n_beside() == 0
    monkeypatch.setattr(capture_plan, "TEXTS_WORTH_A_PROCESS", 5)
    assert n_beside() == 1
    monkeypatch.setattr(capture_plan, "SMALL_MODEL", 1 << 20)
    assert n_beside() == 0


@pytest.mark.timeout(300)
def test_a_study_by_two_processes_has_the_figures_of_one(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str) -> Study:
        study = study_of(small_world, tmp_path / name, methods=("mms", "lda", "length"), model="mini")
        outcome = run_study(plan_study(study), progress=silent, note=lambda _: None)
        assert (outcome.evaluations_made, outcome.failures) == (made, ())
        return study

    made = 22
    one = run("one")
    monkeypatch.setattr(capture_plan, "TEXTS_WORTH_A_PROCESS", 5)
    monkeypatch.setattr(evaluations_beside, "RESPONSES_WORTH_A_PROCESS", 5)
    asked: list[int] = []
    monkeypatch.setattr(
        "repeng.cluster.local_processes.call_beside",
        lambda executor, n, calls: asked.append(len(calls)) or call_beside(executor, n, calls),
    )
    two = run("two")
    assert asked == [3]
    predictions = {name: store_files(Path(study.out) / "predictions") for name, study in (("one", one), ("two", two))}
    assert predictions["one"] == predictions["two"]
    assert (Path(two.out) / "results.csv").read_bytes() == (Path(one.out) / "results.csv").read_bytes()
    assert (Path(two.out) / "layers.csv").read_bytes() == (Path(one.out) / "layers.csv").read_bytes()


def test_what_fails_in_several_processes_is_said_once_a_cause(caplog: pytest.LogCaptureFixture) -> None:
    found = StudyEvaluations()
    for source in ("easy", "hard"):
        beside = StudyEvaluations(quiet=True)
        beside.fail([Failure("lda", source, target, f"lda on {source}: no inverse") for target in ("polite", "terse")])
        assert caplog.records == [] or source == "hard"
        found.add(beside)
    assert [failure.source for failure in found.failures] == ["easy", "easy", "hard", "hard"]
    assert [record.getMessage() for record in caplog.records] == ["lda on easy failed: lda on easy: no inverse"]
