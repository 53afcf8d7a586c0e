"""Each method's numbers against scikit-learn or plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import Planted, planted
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from repeng.errors import BadInput, UnknownName
from repeng.probes.base import projected
from repeng.probes.cra import CRA
from repeng.probes.lat import LAT, first_component, turns
from repeng.probes.lda import LDA
from repeng.probes.lda import ledoit_wolf as estimate_shrinkage
from repeng.probes.logistic import PATIENCE, Logistic
from repeng.probes.mms import MMS
from repeng.probes.random import Random
from repeng.probes.registry import get_probe


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def arrays(part: Planted, layer: int, stimulus: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return part.activations[layer, stimulus].double().numpy(), part.labels.numpy()


@pytest.mark.parametrize("d", [8, 40])
def test_mms_is_the_difference_of_the_means(d: int) -> None:
    part = planted(d=d)
    probe = MMS().fit(part.activations, part.labels, part.groups)
    for layer in range(2):
        x, y = arrays(part, layer)
        direction = x[y == 1].mean(0) - x[y == 0].mean(0)
        middle = (x[y == 1].mean(0) + x[y == 0].mean(0)) / 2
        scores = probe.decision_function(part.activations)[layer].numpy()
        np.testing.assert_allclose(scores, (x - middle) @ direction, rtol=1e-3, atol=1e-4)


def test_cra_is_mms_on_yes_minus_alpha_no() -> None:
    part = planted(stimuli=2)
    probe = CRA(alpha=0.5).fit(part.activations, part.labels, part.groups)
    contrast = part.activations[:, :1] - 0.5 * part.activations[:, 1:]
    expected = MMS().fit(contrast, part.labels, part.groups)
    torch.testing.assert_close(probe.decision_function(part.activations), expected.decision_function(contrast))


@pytest.mark.parametrize("d", [8, 150])
def test_lat_is_the_first_principal_component_of_paired_differences(d: int) -> None:
    """Fewer dimensions than pairs, and more: the two ways that it is computed."""
    part = planted(d=d)
    probe = LAT(seed=4).fit(part.activations, part.labels, part.groups)
    for layer in range(2):
        x, _ = arrays(part, layer)
        differences = (x[part.pairs[:, 0]] - x[part.pairs[:, 1]]) * turns(60, 4).numpy()[:, None]
        component = np.linalg.svd(differences - differences.mean(0))[2][0]
        if np.mean((x[part.pairs[:, 0]] - x[part.pairs[:, 1]]) @ component > 0) < 0.5:
            component = -component
        scores = probe.decision_function(part.activations)[layer].numpy()
        np.testing.assert_allclose(scores, (x - x.mean(0)) @ component, rtol=1e-3, atol=1e-4)


def test_lat_finds_a_direction_that_is_the_same_in_every_pair() -> None:
    """Centring differences that all point from worse to best would remove it."""
    part = planted(d=20, strength=6.0, n_pairs=300)
    probe = LAT().fit(part.activations, part.labels, part.groups)
    assert cosine(probe.direction_[0].numpy(), part.direction.numpy()) > 0.97


def test_half_of_the_pairs_are_turned_round() -> None:
    assert turns(600, 0).sum() == 0
    assert turns(7, 0).sum() == -1
    assert not torch.equal(turns(600, 0), turns(600, 1))


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 5)])
def test_a_component_of_nothing_is_finite(shape: tuple[int, ...]) -> None:
    assert first_component(torch.zeros(shape)).isfinite().all()


@pytest.mark.parametrize("shrinkage", [0.1, 0.6])
@pytest.mark.parametrize("d", [30, 150])
def test_lda_equals_scikit_learns(shrinkage: float, d: int) -> None:
    part = planted(d=d)
    probe = LDA(shrinkage=shrinkage).fit(part.activations, part.labels, part.groups)
    for layer in range(2):
        x, y = arrays(part, layer)
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, y)
        scores = probe.decision_function(part.activations)[layer].numpy()
        np.testing.assert_allclose(scores, theirs.decision_function(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("d", [8, 200])
def test_lda_whitens_with_the_ledoit_wolf_covariance(d: int) -> None:
    part = planted(d=d)
    probe = LDA().fit(part.activations, part.labels, part.groups)
    x, y = arrays(part, 0)
    within = np.concatenate([x[y == label] - x[y == label].mean(0) for label in (1, 0)])
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    expected = np.linalg.inv(covariance) @ (x[y == 1].mean(0) - x[y == 0].mean(0))
    np.testing.assert_allclose(probe.direction_[0].numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(90, 7), (20, 60), (30, 30)])
def test_the_ledoit_wolf_shrinkage_is_scikit_learns(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1])
    _, expected = ledoit_wolf(x, assume_centered=True)
    rows = torch.from_numpy(x)
    squared = (rows.T @ rows).square().sum()
    assert float(estimate_shrinkage(rows.square().sum(dim=1), squared, shape[1])) == pytest.approx(expected)


def test_lda_sees_through_a_loud_nuisance_direction() -> None:
    """Marks and Tegmark's case: variance that is not the label's tilts the mean difference, whitening undoes it."""
    part = planted(d=4, strength=1.0, n_pairs=400, layers=1)
    nuisance = torch.randn(800, generator=torch.Generator().manual_seed(3)) * 30
    loud = part.activations.clone()
    loud[0, 0, :, 1] += nuisance
    truth = part.direction.numpy()
    lda = LDA(shrinkage=0.0).fit(loud, part.labels, part.groups).direction_[0].numpy()
    mms = MMS().fit(loud, part.labels, part.groups).direction_[0].numpy()
    assert cosine(lda, truth) > 0.98 > cosine(mms, truth)


def test_lda_without_an_inverse_and_with_a_wrong_shrinkage_is_refused() -> None:
    part = planted()
    flat = part.activations.clone()
    flat[..., 3] = 1.0
    with pytest.raises(BadInput, match="higher"):
        LDA(shrinkage=0.0).fit(flat, part.labels, part.groups)
    with pytest.raises(BadInput, match="shrinkage 2.0"):
        LDA(shrinkage=2.0).fit(part.activations, part.labels, part.groups)


@pytest.mark.parametrize("standardize", [True, False])
def test_logistic_equals_scikit_learns(standardize: bool) -> None:
    part = planted(strength=1.0)
    probe = Logistic(C=0.5, standardize=standardize).fit(part.activations, part.labels, part.groups)
    for layer in range(2):
        x, y = arrays(part, layer)
        steps = [StandardScaler()] if standardize else []
        theirs = make_pipeline(*steps, LogisticRegression(C=0.5, max_iter=1000, tol=1e-8)).fit(x, y)
        scores = probe.decision_function(part.activations)[layer].numpy()
        np.testing.assert_allclose(scores, theirs.decision_function(x), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("C", [10.0, 1000.0])
def test_logistic_of_labels_that_rows_separate_comes_as_far_as_scikit_learns(C: float) -> None:  # noqa: N803
    """Its minimum is so far from zero that the Hessian there says little, and is taken anew on the way."""
    part = planted(d=40, n_pairs=60, strength=6.0)
    probe = Logistic(C=C).fit(part.activations.double(), part.labels, part.groups)
    assert (probe.n_iter_ > PATIENCE).all()
    for layer in range(2):
        x, y = arrays(part, layer)
        scaler = StandardScaler().fit(x)
        theirs = LogisticRegression(C=C, max_iter=10_000, tol=1e-10).fit(scaler.transform(x), y)
        expected = theirs.coef_[0] / scaler.scale_
        np.testing.assert_allclose(probe.direction_[layer].numpy(), expected, atol=0.02 * np.linalg.norm(expected))


@pytest.mark.parametrize("shape", [(3, 30, 12), (2, 2, 12, 30)])
def test_the_component_is_that_of_all_of_them(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.svd(rows.double(), full_matrices=False).Vh[..., 0, :]
    along = (first_component(rows).double() * expected).sum(dim=-1).abs()
    torch.testing.assert_close(along, torch.ones_like(along))


@pytest.mark.parametrize("extra", [(), (4,), (2, 3)])
def test_rows_are_projected_on_every_direction_of_their_layer(extra: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 3, 7, 5, generator=generator)
    directions = torch.randn(*extra, 2, 3, 5, generator=generator)
    expected = torch.einsum("...nd,...d->...n", rows, directions)
    torch.testing.assert_close(projected(rows, directions), expected)


def test_random_ties_every_pair() -> None:
    part = planted()
    probe = Random().fit(part.activations, part.labels, part.groups)
    assert not probe.decision_function(part.activations).any()


def test_an_unknown_probe_or_parameter_names_the_choices() -> None:
    with pytest.raises(UnknownName, match="unknown probe 'msm'; did you mean mms.* Choose from attention, ccs"):
        get_probe("msm")
    with pytest.raises(BadInput, match="probe 'lat' has no parameter 'sed'; did you mean seed"):
        get_probe("lat", sed=1)
    with pytest.raises(BadInput, match="probe 'cra' has no parameter 'beta'; choose from alpha"):
        get_probe("cra", beta=1)
    with pytest.raises(ValueError, match="'beta'"):
        CRA().set_params(beta=1)
    assert CRA().set_params(alpha=3.0).get_params() == {"alpha": 3.0}
