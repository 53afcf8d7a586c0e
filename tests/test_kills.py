"""Processes that are killed at random moments, that work at once in one folder, or whose lock's holder died."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from processes import KILLED, Job, differences, job, left_by, said, state
from small_world import world, write_world

from repeng.activations.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = 20
"""Of each kind of work."""


def tune_often(model: str, root: str) -> None:
    """A tuning run with a checkpoint after every second step."""
    from small_world import split_of

    from repeng.tuning.settings import preset_settings
    from repeng.tuning.tuned_model import tune

    settings = preset_settings("lora", steps=40, batch_size=8, micro_batch_size=4, checkpoint_every=2)
    tune(model, split_of("easy", "train"), method="lora", root=Path(root), settings=settings, device="cpu")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small world, and a list of two distributions of the embedded benchmark."""
    folder = tmp_path_factory.mktemp("place")
    write_world(folder, world(32))
    (folder / "two.json").write_text('[{"source": "facts", "target": "myths", "label": "probing", "category": "x"}]')
    return folder


@pytest.fixture(scope="session")
def jobs(place: Path, model: str) -> dict[str, Job]:
    """What is killed, by name."""
    return {found.name: found for found in (capture_job(place), tune_job(model), study_job(place, model))}


def capture_job(place: Path, sites: str = "resid_post") -> Job:
    """Of 16 kinds of activations in 24 shards, where of one site."""
    data = ("--model", "mini", "--data", "mini", "--benchmark", str(place / "two.json"), "--limit", "280")
    return job("capture", "cache", *data, "--store", "store", "--sites", sites, lock="store/*/*/*/.lock")


def tune_job(model: str) -> Job:
    return Job("tune", tune_often, (model, "tuned"), "tuned/.*.lock", store=False)


def study_job(place: Path, model: str, *more: str, methods: str = "mms,cra,zero-shot,length") -> Job:
    data = ("--model", model, "--data", str(place / "data"), "--benchmark", str(place / "shifts.json"))
    flags = ("--methods", methods, "--store", "store", "--out", "out", "--device", "cpu")
    return job("run", "run", *data, *flags, *more, lock="out/.lock")


def undisturbed(done: Job, work: Path, *others: Job) -> tuple[dict[str, object], float]:
    """What jobs leave, one after the other, and the seconds that the last took."""
    seconds = [one.finish(work) for one in (*others, done)]
    expected = left_by(work)
    assert not [name for name in expected if Path(name).name in ("plan.json", "written.jsonl") or ".tmp" in name]
    return expected, seconds[-1]


def assert_whole(done: Job, work: Path, expected: dict[str, object]) -> None:
    """A folder holds what an undisturbed run leaves, and nothing else."""
    assert differences(left_by(work), expected) == [], said(work)
    if done.store:
        job("verify", "store", "verify", "store", lock="").finish(work)


@pytest.mark.parametrize("name", ["capture", "tune", "run"])
def test_killed_at_random_moments_it_goes_on_and_ends_the_same(name: str, jobs: dict[str, Job], tmp_path: Path) -> None:
    done, seed = jobs[name], random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    expected, seconds = undisturbed(done, tmp_path / "whole")
    counts: Counter[str] = Counter()
    for series in count():
        if counts["kills"] >= KILLS:
            break
        work = tmp_path / f"work-{series}"
        for attempt in range(draw.randint(2, 4)):
            before, started, process = state(work), time.monotonic(), done.start(work)
            process.join(draw.uniform(0, seconds))
            process.kill()
            process.join()
            assert process.exitcode in (0, KILLED), said(work, process)
            if process.exitcode == 0:
                counts["ended before"] += 1
                # The machine is less busy than it was.
                seconds = seconds if attempt else time.monotonic() - started
                break
            counts["kills"] += 1
            counts["after a first write"] += state(work) != before
            if list(work.glob("store/*/capture.json")):
                assert Store(work / "store").verify() == []
        done.finish(work)
        assert_whole(done, work, expected)
        counts["series"] += 1
    print(f"\n{name}: {dict(counts)}; {seconds:.1f} s undisturbed, seed {seed}")  # noqa: T201
    assert counts["after a first write"] >= KILLS / 4


@pytest.mark.parametrize("number", [2, 4, 8])
@pytest.mark.parametrize("name", ["capture", "tune", "run"])
def test_at_once_in_one_folder_all_succeed_and_leave_what_one_leaves(
    name: str, number: int, jobs: dict[str, Job], tmp_path: Path
) -> None:
    done, work = jobs[name], tmp_path / "work"
    expected, _ = undisturbed(done, tmp_path / "whole")
    processes = [done.start(work) for _ in range(number)]
    for process in processes:
        process.join(900)
    ended = [process.exitcode for process in processes]
    print(f"\n{number} times {name} at once: ended with {ended}")  # noqa: T201
    assert ended == [0] * number, said(work)
    assert_whole(done, work, expected)


