"""A results folder is one study's, and one run at a time writes it."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_world import silent

from repeng.activations.store.files import locked
from repeng.errors import BadInput
from repeng.results import read_results
from repeng.study.results_folder import joined, written_alone
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study


@pytest.fixture
def study(small_world: Path, study_of: Callable[..., Study], tmp_path: Path, finished: StudyOutcome) -> Study:
    """A study of two methods that has run; the store is another's."""
    mine = study_of(small_world, tmp_path, methods=("length", "zero-shot"), store=finished.plan.study.store)
    run(mine)
    return mine


def run(study: Study, note: Callable[[str], None] = lambda _line: None) -> StudyOutcome:
    return run_study(plan_study(study), progress=silent, note=note)


def methods_of(study: Study) -> list[str]:
    rows = read_results(Path(study.out) / "results.csv")
    return list(dict.fromkeys(row.method for row in rows if ":" not in row.method))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"drop_overlap": True}, "drop_overlap is False there and True here"),
        ({"layers": "1"}, "layers is 'auto' there and '1' here"),
        ({"limit": 9, "augment": 0.1}, "limit is None there and 9 here; augment is 0.0 there and 0.1 here"),
        ({"data": "mini", "benchmark": "mini"}, "data is .* there and 'mini' here"),
    ],
)
def test_another_study_is_refused_and_nothing_is_changed(study: Study, changes: dict[str, Any], said: str) -> None:
    out = Path(study.out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=f"{out} holds another study .*{said}.*--out, or remove"):
        run(replace(study, **changes))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_method_is_added_and_no_other_is_lost(study: Study) -> None:
    result = run(replace(study, methods=("tfidf", "length")))
    assert methods_of(study) == ["length", "zero-shot", "tfidf"]
    assert {task.method for task in result.plan.tasks if task not in result.plan.known} == {"tfidf"}
    assert Study.read(Path(study.out) / "study.toml", {}).methods == ("length", "zero-shot", "tfidf")


def test_the_same_study_from_elsewhere_on_another_device_is_the_same(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(str(study.data)).parent)
    here = replace(study, data="data", benchmark="shifts.json", device="auto")
    assert joined(here) == here
    assert run(here).evaluations_made == 0


def test_a_study_that_left_nothing_may_be_replaced_but_not_while_it_runs(study: Study) -> None:
    out = Path(study.out)
    for path in (*out.glob("predictions/*/*/*"), out / "results.csv"):
        path.unlink()
    other = replace(study, seed=1)
    with pytest.raises(BadInput, match="holds another study"):
        joined(other)
    for path in sorted(out.glob("predictions/**/"), reverse=True):
        path.rmdir()
    assert joined(other) == other
    with locked(out, wait=False) as held, pytest.raises(BadInput, match="holds another study"), written_alone(other):
        assert held
    run(other)
    assert Study.read(out / "study.toml", {}).seed == 1


def test_a_run_waits_for_another_and_takes_over_what_that_found(study: Study, tmp_path: Path) -> None:
    plan, told, done = plan_study(replace(study, methods=("tfidf",))), threading.Event(), []
    with locked(Path(study.out), wait=False):
        waiting = threading.Thread(
            target=lambda: done.append(run_study(plan, progress=silent, note=lambda _line: told.set()))
        )
        waiting.start()
        assert told.wait(60)
        other = replace(study, out=str(tmp_path / "other"), methods=("length", "zero-shot", "truthfulness"))
        run(other)
        for name in ("study.toml", "results.csv"):
            Path(study.out, name).write_bytes(Path(other.out, name).read_bytes())
    waiting.join(60)
    assert methods_of(study) == ["length", "zero-shot", "truthfulness", "tfidf"]
    assert done[0].plan.asked == ("length", "zero-shot", "truthfulness", "tfidf")


def hold(folder: str, held: Any) -> None:
    with locked(Path(folder), wait=True):
        held.set()
        threading.Event().wait()


def test_a_dead_holders_lock_holds_nobody_up(study: Study) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(study.out, held))
    holder.start()
    assert held.wait(60)
    with locked(Path(study.out), wait=False) as free:
        assert not free
    holder.kill()
    holder.join()
    told: list[str] = []
    for name in ("predictions", "report-pictures"):
        (Path(study.out) / name).mkdir(exist_ok=True)
        (Path(study.out) / name / ".half.0.tmp").write_text("{")
    assert run(study, told.append).evaluations_made == 0
    assert not [line for line in told if "waiting" in line]
    assert not list(Path(study.out).rglob("*.tmp"))
