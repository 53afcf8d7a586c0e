"""Mass mean shift."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.probes.base import Labels, LinearProbe, Probe, swap_signs


class MMS(LinearProbe):
    """The direction is the mean over best responses minus the mean over worse ones; the offset is their midpoint.

    Li et al. 2023 (arXiv:2306.03341), section 3; Marks and Tegmark 2023 (arXiv:2310.06824), section 5.
    """

    name = "mms"
    title = "mass mean shift"

    def fit_direction(
        self,
        features: Float[Tensor, "*batch example d"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """The difference of the two class means."""
        return mass_mean(features, labels)

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """Signs times rows: one product for all nulls. The midpoint is that of all rows, whatever their labels."""
        features = self.features(activations)
        direction = (swap_signs(swaps).to(features) * (2 / features.shape[-2]) @ features).movedim(-2, 0)
        offset = (direction * features.mean(dim=-2)).sum(dim=-1)
        return self.with_state({"direction_": direction, "offset_": offset})


def mass_mean(
    features: Float[Tensor, "*batch example d"], labels: Labels
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
    """The difference of the class means, and its product with their midpoint."""
    labels = labels.to(features.dtype)
    best = (labels / labels.sum()) @ features
    worse = ((1 - labels) / (1 - labels).sum()) @ features
    direction = best - worse
    return direction, (direction * (best + worse)).sum(dim=-1) / 2
