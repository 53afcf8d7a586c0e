"""Probes as scikit-learn's estimators: its own checks, its cross-validation and its pipelines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from planted import QUICK, planted
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from repeng.errors import BadArray
from repeng.probes import LAT, MMS, Logistic, Probe, get_probe
from repeng.probes.registry import PROBES

ONE_TEXT = [name for name in PROBES if len(PROBES[name].stimuli) == 1]
TWO_TEXTS = [name for name in PROBES if len(PROBES[name].stimuli) == 2]
OF_THEIR_OWN = ("mms", "lat", "logistic", "lda", "mlp", "attention", "max-of-means", "random", "mms-genies")
"""The others are one of these on another text or site, or pool tokens in another way."""
TYPED = "check_do_not_raise_errors_in_init_or_set_params"


def make(name: str) -> Probe:
    return get_probe(name, **QUICK.get(name, {}))


def expected_failures(probe: Probe) -> dict[str, str]:
    """The one check that cannot pass here; a test below makes it where it can."""
    return {TYPED: "the type checker of these tests refuses values of another type"} if probe.get_params() else {}


def rows(name: str, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X as scikit-learn has it ([n, d], of two texts [n, 2, d]), labels, and example ids."""
    part = planted(stimuli=len(PROBES[name].stimuli), layers=1, n_pairs=100, **options)
    x = part.activations[0].transpose(0, 1).numpy()
    return x[:, 0] if x.shape[1] == 1 else x, part.labels.numpy(), part.groups.numpy()


@parametrize_with_checks([make(name) for name in OF_THEIR_OWN], expected_failed_checks=expected_failures)
def test_scikit_learns_checks(estimator: Probe, check: Callable[[Probe], None]) -> None:
    check(estimator)


