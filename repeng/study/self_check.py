"""A capture, a fit and a score of the embedded model whose outcome is known: whether repeng computes right here."""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from repeng.benchmarks.loaded import load_named
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel, load_model
from repeng.models.tokens import tokenize
from repeng.study.steps import capture, evaluate, fit

DISTRIBUTION = "facts"
EXAMPLES = 60
LAYER = 3
COMPARED = 8
"""Responses that are run one by one."""
NEAR = 1e-3
"""Of their largest value; layouts of float32 differ by some 1e-5."""
GOOD = 0.8
"""Test accuracy of mms, which is 1.00 where nothing is wrong; chance is 0.5."""


def self_check() -> tuple[float, float]:
    """Capture some of a distribution of the embedded benchmark, fit mms on it and score it.

    Returns:
        The largest difference between a stored activation and one of a forward pass of that text alone, relative to the
        largest activation; and mms' accuracy on the test split.

    Raises:
        RepengError: any of it fails.
    """
    distribution = load_named("mini", [DISTRIBUTION], limit=EXAMPLES)[DISTRIBUTION]
    with tempfile.TemporaryDirectory(prefix="repeng-doctor-") as store:
        lm = load_model("mini", device="cpu", dtype="float32")
        cached = capture(lm, distribution, store=store, stimuli=("plain",), logprob=False, storage_dtype="float32")
        alone = _alone(lm, distribution.train)
        stored = cached.activations(DISTRIBUTION, "train", layer=LAYER)[:COMPARED]
        difference = float(np.abs(stored - alone).max() / np.abs(alone).max())
        return difference, evaluate(fit(cached, DISTRIBUTION, "mms"), cached, DISTRIBUTION).accuracy


def _alone(lm: LanguageModel, split: Split) -> np.ndarray:
    """The last token's residual stream after a layer, of each of the first texts in a pass of its own."""
    texts = [text for text in tokenize(split, get_stimulus("plain"), lm) if text is not None][:COMPARED]
    rows = []
    with torch.no_grad():
        for text in texts:
            states = lm.model(torch.tensor([list(text.ids)]), output_hidden_states=True).hidden_states
            rows.append(states[LAYER + 1][0, -1].numpy())
    return np.stack(rows)
