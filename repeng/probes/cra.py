"""Contrastive representation arithmetic: mass mean shift on Yes minus No."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from repeng.probes.inputs import in_float
from repeng.probes.mms import MMS


class CRA(MMS):
    """Mass mean shift on `yes - alpha * no`, the activations of a text that ends in a verdict of Yes or of No.

    Clymer et al. 2023 (arXiv:2311.07723), appendix.

    Args:
        alpha: weight of the No text.
    """

    name = "cra"
    title = "contrastive representation arithmetic"
    stimuli = ("contrast_yes", "contrast_no")

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def features(self, activations: Float[Tensor, "*batch stimulus example d"]) -> Float[Tensor, "*batch example d"]:
        """`yes - alpha * no`, in float32."""
        return contrast(activations, self.alpha)


def contrast(
    activations: Float[Tensor, "*batch stimulus example d"], alpha: float
) -> Float[Tensor, "*batch example d"]:
    """The first stimulus minus `alpha` times the second, in float32."""
    return torch.sub(in_float(activations[..., 0, :, :]), in_float(activations[..., 1, :, :]), alpha=alpha)
