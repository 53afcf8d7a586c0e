"""Figures of classifiers on rows of one's own, against scikit-learn's; sweeps and transfer without a leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import repeng
from repeng.errors import BadInput, UnknownName
from repeng.probes import LAT, MMS, Attention, Logistic, MeanOfScores, Ragged, SoftmaxPooling
from repeng.report.layer_results import LayerSweep, TransferTable
from repeng.study.cached_data import opened
from repeng.study.layer_sweep import cross_validated
from repeng.study.text_activations import TextActivations

CLASSIFIERS = [
    *(MMS(), LAT(), Logistic(), LinearSVC(), GaussianNB(), RandomForestClassifier(20, random_state=0)),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


def rows(n: int = 240, d: int = 12, *, shift: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian classes, a third of the rows positive, that lie `shift` apart along the first axis."""
    draw = np.random.default_rng(seed)
    y = draw.permutation(np.arange(n) % 3 == 0).astype(int)
    x = draw.normal(size=(n, d)).astype(np.float32)
    x[:, 0] += shift * y
    return x, y


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda made: type(made).__name__)
def test_figures_are_scikit_learns(classifier: Any) -> None:
    x, y = rows()
    fitted = classifier.fit(x[:120], y[:120])
    found = repeng.evaluate(fitted, x[120:], y[120:])
    scored = hasattr(fitted, "decision_function")
    scores = fitted.decision_function(x[120:]) if scored else fitted.predict_proba(x[120:])[:, 1]
    predicted = fitted.predict(x[120:])
    assert found.auroc.value == pytest.approx(roc_auc_score(y[120:], scores))
    assert found.average_precision.value == pytest.approx(average_precision_score(y[120:], scores))
    # A probability of exactly one half, which some forest gives, counts half and not as the first class.
    tied = 0.5 * np.mean(scores == 0.5)
    assert found.accuracy.value == pytest.approx(np.mean(predicted == y[120:]), abs=tied + 1e-9)
    assert found.balanced_accuracy.value == pytest.approx(
        balanced_accuracy_score(y[120:], predicted), abs=3 * tied + 1e-9
    )
    if hasattr(fitted, "predict_proba"):
        assert found.brier is not None
        assert found.brier.value == pytest.approx(brier_score_loss(y[120:], fitted.predict_proba(x[120:])[:, 1]))
    else:
        assert found.brier is None
    for figure in (found.auroc, found.accuracy, found.balanced_accuracy, found.average_precision):
        assert figure.low is not None and figure.high is not None
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
    assert (found.n, found.n_positive, found.n_groups) == (120, int(y[120:].sum()), 120)
    assert "auroc" in repr(found) and f"{found.auroc.value:.3f}" in repr(found)


def test_tensors_frames_and_labels_of_any_kind_do() -> None:
    x, y = rows()
    named = np.array(["a lie", "the truth"])[y]
    fitted = MMS().fit(torch.from_numpy(x), named)
    expected = repeng.evaluate(MMS().fit(x, y), x, y)
    assert expected.positive == 1
    for given in (x, torch.from_numpy(x), torch.from_numpy(x).bfloat16().float(), pd.DataFrame(x), {3: x}):
        found = repeng.evaluate(fitted, given, named.tolist())
        assert found.positive == "the truth"
        assert found.auroc.value == pytest.approx(expected.auroc.value, abs=0.01)
    assert repeng.evaluate(MMS().fit(x, y), x, torch.from_numpy(y)).auroc == expected.auroc


def test_rows_that_repeat_within_groups_add_no_certainty() -> None:
    x, y = rows(60)
    fitted = MMS().fit(*rows(200, seed=1))
    once = repeng.evaluate(fitted, x, y).auroc
    groups = np.repeat([f"author {number}" for number in range(60)], 5)
    repeated = repeng.evaluate(fitted, np.repeat(x, 5, axis=0), np.repeat(y, 5), groups)
    blind = repeng.evaluate(fitted, np.repeat(x, 5, axis=0), np.repeat(y, 5)).auroc
    assert repeated.n == 300 and repeated.n_groups == 60
    assert repeated.auroc.value == pytest.approx(once.value) == pytest.approx(blind.value)
    assert repeated.auroc.low == pytest.approx(once.low, abs=0.01)  # type: ignore[arg-type]
    assert blind.low > once.low + 0.03  # type: ignore[operator]


