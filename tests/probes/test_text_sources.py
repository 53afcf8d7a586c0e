"""A source of labelled texts: how it is split, what is learned from it, and what it chooses for single texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import _SigmoidCalibration
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from repeng.errors import BadInput
from repeng.maths import threshold_at
from repeng.probes.base import Probe
from repeng.probes.calibration import fit_text_calibration
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.genies import MMSGenies
from repeng.probes.lat import LAT
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.mms import MMS
from repeng.probes.nulls import NullPairs, ShuffledTexts
from repeng.probes.repeats import fit_repeatedly
from repeng.probes.source import HELD_OUT_PAIRS, SourceData, SourceSplit, split_of, split_source

NONE = np.empty(0, dtype=np.int64)


def data(
    n: int = 120, *, share: float = 0.3, strength: float = 3.0, layers: int = 3, group: int = 1, seed: int = 0
) -> SourceData:
    """Texts of two labels, some of which lie along the first axis; in groups of `group`."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(float)
    values = rng.normal(size=(layers, 1, n, 6))
    values[..., 0] += strength * (labels - 0.5) * np.arange(1, layers + 1)[:, None, None]
    units = np.arange(n) // group
    given = units * group if group > 1 else None
    return SourceData(
        torch.from_numpy(values).float(), labels, np.arange(n), units, tuple(range(layers)), given_units=given
    )


def every_row(split: SourceSplit) -> tuple[np.ndarray, np.ndarray]:
    return np.sort(np.concatenate([split.train.reshape(-1), split.unpaired])), np.unique(split.held_out)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_every_text_is_learned_from_or_held_out_and_both_labels_are_on_either_side(share: float) -> None:
    source = data(200, share=share)
    split = split_of(source, seed=3)
    learned, held_out = every_row(split)
    assert split.as_texts and np.array_equal(np.sort(np.concatenate([learned, held_out])), np.arange(200))
    assert 0.6 < len(learned) / 200 < 0.8
    for pairs in (split.train, split.held_out):
        assert (source.labels[pairs] == [1.0, 0.0]).all()
    assert len(set(source.labels[split.unpaired])) <= 1


def test_a_group_is_never_parted_however_few_there_are() -> None:
    source = data(200, group=20)
    for seed in range(5):
        learned, held_out = every_row(split_of(source, seed=seed))
        assert not {*source.units[learned]} & {*source.units[held_out]}


def test_many_held_out_texts_stand_in_a_bounded_number_of_pairs_as_often_as_each_other() -> None:
    source = data(1000, share=0.4)
    pairs = split_of(source, seed=0).held_out
    assert len(pairs) == len(np.unique(pairs, axis=0)) == HELD_OUT_PAIRS
    for column in pairs.T:
        times = np.unique(column, return_counts=True)[1]
        assert times.max() - times.min() <= 1


def test_texts_of_one_label_are_refused_and_so_are_groups_that_cannot_be_split() -> None:
    with pytest.raises(BadInput, match="all of one label"):
        split_source(np.ones(50), np.arange(50), np.arange(50), seed=0)
    one = np.array([1.0] + [0.0] * 49)
    with pytest.raises(BadInput, match="1 of label 1, cannot be split into training texts"):
        split_source(one, np.arange(50), np.arange(50), seed=0)


def test_examples_that_all_hold_both_labels_are_pairs_also_where_some_texts_were_skipped() -> None:
    labels, examples = np.tile([1.0, 0.0], 40), np.repeat(np.arange(40), 2)
    usable = np.ones(80, dtype=bool)
    usable[7] = False
    split = split_source(labels, examples, examples, seed=0, usable=usable)
    assert not split.as_texts and len(split.unpaired) == 0 and 7 not in split.train


def test_a_mass_mean_is_that_of_all_training_texts() -> None:
    source = data()
    split = split_of(source, seed=0)
    fitted = fit_probe(ProbeSpec(MMS()), source)
    learned, _ = every_row(split)
    values, labels = source.activations[:, 0].double().numpy(), source.labels
    for layer, direction in enumerate(fitted.probe.state()["direction_"].numpy()):
        positive, negative = (values[layer, learned[labels[learned] == label]].mean(axis=0) for label in (1, 0))
        np.testing.assert_allclose(direction, positive - negative, rtol=1e-4, atol=1e-5)


def test_a_logistic_regression_is_that_of_scikit_learn_on_the_training_texts() -> None:
    source = data()
    learned, _ = every_row(split_of(source, seed=0))
    fitted = fit_probe(ProbeSpec(Logistic(C=0.5), (1,)), source)
    values = source.activations[1, 0].numpy()
    alone = Logistic(C=0.5).fit(values[learned], source.labels[learned])
    np.testing.assert_allclose(
        fitted.probe.state()["direction_"][1].numpy(), alone.direction_.reshape(-1).numpy(), atol=2e-3
    )
    plain = LogisticRegression(C=0.5).fit(values[learned], source.labels[learned])
    assert np.corrcoef(alone.decision_function(values), plain.decision_function(values))[0, 1] > 0.97


