"""Fit one probe on one source: every layer, then layers, heads and calibration from held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import clone
from torch import Tensor

from repeng.errors import BadInput
from repeng.maths import independent_groups, pair_accuracy
from repeng.probes.base import Probe, Reading
from repeng.probes.calibration import fit_temperature, fit_text_calibration, log_loss
from repeng.probes.fitted import NO_HEAD, FittedProbe, to_numpy, unit_pair_scores
from repeng.probes.genies import AsReleased
from repeng.probes.projection import project
from repeng.probes.ragged import Ragged
from repeng.probes.selection import Curves, HeldOut, LayerChoice, Unit, choose, count_prompts, parse_layers
from repeng.probes.source import BLOCK_BYTES, LayerSource, SourceData, SourceSplit, layer_blocks, split_of, take

RULES: Mapping[str, HeldOut] = {"held-out": HeldOut(), "genies": AsReleased()}
"""By `Probe.rule`: which pairs a probe learns from, and how the others choose layers and calibrate."""


@dataclass(frozen=True)
class ProbeSpec:
    """What is to be fitted, and how.

    Attributes:
        probe: an unfitted probe, with its parameters; it is not changed.
        layers: "auto" takes the mean of the layers within one standard error of the highest held-out pair accuracy,
            "one-se" the earliest of them; "top-k:K" the mean of the K best (layer, head), ties by log-loss, then the
            lower, so "top-k:1" the best one alone; "average" the mean of the best third of the layers, "all" of every
            layer, and a tuple, or "4-8", of those (with heads: each layer's best one). A preset ranks by its own rule:
            "auto" takes its own K, and a tuple restricts it to those layers.
        site: what is read, where it is not the probe's own site; `token` and `stimuli` alike.
        seed: of the split and of the random pair of each training example.

    Raises:
        BadInput: `layers` is none of those.
    """

    probe: Probe
    layers: LayerChoice = "auto"
    site: str = ""
    token: str = ""
    seed: int = 0
    stimuli: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.layers, str):
            object.__setattr__(self, "layers", parse_layers(self.layers))
        elif not self.layers:
            raise BadInput("layers names no layer; give auto, all, top-k:N, or a tuple of layer numbers")
        object.__setattr__(self, "site", self.site or self.probe.site)
        object.__setattr__(self, "token", self.token or self.probe.token)
        object.__setattr__(self, "stimuli", self.stimuli or self.probe.stimuli)

    def readings(self, n_layers: int) -> tuple[Reading, ...]:
        """The layers to be fitted of a model of `n_layers` blocks: all that the probe reads, or those asked for.

        Raises:
            BadInput: a layer that the probe does not read.
        """
        found = self.probe.reads(n_layers, None if self.site == self.probe.site else self.site)
        if not isinstance(self.layers, tuple):
            return found
        known = {reading.layer for reading in found}
        if missing := set(self.layers) - known:
            listing = ", ".join(map(str, sorted(known)))
            raise BadInput(f"{self.probe.name} has no layer {min(missing)}; it reads {listing}")
        return tuple(reading for reading in found if reading.layer in self.layers)


def fit_probe(
    spec: ProbeSpec,
    source: LayerSource,
    *,
    provenance: Mapping[str, Any] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> FittedProbe:
    """Fit a probe on every layer of a source and choose among them with held-out source pairs.

    Activations are in memory a block of layers at a time. What a probe learns at one layer does not depend on the
    others, so a fit in blocks is the fit of all layers at once.

    Args:
        spec: the probe and how it is fitted.
        source: the labelled activations.
        provenance: kept with the fitted probe.
        block_bytes: float32 activations of a block; one layer, if that has more.

    Raises:
        BadInput: the source is too small, of one class, or lacks a layer that was asked for.
        NonFinite: an activation is infinite or not a number.
    """
    check_source(spec, source)
    split = split_of(source, seed=spec.seed)
    rule = RULES[spec.probe.rule]
    rule.check(spec.probe, source.labels, source.examples)
    # By `map`, which lets go of a block before it asks for the next one.
    blocks = list(map(partial(fit_block, rule, spec.probe, split), layer_blocks(source, block_bytes)))
    return chosen(spec, blocks, provenance)


def check_source(spec: ProbeSpec, source: LayerSource) -> None:
    """Refuse a source that lacks a layer.

    Raises:
        BadInput: it lacks one that was asked for.
    """
    layers = tuple(reading.layer for reading in source.readings)
    if isinstance(spec.layers, tuple) and (missing := sorted(set(spec.layers) - set(layers))):
        raise BadInput(f"layers {spec.layers}: {missing} given; the source's activations hold {layers}")


def chosen(
    spec: ProbeSpec, blocks: Sequence[tuple[Probe, Curves]], provenance: Mapping[str, Any] | None = None
) -> FittedProbe:
    """A probe fitted on blocks of layers, with what the held-out pairs choose among all of them."""
    rule = RULES[spec.probe.rule]
    curves = Curves.joined([curves for _, curves in blocks])
    layers = curves.layers
    units = choose(rule.rules, curves, spec.layers, spec.probe.keeps)
    centre, scale = standardisation(rule, curves.responses, units)
    index = tuple(np.transpose(units))
    ensemble = np.mean(curves.scores[index] / scale[:, None], axis=0)
    of_texts = np.mean((curves.responses[index] - centre[:, None]) / scale[:, None], axis=0)
    has_heads = curves.has_heads
    best = curves.best_heads()
    every = np.arange(len(best))
    return FittedProbe(
        probe=joined([probe for probe, _ in blocks]),
        fitted_layers=layers,
        units=tuple((layers[layer], head if has_heads else NO_HEAD) for layer, head in units),
        centre=centre,
        scale=scale,
        calibration=rule.calibrate(spec.probe, ensemble, spec.seed),
        texts=fit_text_calibration(of_texts, curves.response_labels) if spec.probe.ranks_by_scores else None,
        layer_heads=tuple(best.tolist()) if has_heads else (NO_HEAD,) * len(best),
        layer_temperatures=curves.temperature[every, best],
        held_out_accuracy=curves.accuracy[every, best],
        held_out_log_loss=curves.log_loss[every, best],
        head_accuracy=curves.accuracy,
        train_accuracy=curves.train_accuracy[every, best],
        projection_mean=curves.projection_mean,
        projection_spread=curves.projection_spread,
        seed=spec.seed,
        site=spec.site,
        token=spec.token,
        stimuli=spec.stimuli,
        provenance=dict(provenance or {}),
    )


def fit_block(rule: HeldOut, probe: Probe, split: SourceSplit, data: SourceData) -> tuple[Probe, Curves]:
    """A probe fitted on a block of layers, and how each (layer, head) of it does."""
    (fitted,) = fit_on_pairs([probe], data, [rule.fitted_on(split)], [split.unpaired])
    return fitted, judge(rule, fitted, data, split)


def judge(rule: HeldOut, fitted: Probe, data: SourceData, split: SourceSplit) -> Curves:
    """How each (layer, head) of a probe does that was fitted on a block of layers."""
    validation = rule.validation(split)
    rows = np.unique(validation)
    responses = to_numpy(fitted.decision_function(take(data.activations, rows)))
    held = pair_scores(fitted, data, validation, responses)
    train = pair_scores(fitted, data, split.train)
    temperature = fit_temperature(held)
    learned = np.unique(np.concatenate([rule.fitted_on(split).reshape(-1), split.unpaired]))
    projection_mean, projection_spread = project(fitted, data, learned)
    return Curves(
        layers=data.layers,
        accuracy=rule.accuracy(fitted, data, split, held),
        log_loss=log_loss(held, temperature),
        prompts=count_prompts(data, validation),
        scores=held,
        responses=responses.reshape(*held.shape[:2], -1),
        response_labels=data.labels[rows],
        temperature=temperature,
        train_accuracy=pair_accuracy(train),
        has_heads=data.has_heads,
        projection_mean=projection_mean,
        projection_spread=projection_spread,
    )


def pair_scores(
    fitted: Probe,
    data: SourceData,
    pairs: Int[np.ndarray, "pair 2"],
    responses: Float[np.ndarray, "*unit row"] | None = None,
) -> Float[np.ndarray, "layer head pair"]:
    """The score of each pair by each (layer, head); `responses` are the scores of the pairs' rows, where known."""
    if responses is None or not fitted.ranks_by_scores:
        found = unit_pair_scores(fitted, data.activations, pairs, data.layers)
    else:
        _, place = np.unique(pairs, return_inverse=True)
        best, worse = place.reshape(pairs.shape).T
        found = responses[..., best] - responses[..., worse]
    return found.reshape(len(data.layers), -1, len(pairs))


def fit_on_pairs(
    probes: Sequence[Probe],
    data: SourceData,
    pairs: Sequence[Int[np.ndarray, "_pair 2"]],
    unpaired: Sequence[Int[np.ndarray, " _row"]],
    labels: Sequence[Float[np.ndarray, " response"]] | None = None,
) -> list[Probe]:
    """Clones of probes that differ in their seed alone, each fitted on its own pairs: best, worse, best, worse, ...

    Those of as many rows of each class are fitted together, as far as a block of activations has room for their rows. A
    probe that holds groups out is given the source's prompt groups, and fitted alone.

    Args:
        probes: the unfitted probes.
        data: the activations.
        pairs: of each probe, rows (best, worse).
        unpaired: of each probe, further rows of one class, after the pairs.
        labels: of the source's responses, for each probe; None for the source's own.
    """
    fitted: list[Probe] = [clone(probe) for probe in probes]
    units, _ = independent_groups(data.groups, data.units)
    places: dict[tuple[int, int, float], list[int]] = {}
    for place, (own, more) in enumerate(zip(pairs, unpaired, strict=True)):
        of_more = (data.labels if labels is None else labels[place])[more[0]] if len(more) else 0.0
        places.setdefault((len(own), len(more), float(of_more)), []).append(place)
    for (count, n_more, of_more), alike in places.items():
        classes = np.concatenate([np.tile([1.0, 0.0], count), np.full(n_more, of_more)])
        groups = np.concatenate([np.repeat(np.arange(count), 2), np.arange(count, count + n_more)])
        of_one = data.activations.nbytes * len(classes) // max(1, data.activations.shape[-2])
        together = 1 if probes[0].in_groups else max(1, BLOCK_BYTES // max(1, of_one))
        for first in range(0, len(alike), together):
            batch = alike[first : first + together]
            learned = [np.concatenate([pairs[place].reshape(-1), unpaired[place]]) for place in batch]
            rows = stacked([take(data.activations, own) for own in learned])
            kept_together = units[learned[0]] if probes[0].in_groups else groups
            made = type(probes[0]).fit_each([fitted[place] for place in batch], rows, classes, kept_together)
            for place, one in zip(batch, made, strict=True):
                fitted[place] = one
    return fitted


def stacked(each: Sequence[Any]) -> Float[Tensor, "fit ..."] | list[Ragged]:
    """Activations of several fits on one more leading axis; a list of those whose texts differ in length."""
    return list(each) if isinstance(each[0], Ragged) else torch.stack(list(each))


def standardisation(
    rule: HeldOut, of_units: Float[np.ndarray, "layer head row"], units: Sequence[Unit]
) -> tuple[Float[np.ndarray, " unit"], Float[np.ndarray, " unit"]]:
    """What is taken from each member's score before an ensemble's mean, and what it is then divided by.

    Args:
        rule: whether members are brought to one scale.
        of_units: every unit's scores of the held-out responses.
        units: the members.
    """
    if len(units) == 1 or not rule.standardises:
        return np.zeros(len(units)), np.ones(len(units))
    responses = of_units[tuple(np.transpose(units))]
    spread = responses.std(axis=1)
    return responses.mean(axis=1), np.where(spread > 0, spread, 1.0)


def joined(blocks: Sequence[Probe]) -> Probe:
    """One fitted probe of the layers of several."""
    if len(blocks) == 1:
        return blocks[0]
    states = [block.state() for block in blocks]
    return blocks[0].with_state({name: torch.cat([state[name] for state in states]) for name in states[0]})
