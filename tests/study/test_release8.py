"""What the release before labelled texts wrote: its store, its results and its probe are read.

`release8/` was written at commit 1526fd2 by `repeng run --benchmark shifts.json --data mini --limit 12 --methods
mms,logistic,length --fits 2 --nulls 3 --layers top-k:1` and `repeng fit --source facts --probe mms`.
"""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from repeng.activations.store.store import Store
from repeng.benchmarks.mini import mini_distributions
from repeng.probes.io import load
from repeng.results import evaluation_path, read_evaluation, read_results, write_results
from repeng.study.cached_data import open_store
from repeng.study.settings import Study
from repeng.study.steps import evaluate, fit
from repeng.study.study import plan_study, run_study

HERE = Path(__file__).parent / "release8"
ROUNDING = 1e-6
"""Products of float32 are summed in another order since then."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(HERE, tmp_path / "old")
    return tmp_path / "old"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_store_has_the_same_hashes_and_the_same_rows(old: Path) -> None:
    facts = mini_distributions(names=["facts"], limit=12)["facts"]
    capture = open_store(old / "store")
    for split in (facts.train, facts.test):
        assert capture.find("facts", split.name).data_hash == split.data_hash
        known = capture.labels("facts", split.name)
        assert np.array_equal(known.labels, split.labels)
        assert np.array_equal(known.rivals, split.response_example) and not known.as_texts
    for stored in capture.contents().values():
        for activations in stored:
            activations.check()


def test_a_run_on_the_old_store_captures_nothing_and_gives_the_old_figures_to_rounding(
    old: Path, tmp_path: Path
) -> None:
    study = Study(
        benchmark=str(old / "shifts.json"),
        data="mini",
        limit=12,
        methods=("mms", "logistic", "length"),
        fits=2,
        nulls=3,
        layers="top-k:1",
        store=str(old / "store"),
        out=str(tmp_path / "now"),
    )
    plan = plan_study(study)
    assert not plan.cache.missing
    found = run_study(plan, progress=lambda _: nullcontext(lambda _done, _of: None), note=lambda _: None)
    assert found.captured is None and not found.failures
    for table in ("results.csv", "layers.csv"):
        before, now = rows_of(old / "results" / table), rows_of(tmp_path / "now" / table)
        assert len(before) == len(now) > 3
        for was, is_now in zip(before, now, strict=True):
            assert is_now.keys() >= was.keys()
            for name, cell in was.items():
                assert is_now[name] == cell or float(is_now[name]) == pytest.approx(float(cell), abs=ROUNDING), name


def test_old_results_are_read_and_written_again_with_the_same_cells(old: Path, tmp_path: Path) -> None:
    write_results(read_results(old / "results" / "results.csv"), tmp_path / "again.csv")
    before, again = rows_of(old / "results" / "results.csv"), rows_of(tmp_path / "again.csv")
    assert [{name: row[name] for name in before[0]} for row in again] == before
    path = evaluation_path(old / "results" / "predictions", "mms", "mini", "facts", "facts")
    held = json.loads(path.read_text())
    assert read_evaluation(path).fits[1].probabilities.tolist() == held["eval_fit_probabilities"][1]


def test_the_old_probe_scores_as_before_and_a_fit_of_now_learns_the_same(old: Path) -> None:
    probe, store = load(old / "probe"), Store(old / "store")
    again = fit(store, "facts", "mms")
    directions = [each.probe.state()["direction_"].numpy() for each in (again, probe)]
    np.testing.assert_allclose(*directions, atol=ROUNDING)
    assert probe.texts is None and again.texts is not None
    now, before = (evaluate(each, store, "facts").probabilities.tolist() for each in (again, probe))
    np.testing.assert_allclose(now, before, atol=ROUNDING)
