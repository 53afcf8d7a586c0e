"""Zero-shot probabilities as GENIES released them: a formula, nothing is fitted."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from repeng.maths import sigmoid


def zero_shot_genies(
    log_probability: Float[np.ndarray, "pair 2"], text_length: Int[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    """p(best) as GENIES released it: total log-probability / (padded length - 1), softmax over the pair.

    Args:
        log_probability: total over each response's tokens, its EOS among them; prompt and response tokenized apart,
            without BOS.
        text_length: tokens of each whole text (prompt, response and EOS); a pair is padded to its longer one.
    """
    padded = text_length.max(axis=1)
    return sigmoid((log_probability[:, 0] - log_probability[:, 1]) / np.maximum(padded - 1, 1))
