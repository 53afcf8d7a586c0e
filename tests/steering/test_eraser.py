from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from concept_erasure import LeaceFitter
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor

from repeng.errors import BadInput, NonFinite
from repeng.probes.source import SourceData
from repeng.steering.eraser import Eraser, erased, leace
from repeng.steering.vector import SteeringVector


def activations(
    *, n: int = 80, d: int = 12, layers: int = 2, strength: float = 2.0, seed: int = 0
) -> tuple[Tensor, np.ndarray]:
    """`[layer, response, d]` with a correlated covariance and a concept along one direction, and its labels."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(layers, d, d, generator=generator)
    labels = np.tile([1.0, 0.0], n // 2)
    concept = torch.randn(layers, 1, d, generator=generator) * strength / d**0.5
    noise = torch.randn(layers, n, d, generator=generator) @ mix
    return 3.0 + noise + torch.from_numpy(labels).float()[:, None] * concept, labels


def source_of(x: Tensor, labels: np.ndarray, *, heads: bool = False) -> SourceData:
    pairs = np.arange(len(labels)) // 2
    return SourceData(x[..., None, :, :], labels, pairs, pairs, tuple(range(1, len(x) + 1)))


def plain_leace(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Theorem 4.2 of Belrose et al. as it stands: x - W+ P W (x - mean), with P the projection on W sigma_xz."""
    centred = x - x.mean(axis=0)
    sigma = centred.T @ centred / (len(x) - 1)
    cross = centred.T @ (z - z.mean())[:, None] / (len(x) - 1)
    values, vectors = np.linalg.eigh(sigma)
    root = vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T
    whitening = np.linalg.pinv(root)
    whitened = whitening @ cross
    projection = whitened @ np.linalg.pinv(whitened)
    return x - centred @ (np.linalg.pinv(whitening) @ projection @ whitening).T


def test_after_leace_the_class_means_of_the_source_are_equal() -> None:
    x, labels = activations()
    eraser = Eraser.fit(source_of(x, labels), site="resid_post")
    assert eraser.layers == (1, 2)
    for place, layer in enumerate(eraser.layers):
        before, after = x[place].double(), eraser(layer, x[place].double())
        gaps = [
            float((rows[labels == 1].mean(dim=0) - rows[labels == 0].mean(dim=0)).norm()) for rows in (before, after)
        ]
        assert gaps[0] > 0.5
        assert gaps[1] < 1e-10
        # What lies at the mean stays there.
        assert torch.allclose(before.mean(dim=0), after.mean(dim=0))


@pytest.mark.parametrize(("n", "d"), [(80, 12), (40, 100)])
def test_after_leace_no_linear_probe_fits_the_source_better_than_a_constant(n: int, d: int) -> None:
    x, labels = activations(n=n, d=d, layers=1)
    after = Eraser.fit(source_of(x, labels), site="resid_post")(1, x[0].double()).numpy()
    assert LinearRegression().fit(x[0].numpy(), labels).score(x[0].numpy(), labels) > 0.2
    # Its minimum-norm weights are nothing: predictions are the share of either class.
    assert np.allclose(LinearRegression().fit(after, labels).predict(after), 0.5, atol=1e-6)
    logistic = LogisticRegression(C=1.0, tol=1e-10).fit(after, labels)
    assert np.allclose(logistic.predict_proba(after), 0.5, atol=1e-6)


def test_without_shrinkage_the_package_gives_theorem_4_2() -> None:
    x, labels = activations(n=200, layers=1)
    rows = x[0].double()
    fitter = LeaceFitter.fit(rows, torch.from_numpy(labels), shrinkage=False, constrain_cov_trace=False)
    np.testing.assert_allclose(fitter.eraser(rows).numpy(), plain_leace(rows.numpy(), labels), atol=1e-10)


def test_with_many_responses_shrinkage_hardly_matters() -> None:
    x, labels = activations(n=20_000, layers=1)
    rows = x[0].double()
    ours, plain = erased(rows, leace(rows, labels)).numpy(), plain_leace(rows.numpy(), labels)
    assert np.abs(ours - plain).max() < 0.1 * np.abs(rows.numpy() - plain).max()