def test_few_groups_are_never_parted_and_nothing_is_said_of_independent_rows(caplog: pytest.LogCaptureFixture) -> None:
    # Ten authors of forty copies each are ten rows: no figure may be surer of them than of the ten alone.
    (x, y), groups = rows(10), np.repeat([f"author {number}" for number in range(10)], 40)
    fitted = MMS().fit(*rows(200, seed=1))
    once = repeng.evaluate(fitted, x, y)
    copies, labels = np.repeat(x, 40, axis=0), np.repeat(y, 40)
    found = repeng.evaluate(fitted, copies, labels, groups)
    for name in ("auroc", "accuracy", "balanced_accuracy", "average_precision", "brier"):
        one, other = getattr(once, name), getattr(found, name)
        assert other.low - one.low < 0.1 and one.high - other.high < 0.1, name
    blind = repeng.evaluate(fitted, copies, labels).auroc
    assert blind.high - blind.low < 0.6 * (found.auroc.high - found.auroc.low)
    swept = repeng.sweep({1: copies}, labels, "mms", groups=groups, folds=3).rows[0].figures.auroc
    assert swept.high - swept.low > 2 * (blind.high - blind.low)  # type: ignore[operator]
    assert "independent" not in caplog.text


def of_tokens(n: int = 60, d: int = 6, *, seed: int = 0) -> tuple[Ragged, np.ndarray]:
    """Texts of one to five tokens, those of the positive class shifted along the first axis."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % 2
    texts = [draw.normal(size=(draw.integers(1, 6), d)).astype(np.float32) for _ in range(n)]
    for text, label in zip(texts, y, strict=True):
        text[:, 0] += 2 * label
    return Ragged.of_texts([torch.from_numpy(text) for text in texts]), y


def test_all_tokens_are_evaluated_swept_and_transferred() -> None:
    (tokens, y), (other, other_y) = of_tokens(), of_tokens(seed=1)
    fitted = Attention(heads=1, epochs=5).fit(tokens, y)
    found = repeng.evaluate(fitted, other, other_y)
    assert found.auroc.value == pytest.approx(roc_auc_score(other_y, fitted.decision_function(other).numpy()))
    assert found.n == 60 and found.auroc.value > 0.8
    batched = Ragged(other.values[None], other.offsets)
    assert repeng.evaluate(fitted, batched, other_y).as_dict() == found.as_dict()
    acts = TextActivations(
        {4: tokens.values},
        **{"token": "all", "site": "resid_post", "stimulus": "plain", "capture_id": "m-1"},  # type: ignore[arg-type]
        n_texts=60,
        offsets=tokens.offsets,
    )
    assert repeng.evaluate(fitted, acts, y).as_dict() == repeng.evaluate(fitted, tokens, y).as_dict()
    probes = [MeanOfScores()]
    groups = np.arange(60) // 2
    swept = repeng.sweep(acts, y, probes, groups=groups).frame
    assert swept.equals(repeng.sweep({4: tokens}, y, probes, groups=groups).frame) and swept.auroc[0] > 0.8
    tested = repeng.sweep(acts, y, Attention(heads=1, epochs=5), test=({4: other}, other_y)).rows[0].figures
    assert tested.as_dict() == found.as_dict()
    matrix = repeng.transfer_matrix({"a": (tokens, y), "b": (other, other_y)}, Attention(heads=1, epochs=5)).matrix()
    assert matrix.loc["a", "b"] == found.auroc.value


def test_a_sweep_gives_a_probe_that_holds_groups_out_the_groups() -> None:
    tokens, y = of_tokens()
    groups = np.array([f"author {number // 4}" for number in range(60)])
    swept = repeng.sweep({4: tokens}, y, SoftmaxPooling(epochs=5), groups=groups, test=({4: tokens}, y)).rows[0].figures
    own = SoftmaxPooling(epochs=5).fit(tokens, y, np.unique(groups, return_inverse=True)[1])
    np.testing.assert_allclose(swept.evaluation.text_scores[0], own.decision_function(tokens).numpy())
    assert not np.allclose(
        own.decision_function(tokens), SoftmaxPooling(epochs=5).fit(tokens, y).decision_function(tokens)
    )


def test_all_tokens_where_one_row_a_text_is_read_are_refused_with_the_way_out() -> None:
    tokens, y = of_tokens()
    for classifier, name in ((LogisticRegression(), "LogisticRegression"), (MMS(), "mms")):
        with pytest.raises(BadInput, match=f"{name} reads one row a text, .*: capture one token"):
            repeng.sweep({4: tokens}, y, classifier)
        with pytest.raises(BadInput, match=f"{name} reads one row a text"):
            repeng.transfer_matrix({"a": (tokens, y), "b": (tokens, y)}, classifier)
        with pytest.raises(BadInput, match=f"{name} reads one row a text"):
            repeng.evaluate(classifier.fit(*rows(d=6)), tokens, y)
    with pytest.raises(
        BadInput, match=r"y is of shape \(60,\) .* X is repeng.probes.Ragged\(acts\[4\], acts.offsets\)"
    ):
        repeng.evaluate(MeanOfScores().fit(tokens, y), tokens.values, y)
    with pytest.raises(BadInput, match="give those of one layer"):
        repeng.evaluate(MeanOfScores().fit(tokens, y), Ragged(tokens.values.expand(2, -1, -1), tokens.offsets), y)


def test_what_cannot_be_scored_is_refused_in_words() -> None:
    x, y = rows()
    fitted = MMS().fit(x, y)
    with pytest.raises(BadInput, match="y holds 2, 3"):
        repeng.evaluate(fitted, x, y + 2)
    with pytest.raises(BadInput, match="y holds '0', '1'; the classifier was fitted on 0 and 1: .* are two labels"):
        repeng.evaluate(fitted, x, y.astype(str))
    with pytest.raises(BadInput, match=r"y is of shape \(239,\) for 240 rows"):
        repeng.evaluate(fitted, x, y[1:])
    with pytest.raises(BadInput, match="groups is of shape"):
        repeng.evaluate(fitted, x, y, [1, 2])
    with pytest.raises(BadInput, match=r"2 layers \(1, 2\); choose one, as in acts\[2\]"):
        repeng.evaluate(fitted, {1: x, 2: x}, y)
    with pytest.raises(BadInput, match="3 classes; give a classifier that is fitted on two"):
        repeng.evaluate(LogisticRegression().fit(x, np.arange(240) % 3), x, y)
    with pytest.raises(BadInput, match="no classes"):
        repeng.evaluate(MMS(), x, y)
    with pytest.raises(BadInput, match="0 of 240 texts have the label"):
        repeng.evaluate(fitted, x, np.zeros(240, dtype=int))


@pytest.mark.parametrize("classifier", [MMS(), LogisticRegression(), LinearSVC(), GaussianNB()])
def test_cross_validation_is_scikit_learns(classifier: Any) -> None:
    x, y = rows()
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    found = cross_validated(classifier, x, y, seed=3)
    assert found.accuracy.value == pytest.approx(np.mean(cross_val_predict(classifier, x, y, cv=folds) == y))
    by_fold = cross_val_score(classifier, x, y, cv=folds, scoring="roc_auc")
    assert found.auroc.value == pytest.approx(by_fold.mean(), abs=0.02)


def test_folds_never_part_a_group() -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 4)
    x = draw.normal(size=(60, 8))[groups] + 0.01 * draw.normal(size=(240, 8))
    y = draw.permutation(np.arange(60) % 2)[groups]
    nearest = KNeighborsClassifier(1)
    assert cross_validated(nearest, x, y).auroc.value > 0.95
    assert cross_validated(nearest, x, y, groups).auroc.value < 0.7


def test_a_sweep_is_every_classifier_at_every_layer() -> None:
    x, y = rows()
    acts = {1: x - 2 * y[:, None], 5: torch.from_numpy(x)}
    found = repeng.sweep(acts, y, ["mms", "logistic(C=0.1)", LinearSVC()])
    assert isinstance(found, LayerSweep)
    assert list(zip(found.frame.probe, found.frame.layer, strict=True)) == [
        (name, layer) for name in ("mms", "logistic(C=0.1)", "LinearSVC") for layer in (1, 5)
    ]
    assert found.rows[1].figures.auroc == cross_validated(MMS(), x, y).auroc
    assert set(found.frame.auroc[found.frame.layer == 1] > 0.99) == {True}
    assert "vega-lite" in found.chart().to_dict()["$schema"] and "mms" in repr(found)
    assert repeng.sweep(acts, y, {"mine": MMS()}).frame.probe.tolist() == ["mine", "mine"]


def test_a_sweep_over_a_test_set_is_one_fit_scored_there() -> None:
    (x, y), (other, other_y) = rows(), rows(seed=5)
    groups = np.arange(240) // 2
    found = repeng.sweep({5: x}, y, "mms", test=({5: other}, other_y, groups)).rows[0].figures
    assert found.as_dict() == repeng.evaluate(MMS().fit(x, y), other, other_y, groups).as_dict()
    with pytest.raises(BadInput, match="not of layer 5"):
        repeng.sweep({5: x}, y, "mms", test=({4: other}, other_y))


def test_a_transfer_matrix_is_cross_validated_on_its_diagonal_and_fitted_off_it() -> None:
    (x, y), (other, other_y) = rows(), rows(seed=5, shift=2.0)
    noise = np.random.default_rng(1).normal(size=(60, 12)).astype(np.float32)
    sets = {"a": (x, y), "b": (other, other_y, np.arange(240) // 2), "noise": (noise, np.arange(60) % 2)}
    found = repeng.transfer_matrix(sets, LogisticRegression(C=100.0))
    assert isinstance(found, TransferTable) and found.names == ("a", "b", "noise")
    square = found.matrix()
    assert square.loc["a", "a"] == cross_validated(LogisticRegression(C=100.0), x, y).auroc.value
    fitted = LogisticRegression(C=100.0).fit(x, y)
    assert square.loc["a", "b"] == pytest.approx(roc_auc_score(other_y, fitted.decision_function(other)))
    assert roc_auc_score(sets["noise"][1], fitted.fit(*sets["noise"]).decision_function(noise)) > 0.75
    assert square.loc["noise", "noise"] < 0.6
    cosine = found.matrix("cosine").to_numpy()
    np.testing.assert_allclose(cosine, cosine.T)
    np.testing.assert_allclose(np.diag(cosine), 1.0)
    assert cosine[0, 1] > 0.7 > abs(cosine[0, 2])
    assert "hconcat" in found.chart().to_dict()
    forest = repeng.transfer_matrix(dict(list(sets.items())[:2]), GaussianNB())
    assert forest.frame.cosine.isna().all() and "hconcat" in forest.chart().to_dict()


def test_a_sweep_that_makes_no_sense_is_refused() -> None:
    x, y = rows()
    with pytest.raises(UnknownName, match="unknown probe 'msm'"):
        repeng.sweep({1: x}, y, "msm")
    with pytest.raises(BadInput, match=r"a mapping of layers to rows: \{4: X\}"):
        repeng.sweep(torch.from_numpy(x), y)
    with pytest.raises(BadInput, match="labelled sets by name; give"):
        repeng.transfer_matrix([(x, y), (x, y)])  # type: ignore[call-overload]
    with pytest.raises(BadInput, match=r"dict is no store; .* repeng.probes.MMS\(\).fit\(acts\[4\], y\)"):
        opened({1: x})
    with pytest.raises(BadInput, match="two of one name"):
        repeng.sweep({1: x}, y, [LogisticRegression(), LogisticRegression(C=2.0)])
    with pytest.raises(BadInput, match="one class is in 3 groups of rows; give more rows, or folds from 2 to 3"):
        repeng.sweep({1: x[:10]}, np.arange(10) < 3, "mms")
    with pytest.raises(BadInput, match="2 labelled sets or more; given a"):
        repeng.transfer_matrix({"a": (x, y)})
    with pytest.raises(BadInput, match=r"'b' is not \(X, y\)"):
        repeng.transfer_matrix({"a": (x, y), "b": (x,)})
    with pytest.raises(BadInput, match="y holds 3 classes"):
        repeng.sweep({1: x}, np.arange(240) % 3, "mms")
    with pytest.raises(BadInput, match="has neither"):
        repeng.evaluate(type("Mute", (), {"classes_": [0, 1]})(), x, y)
    assert repeng.evaluate(Perceptron().fit(x, y), x, y).brier is None
