"""A linear score for each token, and three ways to make one of them for the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, Probe
from repeng.probes.logistic import Logistic
from repeng.probes.ragged import Ragged
from repeng.probes.trained import TrainedProbe
from repeng.probes.training import COLUMNS, Weights


class MeanOfScores(Logistic):
    """The mean of all tokens' linear scores, trained as what it is: logistic regression on the mean activation.

    "Mean" in McKenzie et al. 2025 (arXiv:2506.10805). The mean of scores is the score of the mean, so that this is the
    probe `logistic` on a text's mean, and is solved as that is, where the paper makes gradient steps.
    """

    name = "mean-of-scores"
    title = "mean of tokens' linear scores"
    token = "all"
    ragged = True

    @classmethod
    def fit_each(
        cls,
        probes: Sequence[Probe],
        activations: Float[Tensor, "fit *batch stimulus example d_model"] | list[Ragged],
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> list[Probe]:
        """All fits in one minimisation, on means."""
        if isinstance(activations, list):
            activations = torch.stack([means_of(each) for each in activations])
        return super().fit_each(probes, activations, labels, groups)

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],
    ) -> None:
        """The direction and the offset, from means."""
        super().learn(means_of(activations), labels, pairs)

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """All labellings side by side, on means."""
        return super().fit_swapped(means_of(activations), swaps)

    def fit_relabelled(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        labels: Float[np.ndarray, "null example"],
        groups: Int[np.ndarray, " example"],
    ) -> Probe:
        """All labellings side by side, on means."""
        return super().fit_relabelled(means_of(activations), labels, groups)

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged
    ) -> Float[Tensor, "*batch example"]:
        """The score of each text's mean."""
        return self._along(means_of(activations))

    def scores_of_each(
        self, activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged
    ) -> Float[Tensor, "each *batch example"]:
        """One matrix product for all."""
        return self._along(means_of(activations))


def means_of(
    activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
) -> Float[Tensor, "*batch stimulus example d_model"]:
    """Each text's mean over its tokens; a tensor holds one token an example."""
    return activations.means() if isinstance(activations, Ragged) else activations


class TokenScores(TrainedProbe):
    """A linear score for each token, pooled; trained end to end, so that what is optimised is the pooled score.

    Attributes:
        direction_: `[*batch, d_model]`.
        offset_: `[*batch]`; a token's score is `x . direction_ - offset_`.
    """

    token = "all"
    ragged = True

    direction_: Tensor
    offset_: Tensor

    def start(self, d: int, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002  (nothing is drawn)
        """Zeros, where every token counts alike."""
        return {COLUMNS: torch.zeros(1, d), "bias": torch.zeros(())}

    def pool(
        self,
        products: Float[Tensor, "*models text place column"],
        there: Bool[Tensor, "text place"],
        weights: Weights,
    ) -> Float[Tensor, "*models text"]:
        """The pooled score, to which an offset of all tokens adds itself."""
        return self.pooled(products[..., 0], there) + weights["bias"][..., None]

    def pooled(
        self, scores: Float[Tensor, "*models text place"], there: Bool[Tensor, "text place"]
    ) -> Float[Tensor, "*models text"]:
        """One score a text; with each token's raised by a number it must be raised by that number."""
        raise NotImplementedError(f"{type(self).__name__} has no method pooled(scores, there)")

    def folded(self, weights: Weights, shift: Float[Tensor, "*models column"]) -> dict[str, Tensor]:
        """The direction and the offset."""
        return {"direction_": weights[COLUMNS][..., 0, :], "offset_": -(weights["bias"] + shift[..., 0])}

    def unfolded(self) -> dict[str, Tensor]:
        """The direction as the one column."""
        return {COLUMNS: self.direction_[..., None, :], "bias": -self.offset_}


class SoftmaxPooling(TokenScores):
    """The mean of tokens' scores, weighted by the softmax of these scores.

    "Softmax" in McKenzie et al. 2025 (arXiv:2506.10805): high scores count more, the more so the lower the temperature;
    from the mean (infinite) to the maximum (zero). Trained end to end, as there.

    Args:
        temperature: what scores are divided by within the softmax.
        epochs: the most passes over the texts.
        batch_size: texts a step; groups stay together.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on the direction.
        patience: passes without a lower held-out loss before a batch element is done.
        seed: of the held-out groups and the order of the texts.
    """

    name = "softmax-pooling"
    title = "softmax-weighted mean of tokens' linear scores"

    def __init__(
        self,
        *,
        temperature: float = 5.0,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-3,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        self.temperature = temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.seed = seed

    def start(self, d: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros."""
        if not self.temperature > 0:
            raise BadArray(f"temperature is {self.temperature}; it must be above 0")
        return super().start(d, generator)

    def pooled(
        self, scores: Float[Tensor, "*models text place"], there: Bool[Tensor, "text place"]
    ) -> Float[Tensor, "*models text"]:
        """Weighted by the softmax over tokens."""
        weight = (scores / self.temperature).masked_fill(~there, -torch.inf).softmax(dim=-1)
        return (weight * scores).sum(dim=-1)


class MaxOfMeans(TokenScores):
    """The highest mean score of `window` tokens in a row; of a shorter text, the mean of all its tokens.

    "Max of rolling means" in McKenzie et al. 2025 (arXiv:2506.10805), trained end to end. Windows there have 40 tokens
    of long conversations; here 10 by default, since many responses are shorter than 40.

    Args:
        window: how many tokens.
        epochs: the most passes over the texts.
        batch_size: texts a step; groups stay together.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on the direction.
        patience: passes without a lower held-out loss before a batch element is done.
        seed: of the held-out groups and the order of the texts.
    """

    name = "max-of-means"
    title = "highest rolling mean of tokens' linear scores"

    def __init__(
        self,
        *,
        window: int = 10,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-3,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        self.window = window
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.seed = seed

    def start(self, d: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros."""
        if self.window < 1:
            raise BadArray(f"window is {self.window}; it must be 1 or more")
        return super().start(d, generator)

    def pooled(
        self, scores: Float[Tensor, "*models text place"], there: Bool[Tensor, "text place"]
    ) -> Float[Tensor, "*models text"]:
        """The highest rolling mean."""
        lengths = there.sum(dim=-1, keepdim=True)
        window = lengths.clamp(max=self.window)
        # Sums from the start, in float64: differences of long ones would lose the short ones in between.
        sums = torch.nn.functional.pad(scores.double().masked_fill(~there, 0.0).cumsum(dim=-1), (1, 0))
        end = torch.arange(1, there.shape[-1] + 1, device=there.device)
        begin = (end - window).clamp(min=0).expand_as(scores)
        means = ((sums[..., 1:] - sums.gather(-1, begin)) / window).to(scores.dtype)
        return means.masked_fill((end < window) | (end > lengths), -torch.inf).amax(dim=-1)