def test_with_few_responses_shrinkage_leaves_less_of_the_concept_in_other_responses() -> None:
    # Hardly more responses than dimensions; and others of the same two classes, with other noise.
    d, strength = 200, 40.0
    train, labels = activations(n=202, d=d, layers=1, strength=strength)
    generator = torch.Generator().manual_seed(0)
    mix, concept = torch.randn(d, d, generator=generator), torch.randn(d, generator=generator) * strength / d**0.5
    other = torch.randn(4000, d, generator=torch.Generator().manual_seed(9)) @ mix
    other[0::2] += concept

    def left(rows: Tensor) -> float:
        return float((rows[0::2].mean(dim=0) - rows[1::2].mean(dim=0)).norm())

    x, z = train[0].double(), torch.from_numpy(labels)
    unshrunk = LeaceFitter.fit(x, z, shrinkage=False, constrain_cov_trace=False).eraser
    remaining = left(unshrunk(other.double()))
    assert left(erased(other.double(), leace(x, labels))) < 0.9 * remaining < left(other)


def test_a_weak_concept_is_erased_too() -> None:
    x, labels = activations(n=4000, layers=1, strength=0.0)
    rows = x[0].double()
    # Balanced noise, of which a multiple correlation of a few hundredths is left: under the package's own cut.
    rows = torch.cat([rows, -rows[labels == 0], -rows[labels == 1]])
    labels = np.concatenate([labels, np.zeros(2000), np.ones(2000)])
    rows[labels == 1, 0] += 0.02
    after = erased(rows, leace(rows, labels))
    assert float((after[labels == 1].mean(dim=0) - after[labels == 0].mean(dim=0)).norm()) < 1e-10


def test_erasing_twice_is_erasing_once() -> None:
    x, labels = activations()
    eraser = Eraser.fit(source_of(x, labels), site="resid_post")
    once = eraser(1, x[0].double())
    assert torch.allclose(eraser(1, once), once, atol=1e-10)


def test_a_batch_of_layers_and_heads_is_each_of_them_alone() -> None:
    x, labels = activations(layers=6)
    by_head = x.reshape(2, 3, *x.shape[1:])
    eraser = Eraser.fit(source_of(by_head, labels), site="hook_z")
    assert eraser.units == ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))
    whole = erased(by_head, leace(by_head, labels))
    for layer in (1, 2):
        for head in range(3):
            own = eraser(layer, by_head[layer - 1, head], head=head)
            alone = erased(by_head[layer - 1, head], leace(by_head[layer - 1, head], labels))
            assert torch.allclose(own, alone, atol=1e-5)
            assert torch.allclose(own, whole[layer - 1, head], atol=1e-5)


def test_layers_in_blocks_are_all_layers_at_once() -> None:
    x, labels = activations(layers=4)
    whole = Eraser.fit(source_of(x, labels), site="resid_post")
    blocks = Eraser.fit(source_of(x, labels), site="resid_post", block_bytes=1)
    assert torch.equal(whole.proj_right, blocks.proj_right)
    assert whole.units == blocks.units


def test_skipped_texts_are_left_out_of_the_statistics() -> None:
    x, labels = activations(layers=1)
    kept = np.ones(len(labels), dtype=bool)
    kept[[3, 10]] = False
    pairs = np.arange(len(labels)) // 2
    whole = x.clone()
    whole[:, ~kept] = 1e6
    given = SourceData(whole[:, None], labels, pairs, pairs, (0,), kept)
    eraser = Eraser.fit(given, site="resid_post")
    assert torch.allclose(eraser.bias, leace(x[:, kept], labels[kept]).bias)


