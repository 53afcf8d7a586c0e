"""Which layers a source chooses: how each (layer, head) does on held-out pairs, and the rules that pick among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from repeng.errors import BadInput
from repeng.limits import LAYERS
from repeng.maths import independent_groups, pair_accuracy
from repeng.probes.base import Probe
from repeng.probes.calibration import LogisticCalibration, Temperature, fit_temperature
from repeng.probes.source import SourceData, SourceSplit

Unit = tuple[int, int]
"""Position (layer, head) among what was fitted."""
LayerChoice = str | tuple[int, ...]
"""A rule of `RULES`, one that counts with its count (`top-k:16`); or the layers themselves."""


@dataclass(frozen=True)
class Ranking:
    """How each (layer, head) does on its own. Without heads the second axis has length 1.

    Attributes:
        layers: the number of each layer, ascending.
        accuracy: on held-out pairs.
        log_loss: on the same.
        prompts: how many held-out prompt groups those pairs are of.
    """

    layers: tuple[int, ...]
    accuracy: Float[np.ndarray, "layer head"]
    log_loss: Float[np.ndarray, "layer head"]
    prompts: int

    def best_first(self) -> list[Unit]:
        """By highest accuracy, then lowest log-loss, then the lower layer, then the lower head."""
        order = np.lexsort((self.log_loss.reshape(-1), -self.accuracy.reshape(-1)))
        return [
            (int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, self.accuracy.shape), strict=True)
        ]

    def best_heads(self) -> Int[np.ndarray, " layer"]:
        """Each layer's best head, by the same order."""
        return np.lexsort((self.log_loss, -self.accuracy), axis=1)[:, 0]

    def tied(self) -> list[Unit]:
        """Those whose accuracy equals the highest one exactly, the lowest layer first."""
        return [(int(layer), int(head)) for layer, head in np.argwhere(self.accuracy == self.accuracy.max())]

    def standard_error(self) -> float:
        """Of the highest accuracy, over prompt groups; of n, taken at (n * accuracy + 1) / (n + 2).

        So it is about 1 / n where every pair is right: 100 % of few prompts is not known without error. The pairs of a
        prompt count as one, whose outcomes may all agree.
        """
        smoothed = (self.prompts * self.accuracy.max() + 1) / (self.prompts + 2)
        return float(np.sqrt(smoothed * (1 - smoothed) / self.prompts))


@dataclass(frozen=True)
class Curves(Ranking):
    """The same with what it follows from.

    Attributes:
        has_heads: whether the site has heads.
        scores: of each validation pair.
        responses: of each response of those pairs, ascending by row.
        response_labels: whether each of them is right.
        temperature: of each unit's own probabilities.
        train_accuracy: pair accuracy on the training pairs.
        projection_mean, projection_spread: mean and standard deviation of the training responses' projections on the
            unit direction; NaN where there is none.
    """

    has_heads: bool
    scores: Float[np.ndarray, "layer head pair"]
    responses: Float[np.ndarray, "layer head row"]
    response_labels: Float[np.ndarray, " row"]
    temperature: Float[np.ndarray, "layer head"]
    train_accuracy: Float[np.ndarray, "layer head"]
    projection_mean: Float[np.ndarray, "layer head"]
    projection_spread: Float[np.ndarray, "layer head"]

    @classmethod
    def joined(cls, parts: Sequence[Curves]) -> Curves:
        """Those of several blocks of layers, one above the other."""
        shared = ("layers", "prompts", "has_heads", "response_labels")
        names = [field.name for field in fields(cls) if field.name not in shared]
        values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        layers, first = tuple(layer for part in parts for layer in part.layers), parts[0]
        return cls(
            layers=layers,
            prompts=first.prompts,
            has_heads=first.has_heads,
            response_labels=first.response_labels,
            **values,
        )


def count_prompts(data: SourceData, pairs: Int[np.ndarray, "pair 2"]) -> int:
    """How many prompt groups some pairs are of; examples, where a source is split by those."""
    return len(np.unique(independent_groups(data.groups, data.units)[0][pairs[:, 0]]))


Rule = Callable[[Ranking, int, Any], list[Unit]]
"""Given a ranking, how many units the probe keeps where the user names no number, and the choice's argument."""


def best_k(ranking: Ranking, _keeps: int, count: int) -> list[Unit]:
    """The K best units, for the mean of their scores."""
    return ranking.best_first()[:count]


def every_layer(ranking: Ranking, _keeps: int, _argument: None) -> list[Unit]:
    """The mean of all layers, with heads each layer's best one."""
    return list(enumerate(ranking.best_heads().tolist()))


def within_error(ranking: Ranking, keeps: int, _argument: None) -> list[Unit]:
    """The mean of the layers within one standard error of the highest accuracy, with heads each layer's best one.

    Of a probe that keeps a number of units: the mean of that many best ones.
    """
    if keeps > 1:
        return best_k(ranking, keeps, keeps)
    enough = ranking.accuracy.max() - ranking.standard_error()
    return [unit for unit in every_layer(ranking, 1, None) if ranking.accuracy[unit] >= enough]