@pytest.mark.parametrize("probe", [MMS(), LAT(), LDA(), Logistic()], ids=lambda probe: probe.name)
def test_the_held_out_accuracy_is_the_auroc_of_held_out_texts(probe: Probe) -> None:
    source = data(strength=1.0)
    fitted = fit_probe(ProbeSpec(probe), source)
    _, held_out = every_row(split_of(source, seed=0))
    scores = fitted.probe.decision_function(source.activations).numpy()
    for own, accuracy in zip(scores, fitted.held_out_accuracy, strict=True):
        assert accuracy == pytest.approx(roc_auc_score(source.labels[held_out], own[held_out]), abs=1e-9)


def test_platts_scaling_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.3).astype(float)
    scores = 5 + 20 * rng.normal(size=300) + 30 * labels
    ours, theirs = fit_text_calibration(scores, labels), _SigmoidCalibration().fit(scores, labels)
    np.testing.assert_allclose(ours(scores), theirs.predict(scores), atol=1e-3)
    negatives = scores[labels == 0]
    assert ours.threshold_at_1 == threshold_at(negatives, 0.01) and ours.threshold_at_5 == threshold_at(negatives, 0.05)


def test_scores_that_favour_the_other_label_are_flattened_and_never_turned() -> None:
    labels = np.tile([1.0, 0.0], 50)
    found = fit_text_calibration(-labels + np.linspace(0, 0.1, 100), labels)
    assert found.slope > 0 and np.abs(found(labels) - 0.5).max() < 0.01


def test_what_a_source_chooses_for_texts_comes_of_its_held_out_scores() -> None:
    source = data(strength=1.0)
    fitted = fit_probe(ProbeSpec(MMS(), "all"), source)
    _, held_out = every_row(split_of(source, seed=0))
    scores = fitted.scores(source.activations)
    again = fit_text_calibration(scores[held_out], source.labels[held_out])
    assert fitted.texts is not None
    assert fitted.texts.slope == pytest.approx(again.slope, rel=1e-5)
    assert fitted.texts.threshold_at_5 == pytest.approx(again.threshold_at_5, rel=1e-5)


def test_labels_of_a_null_are_turned_round_by_group() -> None:
    source = data(300, group=5)
    split = split_of(source, seed=0)
    null = ShuffledTexts.toss(6, 0, source, NullPairs(split.train, split.held_out), split.unpaired)
    turned = null.labels != source.labels
    assert 0.3 < turned.mean() < 0.7
    for own in turned:
        assert all(len(set(own[source.units == unit])) == 1 for unit in np.unique(source.units))
    for own, (pairs, left) in zip(null.labels, null.train, strict=True):
        assert (own[pairs] == [1.0, 0.0]).all() and len({*own[left]}) <= 1
        assert np.array_equal(np.sort(np.concatenate([pairs.reshape(-1), left])), every_row(split)[0])


@pytest.mark.parametrize("probe", [MMS(), LAT(), Logistic()], ids=lambda probe: probe.name)
def test_a_null_of_texts_is_the_same_fit_with_its_labels(probe: Probe) -> None:
    source = data(strength=1.0)
    made = fit_repeatedly(ProbeSpec(probe, "top-k:1"), source, fits=1, nulls=3)
    split = split_of(source, seed=0)
    null = ShuffledTexts.toss(3, 0, source, NullPairs(split.train, split.held_out), split.unpaired)
    rows = np.arange(len(source.labels))
    assert made.shuffled is not None
    found = made.shuffled.scores(lambda layer: source.activations[layer], rows)
    for number, own in enumerate(null.labels):
        pairs, left = null.train[number]
        order = np.concatenate([pairs.reshape(-1), left])
        layer = made.shuffled.units[number][0]
        groups = np.concatenate([np.repeat(np.arange(len(pairs)), 2), np.arange(len(pairs), len(pairs) + len(left))])
        alone = type(probe)(**probe.get_params()).fit(source.activations[layer][:, order], own[order], groups)
        np.testing.assert_allclose(
            found[number], alone.decision_function(source.activations[layer]).numpy(), rtol=1e-2, atol=5e-3
        )


def test_where_there_is_nothing_to_learn_a_null_of_texts_is_about_a_half() -> None:
    source, target = data(400, strength=0.0), data(600, strength=0.0, seed=1)
    made = fit_repeatedly(ProbeSpec(MMS()), source, fits=2, nulls=20)
    assert made.shuffled is not None
    scores = made.shuffled.scores(lambda layer: target.activations[layer], np.arange(600))
    areas = [roc_auc_score(target.labels, own) for own in scores]
    assert abs(np.mean(areas) - 0.5) < 0.05 and np.std(areas) < 0.1


def test_a_preset_refuses_labelled_texts() -> None:
    with pytest.raises(BadInput, match="mms-genies follows GENIES' released code.*take mms in its place"):
        fit_probe(ProbeSpec(MMSGenies()), data())