def test_along_a_vector_only_the_projection_on_it_changes_and_becomes_the_centre(tmp_path: Path) -> None:
    direction = torch.nn.functional.normalize(torch.randn(2, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    centre = np.array([0.5, -2.0])
    vector = SteeringVector("resid_post", ((0, -1), (3, -1)), direction, np.ones(2), centre, {"probe": "mms"})
    eraser = Eraser.along(vector)
    assert (eraser.by, eraser.units) == ("mms", vector.units)
    x = torch.randn(5, 7, 12, dtype=torch.float64)
    eraser.save(tmp_path)
    after = Eraser.load(tmp_path)(3, x)
    d = direction[1].double()
    torch.testing.assert_close(after @ d, torch.full((5, 7), -2.0, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(after, x - ((x @ d) - -2.0)[..., None] * d, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_activations_keep_their_dtype(dtype: torch.dtype) -> None:
    x, labels = activations()
    eraser = Eraser.fit(source_of(x, labels), site="resid_post")
    low = x[0].to(dtype)
    after = eraser(1, low)
    assert after.dtype == dtype
    # Computed in float32 at least, and rounded once.
    expected = low.double() - ((low.double() - eraser.bias[0]) @ eraser.proj_right[0].T) @ eraser.proj_left[0].T
    assert torch.allclose(after.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-4)


def test_an_eraser_comes_back_from_disk_exactly(tmp_path: Path) -> None:
    x, labels = activations()
    before = Eraser.fit(source_of(x, labels), site="resid_post", provenance={"source": "facts", "capture_id": "c"})
    before.save(tmp_path / "eraser")
    after = Eraser.load(tmp_path / "eraser")
    assert (after.site, after.by, after.units, after.provenance) == (
        *(before.site, before.by, before.units),
        before.provenance,
    )
    for name in ("proj_left", "proj_right", "bias"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    assert torch.equal(after(2, x[1]), before(2, x[1]))


def test_saving_over_an_eraser_leaves_one(tmp_path: Path) -> None:
    for seed in (0, 1):
        x, labels = activations(seed=seed)
        Eraser.fit(source_of(x, labels), site="resid_post").save(tmp_path)
    assert len([file for file in tmp_path.iterdir() if file.name != ".lock"]) == 2
    assert torch.allclose(Eraser.load(tmp_path).bias[0], x[0].double().mean(dim=0))


@pytest.mark.parametrize("damage", ["no folder", "no json", "no key", "format", "other weights", "no weights", "units"])
def test_what_is_no_whole_eraser_is_refused_with_the_way_out(damage: str, tmp_path: Path) -> None:
    x, labels = activations()
    path = Eraser.fit(source_of(x, labels), site="resid_post").save(tmp_path)
    described = json.loads(path.read_text())
    (weights,) = tmp_path.glob("eraser-*.safetensors")
    folder = tmp_path
    if damage == "no folder":
        folder = tmp_path / "elsewhere"
    elif damage == "no json":
        path.write_text("{")
    elif damage == "no key":
        path.write_text(json.dumps({"format": 1}))
    elif damage == "format":
        path.write_text(json.dumps(described | {"format": 99}))
    elif damage == "units":
        path.write_text(json.dumps(described | {"units": [[1, -1]]}))
    elif damage == "other weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    else:
        weights.unlink()
    with pytest.raises(BadInput, match="fit the eraser again|repeng erase --out|do not fit each other"):
        Eraser.load(folder)


def test_a_layer_without_a_map_and_another_width_are_refused() -> None:
    x, labels = activations()
    eraser = Eraser.fit(source_of(x, labels), site="resid_post")
    with pytest.raises(BadInput, match="not fitted at layer 7; it was at 1, 2"):
        eraser(7, x[0])
    with pytest.raises(BadInput, match="12 dimensions; these have 5"):
        eraser(1, x[0, :, :5])


def test_one_class_and_infinite_activations_are_refused() -> None:
    x, labels = activations()
    with pytest.raises(BadInput, match="both classes"):
        leace(x, np.ones(len(labels)))
    x[1, 4, 2] = np.inf
    with pytest.raises(NonFinite, match="layer 2"):
        Eraser.fit(source_of(x, labels), site="resid_post")