def earliest(ranking: Ranking, _keeps: int, _argument: None) -> list[Unit]:
    """The earliest layer within one standard error of the highest accuracy, with heads its best one."""
    return within_error(ranking, 1, None)[:1]


def best_third(ranking: Ranking, _keeps: int, _argument: None) -> list[Unit]:
    """The mean of the best third of the layers (one at the least), with heads each layer's best one."""
    of_layers = set(every_layer(ranking, 1, None))
    return [unit for unit in ranking.best_first() if unit in of_layers][: -(-len(of_layers) // 3)]


def given_layers(ranking: Ranking, _keeps: int, layers: tuple[int, ...]) -> list[Unit]:
    """The mean of some layers, with heads each layer's best one."""
    return [unit for unit in every_layer(ranking, 1, None) if ranking.layers[unit[0]] in layers]


RULES: Mapping[str, Rule] = {
    "auto": within_error,
    "one-se": earliest,
    "average": best_third,
    "all": every_layer,
    "top-k": best_k,
    "layers": given_layers,
}
NUMBER = re.compile(r"\d+")
COUNTING = frozenset({"top-k"})
"""Rules that are given a number: `top-k:16`."""


class HeldOut:
    """Fit on training pairs; let every held-out pair choose layers and calibrate."""

    rules: ClassVar[Mapping[str, Rule]] = RULES
    standardises: ClassVar[bool] = True
    """Whether the members of an ensemble are brought to one scale before their mean is taken."""

    def check(
        self, probe: Probe, labels: Float[np.ndarray, " response"], examples: Int[np.ndarray, " response"]
    ) -> None:
        """Refuse a source that the rule cannot go by; this one goes by any.

        Args:
            probe: that is to be fitted.
            labels: 1.0 for a right response, 0.0 for the others.
            examples: what each response competes within.

        Raises:
            BadInput: it is such a source.
        """

    def fitted_on(self, split: SourceSplit) -> Int[np.ndarray, "pair 2"]:
        """Pairs that a probe learns from."""
        return split.train

    def validation(self, split: SourceSplit) -> Int[np.ndarray, "pair 2"]:
        """Pairs that choose and calibrate."""
        return split.held_out

    def accuracy(
        self,
        probe: Probe,  # noqa: ARG002  (a preset looks at more)
        data: SourceData,  # noqa: ARG002
        split: SourceSplit,  # noqa: ARG002
        scores: Float[np.ndarray, "layer head pair"],
    ) -> Float[np.ndarray, "layer head"]:
        """What units are ranked by."""
        return pair_accuracy(scores)

    def calibrate(
        self,
        probe: Probe,  # noqa: ARG002  (a preset's says how)
        scores: Float[np.ndarray, " pair"],
        seed: int,  # noqa: ARG002
    ) -> Temperature | LogisticCalibration:
        """From a validation pair's score to its probability."""
        return Temperature(float(fit_temperature(scores)))


def parse_layers(text: str) -> LayerChoice:
    """A rule of `RULES` by its name as it is, `top-k:N` with its count; `3`, `4-8` and `1,3,5` as layers.

    Raises:
        BadInput: it is none of these, or beyond the layers that any model has.
    """
    name, colon, count = text.partition(":")
    counted = count.isdecimal() and count.strip("0") != "" if name in COUNTING else not colon
    if any(len(number.lstrip("0")) > len(str(LAYERS)) for number in NUMBER.findall(text)):
        raise BadInput(f"layers is {text[:60]!r}; layers and counts go up to {LAYERS:,}")
    if name in RULES and name != "layers" and counted:
        return text
    try:
        found: set[int] = set()
        for piece in text.split(","):
            first, _, last = piece.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError as error:
        ways = "auto, all, top-k:N, one-se, average, or layers as 3, 4-8 or 3,10-12"
        raise BadInput(f"layers is {text!r}; give {ways}") from error
    if not found:
        raise BadInput(f"layers is {text!r}, which names no layer; the first of a range is its lowest")
    return tuple(sorted(found))


def check_layers(text: str, n_layers: int, model: str) -> None:
    """Refuse a choice of layers that a model cannot have.

    Raises:
        BadInput: it is no choice of layers, or a layer is not there.
    """
    layers = parse_layers(text)
    if isinstance(layers, tuple) and layers[-1] >= n_layers:
        raise BadInput(f"layers is {text!r}, but {model} has layers 0 to {n_layers - 1}")


def choose(rules: Mapping[str, Rule], ranking: Ranking, choice: LayerChoice, keeps: int) -> list[Unit]:
    """The units that a choice names."""
    if isinstance(choice, tuple):
        return rules["layers"](ranking, keeps, choice)
    name, _, count = choice.partition(":")
    return rules[name](ranking, keeps, int(count) if count else None)
