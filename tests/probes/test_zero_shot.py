from __future__ import annotations

import numpy as np
import pytest
import torch

from repeng.probes.zero_shot import zero_shot_genies


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
