"""A probe after its fit on one source: chosen layers, calibration, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadInput, CaptureMismatch
from repeng.probes.base import Probe, Reading
from repeng.probes.calibration import LogisticCalibration, Temperature, TextCalibration
from repeng.probes.ragged import Ragged
from repeng.probes.source import check_finite_layers, take

NO_HEAD = -1


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """One probe, fitted on every layer of one source, and what held-out source pairs chose.

    Every `activations` argument below is `[layer, stimulus, response, d_model]` (with heads:
    `[layer, head, stimulus, response, d_head]`); `layers` names its layers, and may be left out where they are exactly
    the chosen ones (`self.layers`) or all the fitted ones (`self.fitted_layers`).

    Attributes:
        probe: the fitted estimator, batched over `fitted_layers` (and heads).
        units: the chosen (layer, head), head -1 where the site has none; several are an ensemble.
        centre: per unit, subtracted from its score before the ensemble's mean is taken.
        scale: per unit, what its score is then divided by.
        calibration: from a pair's score to a probability.
        texts: from a single response's score to a probability, and thresholds; None of a preset that ranks pairs
            alone, and of a probe that an earlier version of repeng saved.
        layer_heads: the best head of each fitted layer, -1 where the site has none.
        layer_temperatures: T of each fitted layer's own probabilities, as of `layer_heads` alone.
        held_out_accuracy: pair accuracy of each fitted layer (its best head) on held-out source pairs.
        held_out_log_loss: mean -log p(best) of the same.
        head_accuracy: held-out pair accuracy of every head; one column where the site has none.
        train_accuracy: pair accuracy of the same on the training pairs.
        projection_mean, projection_spread: mean and standard deviation of the training responses' projections (of the
            first stimulus; of a probe over tokens, of every token) on the probe's direction, its length being 1; NaN
            of a probe without one, or that an earlier version of repeng saved.
        site, token, stimuli: what it reads.
        provenance: capture_id, model, source, data_hash, versions, ...: whatever the caller knows of it.
    """

    probe: Probe
    fitted_layers: tuple[int, ...]
    units: tuple[tuple[int, int], ...]
    centre: Float[np.ndarray, " unit"]
    scale: Float[np.ndarray, " unit"]
    calibration: Temperature | LogisticCalibration
    layer_heads: tuple[int, ...]
    layer_temperatures: Float[np.ndarray, " layer"]
    held_out_accuracy: Float[np.ndarray, " layer"]
    held_out_log_loss: Float[np.ndarray, " layer"]
    head_accuracy: Float[np.ndarray, "layer head"]
    train_accuracy: Float[np.ndarray, " layer"]
    projection_mean: Float[np.ndarray, "layer head"]
    projection_spread: Float[np.ndarray, "layer head"]
    seed: int
    site: str
    token: str
    stimuli: tuple[str, ...]
    texts: TextCalibration | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The probe's name."""
        return self.probe.name

    @property
    def layers(self) -> tuple[int, ...]:
        """The chosen layers, ascending: all that `scores` and `pair_probabilities` need."""
        return tuple(sorted({layer for layer, _ in self.units}))

    @property
    def has_heads(self) -> bool:
        """Whether it reads a site that has heads."""
        return self.layer_heads[0] != NO_HEAD

    @property
    def layer_units(self) -> tuple[tuple[int, int], ...]:
        """Every fitted layer with its best head."""
        return tuple(zip(self.fitted_layers, self.layer_heads, strict=True))

    def heads_of(self, layer: int) -> tuple[tuple[int, int], ...]:
        """Every (layer, head) of a fitted layer."""
        heads = range(self.head_accuracy.shape[1]) if self.has_heads else (NO_HEAD,)
        return tuple((layer, head) for head in heads)

    @property
    def temperature(self) -> float | None:
        """T of sigmoid(score / T); None for a preset that calibrates otherwise."""
        return self.calibration.temperature if isinstance(self.calibration, Temperature) else None

    @property
    def ranks_by_scores(self) -> bool:
        """Whether a pair's score is the difference of two of `scores`; a cosine's is not."""
        return self.probe.ranks_by_scores

    def reads(self, n_layers: int, *, chosen: bool = True) -> tuple[Reading, ...]:
        """Which tensors of a store are its layers: the chosen ones, or with `chosen=False` all the fitted ones."""
        wanted = self.layers if chosen else self.fitted_layers
        readings = self.probe.reads(n_layers, None if self.site == self.probe.site else self.site)
        return tuple(reading for reading in readings if reading.layer in wanted)

    def check_capture(self, capture_id: str) -> None:
        """Refuse activations of another capture than the one that the probe was fitted on.

        Raises:
            CaptureMismatch: the captures differ.
        """
        own = self.provenance.get("capture_id")
        if own is not None and own != capture_id:
            raise CaptureMismatch(
                f"probe {self.name!r} was fitted on capture {own!r} and cannot read {capture_id!r}; "
                "fit it again on that capture, or name the store that holds its own"
            )

    def scores(
        self,
        activations: Float[Tensor, "layer *head stimulus response d"] | Ragged,
        layers: Sequence[int] | None = None,
        rows: Int[np.ndarray, " row"] | None = None,
    ) -> Float[np.ndarray, " row"]:
        """One score a response; higher means better. An ensemble's is the mean of its standardised members'.

        `rows` asks for some responses, the others left out of any statistics.

        Raises:
            NonFinite: an activation of one of those rows is infinite or not a number.
        """
        selected, chosen = self._chosen(activations, layers)
        if rows is not None:
            check_finite_layers(chosen, tuple(layer for layer, _ in self.units), rows)
            chosen = take(chosen, rows)
        members = to_numpy(selected.decision_function(chosen))
        return np.mean((members - self.centre[:, None]) / self.scale[:, None], axis=0)

    def pair_scores(
        self,
        activations: Float[Tensor, "layer *head stimulus response d"] | Ragged,
        pairs: Int[np.ndarray, "pair 2"],
        layers: Sequence[int] | None = None,
    ) -> Float[np.ndarray, " pair"]:
        """One score a pair, positive where the first of its two rows is preferred.

        Raises:
            NonFinite: an activation of one of the pairs is infinite or not a number.
        """
        selected, chosen = self._chosen(activations, layers)
        members = unit_pair_scores(selected, chosen, pairs, tuple(layer for layer, _ in self.units))
        return np.mean(members / self.scale[:, None], axis=0)

    def pair_probabilities(
        self,
        activations: Float[Tensor, "layer *head stimulus response d"] | Ragged,
        pairs: Int[np.ndarray, "pair 2"],
        layers: Sequence[int] | None = None,
    ) -> Float[np.ndarray, " pair"]:
        """For each pair of rows (best, worse), the probability that the first is preferred.

        Raises:
            NonFinite: an activation of one of the pairs is infinite or not a number.
        """
        return self.calibration(self.pair_scores(activations, pairs, layers))

    def pair_scores_at(
        self,
        units: Sequence[tuple[int, int]],
        activations: Float[Tensor, "layer *head stimulus response d"] | Ragged,
        pairs: Int[np.ndarray, "pair 2"],
        layers: Sequence[int] | None = None,
    ) -> Float[np.ndarray, "unit pair"]:
        """The scores of each pair by some (layer, head), each alone. `layers` defaults to all the fitted ones.

        Raises:
            NonFinite: an activation of one of the pairs is infinite or not a number.
        """
        chosen = self._gather(activations, tuple(units), tuple(self.fitted_layers if layers is None else layers))
        return unit_pair_scores(self.select(tuple(units)), chosen, pairs, tuple(layer for layer, _ in units))

    @cached_property
    def _chosen_probe(self) -> Probe:
        return self.select(self.units)

    def _chosen(
        self, activations: Float[Tensor, "layer *head stimulus response d"] | Ragged, layers: Sequence[int] | None
    ) -> tuple[Probe, Float[Tensor, "unit stimulus response d"] | Ragged]:
        if layers is None:
            layers = self.layers if activations.shape[0] == len(self.layers) else self.fitted_layers
        return self._chosen_probe, self._gather(activations, self.units, tuple(layers))

    def _position(self, layer: int) -> int:
        if layer not in self.fitted_layers:
            raise BadInput(f"probe {self.name!r} was fitted on layers {self.fitted_layers}; {layer} is not one of them")
        return self.fitted_layers.index(layer)

    def select(self, units: tuple[tuple[int, int], ...]) -> Probe:
        """The fitted estimators of some (layer, head), side by side."""
        positions = torch.tensor([self._position(layer) for layer, _ in units])
        heads = torch.tensor([head for _, head in units])
        return self.probe.select(positions, heads) if self.has_heads else self.probe.select(positions)

    def _gather(
        self,
        activations: Float[Tensor, "layer *head stimulus response d"] | Ragged,
        units: tuple[tuple[int, int], ...],
        present: tuple[int, ...],
    ) -> Float[Tensor, "unit stimulus response d"] | Ragged:
        if len(present) != activations.shape[0] or activations.ndim != (5 if self.has_heads else 4):
            raise BadInput(
                f"activations of shape {tuple(activations.shape)} are not the layers {present} of probe {self.name!r}"
            )
        missing = [layer for layer, _ in units if layer not in present]
        if missing:
            raise BadInput(f"probe {self.name!r} needs layer(s) {sorted(set(missing))}; given are {present}")
        positions = [present.index(layer) for layer, _ in units]
        if not self.has_heads:
            return activations if positions == list(range(len(present))) else activations[positions]
        return activations[positions, [head for _, head in units]]


def unit_pair_scores(
    probe: Probe,
    activations: Float[Tensor, "*unit stimulus response d"] | Ragged,
    pairs: Int[np.ndarray, "pair 2"],
    layers: tuple[int, ...],
) -> Float[np.ndarray, "*unit pair"]:
    """Every unit's score of every pair of rows (best, worse). `layers` names the first axis in an error's message.

    Raises:
        NonFinite: an activation of one of the pairs is infinite or not a number.
    """
    check_finite_layers(activations, layers, np.unique(pairs))
    if probe.ranks_by_scores:
        # Each response is scored once, however many pairs share it; rows of no pair stay out of any statistics.
        rows, position = np.unique(pairs, return_inverse=True)
        scores = to_numpy(probe.decision_function(take(activations, rows)))
        best, worse = position.reshape(pairs.shape).T
        return scores[..., best] - scores[..., worse]
    return to_numpy(probe.pair_score(take(activations, pairs[:, 0]), take(activations, pairs[:, 1])))


def to_numpy(values: Float[Tensor, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """A float64 array of a tensor's values."""
    return values.detach().cpu().double().numpy()
