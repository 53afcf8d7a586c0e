"""Answers about labelled texts against their labels, by hand and by scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from judged import judged, unread
from sklearn.metrics import roc_auc_score

from repeng.distributions.schema import Example, ResponseLabels, Split
from repeng.errors import BadInput, RepengError
from repeng.maths import sigmoid
from repeng.methods.answers import by_layer, evaluate
from repeng.methods.base import LayerScores, MethodSettings, NullScores, PairProbabilities, ResponseScores
from repeng.methods.prompted import calibrated
from repeng.methods.registry import make_method
from repeng.methods.text_answers import _turned, benign_thresholds
from repeng.metrics import TextEvaluation, accuracy_interval
from repeng.probes.calibration import TextCalibration


def texts(labels: list[int], groups: list[str] | None = None, name: str = "d") -> Split:
    rows = [
        Example("", (f"text {n}",), (0,) if label else (), group=groups[n] if groups else None)
        for n, label in enumerate(labels)
    ]
    return Split(name, "test", tuple(rows))


LABELS = [1, 0, 0, 1, 0, 1, 0, 0]
SCORES = np.array([[2.0, 1.0, -1.0, 0.5, 0.5, 3.0, np.nan, 0.0], [1.0, 2.0, 0.0, 3.0, -2.0, 1.5, 4.0, -3.0]])
CHOSEN = (TextCalibration(2.0, -1.0, 0.9, 0.4), TextCalibration(0.5, 0.0, 3.0, 2.0))


def test_a_target_of_texts_has_no_pairs_even_where_its_texts_are_rivals() -> None:
    target = unread(texts(LABELS, list("aabbccdd")))
    assert target.as_texts and len(target.pairs) == 0 and target.rivals.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]


def test_texts_are_scored_one_by_one_and_those_that_a_fit_says_nothing_of_are_left_out() -> None:
    found = judged(ResponseScores(SCORES, texts=CHOSEN), texts(LABELS))
    assert isinstance(found, TextEvaluation) and found.figure == "auroc"
    there = [row for row in range(8) if row != 6]
    labels = np.array(LABELS)[there]
    assert found.accuracy == pytest.approx(np.mean([roc_auc_score(labels, own[there]) for own in SCORES]))
    p = np.stack([sigmoid(2 * SCORES[0, there] - 1), sigmoid(0.5 * SCORES[1, there])])
    assert found.fit_probabilities is not None and found.thresholds is not None
    np.testing.assert_allclose(found.fit_probabilities, np.where(labels == 1, p, 1 - p))
    assert found.thresholds.tolist() == [[0.9, 0.4], [3.0, 2.0]]
    assert found.example.tolist() == there and found.pairs is None


def test_texts_of_one_group_are_pairs_too() -> None:
    split = texts(LABELS, ["a", "a", "b", "b", "c", "c", "c", "d"])
    found = judged(ResponseScores(SCORES[1], 2.0), split)
    assert isinstance(found, TextEvaluation) and found.pairs is not None and found.probabilities is None
    gaps = [1.0 - 2.0, 3.0 - 0.0, 1.5 - -2.0, 1.5 - 4.0]
    np.testing.assert_allclose(found.pairs.probabilities, sigmoid(np.array(gaps) / 2))
    assert found.pairs.group.tolist() == [0, 1, 2, 2] and found.group.tolist() == [0, 0, 1, 1, 2, 2, 2, 3]


def test_thresholds_of_a_benign_distribution_are_set_on_its_texts_of_label_0() -> None:
    benign = texts([0] * 199 + [1], name="chat")
    scores = np.arange(200.0)
    limits = benign_thresholds(ResponseScores(scores), unread(benign), ResponseLabels.of(benign))
    assert limits.tolist() == [[197.0, 189.0]]
    assert [int((scores[:199] > limit).sum()) for limit in limits[0]] == [1, 9]
    with pytest.raises(RepengError, match="no text of label 0"):
        only = texts([1, 1])
        benign_thresholds(ResponseScores(np.zeros(2)), unread(only), ResponseLabels.of(only))


def test_texts_of_one_label_alone_are_refused_with_the_reason() -> None:
    with pytest.raises(RepengError, match="its 2 texts that can be read are all of one label"):
        judged(ResponseScores(np.array([1.0, 2.0, np.nan])), texts([1, 1, 0]))
    with pytest.raises(RepengError, match="no text a score of its own"):
        judged(PairProbabilities(np.empty(0)), texts(LABELS))


def test_a_null_is_judged_by_labels_turned_round_a_group_at_a_time_and_as_they_are() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300).tolist()
    split = texts(labels)
    good = np.array(labels) + rng.normal(size=(40, 300))
    found = judged(ResponseScores(good[0], null=NullScores(good, good[:3])), split)
    assert isinstance(found, TextEvaluation)
    assert found.unlabelled == pytest.approx([roc_auc_score(labels, own) for own in good])
    assert found.random == pytest.approx(found.unlabelled[:3])
    assert abs(found.shuffled.mean() - 0.5) < 0.03 < found.shuffled.std() + 0.01


def test_each_layer_alone_has_the_auroc_of_its_scores() -> None:
    split = texts(LABELS)
    scores = np.random.default_rng(1).normal(size=(2, 3, 8))
    scores[:, :, 4] = np.nan
    units = ((0, None), (1, None), (5, None))
    layers = LayerScores(units, scores, np.array([[0.7, 0.9, 0.8]] * 2), np.array([[False, True, False]] * 2))
    found = by_layer(layers, unread(split), ResponseLabels.of(split)).figures
    there = [row for row in range(8) if row != 4]
    labels = np.array(LABELS)[there]
    for place, figure in enumerate(found):
        areas = [roc_auc_score(labels, scores[fit, place, there]) for fit in range(2)]
        assert figure.accuracy == pytest.approx(np.mean(areas)) and figure.accuracy_low is not None


def test_what_knows_pairs_alone_refuses_labelled_texts(tmp_path) -> None:
    shared = MethodSettings("mini", 6, None, "capture", tmp_path, tmp_path)
    statements, pairs = texts(LABELS), Split("p", "train", (Example("q", ("a", "b"), 0),))
    for name in ("lora", "few-shot", "zero-shot-genies", "mms-genies"):
        with pytest.raises(BadInput, match=f"{name}.* goes by pairs of responses, and d/test holds labelled texts"):
            make_method(name, shared).check_splits(pairs, statements)
    for name in ("mms", "ccs", "logistic", "tfidf", "length", "zero-shot", "zero-shot-mean", "truthfulness"):
        make_method(name, shared).check_splits(statements, statements)
    several = replace(pairs, examples=(Example("q", ("a", "b", "c"), (0, 1)),))
    with pytest.raises(BadInput, match="example 0 has 2 right of 3: take lat"):
        make_method("lat-genies", shared).check_splits(several, pairs)


def test_pairs_are_evaluated_as_before() -> None:
    split = Split("p", "test", tuple(Example(f"q{n}", ("a", "b"), n % 2) for n in range(4)))
    answer = ResponseScores(np.arange(8.0))
    assert type(evaluate(answer, unread(split), ResponseLabels.of(split))).__name__ == "Evaluation"


def test_texts_of_a_named_group_are_resampled_together_however_few_groups_there_are() -> None:
    rng = np.random.default_rng(0)
    groups = [f"author {n // 40}" for n in range(400)]
    labels = [int(n // 40 % 2) for n in range(400)]
    by_author = rng.normal(size=10).repeat(40)
    grouped = judged(ResponseScores(by_author), texts(labels, groups))
    alone = judged(ResponseScores(by_author), texts(labels))
    (low, high), (close, near) = accuracy_interval(grouped), accuracy_interval(alone)
    assert high - low > 2 * (near - close)
    assert grouped.example.tolist() == [40 * (n // 40) for n in range(400)]


def test_pairs_of_many_groups_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(0, 2, 60).tolist(), [f"g{n}" for n in rng.integers(0, 20, 60)]
    scores = rng.normal(size=(2, 60))
    found = judged(ResponseScores(scores, np.array([1.0, 3.0])), texts(labels, groups))
    expected = [
        [1 / (1 + np.exp(-(own[best] - own[worse]) / temperature))]
        for worse in range(60)
        for best in range(60)
        for own, temperature in [(scores[1], 3.0)]
        if labels[best] and not labels[worse] and groups[best] == groups[worse]
    ]
    assert isinstance(found, TextEvaluation) and found.pairs is not None
    np.testing.assert_allclose(found.pairs.fit_probabilities[1], np.ravel(expected))


def test_labels_of_a_null_are_turned_by_whole_groups_of_the_target() -> None:
    place = np.repeat(np.arange(40), 5)
    positive = np.arange(200) % 3 == 0
    turned = _turned(positive, place, 40, np.random.default_rng(0)) != positive
    assert 0.2 < turned.mean() < 0.8
    assert all(len(set(turned[place == group])) == 1 for group in range(40))


@pytest.mark.parametrize("way", [1.0, -1.0])
def test_what_learns_nothing_is_turned_by_the_source_where_its_labels_say_so(way: float) -> None:
    labels = np.tile([1.0, 0.0], 60)
    scores = way * (labels + np.random.default_rng(0).normal(size=120))
    scores[5] = np.nan
    known = ResponseLabels.of(texts(labels.astype(int).tolist()))
    sign, chosen = calibrated(scores, known)
    there = np.isfinite(scores)
    assert sign == way
    assert np.mean((chosen(sign * scores[there]) > 0.5) == (labels[there] == 1)) > 0.6
