"""Fits with exchanged labels: each quick way against the plain loop, and the logistic solver against scikit-learn's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from planted import QUICK as TRAINED_QUICKLY
from planted import planted
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes import lat as lat_file
from repeng.probes.base import Labels, LinearProbe, Probe, swap_signs
from repeng.probes.lda import LDA
from repeng.probes.logistic import ROWS_TURNED, Logistic
from repeng.probes.registry import PROBES, get_probe

QUICK: dict[str, dict[str, Any]] = {**TRAINED_QUICKLY, "ccs": {}, "ccs-genies": {"epochs": 50}}
DRAWING = ("lat", "lat-stimulus-2", "ccs-genies")
"""Whose draw of rows or turns goes by the rows' places."""


def laid_out(name: str, *, n_pairs: int = 40, d: int = 8, layers: int = 2, strength: float = 1.0) -> Tensor:
    """Activations of best, worse, best, worse, ..."""
    part = planted(stimuli=len(PROBES[name].stimuli), n_pairs=n_pairs, d=d, layers=layers, strength=strength)
    return part.activations[..., torch.from_numpy(part.pairs.reshape(-1)), :]


def coins(n_pairs: int, nulls: int = 4) -> Tensor:
    swaps = torch.rand(nulls, n_pairs, generator=torch.Generator().manual_seed(3)) < 0.5
    swaps[0] = False
    return swaps


def fitted(probe: Probe, activations: Tensor) -> Probe:
    n_pairs = activations.shape[-2] // 2
    return probe.fit(activations, torch.tensor([1.0, 0.0]).repeat(n_pairs), torch.arange(n_pairs).repeat_interleave(2))


def check(quick: Probe, plain: Probe, *, rtol: float = 1e-3, atol: float = 1e-4) -> None:
    assert quick.state().keys() == plain.state().keys()
    for name, value in plain.state().items():
        torch.testing.assert_close(quick.state()[name], value, rtol=rtol, atol=atol, check_dtype=True)


@pytest.mark.parametrize("name", [name for name in PROBES if name not in DRAWING])
@pytest.mark.parametrize(("n_pairs", "d"), [(40, 8), (20, 60)])
def test_the_quick_way_is_the_plain_loop(name: str, n_pairs: int, d: int) -> None:
    activations, swaps = laid_out(name, n_pairs=n_pairs, d=d), coins(n_pairs)
    probe = fitted(get_probe(name, **QUICK.get(name, {})), activations)
    # These are as exact as their solver's tolerance.
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if name in ("logistic", "mean-of-scores", "ccs") else {}
    check(probe.fit_swapped(activations, swaps), Probe.fit_swapped(probe, activations, swaps), **tolerance)


