"""The directions of a fitted probe, of length 1, and how far along them its source's activations lie."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from repeng.probes.base import Probe, projected
from repeng.probes.fitted import to_numpy
from repeng.probes.inputs import in_float
from repeng.probes.ragged import Ragged
from repeng.probes.source import SourceData, take


def unit_directions(probe: Probe) -> Float[np.ndarray, "*batch d"] | None:
    """The directions of a fitted probe, of length 1, towards what scores higher; None where it reads along none."""
    state = probe.state()
    if "direction_" not in state:
        return None
    values = to_numpy(state["direction_"])
    if "sign_" in state:
        # CCS keeps the sign that labels gave it apart from a direction that knew none.
        values = values * to_numpy(state["sign_"])[..., None]
    return of_length_one(values)


def of_length_one(values: Float[np.ndarray, "*batch d"]) -> Float[np.ndarray, "*batch d"]:
    """Vectors scaled to length 1; zeros stay."""
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def project(
    fitted: Probe, data: SourceData, rows: Int[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, "layer head"], Float[np.ndarray, "layer head"]]:
    """Mean and standard deviation of some responses' projections on each layer's unit direction.

    Of the activations of the first stimulus that the probe reads; of a probe over tokens, of every token. NaN where the
    probe reads along no direction.

    Args:
        fitted: the probe, fitted at these layers.
        data: a block of layers.
        rows: the responses that it learned from.
    """
    units = unit_directions(fitted)
    heads = data.activations.shape[1] if data.has_heads else 1
    if units is None:
        nothing = np.full((len(data.layers), heads), np.nan)
        return nothing, nothing.copy()
    activations = data.activations
    values = take(activations, rows).values if isinstance(activations, Ragged) else activations
    along = torch.from_numpy(units).to(values.device, torch.float32)
    found = projected(in_float(values[..., 0, :, :]).float(), along).double()
    if not isinstance(activations, Ragged):
        found = take(found[..., None], rows)[..., 0]
    shape = (len(data.layers), heads)
    mean, spread = found.mean(dim=-1), found.std(dim=-1, correction=0)
    return to_numpy(mean).reshape(shape), to_numpy(spread).reshape(shape)
