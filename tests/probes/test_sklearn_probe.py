"""Any classifier of scikit-learn's as a probe: its own scores at every layer, its study, and what can be saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import fit_probe, planted
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from repeng.errors import BadInput
from repeng.methods.base import MethodSettings
from repeng.methods.names import parse_name
from repeng.methods.registry import make_method
from repeng.probes import MMS, SklearnProbe, as_probe, get_probe, is_sklearn_reference, load, save
from repeng.probes.fitting import ProbeSpec
from repeng.probes.members import Members
from repeng.probes.repeats import fit_repeatedly

LINEAR = [LogisticRegression(C=0.1), LinearSVC(), LinearDiscriminantAnalysis(), SVC(kernel="linear")]
OTHERS = [GaussianNB(), SVC(), KNeighborsClassifier(), make_pipeline(StandardScaler(), LogisticRegression())]


def kind(estimator: Any) -> str:
    return type(estimator).__name__


@pytest.mark.parametrize("estimator", [*LINEAR, *OTHERS], ids=kind)
def test_each_layer_is_a_clone_of_its_own_with_its_own_scores(estimator: Any) -> None:
    part = planted(layers=2, strength=1.5)
    probe = SklearnProbe(estimator).fit(part.activations, part.labels, part.groups)
    assert ("direction_" in probe.state()) == (estimator in LINEAR)
    scores = probe.decision_function(part.activations)
    for layer in range(2):
        rows = part.activations[layer, 0].numpy()
        alone = clone(estimator).fit(rows, part.labels.numpy())
        if hasattr(alone, "decision_function"):
            expected = alone.decision_function(rows)
        else:
            probability = alone.predict_proba(rows)[:, 1].clip(1e-12, 1 - 1e-12)
            expected = np.log(probability / (1 - probability))
        shown = np.abs(expected) < 20
        np.testing.assert_allclose(scores[layer].numpy()[shown], expected[shown], rtol=1e-3, atol=1e-3)
        picked = probe.select(torch.tensor([layer])).decision_function(part.activations[[layer]])
        torch.testing.assert_close(picked[0], scores[layer])
    assert not hasattr(estimator, "classes_")


@pytest.mark.parametrize("estimator", [LinearSVC(), GaussianNB()], ids=kind)
def test_a_study_fits_it_several_times_with_nulls_in_blocks(estimator: Any) -> None:
    data, target = planted(layers=3, strength=2.0).source(), planted(layers=3, strength=2.0, seed=1)
    made = fit_repeatedly(ProbeSpec(SklearnProbe(estimator), "top-k:2"), data, fits=2, nulls=3, block_bytes=1)
    together = Members.chosen(made.fits).pair_scores(lambda layer: target.activations[layer], target.pairs)
    for own, fitted in zip(together, made.fits, strict=True):
        np.testing.assert_allclose(own, fitted.pair_scores(target.activations, target.pairs), rtol=1e-4, atol=1e-5)
    assert np.mean(together > 0) > 0.8
    assert made.shuffled is not None
    nulls = made.shuffled.pair_scores(lambda layer: target.activations[layer], target.pairs)
    assert nulls.shape == (3, 60) and np.isfinite(nulls).all()


def test_a_linear_one_is_saved_as_tensors_and_comes_back(tmp_path: Path) -> None:
    data, target = planted().source(), planted(seed=1)
    before = fit_probe(SklearnProbe(LogisticRegression(C=0.1)), data)
    save(before, tmp_path)
    after = load(tmp_path)
    assert after.name == "sklearn:sklearn.linear_model.LogisticRegression"
    assert after.probe.get_params()["estimator__C"] == 0.1
    np.testing.assert_array_equal(
        after.pair_probabilities(target.activations, target.pairs),
        before.pair_probabilities(target.activations, target.pairs),
    )


@pytest.mark.parametrize(
    ("estimator", "message"),
    [(GaussianNB(), "not linear, and a pickle"), (LogisticRegression(class_weight={0: 1.0, 1: 2.0}), "class_weight")],
    ids=["not linear", "a parameter no file could hold"],
)
def test_what_tensors_cannot_hold_is_not_saved(estimator: Any, message: str, tmp_path: Path) -> None:
    fitted = fit_probe(SklearnProbe(estimator), planted().source())
    with pytest.raises(BadInput, match=message):
        save(fitted, tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_a_name_with_parameters_is_the_object() -> None:
    name, parameters = parse_name("sklearn:sklearn.linear_model.LogisticRegression(C=0.1)")
    assert is_sklearn_reference(name) and not is_sklearn_reference("logistic")
    part = planted()
    named = get_probe(name, **parameters)
    assert named.name == name and named.described()["C"] == 0.1
    given = as_probe(LogisticRegression(C=0.1))
    assert isinstance(given, SklearnProbe) and as_probe(named) is named
    torch.testing.assert_close(
        named.fit(part.activations, part.labels).decision_function(part.activations),
        given.fit(part.activations, part.labels).decision_function(part.activations),
    )


def test_a_method_of_a_study_bears_the_name_that_was_typed() -> None:
    settings = MethodSettings(
        model="mini", n_layers=2, max_length=None, capture_id="c", plugins=Path("plugins"), tuned=Path("tuned")
    )
    method = make_method("sklearn:sklearn.svm.LinearSVC(C=0.5)", settings)
    assert method.name == "sklearn:sklearn.svm.LinearSVC(C=0.5)"
    assert method.parameters["C"] == 0.5


def test_rows_of_an_array_work_as_with_any_classifier() -> None:
    part = planted(layers=1)
    x, y = part.activations[0, 0].numpy(), np.where(part.labels == 1, "true", "false")
    probe = SklearnProbe(KNeighborsClassifier()).fit(x, y)
    assert probe.score(x, y) > 0.9
    assert set(probe.predict(x)) == {"true", "false"}
    assert clone(probe).get_params()["estimator__n_neighbors"] == 5


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sklearn:LinearSVC", {}, "names no class; write sklearn:MODULE.CLASS"),
        ("sklearn:sklearn.svm.LinearSV", {}, "sklearn.svm has no class LinearSV"),
        ("sklearn:nowhere_at_all.Forest", {}, "nowhere_at_all cannot be imported .* install nowhere_at_all"),
        ("sklearn:sklearn.svm.LinearSVC", {"gamma": 1}, "its parameters are .*C"),
        ("sklearn:sklearn.base.clone", {}, "no estimator of scikit-learn's kind"),
        ("sklearn:sklearn.cluster.KMeans", {}, "no classifier with decision_function or predict_proba"),
        ("sklearn:sklearn.svm.Linear SVC", {}, "names no class"),
    ],
)
def test_a_name_that_leads_to_no_classifier_says_what_to_write(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        get_probe(name, **params)


@pytest.mark.parametrize("given", [KMeans(), LinearRegression(), LogisticRegression, "mms", None], ids=str)
def test_what_is_no_classifier_is_no_probe(given: Any) -> None:
    with pytest.raises(BadInput, match="no classifier"):
        as_probe(given)
    assert as_probe(probe := MMS()) is probe
