"""Activations with a direction planted in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repeng.probes.base import Probe
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import ProbeSpec
from repeng.probes.fitting import fit_probe as fit_spec
from repeng.probes.source import SourceData

QUICK: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ccs", "ccs-genies"), {"epochs": 300, "learning_rate": 0.02}),
    **dict.fromkeys(("mlp", "attention", "softmax-pooling", "max-of-means"), {"epochs": 12, "learning_rate": 0.03}),
}
"""Parameters with which a probe that is trained step by step learns what is planted in a few steps."""


@dataclass(frozen=True)
class Planted:
    """Pairs whose best response lies further along `direction` than its worse one, at every layer."""

    activations: Tensor  # [layer, stimulus, response, d_model]
    labels: Tensor  # [response]
    groups: Tensor  # [response], example ids
    direction: Tensor  # [d_model]

    def source(self, **changes: object) -> SourceData:
        """The same as a probe's source, every example its own prompt group."""
        parts: dict[str, object] = {
            "activations": self.activations,
            "labels": self.labels.double().numpy(),
            "examples": self.groups.numpy(),
            "groups": self.groups.numpy(),
            "layers": tuple(range(len(self.activations))),
        }
        return SourceData(**(parts | changes))  # type: ignore[arg-type]

    @property
    def pairs(self) -> np.ndarray:
        """Rows (best, worse)."""
        best, worse = (self.labels == 1).nonzero()[:, 0], (self.labels == 0).nonzero()[:, 0]
        return torch.stack([best, worse], dim=1).numpy()


def planted(
    *,
    n_pairs: int = 60,
    d: int = 8,
    stimuli: int = 1,
    layers: int = 2,
    strength: float = 4.0,
    seed: int = 0,
    axis: int = 0,
) -> Planted:
    """Gaussian noise, shared within a pair, plus or minus half the strength along axis number `axis`.

    With two stimuli the second carries the opposite, as a Yes and a No contrast do.
    """
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(layers, 1, n_pairs, 1, d, generator=generator)
    own = torch.randn(layers, stimuli, n_pairs, 2, d, generator=generator)
    direction = torch.zeros(d)
    direction[axis] = 1.0
    best_first = torch.rand(n_pairs, generator=generator) < 0.5
    label = torch.stack([best_first, ~best_first], dim=1).float()  # [pair, choice]
    side = torch.tensor([1.0, -1.0])[:stimuli, None, None, None]
    moved = shared + own + side * strength * (label[..., None] - 0.5) * direction
    return Planted(
        activations=moved.reshape(layers, stimuli, 2 * n_pairs, d),
        labels=label.reshape(-1),
        groups=torch.arange(n_pairs).repeat_interleave(2),
        direction=direction,
    )


def fit_probe(
    probe: Probe, data: SourceData, *, provenance: dict[str, object] | None = None, **spec: object
) -> FittedProbe:
    """A probe fitted as a spec of these settings says."""
    return fit_spec(ProbeSpec(probe, **spec), data, provenance=provenance)  # type: ignore[arg-type]
