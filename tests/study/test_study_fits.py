"""A study whose probes are fitted several times, and held against their null."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_world import flip, silent, with_split, world

from repeng.distributions.schema import ResponseLabels
from repeng.methods.answers import evaluate
from repeng.methods.base import NullScores, ResponseScores
from repeng.methods.probes import CachedSource, FittedOnCache
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.registry import get_probe
from repeng.probes.repeats import fit_seeds
from repeng.results import read_evaluation, read_layers
from repeng.study.study import StudyOutcome, plan_study, run_study

LAYERS = 3


@pytest.fixture(scope="module")
def repeated(finished: StudyOutcome, tmp_path_factory: pytest.TempPathFactory) -> StudyOutcome:
    """The same study with three fits of each probe and four nulls."""
    out = str(tmp_path_factory.mktemp("repeated") / "out")
    study = replace(
        finished.plan.study, out=out, fits=3, nulls=4, methods=("mms", "cra", "length", "zero-shot", "random")
    )
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


def test_a_figure_is_the_mean_of_fits_each_of_its_own_seed(repeated: StudyOutcome) -> None:
    runner, split, asked = repeated.plan.runner, world()["easy"].train, world()["hard"].test
    own = runner.source(split)
    accuracies = []
    for seed in fit_seeds(0, 3):
        spec = ProbeSpec(get_probe("mms"), seed=seed)
        fitted = fit_probe(spec, CachedSource.of(spec, LAYERS, own.activations, own.labels))
        answer = FittedOnCache.alone(fitted, LAYERS).answer(runner.target(asked))
        accuracies.append(evaluate(answer, runner.target(asked), ResponseLabels.of(asked)).accuracy)
    row = next(row for row in repeated.rows if (row.method, row.source, row.target) == ("mms", "easy", "hard"))
    assert row.accuracy == pytest.approx(np.mean(accuracies))


def test_what_was_found_by_every_fit_and_null_is_kept(repeated: StudyOutcome) -> None:
    (path,) = repeated.plan.runner.predictions.glob("mms/*-easy/hard.json")
    evaluation = read_evaluation(path)
    assert evaluation.n_fits == 3 and len(evaluation.shuffled) == len(evaluation.random) == 4
    (path,) = repeated.plan.runner.predictions.glob("length/*-easy/hard.json")
    evaluation = read_evaluation(path)
    assert evaluation.n_fits == 3 and evaluation.shuffled is None
    for once in ("zero-shot", "random"):
        (path,) = repeated.plan.runner.predictions.glob(f"{once}/*-easy/hard.json")
        assert read_evaluation(path).n_fits == 1 and read_evaluation(path).shuffled is None


def test_a_layer_shows_how_many_fits_chose_it(repeated: StudyOutcome) -> None:
    table = read_layers(repeated.out / "layers.csv")
    rows = [row for row in table if (row.probe, row.source, row.target) == ("mms", "easy", "hard")]
    own = repeated.plan.runner.source(world()["easy"].train)
    chosen = []
    for seed in fit_seeds(0, 3):
        spec = ProbeSpec(get_probe("mms"), seed=seed)
        chosen += fit_probe(spec, CachedSource.of(spec, LAYERS, own.activations, own.labels)).layers
    assert [row.layer for row in rows] == list(range(LAYERS))
    assert [row.chosen_share for row in rows] == pytest.approx([chosen.count(layer) / 3 for layer in range(LAYERS)])
    assert all(row.chosen == (row.chosen_share > 0) for row in rows)
    assert max(row.tied_share for row in rows) > 0


def test_other_counts_of_fits_or_nulls_are_other_evaluations(repeated: StudyOutcome, tmp_path: Path) -> None:
    for change in ({}, {"fits": 2}, {"nulls": 5}):
        study = replace(repeated.plan.study, **change)
        plan = plan_study(replace(study, out=str(tmp_path / str(sorted(change)))))
        assert not plan.known
    assert len(plan_study(repeated.plan.study).known) == len(repeated.plan.tasks)


def test_a_null_never_sees_a_targets_label(repeated: StudyOutcome) -> None:
    runner, split = repeated.plan.runner, world()["hard"].test
    flipped = with_split(world(), "hard", "test", flip)["hard"].test
    method = next(one for one in repeated.plan.methods if one.name == "mms")
    answer = method.fit(runner.source(world()["easy"].train)).answer(runner.target(split))
    target = runner.target(split)
    first = dict(zip(map(tuple, target.pairs.tolist()), answer.null.shuffled.T, strict=True))
    for labels in (ResponseLabels.of(split), ResponseLabels.of(flipped)):
        said = [first[pair] if pair in first else -first[pair[::-1]] for pair in map(tuple, labels.pairs.tolist())]
        assert np.allclose(evaluate(answer, target, labels).unlabelled, (np.array(said) > 0).mean(axis=0))


def test_a_null_is_judged_by_labels_that_are_shuffled_by_prompt_too(repeated: StudyOutcome) -> None:
    split = world()["hard"].test
    target, labels = repeated.plan.runner.target(split), ResponseLabels.of(split)
    best = np.where(labels.labels[target.pairs[:, 0]] == 1, 1.0, -1.0)
    always_right = NullScores(np.tile(best, (400, 1)))
    found = evaluate(ResponseScores(labels.labels.astype(float), null=always_right), target, labels)
    assert (found.unlabelled == 1).all()
    groups, sizes = np.unique(found.group, return_counts=True)
    spread = np.sqrt((sizes**2).sum()) / sizes.sum() / 2
    assert abs(found.shuffled.mean() - 0.5) < 4 * spread / 20
    assert found.shuffled.std() == pytest.approx(spread, rel=0.15)
