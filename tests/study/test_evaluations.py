"""Other people's methods in a study: whatever they do wrong costs their own rows alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_world import silent

from repeng.methods.base import Method
from repeng.methods.plugins.genies_folder import FolderPlugin, GeniesFolder
from repeng.methods.plugins.python_object import PythonObject
from repeng.methods.registry import make_method
from repeng.study.capture_plan import plan_cache
from repeng.study.evaluations import StudyEvaluations, Task
from repeng.study.settings import Study
from repeng.study.study import plan_study, run_study

GOOD_EVAL = """
import argparse, ast, json
parser = argparse.ArgumentParser()
for name in ("--model_dir", "--distribution_dirs", "--output_paths"):
    parser.add_argument(name)
args, _ = parser.parse_known_args()
for path in ast.literal_eval(args.output_paths):
    json.dump({"eval_accuracy": 0.75}, open(path, "w"))
"""
TRAIN = "import sys, os; os.makedirs(sys.argv[sys.argv.index('--output_dir') + 1], exist_ok=True)"


def plugin(folder: Path, train: str = TRAIN, evaluate: str = GOOD_EVAL) -> Path:
    folder.mkdir()
    (folder / "train.py").write_text(train)
    (folder / "eval.py").write_text(evaluate)
    return folder


def test_failing_methods_cost_their_own_rows_alone(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path
) -> None:
    broken = plugin(tmp_path / "broken", train="raise ValueError('no such luck')")
    nonsense = plugin(tmp_path / "nonsense", evaluate=GOOD_EVAL.replace("0.75", "'high'"))
    fine = plugin(tmp_path / "fine")
    (tmp_path / "raises.py").write_text(
        "class Raises:\n"
        "    def fit(self, model, source, *, seed): raise KeyError('mine')\n"
        "    def score(self, questions): ...\n"
    )
    methods = (str(broken), str(nonsense), str(fine), f"{tmp_path / 'raises.py'}:Raises", "length")
    # The baseline that every study has is zero-shot: a model is needed, but no more than six examples of it.
    study = study_of(small_world, tmp_path, methods=methods, limit=6)
    result = run_study(plan_study(study), progress=silent, note=lambda _line: None)
    failed = {failure.method: failure.reason for failure in result.failures}
    assert set(failed) == {"broken", "nonsense", "Raises"}
    assert "no such luck" in failed["broken"]
    assert "mine" in failed["Raises"]
    figures = {row.method: row.accuracy for row in result.rows}
    assert figures["fine"] == 0.75
    assert figures["length"] is not None
    assert all(figures[name] is None for name in failed)
    assert len([row for row in result.rows if row.method == "broken"]) == 3

    (fine / "eval.py").write_text(GOOD_EVAL.replace("0.75", "0.25"))
    plan = plan_study(study)
    assert sum(task.method == "fine" for task in plan.tasks) == len(plan.tasks) - len(plan.known) - sum(
        task.method in failed for task in plan.tasks
    )


@pytest.mark.parametrize("kind", ["folder", "object"])
def test_a_method_that_hangs_ends_at_its_time_limit_and_the_next_one_answers(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path, kind: str
) -> None:
    hang = "import time\ntime.sleep(600)\n"
    (tmp_path / "hangs.py").write_text(f"def hangs():\n    {hang.splitlines()[0]}; {hang.splitlines()[1]}\n")
    plan = plan_study(study_of(small_world, tmp_path, methods=("length",), limit=6))
    plan.cache.carry_out(silent)
    settings = plan.runner.settings
    stuck: Method
    if kind == "folder":
        stuck = GeniesFolder(FolderPlugin.at(plugin(tmp_path / "stuck", train=hang), time_limit=1.0), settings)
    else:
        stuck = PythonObject.at(f"{tmp_path / 'hangs.py'}:hangs", settings, time_limit=4.0)
    length = make_method("length", settings)
    world = plan.world.distributions
    tasks = [Task(name, world["easy"].train, world["hard"].test) for name in (stuck.name, "length")]
    steps: list[tuple[int, int]] = []
    answers = plan.runner.evaluate(tasks, [stuck, length], known={}, progress=lambda *step: steps.append(step))
    assert [(failure.method, failure.target) for failure in answers.failures] == [(stuck.name, "hard")]
    assert answers.get("length", "easy", "hard") is not None
    assert steps[-1] == (2, 2)


def test_a_key_is_another_where_anything_that_an_answer_follows_from_is(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path
) -> None:
    study = study_of(small_world, tmp_path, methods=("mms", "zero-shot"))
    plan = plan_study(study)
    world = plan.world.distributions
    easy, hard, polite = (world[name] for name in ("easy", "hard", "polite"))
    assert plan.runner.keys(plan.tasks, plan.methods) == {}, "nothing is there yet that an answer could follow from"
    needs = {
        split: plan.methods[0].requires(easy.train) + plan.methods[1].requires(easy.train)
        for split in (easy.train, polite.train, hard.test, polite.test, easy.train.first(9), hard.test.first(9))
    }
    plan_cache(
        plan.cache.settings, Path(study.store), {split: frozenset(need) for split, need in needs.items()}
    ).carry_out(silent)
    tasks = [
        Task("mms", easy.train, hard.test),
        Task("mms", polite.train, hard.test),
        Task("mms", easy.train, polite.test),
        Task("mms", easy.train.first(9), hard.test),
        Task("mms", easy.train, hard.test.first(9)),
        Task("zero-shot", easy.train, hard.test),
    ]
    keys = plan.runner.keys(tasks, plan.methods)
    assert len(set(keys.values())) == len(tasks)


def test_no_task_makes_no_answer(small_world: Path, study_of: Callable[..., Study], tmp_path: Path) -> None:
    plan = plan_study(study_of(small_world, tmp_path, methods=("length",), limit=6))
    found = plan.runner.evaluate([], [], known={}, progress=lambda _done, _total: None)
    assert (found.found, found.computed) == (StudyEvaluations().found, 0)
