"""Zero-shot probabilities of a pair, from the log-probabilities of its responses. Formulas only: nothing is fitted."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from repeng.errors import BadInput
from repeng.maths import sigmoid


def zero_shot(
    log_probability: Float[np.ndarray, "pair 2"],
    token_count: Int[np.ndarray, "pair 2"],
    *,
    normalize: str = "total",
) -> Float[np.ndarray, " pair"]:
    """p(best): the softmax over a pair (best, worse) of each response's log-probability.

    Args:
        log_probability: total over each response's tokens.
        token_count: of each response; an empty one counts as one token.
        normalize: "total" takes the log-probability itself, "mean" divides it by the token count.

    Raises:
        BadInput: `normalize` is neither.
    """
    if normalize not in ("total", "mean"):
        raise BadInput(f"normalize {normalize!r}: choose total or mean")
    divisor = np.maximum(token_count, 1) if normalize == "mean" else np.ones_like(token_count)
    scores = log_probability / divisor
    return sigmoid(scores[:, 0] - scores[:, 1])


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