def test_the_check_that_a_type_checker_forbids_passes_without_one() -> None:
    code = (
        f"from sklearn.utils.estimator_checks import {TYPED} as check\n"
        "from repeng.probes.registry import PROBES\n"
        "for name, cls in PROBES.items():\n"
        "    check(name, cls())\n"
        "print('passed')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "passed\n"


@pytest.mark.parametrize("name", PROBES)
def test_cross_validation_splits_rows_and_scores_accuracy(name: str) -> None:
    x, y, groups = rows(name)
    scores = cross_val_score(make(name), x, y, groups=groups, cv=GroupKFold(4))
    assert scores.shape == (4,)
    assert scores.mean() == pytest.approx(0.5) if name == "random" else scores.mean() > 0.85


@pytest.mark.parametrize("name", ONE_TEXT)
def test_a_pipeline_and_a_grid_take_a_probe_like_any_classifier(name: str) -> None:
    x, y, _ = rows(name)
    pipeline = make_pipeline(StandardScaler(), make(name)).fit(1000 * x + 7, y)
    assert pipeline.score(1000 * x + 7, y) > 0.85 or name == "random"
    assert pipeline.transform(x).shape == (200, 1)


def test_a_pipeline_of_logistic_is_the_pipeline_of_scikit_learns() -> None:
    x, y, _ = rows("mms", strength=1.0)
    ours = make_pipeline(StandardScaler(), Logistic(standardize=False)).fit(x, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-3)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    found = GridSearchCV(Logistic(), {"C": [1e-4, 1.0]}).fit(x, y)
    assert found.best_params_["C"] in (1e-4, 1.0)


@pytest.mark.parametrize("name", PROBES)
def test_an_array_gives_arrays_that_equal_what_a_tensor_gives(name: str) -> None:
    x, y, groups = rows(name)
    batch = torch.from_numpy(x)[None] if x.ndim == 2 else torch.from_numpy(x).transpose(0, 1)
    ours = make(name).fit(x, y, groups)
    theirs = make(name).fit(batch, torch.from_numpy(y), torch.from_numpy(groups))
    scores = ours.decision_function(x)
    assert isinstance(scores, np.ndarray) and scores.shape == (200,)
    tensor = theirs.decision_function(batch)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(scores, tensor.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(batch))
    both = ours.predict_proba(x)
    assert both.shape == (200, 2) and both.min() >= 0
    np.testing.assert_allclose(both.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(both, theirs.predict_proba(batch).numpy(), atol=1e-5)
    np.testing.assert_array_equal(ours.predict(x), y.dtype.type(both[:, 1] > 0.5))
    np.testing.assert_array_equal(ours.transform(x)[:, 0], scores)
    assert ours.score(x, y) == np.mean(ours.predict(x) == y)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("classes", [("a lie", "the truth"), (-1, 1), (False, True)])
def test_any_two_labels_do_and_the_higher_is_the_better(name: str, classes: tuple[Any, Any]) -> None:
    x, y, groups = rows(name)
    named = np.array(classes)[y.astype(int)]
    probe = make(name).fit(x, named, groups)
    np.testing.assert_array_equal(probe.classes_, sorted(classes))
    np.testing.assert_array_equal(probe.decision_function(x), make(name).fit(x, y, groups).decision_function(x))
    assert set(probe.predict(x)) <= set(classes)
    assert np.mean(probe.predict(x) == named) > 0.85 or name == "random"


def test_a_tensor_of_rows_and_a_data_frame_are_rows() -> None:
    x, y, groups = rows("mms")
    expected = MMS().fit(x, y, groups).decision_function(x)
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(MMS().fit(tensor, y, groups).decision_function(tensor), expected, rtol=1e-5)
    frame = pd.DataFrame(x, columns=[f"axis {number}" for number in range(x.shape[1])])
    fitted = MMS().fit(frame, y, list(map(str, groups)))
    np.testing.assert_allclose(fitted.decision_function(frame), expected, rtol=1e-5)
    assert fitted.set_output(transform="pandas").transform(frame).columns.tolist() == ["mms0"]


def test_lat_without_groups_pairs_the_responses_of_each_class_in_order() -> None:
    x, y, _ = rows("lat")
    best, worse = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    ids = np.empty(len(y), dtype=int)
    ids[best] = ids[worse] = np.arange(100)
    np.testing.assert_array_equal(LAT().fit(x, y).decision_function(x), LAT().fit(x, y, ids).decision_function(x))
    fewer = np.r_[best, worse[:40]]
    assert LAT().fit(x[fewer], y[fewer]).score(x, y) > 0.85


@pytest.mark.parametrize("name", TWO_TEXTS)
def test_a_probe_of_two_texts_refuses_rows_of_one(name: str) -> None:
    x, y, groups = rows(name)
    with pytest.raises(BadArray, match=r"reads 2 stimuli \(contrast_yes.*\): give an array \[n, 2, d\]"):
        make(name).fit(x[:, 0], y, groups)
    with pytest.raises(BadArray, match=r"the activations hold 1"):
        make(name).fit(torch.from_numpy(x[:, 0]), y, groups)


@pytest.mark.parametrize("name", PROBES)
def test_another_width_than_that_of_the_fit_is_refused(name: str) -> None:
    x, y, groups = rows(name)
    probe = make(name).fit(x, y, groups)
    for wrong in (x[..., :5], torch.from_numpy(x[..., :5]).transpose(0, -2)[None]):
        with pytest.raises(ValueError, match="features|dimensions|reads"):
            probe.decision_function(wrong)


def test_labels_that_are_not_two_classes_of_these_rows_are_refused() -> None:
    x, y, groups = rows("mms")
    with pytest.raises(BadArray, match="3 classes"):
        MMS().fit(x, np.arange(200) % 3)
    with pytest.raises(BadArray, match="199 labels for 200 responses"):
        MMS().fit(x, y[1:])
    with pytest.raises(BadArray, match="groups of shape"):
        MMS().fit(x, y, groups[1:])


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_says_in_words_what_it_is_and_cites_where_it_comes_from(name: str) -> None:
    cls = PROBES[name]
    assert cls.title not in (cls.__name__, name)
    if name != "random" and not name.endswith("-genies") and name != "lat-stimulus-2":
        assert "arXiv:" in (cls.__doc__ or "")


def test_a_probe_derived_from_another_does_not_answer_to_its_name() -> None:
    class Steeper(MMS):
        pass

    assert (Steeper.name, Steeper.title) == ("Steeper", "Steeper")
    assert clone(Steeper()).name == "Steeper"
