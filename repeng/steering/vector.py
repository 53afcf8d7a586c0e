"""The directions that a model is steered along, with the source's spread as the unit of strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repeng.errors import BadInput
from repeng.probes.fitted import FittedProbe
from repeng.probes.projection import unit_directions

Unit = tuple[int, int]
"""A layer and a head; head -1 where the site has none."""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """Directions at some units of one hook site.

    A strength of 1 is one standard deviation of the source's projections on the direction, so that it means the same at
    every layer and of every model.

    Attributes:
        site: `resid_post`, `hook_z`, ...
        units: each a layer and a head, head -1 where the site has none.
        directions: of length 1, towards what the probe scores higher.
        spread: standard deviation of the source's training responses along each.
        centre: their mean along each.
        provenance: of the probe: model, capture_id, source, ...

    Raises:
        BadInput: the parts do not fit each other, or a direction is not of length 1.
    """

    site: str
    units: tuple[Unit, ...]
    directions: Float[Tensor, "unit d"]
    spread: Float[np.ndarray, " unit"]
    centre: Float[np.ndarray, " unit"]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.units), len(self.directions), len(self.spread), len(self.centre)}
        if len(lengths) > 1 or not self.units:
            raise BadInput(f"units, directions, spread and centre differ in length, or are none: {sorted(lengths)}")
        if not torch.allclose(self.directions.norm(dim=1), torch.ones(len(self.units)), atol=1e-3):
            raise BadInput("a direction has not length 1; divide each by its length")

    @classmethod
    def of(cls, fitted: FittedProbe, layers: Sequence[int] | None = None) -> SteeringVector:
        """The directions that a fitted probe reads along.

        Args:
            fitted: the probe.
            layers: of those that it was fitted at, with heads each layer's best one; None for those that it chose.

        Raises:
            BadInput: the probe reads along no direction, an earlier version of repeng saved it, or it was not fitted at
                a layer.
        """
        directions = unit_directions(fitted.probe)
        if directions is None:
            raise BadInput(
                f"probe {fitted.name!r} reads along no direction, so there is nothing to steer along; take a linear "
                "one, as mms, lat, logistic or lda"
            )
        known = dict(fitted.layer_units)
        if layers is not None and (missing := sorted({*layers} - known.keys())):
            raise BadInput(
                f"probe {fitted.name!r} was not fitted at layer {missing[0]}; it was at "
                f"{', '.join(map(str, fitted.fitted_layers))}"
            )
        units = fitted.units if layers is None else tuple((layer, known[layer]) for layer in sorted({*layers}))
        places = [fitted.fitted_layers.index(layer) for layer, _ in units]
        heads = [max(head, 0) for _, head in units]
        spread, centre = fitted.projection_spread[places, heads], fitted.projection_mean[places, heads]
        if not np.isfinite(spread).all():
            raise BadInput(
                f"probe {fitted.name!r} was saved by an earlier version of repeng, without the spread of its source "
                "along its direction; fit it again"
            )
        chosen = directions[places, heads] if fitted.has_heads else directions[places]
        return cls(
            site=fitted.site,
            units=units,
            directions=torch.from_numpy(chosen).float(),
            spread=spread,
            centre=centre,
            provenance={**fitted.provenance, "probe": fitted.name},
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of its units, ascending."""
        return tuple(sorted({layer for layer, _ in self.units}))

    def at(self, layers: Sequence[int]) -> SteeringVector:
        """The same at some of its layers.

        Raises:
            BadInput: it has no such layer.
        """
        if missing := sorted({*layers} - {*self.layers}):
            raise BadInput(
                f"there is no direction at layer {missing[0]}; there is at {', '.join(map(str, self.layers))}"
            )
        places = [place for place, (layer, _) in enumerate(self.units) if layer in {*layers}]
        units = tuple(self.units[place] for place in places)
        return replace(
            self,
            units=units,
            directions=self.directions[places],
            spread=self.spread[places],
            centre=self.centre[places],
        )

    def scaled(self, alpha: float) -> Float[Tensor, "unit d"]:
        """What is added for a strength: `alpha` times the spread along each direction."""
        return self.directions * torch.from_numpy(alpha * self.spread).float()[:, None]
