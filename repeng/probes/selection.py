"""What the rules of choosing layers share: how each (layer, head) does alone, and the fitted probe they make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from repeng.errors import BadInput
from repeng.probes.base import Probe
from repeng.probes.calibration import LogisticCalibration, Temperature, fit_temperature, log_loss, pair_accuracy
from repeng.probes.fitted import NO_HEAD, FittedProbe, unit_pair_scores
from repeng.probes.source import SourceData, SourceSplit

LayerChoice = str | tuple[int, ...]


@dataclass(frozen=True)
class Common:
    """What every fitted probe carries of its fit."""

    seed: int
    stimuli: tuple[str, ...]
    site: str
    token: str
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Curves:
    """How each (layer, head) does on its own. Without heads the second axis has length 1."""

    scores: Float[np.ndarray, "layer head pair"]
    temperature: Float[np.ndarray, "layer head"]
    accuracy: Float[np.ndarray, "layer head"]
    log_loss: Float[np.ndarray, "layer head"]
    train_accuracy: Float[np.ndarray, "layer head"]


def fit_on_pairs(probe: Probe, data: SourceData, pairs: Int[np.ndarray, "pair 2"]) -> Probe:
    """A clone of the probe, fitted on the responses of some pairs: best, worse, best, worse, ..."""
    rows = pairs.reshape(-1)
    labels = torch.from_numpy(data.labels[rows]).float()
    return probe.clone().fit(data.rows(rows), labels, torch.from_numpy(data.examples[rows]))


def measure(fitted: Probe, data: SourceData, split: SourceSplit) -> Curves:
    """Accuracy, temperature and log-loss of every (layer, head) on the held-out pairs."""
    shape = data.activations.shape[:2] if data.has_heads else (data.activations.shape[0], 1)
    held = unit_pair_scores(fitted, data.activations, split.held_out, data.layers)
    train = unit_pair_scores(fitted, data.activations, split.train, data.layers)
    held = held.reshape(*shape, -1)
    temperature = fit_temperature(held)
    return Curves(
        scores=held,
        temperature=temperature,
        accuracy=pair_accuracy(held),
        log_loss=log_loss(held, temperature),
        train_accuracy=pair_accuracy(train).reshape(shape),
    )


def assemble(
    fitted: Probe,
    data: SourceData,
    curves: Curves,
    units: Sequence[tuple[int, int]],
    centre: Float[np.ndarray, " unit"],
    scale: Float[np.ndarray, " unit"],
    calibration: Temperature | LogisticCalibration,
    common: Common,
) -> FittedProbe:
    """The fitted probe; `units` are positions (layer, head) in the source's activations."""
    best = best_heads(curves.accuracy, curves.log_loss)
    every = np.arange(len(best))
    return FittedProbe(
        probe=fitted,
        fitted_layers=data.layers,
        units=tuple((data.layers[layer], head if data.has_heads else NO_HEAD) for layer, head in units),
        centre=centre,
        scale=scale,
        calibration=calibration,
        layer_heads=tuple(best.tolist()) if data.has_heads else (NO_HEAD,) * len(best),
        layer_temperatures=curves.temperature[every, best],
        held_out_accuracy=curves.accuracy[every, best],
        held_out_log_loss=curves.log_loss[every, best],
        head_accuracy=curves.accuracy,
        train_accuracy=curves.train_accuracy[every, best],
        seed=common.seed,
        stimuli=common.stimuli,
        site=common.site,
        token=common.token,
        provenance=common.provenance,
    )


def best_heads(
    accuracy: Float[np.ndarray, "layer head"], loss: Float[np.ndarray, "layer head"]
) -> Int[np.ndarray, " layer"]:
    """Each layer's best head: highest accuracy, then lowest log-loss, then the lower head."""
    return np.lexsort((loss, -accuracy), axis=1)[:, 0]


def choose(
    accuracy: Float[np.ndarray, "layer head"],
    loss: Float[np.ndarray, "layer head"],
    layers: tuple[int, ...],
    choice: LayerChoice,
) -> list[tuple[int, int]]:
    """The positions (layer, head) that `choice` names, as in `fit_probe`."""
    if isinstance(choice, tuple) or choice == "all":
        wanted = layers if choice == "all" else choice
        best = best_heads(accuracy, loss)
        return [(position, int(best[position])) for position, layer in enumerate(layers) if layer in wanted]
    count = 1 if choice == "auto" else top_k(str(choice))
    # lexsort is stable: what ties to the end stays in order of layer, then head.
    order = np.lexsort((loss.reshape(-1), -accuracy.reshape(-1)))[:count]
    return [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, accuracy.shape), strict=True)]


def top_k(choice: str) -> int:
    """K of "top-k:K"."""
    return int(choice.removeprefix("top-k:"))


def check_choice(choice: LayerChoice, layers: tuple[int, ...]) -> None:
    """Raise BadInput unless `choice` says which of `layers` to take."""
    if isinstance(choice, tuple):
        missing = sorted(set(choice) - set(layers))
        if missing or not choice:
            raise BadInput(f"layers {choice}: {missing or 'none'} given; the source's activations hold {layers}")
    elif choice not in ("auto", "all") and not re.fullmatch(r"top-k:[1-9][0-9]*", choice):
        raise BadInput(f"layers {choice!r}: choose auto, all, top-k:K (such as top-k:16), or a tuple of layer numbers")