@pytest.mark.parametrize("name", ["lat", "lat-stimulus-2"])
@pytest.mark.parametrize("d", [8, 100])
def test_lats_is_the_plain_loop_with_each_turn_taken_with_its_labels(
    name: str, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    activations, swaps = laid_out(name, d=d), coins(40)
    probe = fitted(get_probe(name), activations)
    quick, turns = probe.fit_swapped(activations, swaps), lat_file.turns
    for null, swap in enumerate(swaps):
        with monkeypatch.context() as patched:
            patched.setattr(lat_file, "turns", lambda n, seed, swap=swap: turns(n, seed) * (1 - 2 * swap.float()))
            (plain,) = Probe.fit_swapped(probe, activations, swap[None]).apart()
        check(quick.apart()[null], plain)


def test_the_ccs_preset_keeps_the_direction_and_decides_the_sign_anew() -> None:
    activations = laid_out("ccs-genies")
    probe = fitted(get_probe("ccs-genies", epochs=50), activations)
    nulls = probe.fit_swapped(activations, torch.stack([torch.zeros(40), torch.ones(40)]).bool())
    assert torch.equal(nulls.sign_, torch.stack([probe.sign_, -probe.sign_]))
    assert all(torch.equal(own, probe.direction_) for own in nulls.direction_)


@pytest.mark.parametrize("name", PROBES)
def test_nothing_exchanged_is_the_fit_itself_and_everything_exchanged_scores_the_opposite(name: str) -> None:
    activations = laid_out(name, strength=4.0)
    probe = fitted(get_probe(name, **QUICK.get(name, {})), activations)
    same, opposite = probe.fit_swapped(activations, torch.stack([torch.zeros(40), torch.ones(40)]).bool()).apart()
    scores = probe.decision_function(activations)
    atol = 2e-2 * float(scores.abs().max()) + 1e-6
    torch.testing.assert_close(same.decision_function(activations), scores, rtol=2e-2, atol=atol)
    torch.testing.assert_close(opposite.decision_function(activations), -scores, rtol=2e-2, atol=atol)


@pytest.mark.parametrize("name", PROBES)
def test_heads_and_scores_of_each_null(name: str) -> None:
    activations, swaps = laid_out(name, layers=4), coins(40)
    probe = fitted(get_probe(name, **QUICK.get(name, {})), activations)
    flat = probe.fit_swapped(activations, swaps)
    heads = activations.reshape(2, 2, *activations.shape[1:])
    shaped = fitted(get_probe(name, **QUICK.get(name, {})), heads).fit_swapped(heads, swaps)
    scores = flat.scores_of_each(activations)
    assert scores.shape == (4, 4, 80)
    torch.testing.assert_close(shaped.scores_of_each(heads).reshape(4, 4, 80), scores, rtol=2e-2, atol=2e-2)
    for null, each in enumerate(flat.apart()):
        torch.testing.assert_close(each.decision_function(activations), scores[null], rtol=1e-4, atol=1e-5)


def test_a_probe_of_ones_own_is_fitted_again_for_each_null() -> None:
    class Nearest(LinearProbe):
        def fit_direction(self, features: Tensor, labels: Labels, pairs: Tensor) -> tuple[Tensor, Tensor]:
            direction = features[..., pairs[0, 0], :] - features[..., pairs[0, 1], :]
            return direction, torch.zeros_like(direction[..., 0])

    activations, swaps = laid_out("mms"), coins(40)
    probe = fitted(Nearest(), activations)
    signs = 1 - 2 * swaps[:, 0].float()
    torch.testing.assert_close(
        probe.fit_swapped(activations, swaps).state()["direction_"], signs[:, None, None] * probe.state()["direction_"]
    )


@pytest.mark.parametrize("shrinkage", [0.0, 0.05, 0.9, 1.0, "ledoit-wolf"])
@pytest.mark.parametrize(("n_pairs", "d", "strength"), [(60, 8, 6.0), (20, 90, 6.0), (60, 30, 0.0)])
def test_ldas_one_factorisation_is_exact_for_any_shrinkage(
    shrinkage: float | str, n_pairs: int, d: int, strength: float
) -> None:
    """Strong labels, whose nulls need another shrinkage than they; none at all; and few rows."""
    if shrinkage == 0.0 and d > 2 * n_pairs:
        pytest.skip("a covariance without an inverse")
    activations, swaps = laid_out("lda", n_pairs=n_pairs, d=d, strength=strength).double(), coins(n_pairs, nulls=6)
    probe = fitted(LDA(shrinkage=shrinkage), activations)
    check(probe.fit_swapped(activations, swaps), Probe.fit_swapped(probe, activations, swaps), rtol=1e-7, atol=1e-9)


def sklearns(x: np.ndarray, y: np.ndarray, c: float, standardize: bool, tol: float = 1e-9) -> tuple[np.ndarray, float]:
    """Direction and intercept in the units of x, solved in float64."""
    scaler = StandardScaler(with_mean=standardize, with_std=standardize).fit(x.astype(np.float64))
    model = LogisticRegression(C=c, max_iter=100_000, tol=tol).fit(scaler.transform(x.astype(np.float64)), y)
    direction = model.coef_[0] / (scaler.scale_ if standardize else 1.0)
    return direction, float(model.intercept_[0] - (direction @ scaler.mean_ if standardize else 0.0))


CASES = {
    "noisy": {"strength": 1.0},
    "separable": {"strength": 12.0},
    "few rows": {"n_pairs": 4},
    "more dimensions than rows": {"n_pairs": 30, "d": 90},
    "many more dimensions than rows": {"n_pairs": 20, "d": 200},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_logistic_is_scikit_learns_objective_solved_as_well(case: str, standardize: bool, c: float) -> None:
    """Within 2 %, or within what scikit-learn's own default tolerance leaves where the penalty is weak."""
    activations, y = laid_out("logistic", **CASES[case]), np.tile([1.0, 0.0], CASES[case].get("n_pairs", 40))
    probe = fitted(Logistic(C=c, standardize=standardize), activations)
    for layer in range(2):
        x = activations[layer, 0].numpy()
        (direction, intercept), loose = (sklearns(x, y, c, standardize, tol) for tol in (1e-9, 1e-4))
        expected = x @ direction + intercept
        left = np.abs(x @ loose[0] + loose[1] - expected).max()
        actual = probe.decision_function(activations)[layer].numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=max(2e-2 * np.abs(expected).max(), 1.5 * left))


@pytest.mark.parametrize("d", [90, 400])
@pytest.mark.parametrize("strength", [1.0, 12.0])
def test_logistic_of_few_rows_and_many_labellings_is_scikit_learns_for_each(d: int, strength: float) -> None:
    """The rows are turned into as many dimensions as they are, which a single labelling is not worth."""
    activations, swaps = laid_out("logistic", n_pairs=30, d=d, strength=strength), coins(30, nulls=10)
    assert min(d, ROWS_TURNED * len(swaps)) > 60
    found = fitted(Logistic(), activations).fit_swapped(activations, swaps)
    for null, swap in enumerate(swaps.numpy()):
        y = np.stack([~swap, swap], axis=1).reshape(-1).astype(float)
        for layer in range(2):
            x = activations[layer, 0].numpy()
            direction, intercept = sklearns(x, y, 1.0, standardize=True)
            expected = x @ direction + intercept
            actual = found.scores_of_each(activations)[null, layer].numpy()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-2 * np.abs(expected).max())