def test_captures_of_different_sites_at_once_leave_what_they_leave_one_after_the_other(
    place: Path, tmp_path: Path
) -> None:
    wanted, work = [capture_job(place, sites) for sites in ("resid_post", "mlp_out")], tmp_path / "work"
    expected, _ = undisturbed(wanted[1], tmp_path / "whole", wanted[0])
    processes = [wanted[number % 2].start(work) for number in range(4)]
    for process in processes:
        process.join(900)
    assert [process.exitcode for process in processes] == [0] * 4, said(work)
    assert_whole(wanted[0], work, expected)


def test_studies_of_different_methods_at_once_on_one_out_leave_what_they_leave_one_after_the_other(
    place: Path, model: str, tmp_path: Path
) -> None:
    one, other = (study_job(place, model, methods=methods) for methods in ("mms,length", "cra,zero-shot"))
    # Whose methods come first in the tables, and whose texts shared rows, is who was there first.
    expected = [
        undisturbed(other, tmp_path / "whole-0", one)[0],
        undisturbed(one, tmp_path / "whole-1", other)[0],
    ]
    work = tmp_path / "work"
    processes = [done.start(work) for done in (one, other)]
    for process in processes:
        process.join(900)
    assert [process.exitcode for process in processes] == [0, 0], said(work)
    found = left_by(work)
    assert [] in [differences(found, each) for each in expected], said(work)


@pytest.mark.parametrize("name", ["capture", "tune", "run"])
def test_who_waits_for_a_killed_holder_goes_on_at_once(name: str, jobs: dict[str, Job], tmp_path: Path) -> None:
    done, work = jobs[name], tmp_path / "work"
    expected, seconds = undisturbed(done, tmp_path / "whole")
    holder = done.start(work)
    while not held(work, done.lock):
        assert holder.is_alive(), said(work)
        time.sleep(0.01)
    waiting = done.start(work)
    time.sleep(seconds / 4)
    holder.kill()
    holder.join()
    assert holder.exitcode == KILLED
    waiting.join(600)
    assert waiting.exitcode == 0, said(work)
    assert_whole(done, work, expected)


def held(work: Path, pattern: str) -> bool:
    for path in work.glob(pattern):
        try:
            with FileLock(path).acquire(timeout=0):
                pass
        except Timeout:
            return True
    return False


@pytest.mark.parametrize("more", [("--seed", "1"), ("--limit", "20"), ("--layers", "1")])
def test_another_study_on_one_out_is_refused_at_once_and_afterwards(
    more: tuple[str, ...], place: Path, model: str, tmp_path: Path
) -> None:
    ours, other = study_job(place, model), study_job(place, model, *more)
    both = (ours, other)
    expected = [undisturbed(one, tmp_path / f"whole-{number}")[0] for number, one in enumerate(both)]
    won: Counter[int] = Counter()
    for turn, delay in enumerate((0.0, 0.0, 0.3, 1.0)):
        work = tmp_path / f"work-{turn}"
        order = (0, 1) if turn % 2 else (1, 0)
        first = both[order[0]].start(work)
        time.sleep(delay)
        processes = {order[0]: first, order[1]: both[order[1]].start(work)}
        for process in processes.values():
            process.join(900)
        ended = {number: process.exitcode for number, process in processes.items()}
        assert sorted(ended.values()) == [0, 2], said(work)
        (winner,) = (number for number in ended if ended[number] == 0)
        won[winner] += 1
        assert_refused(said(work, processes[1 - winner]))
        assert_results(work, expected[winner])
        late = both[1 - winner].start(work)
        late.join(600)
        assert late.exitcode == 2
        assert_refused(said(work, late))
        assert_results(work, expected[winner])
    print(f"\n{more}: the study without it came first {won[0]} times, with it {won[1]} times")  # noqa: T201


def assert_refused(told: str) -> None:
    assert "holds another study" in told and "--out" in told and "Traceback" not in told, told


def assert_results(work: Path, expected: dict[str, object]) -> None:
    """The results are one study's. The store may hold what both need."""
    results = {name: held for name, held in left_by(work).items() if name.startswith("out/")}
    assert differences(results, {name: held for name, held in expected.items() if name.startswith("out/")}) == []
