"""Linear artificial tomography, the original: a principal component."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.linalg import eigh
from torch import Tensor

from repeng.probes.base import Labels, LinearProbe, Probe, exchanged, majority_sign


class LAT(LinearProbe):
    """The first principal component of paired differences.

    Zou et al. 2023 (arXiv:2310.01405), section 3.1.

    The differences are taken in an order that knows nothing of the labels: half of the pairs, drawn at random, as
    best minus worse, the others as worse minus best, so that centring them does not remove what is sought. The labels
    set the sign alone: +1 where most source pairs are ranked rightly. The score is (h - mean) . v / |v|, with the mean
    of the source's responses. Fitted without groups, it takes the first best and the first worse response for a
    pair, the second ones, and so on.

    Args:
        seed: of which pairs are turned round.
    """

    name = "lat"
    title = "linear artificial tomography"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit_direction(
        self,
        features: Float[Tensor, "*batch example d"],
        labels: Labels,  # noqa: ARG002  (the pairs carry them)
        pairs: Int[Tensor, "pair 2"],
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """A unit vector, and the mean response's projection on it."""
        best_minus_worse = features[..., pairs[:, 0], :] - features[..., pairs[:, 1], :]
        turned = best_minus_worse * turns(len(pairs), self.seed).to(features)[:, None]
        component = first_component(turned - turned.mean(dim=-2, keepdim=True))
        sign = majority_sign((best_minus_worse @ component[..., None])[..., 0])
        direction = component * sign[..., None]
        return direction, (features.mean(dim=-2) * direction).sum(dim=-1)

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """The same component, its sign decided anew.

        Which pairs are turned round is a draw that knows nothing of the labels; taking each pair's turn with its
        labels leaves the differences, and so the component, as they are.
        """
        gaps = self.pair_score(activations[..., 0::2, :], activations[..., 1::2, :])
        signs = majority_sign(exchanged(gaps, swaps)).to(self.offset_)
        return self.with_state({"direction_": signs[..., None] * self.direction_, "offset_": signs * self.offset_})


class LATStimulus2(LAT):
    """LAT on its second stimulus: the response between a request to consider and a question about its probability."""

    name = "lat-stimulus-2"
    title = "linear artificial tomography, second stimulus"
    stimuli = ("lat2",)


def turns(n_pairs: int, seed: int) -> Float[Tensor, " pair"]:
    """+1 for half of the pairs, -1 for the others (one more where they are odd), in random order."""
    signs = torch.ones(n_pairs)
    signs[n_pairs // 2 :] = -1.0
    return signs[torch.randperm(n_pairs, generator=torch.Generator().manual_seed(seed))]


def first_component(centred: Float[Tensor, "*batch row d"]) -> Float[Tensor, "*batch d"]:
    """The first right singular vector, of unit length and either sign.

    From the smaller of the two Gram matrices, in float64, since its condition is the square of the matrix's own.
    """
    rows = centred.double()
    if rows.shape[-2] < rows.shape[-1]:
        left = last_eigenvector(rows @ rows.transpose(-1, -2))
        vector = (left[..., None, :] @ rows)[..., 0, :]
    else:
        vector = last_eigenvector(rows.transpose(-1, -2) @ rows)
    norm = vector.norm(dim=-1, keepdim=True)
    return (vector / torch.where(norm > 0, norm, 1.0)).to(centred.dtype)


def last_eigenvector(matrices: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n"]:
    """Of the largest eigenvalue of symmetric matrices; alone it costs a quarter of all that torch would give."""
    n = matrices.shape[-1]
    flat = matrices.reshape(-1, n, n).cpu().numpy()
    found = [eigh(one, subset_by_index=(n - 1, n - 1), check_finite=False)[1][:, 0] for one in flat]
    return torch.from_numpy(np.stack(found)).to(matrices).reshape(matrices.shape[:-1])