def test_logistic_of_four_rows_ends_where_rounding_lets_it_come() -> None:
    """In a few of two hundred units the slope stays above the tolerance, and no step is left that gains anything."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 4, 3, generator=random) @ torch.randn(200, 3, 576, generator=random)
    rows = rows + 0.3 * torch.randn(200, 4, 576, generator=random)
    targets = (swap_signs(coins(2, nulls=20)).float() + 1) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        directions, _, _ = Logistic().solve(rows, targets)
    assert directions.isfinite().all()


def test_logistic_bears_columns_of_any_scale_constant_ones_copies_and_uneven_classes() -> None:
    activations = laid_out("logistic", n_pairs=60, strength=1.0)
    scaled = activations * torch.tensor([1.0, 1e4, 1e-4, 1.0, 1e3, 1.0, 1.0, 1e-2])
    scaled[..., 3] = 3.3
    scaled[..., 5] = scaled[..., 6]
    scaled = torch.cat([scaled[..., 0::2, :], scaled[..., 1:31:2, :]], dim=-2) + 7.0
    y = np.repeat([1.0, 0.0], [60, 15])
    for standardize in (True, False):
        probe = Logistic(standardize=standardize).fit(scaled, torch.from_numpy(y))
        for layer in range(2):
            x = scaled[layer, 0].numpy()
            direction, intercept = sklearns(x, y, 1.0, standardize)
            expected = x.astype(np.float64) @ direction + intercept
            actual = probe.decision_function(scaled)[layer].numpy()
            np.testing.assert_allclose(actual, expected, atol=3e-2 * np.abs(expected).max())


def test_logistics_steps_are_few_and_running_out_of_them_is_said() -> None:
    activations = laid_out("logistic", n_pairs=100, d=50, strength=1.0)
    skewed = activations @ torch.randn(50, 50, generator=torch.Generator().manual_seed(0))
    probe = fitted(Logistic(), skewed)
    theirs = LogisticRegression(max_iter=1000).fit(
        StandardScaler().fit_transform(skewed[0, 0].numpy()), np.tile([1.0, 0.0], 100)
    )
    assert probe.n_iter_.shape == (2,)
    assert 1 <= probe.n_iter_.max() < theirs.n_iter_[0] / 2
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        fitted(Logistic(max_iter=2), skewed)
    with pytest.raises(BadArray, match="above 0"):
        fitted(Logistic(C=0.0), skewed)
