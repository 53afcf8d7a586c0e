"""The presets against plain numpy twins of GENIES' released rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import fit_probe, planted
from sklearn.linear_model import LogisticRegression

from repeng.errors import BadInput
from repeng.maths import sigmoid
from repeng.probes.calibration import LogisticCalibration
from repeng.probes.genies import RELEASED_RULES, LATGenies
from repeng.probes.io import load, save
from repeng.probes.registry import get_probe
from repeng.probes.selection import Ranking, choose
from repeng.probes.source import SourceData, split_source

HEADS = 3
PRESETS = ["mms-genies", "cra-genies", "lat-genies", "lat-stimulus-2-genies"]


def source(name: str, seed: int = 0) -> SourceData:
    """Four responses an example; six layers, or two of three heads, of which some carry the planted direction."""
    stimuli = len(get_probe(name).stimuli)
    generator = torch.Generator().manual_seed(seed)
    strength = torch.tensor([0.0, 1.0, 3.0, 0.5, 2.0, 0.1])[:, None, None, None]
    best = torch.randint(4, (60,), generator=generator)
    labels = torch.nn.functional.one_hot(best, 4).reshape(-1).double()
    x = torch.randn(6, stimuli, 240, 5, generator=generator)
    x[..., :1] += strength * labels[:, None].float() * torch.tensor([1.0, -1.0])[:stimuli, None, None]
    examples = np.repeat(np.arange(60), 4)
    if get_probe(name).site == "hook_z":
        return SourceData(x.reshape(2, 3, stimuli, 240, 5), labels.numpy(), examples, examples, (0, 1))
    return SourceData(x, labels.numpy(), examples, examples, (-1, 0, 1, 2, 3, 4))


class Twin:
    """The released rule, one unit and one pair at a time, float64 numpy."""

    def __init__(self, name: str, data: SourceData, k: int, seed: int, alpha: float = 1.0) -> None:
        self.cra, self.alpha = name.startswith("cra"), alpha
        x = self.units(data)
        split = split_source(data.labels, data.examples, data.groups, seed=seed)
        train, validation = split.train, split.held_out_one
        accuracies = []
        for unit in x:
            model = LogisticRegression(max_iter=1000)
            model.fit(unit[train.reshape(-1)], data.labels[train.reshape(-1)])
            predicted = model.predict(unit[validation.reshape(-1)])
            accuracies.append(np.mean(predicted == data.labels[validation.reshape(-1)]))
        self.accuracies = np.array(accuracies)
        self.top = sorted(range(len(x)), key=lambda unit: (accuracies[unit], unit), reverse=True)[:k]
        both = np.concatenate([train, validation])
        self.directions = [x[unit][both[:, 0]].mean(0) - x[unit][both[:, 1]].mean(0) for unit in self.top]
        scores, targets, sign = [], [], 1
        for best, worse in validation:
            sign = -sign
            # The released pair stands (best, worse) and its difference is the second minus the first.
            scores.append([self.score(x, first=worse, second=best) if sign == -1 else self.score(x, best, worse)])
            targets.append(1 if sign == -1 else 0)
        self.calibrator = LogisticRegression(C=np.inf).fit(scores, targets)

    def units(self, data: SourceData) -> np.ndarray:
        x = data.activations.double().numpy()
        if data.has_heads:
            x = x.reshape(-1, *x.shape[2:])
        return x[:, 0] - self.alpha * x[:, 1] if self.cra else x[:, 0]

    def score(self, x: np.ndarray, first: int, second: int) -> float:
        cosines = []
        for unit, d in zip(self.top, self.directions, strict=True):
            difference = x[unit][second] - x[unit][first]
            cosines.append(difference @ d / np.linalg.norm(difference) / np.linalg.norm(d))
        return (1 + float(np.mean(cosines))) / 2

    def probability_of_second(self, x: np.ndarray, first: int, second: int) -> float:
        return float(self.calibrator.predict_proba([[self.score(x, first, second)]])[0, 1])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_preset_equals_its_plain_twin(name: str, seed: int) -> None:
    data, target = source(name), source(name, seed=5)
    fitted = fit_probe(get_probe(name, k=4), data, seed=seed)
    twin = Twin(name, data, k=4, seed=seed)
    flat = [(layer, head) for layer in data.layers for head in (range(HEADS) if data.has_heads else [-1])]
    assert fitted.units == tuple(flat[unit] for unit in twin.top)
    assert isinstance(fitted.calibration, LogisticCalibration)
    assert fitted.calibration.coefficient == pytest.approx(twin.calibrator.coef_[0, 0], rel=1e-3)
    assert fitted.calibration.intercept == pytest.approx(twin.calibrator.intercept_[0], rel=1e-3)

    x = twin.units(target)
    pairs = split_source(target.labels, target.examples, target.groups, seed=0).held_out
    best_is_second = np.random.default_rng(seed).random(len(pairs)) < 0.5
    expected = [
        twin.probability_of_second(x, worse, best) if second else 1 - twin.probability_of_second(x, best, worse)
        for (best, worse), second in zip(pairs, best_is_second, strict=True)
    ]
    np.testing.assert_allclose(fitted.pair_probabilities(target.activations, pairs), expected, atol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_both_orders_are_the_mean_of_the_twins_two_answers(name: str) -> None:
    data, target = source(name), source(name, seed=5)
    fitted = fit_probe(get_probe(name, k=4, order="both"), data)
    twin = Twin(name, data, k=4, seed=0)
    x = twin.units(target)
    pairs = split_source(target.labels, target.examples, target.groups, seed=0).held_out
    expected = [
        (twin.probability_of_second(x, worse, best) + 1 - twin.probability_of_second(x, best, worse)) / 2
        for best, worse in pairs
    ]
    found = fitted.pair_probabilities(target.activations, pairs)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found + fitted.pair_probabilities(target.activations, pairs[:, ::-1].copy()), 1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_by_sign_the_cosine_decides_who_wins_and_nothing_else_changes(name: str) -> None:
    data, target = source(name), source(name, seed=5)
    drawn, sign = (fit_probe(get_probe(name, k=4, order=order), data) for order in ("drawn", "sign"))
    pairs = split_source(target.labels, target.examples, target.groups, seed=0).held_out
    assert drawn.units == sign.units
    cosines = sign.pair_scores(target.activations, pairs)
    np.testing.assert_array_equal(cosines, drawn.pair_scores(target.activations, pairs))
    assert sign.temperature is not None
    np.testing.assert_allclose(sign.pair_probabilities(target.activations, pairs), sigmoid(cosines / sign.temperature))


def test_an_order_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(BadInput, match="order 'first': choose drawn, both or sign"):
        fit_probe(get_probe("lat-genies", order="first"), source("lat-genies"))


@pytest.mark.parametrize("order", ["drawn", "both", "sign"])
def test_a_saved_preset_answers_alike(tmp_path: Path, order: str) -> None:
    data = source("lat-genies")
    fitted = fit_probe(get_probe("lat-genies", k=4, order=order), data)
    pairs = split_source(data.labels, data.examples, data.groups, seed=0).held_out
    save(fitted, tmp_path)
    np.testing.assert_array_equal(
        load(tmp_path).pair_probabilities(data.activations, pairs), fitted.pair_probabilities(data.activations, pairs)
    )


def test_a_preset_that_was_saved_before_there_were_orders_is_read_as_drawn(tmp_path: Path) -> None:
    data = source("lat-genies")
    path = save(fit_probe(get_probe("lat-genies", k=4), data), tmp_path)
    described = json.loads(path.read_text())
    assert described["parameters"].pop("order") == "drawn" and described["calibration"].pop("both") is False
    path.write_text(json.dumps(described))
    read = load(tmp_path)
    assert isinstance(read.calibration, LogisticCalibration) and not read.calibration.both
    assert read.probe.get_params()["order"] == "drawn"


def test_cra_takes_alpha_times_the_no_text_away() -> None:
    data = source("cra-genies")
    fitted = fit_probe(get_probe("cra-genies", k=4, alpha=0.3), data)
    twin = Twin("cra-genies", data, k=4, seed=0, alpha=0.3)
    pairs = split_source(data.labels, data.examples, data.groups, seed=0).held_out
    expected = [2 * twin.score(twin.units(data), worse, best) - 1 for best, worse in pairs]
    np.testing.assert_allclose(fitted.pair_scores(data.activations, pairs), expected, atol=1e-5)


def test_sixteen_are_kept_or_all_where_there_are_fewer() -> None:
    data = source("lat-genies")
    many = replace(data, activations=data.activations.repeat(4, 1, 1, 1), layers=tuple(range(24)))
    assert len(fit_probe(LATGenies(), many).units) == 16
    assert len(fit_probe(LATGenies(), data).units) == 6


def test_a_choice_of_layers_narrows_what_is_ranked() -> None:
    data = source("mms-genies")
    assert {layer for layer, _ in fit_probe(get_probe("mms-genies"), data, layers=(1,)).units} == {1}
    assert len(fit_probe(get_probe("mms-genies"), data, layers="top-k:2").units) == 2
    assert len(fit_probe(get_probe("mms-genies", k=1), data, layers="all").units) == 6
    assert fit_probe(get_probe("mms-genies"), data, layers="one-se").units == ((0, 2),)
    assert fit_probe(get_probe("mms-genies"), data, layers="average").units == ((0, 2),)


def test_ties_go_to_the_later_unit() -> None:
    accuracy = np.array([[0.5, 0.9], [0.9, 0.9]])
    ranking = Ranking((0, 1), accuracy, np.zeros((2, 2)), 40)
    assert choose(RELEASED_RULES, ranking, "auto", 2) == [(1, 1), (1, 0)]


def test_lat_reads_the_embeddings_and_every_block_but_the_last() -> None:
    assert LATGenies.reads(4) == (
        ("resid_pre", 0, -1),
        ("resid_post", 0, 0),
        ("resid_post", 1, 1),
        ("resid_post", 2, 2),
    )
    assert LATGenies.sites() == ("resid_pre", "resid_post")


def test_the_other_presets_read_every_head_and_the_final_norm() -> None:
    assert get_probe("mms-genies").reads(2) == (("hook_z", 0, 0), ("hook_z", 1, 1))
    assert get_probe("ccs-genies").reads(12) == (("ln_final", 11, 11),)
    assert get_probe("ccs-genies").stimuli == ("contrast_yes_eos", "contrast_no_genies")


def test_a_source_whose_validation_half_is_one_pair_is_refused() -> None:
    part = planted(n_pairs=4).source()
    fit_probe(get_probe("lat-genies"), part)
    with pytest.raises(BadInput, match="1 validation pair"):
        fit_probe(get_probe("lat-genies"), planted(n_pairs=3).source())
