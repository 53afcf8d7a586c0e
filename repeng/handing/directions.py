"""A fitted probe's directions as arrays with their metadata: what every format of `repeng export` is written from."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save

from repeng.models.sites import hook_name
from repeng.probes.fitted import FittedProbe
from repeng.steering.vector import SteeringVector
from repeng.version import __version__

FORMAT = "repeng-directions-1"
UNIT = "1 = one standard deviation of the source's projections on the direction"
METADATA = "metadata"
"""The array of an .npz that holds the metadata, as JSON."""


@dataclass(frozen=True, eq=False)
class Directions:
    """What a probe's layers add to one token's activations for a strength of 1.

    Attributes:
        vector: the directions, their spread and their provenance.
        n_heads: of the site; 1 where it has none.
        token: that the probe reads.
    """

    vector: SteeringVector
    n_heads: int
    token: str

    @classmethod
    def of(cls, fitted: FittedProbe, layers: Sequence[int] | None = None) -> Directions:
        """Those of a fitted probe.

        Args:
            fitted: the probe.
            layers: of those that it was fitted at; None for those that it chose.

        Raises:
            BadInput: it reads along no direction, lacks their spread, or was not fitted at a layer.
        """
        vector = SteeringVector.of(fitted, None if layers is None else tuple(sorted({*layers})))
        return cls(vector, fitted.head_accuracy.shape[1], fitted.token)

    @property
    def has_heads(self) -> bool:
        """Whether the site has heads."""
        return any(head >= 0 for _, head in self.vector.units)

    def by_layer(self) -> dict[int, Float[np.ndarray, "*head d"]]:
        """For each layer, ascending, what is added for a strength of 1, in float32: `[d]`, or `[head, d_head]`.

        Heads along which the probe does not read have zeros.
        """
        added = self.vector.scaled(1.0).numpy()
        shape = (self.n_heads, added.shape[1]) if self.has_heads else (added.shape[1],)
        found = {layer: np.zeros(shape, dtype=np.float32) for layer in self.vector.layers}
        for (layer, head), row in zip(self.vector.units, added, strict=True):
            if self.has_heads:
                found[layer][head] = row
            else:
                found[layer][:] = row
        return found

    def named(self) -> dict[str, Float[np.ndarray, "*head d"]]:
        """The same by the name of the hook, as a store has it: `blocks.3.hook_resid_post`."""
        return {hook_name(self.vector.site, layer): values for layer, values in self.by_layer().items()}

    def metadata(self) -> dict[str, str]:
        """What goes with them. `units`, `spread` and `centre` are JSON lists, one entry a direction."""
        provenance = self.vector.provenance
        known = ("probe", "model", "weights", "capture_id", "source", "data_hash")
        return {
            "format": FORMAT,
            "repeng_version": __version__,
            "site": self.vector.site,
            "token": self.token,
            "unit": UNIT,
            "units": json.dumps([list(unit) for unit in self.vector.units]),
            "spread": json.dumps([float(value) for value in self.vector.spread]),
            "centre": json.dumps([float(value) for value in self.vector.centre]),
            **{key: str(provenance[key]) for key in known if provenance.get(key)},
        }


def safetensors_bytes(directions: Directions) -> bytes:
    """A safetensors file: a tensor a layer under its hook's name, and the metadata in the header."""
    content: bytes = save(directions.named(), metadata=directions.metadata())
    return content


def npz_bytes(directions: Directions) -> bytes:
    """An .npz file of the same arrays, and of the metadata as JSON in an array of one text. It holds no pickle."""
    stream = io.BytesIO()
    np.savez(
        stream, allow_pickle=False, **directions.named(), **{METADATA: np.array(json.dumps(directions.metadata()))}
    )
    return stream.getvalue()
