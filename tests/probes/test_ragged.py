"""Texts of unequal length, end to end: what is taken, padded, averaged and refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold, cross_val_score
from torch import Tensor

from repeng.errors import BadArray, NonFinite
from repeng.probes import MMS, MeanOfScores, Ragged
from repeng.probes.inputs import all_finite
from repeng.probes.ragged import places_of
from repeng.probes.source import SourceData, check_finite_layers

LENGTHS = (3, 1, 4, 2)


def texts(seed: int = 0, d: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, d, generator=generator) for length in LENGTHS]


def test_an_example_is_its_tokens() -> None:
    ragged = Ragged.of_texts(texts())
    assert ragged.shape == (4, 5) and len(ragged) == 4 and ragged.lengths.tolist() == list(LENGTHS)
    for own, text in zip(ragged, texts(), strict=True):
        assert torch.equal(own, text)
    taken = ragged.take(np.array([2, 0, 2]))
    assert torch.equal(taken.values, torch.cat([texts()[row] for row in (2, 0, 2)]))
    assert torch.equal(ragged[np.array([2, 0, 2])].values, taken.values)
    assert len(ragged.take(np.array([], dtype=int))) == 0


def test_batch_axes_come_first_and_are_indexed_as_a_tensors() -> None:
    flat = Ragged.of_texts(texts())
    both = Ragged(torch.stack([flat.values, -flat.values])[:, None], flat.offsets)
    assert both.shape == (2, 1, 4, 5) and both.ndim == 4 and both.nbytes == 2 * flat.nbytes
    assert torch.equal(both[1].values, -flat.values[None])
    assert torch.equal(both[[1, 0]].values[1, 0], flat.values)
    assert both[0][None].shape == (1, 1, 4, 5)
    assert torch.equal(both.take(np.array([3, 1])).values[0, 0], flat.take(np.array([3, 1])).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_means_are_each_texts_mean(dtype: torch.dtype) -> None:
    parts = [text.to(dtype) for text in texts()]
    means = Ragged.of_texts(parts).means()
    assert means.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(means, torch.stack([part.to(means.dtype).mean(dim=0) for part in parts]))


def test_blocks_hold_every_example_once_and_no_more_places_than_allowed() -> None:
    rng = np.random.default_rng(0)
    for most in (1, 7, 40, 10_000):
        lengths = rng.integers(1, 12, size=50)
        ragged = Ragged(torch.zeros(lengths.sum(), 1), np.r_[0, np.cumsum(lengths)])
        blocks = list(ragged.blocks(most))
        assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(50))
        for block in blocks:
            own = lengths[block]
            assert len(own) == 1 or len(own) * own.max() <= most


def test_places_pad_at_the_end() -> None:
    tokens, there = places_of(np.array([2, 3]))
    assert there.tolist() == [[True, True, False], [True, True, True]]
    assert tokens[there].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3, 3, 10], "example 1 has no token"),
        ([0, 3, 9], "run from 0 to 9"),
        ([1, 10], "run from 1"),
        ([], "nothing"),
    ],
)
def test_offsets_that_do_not_divide_the_tokens_are_refused(offsets: list[int], message: str) -> None:
    with pytest.raises(BadArray, match=message):
        Ragged(torch.zeros(10, 2), np.array(offsets, dtype=int))


def test_texts_of_several_widths_or_none_are_refused() -> None:
    with pytest.raises(BadArray, match=r"widths \[2, 3\]"):
        Ragged.of_texts([torch.zeros(1, 2), torch.zeros(1, 3)])
    with pytest.raises(BadArray, match="0 of widths"):
        Ragged.of_texts([])


def test_a_token_that_is_not_finite_is_named_by_its_layer_and_example() -> None:
    flat = Ragged.of_texts(texts())
    values = torch.stack([flat.values, flat.values])[:, None].clone()
    values[1, 0, 5, 3] = torch.inf
    ragged, labels = Ragged(values, flat.offsets), np.array([1.0, 0.0, 1.0, 0.0])
    assert not all_finite(ragged) and all_finite(flat)
    examples = np.array([7, 7, 8, 8])
    with pytest.raises(NonFinite, match=r"layer 4, example 8 \(response row 2\)"):
        SourceData(ragged, labels, examples, examples, (3, 4))
    check_finite_layers(ragged, (3, 4), np.array([0, 1, 3]))
    with pytest.raises(NonFinite, match=r"batch element \(1,\), response row 2"):
        MeanOfScores().fit(ragged, labels, examples)


def test_lists_arrays_tensors_and_ragged_are_one_and_scikit_learn_splits_them() -> None:
    generator = np.random.default_rng(0)
    y = np.tile([1, 0], 20)
    given = [generator.normal(size=(generator.integers(1, 6), 4)) + 2 * label for label in y]
    as_tensors = [torch.from_numpy(text) for text in given]
    ragged = Ragged.of_texts(as_tensors)
    expected = MeanOfScores().fit(given, y).decision_function(given)
    assert isinstance(expected, np.ndarray) and expected.shape == (40,)
    array = np.empty(40, dtype=object)
    array[:] = given
    for other in (as_tensors, ragged, array):
        found = MeanOfScores().fit(other, y).decision_function(other)
        np.testing.assert_allclose(np.asarray(found), expected)
    assert isinstance(MeanOfScores().fit(ragged, y).decision_function(ragged), Tensor)
    for x in (given, ragged):
        scores = cross_val_score(MeanOfScores(), x, y, groups=np.arange(40) // 2, cv=GroupKFold(4))
        assert scores.shape == (4,) and scores.mean() > 0.85


def test_a_probe_of_one_token_refuses_all_tokens_and_one_of_all_another_shape() -> None:
    ragged = Ragged.of_texts(texts())
    for given in (ragged, texts()):
        with pytest.raises(BadArray, match="reads one token of a text"):
            MMS().fit(given, [1, 0, 1, 0])
    two = Ragged(torch.stack([ragged.values, ragged.values]), ragged.offsets)
    with pytest.raises(BadArray, match="all tokens of one stimulus"):
        MeanOfScores().fit(two, [1, 0, 1, 0])
    fitted = MeanOfScores().fit(ragged, [1, 0, 1, 0])
    with pytest.raises(BadArray, match="fitted on 5 dimensions"):
        fitted.decision_function(Ragged.of_texts([torch.zeros(2, 4)]))
