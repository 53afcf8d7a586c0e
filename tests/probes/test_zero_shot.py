from __future__ import annotations

import numpy as np
import pytest
import torch

from repeng.errors import BadInput
from repeng.probes.zero_shot import zero_shot, zero_shot_genies


def test_the_released_formula_is_the_mean_over_padded_positions() -> None:
    """A twin in torch: left-padded texts, prompt and padding masked, log-probabilities averaged over all positions."""
    generator = torch.Generator().manual_seed(0)
    prompt, responses = 4, (3, 7)
    longest = prompt + max(responses)
    averages, totals = [], []
    for length in responses:
        losses = torch.zeros(longest - 1)
        losses[-length:] = torch.rand(length, generator=generator)
        averages.append(-losses.mean())
        totals.append(-losses.sum().item())
    expected = torch.softmax(torch.stack(averages), dim=0)[0].item()
    actual = zero_shot_genies(np.array([totals]), np.array([[prompt + length for length in responses]]))
    assert actual == pytest.approx(expected, rel=1e-6)


def test_total_and_mean_rank_otherwise() -> None:
    log_probability, count = np.array([[-4.0, -3.0]]), np.array([[8, 2]])
    assert zero_shot(log_probability, count)[0] == pytest.approx(1 / (1 + np.e))
    assert zero_shot(log_probability, count, normalize="mean")[0] == pytest.approx(1 / (1 + np.exp(-1.0)))


def test_an_empty_response_has_log_probability_zero() -> None:
    assert zero_shot(np.array([[0.0, -2.0]]), np.array([[0, 4]]), normalize="mean")[0] > 0.5


def test_another_normalisation_is_refused() -> None:
    with pytest.raises(BadInput, match="total or mean"):
        zero_shot(np.zeros((1, 2)), np.ones((1, 2), dtype=np.int64), normalize="length")
