"""Mass mean shift."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from repeng.probes.base import Labels, LinearProbe


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


def mass_mean(
    features: Float[Tensor, "*batch example d"], labels: Labels
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
    """The difference of the class means, and its product with their midpoint."""
    labels = labels.to(features.dtype)
    best = (labels / labels.sum()) @ features
    worse = ((1 - labels) / (1 - labels).sum()) @ features
    direction = best - worse
    return direction, (direction * (best + worse)).sum(dim=-1) / 2
