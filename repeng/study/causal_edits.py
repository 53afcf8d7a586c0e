"""The edits by which a probe's directions are tried on a model: its own at several strengths, and its controls'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repeng.methods.probes import CachedSource
from repeng.models.sites import HEADS
from repeng.probes.directions import Directions, fit_directions
from repeng.probes.fitted import NO_HEAD
from repeng.probes.fitting import ProbeSpec
from repeng.probes.projection import of_length_one
from repeng.probes.ragged import Ragged
from repeng.results import ADD, LEACE, REMOVE
from repeng.steering.edits import Add, Erase
from repeng.steering.eraser import leace
from repeng.steering.hooks import Edits
from repeng.steering.vector import Unit

FEWEST_CONTROLS = 20
"""Random directions, and fits on shuffled labels, however few nulls the study has."""
STRENGTH = 1.0
DOSES = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)
PARALLEL = 0.99
"""Directions of fits on shuffled labels with a larger cosine, by their median, are the probe's own: its labels set the
sign alone."""
OWN, RANDOM, SHUFFLED = "own", "random", "shuffled"


@dataclass(frozen=True)
class Condition:
    """One edit of the model.

    Attributes:
        edit: `add`, `remove` or `leace`; empty for the model as it is.
        of: `own`, or the control: `random` or `shuffled`.
        draw: the fit's number, or the control's.
        strength: what is added, in standard deviations of the source's projections on the probe's direction.
        edits: what is done.
    """

    edit: str
    of: str
    draw: int
    strength: float
    edits: Edits


@dataclass(frozen=True)
class CausalEdits:
    """All conditions of a probe on a source, the model as it is first.

    Attributes:
        site: that is edited.
        conditions: the edits.
        layers: which layers fits are edited at, for people.
        n_fits: how many fits there are.
    """

    site: str
    conditions: tuple[Condition, ...]
    layers: str
    n_fits: int

    def places(self, edit: str, of: str, strength: float | None = None) -> list[int]:
        """The numbers of some conditions, in the order of their draws."""
        return [
            place
            for place, one in enumerate(self.conditions)
            if (one.edit, one.of) == (edit, of) and strength in (None, one.strength)
        ]


def n_conditions(fits: int, draws: int) -> int:
    """How many conditions there are at most."""
    return 1 + fits * (len(DOSES) + 2) + 4 * max(draws, FEWEST_CONTROLS)


def causal_edits(spec: ProbeSpec, source: CachedSource, *, fits: int, draws: int) -> CausalEdits | None:
    """Fit a probe as a study fits it, and make edits of its directions and of its controls'.

    Every fit is edited at the first unit that it chose, so that a strength is the same for a probe that reads several
    layers. A control's direction has the length of that of the fit whose unit it is tried at.

    Args:
        spec: the probe and how it is fitted.
        source: its activations.
        fits: how many fits.
        draws: of each control; `FEWEST_CONTROLS` at the least.

    Returns:
        None where the probe reads along no direction.

    Raises:
        BadInput, NonFinite: as `fit_directions`.
    """
    found = fit_directions(spec, source, fits=fits, draws=max(draws, FEWEST_CONTROLS))
    if found is None:
        return None
    n_fits = len(found.fits)
    places = [(int(layer), int(head)) for layer, head in (np.argwhere(own)[0] for own in found.chosen)]
    has_heads = spec.site in HEADS
    units = [(found.layers[layer], head if has_heads else NO_HEAD) for layer, head in places]
    lies = {place: _Lies.of(source, found.layers[place[0]], place[1] if has_heads else NO_HEAD) for place in places}
    conditions = [Condition("", OWN, 0, 0.0, {})]

    def edited(of: str, draw: int, fit: int, direction: Float[np.ndarray, " d"], strengths: Sequence[float]) -> None:
        own, unit = lies[places[fit]], units[fit]
        length = own.spread(found.fits[(fit, *places[fit])])
        along = torch.from_numpy(direction).float()
        for strength in strengths:
            conditions.append(Condition(ADD, of, draw, strength, {unit: (Add(strength * length * along),)}))
        taken = {unit: (Erase.along(along, own.centre(direction)),)}
        conditions.append(Condition(REMOVE, of, draw, 0.0, taken))

    for fit, place in enumerate(places):
        edited(OWN, fit, fit, found.fits[(fit, *place)], DOSES)
        conditions.append(Condition(LEACE, OWN, fit, 0.0, {units[fit]: (lies[place].eraser,)}))
    for draw, direction in enumerate(random_directions(found, max(draws, FEWEST_CONTROLS), spec.seed)):
        fit = draw % n_fits
        edited(RANDOM, draw, fit, direction[places[fit]], (STRENGTH,))
    if not _labels_set_signs_alone(found, places):
        for draw, (direction, fit) in enumerate(zip(found.shuffled, found.fit_of_shuffled.tolist(), strict=True)):
            edited(SHUFFLED, draw, fit, direction[places[fit]], (STRENGTH,))
    return CausalEdits(spec.site, tuple(conditions), _layers_text(units), n_fits)


@dataclass(frozen=True, eq=False)
class _Lies:
    """Where a source's responses lie at one unit.

    Attributes:
        rows: their activations, of the first stimulus; of every token where the probe reads these.
        eraser: LEACE's, of best against worse.
    """

    rows: Float[Tensor, "row d"]
    eraser: Erase

    @classmethod
    def of(cls, source: CachedSource, layer: int, head: int) -> _Lies:
        (reading,) = (one for one in source.readings if one.layer == layer)
        read = source.read([reading])
        # Of a probe over tokens, a response's own for each of its tokens.
        counts = np.diff(read.offsets) if isinstance(read, Ragged) else np.ones(len(source.labels), dtype=np.int64)
        values = read.values if isinstance(read, Ragged) else read
        kept = np.flatnonzero(np.repeat(source.kept, counts))
        rows = (values[0, head] if head >= 0 else values[0])[0, torch.from_numpy(kept)]
        labels = np.repeat(source.labels, counts)[kept]
        maps = leace(rows.float(), labels.astype(np.float64))
        return cls(rows.float(), Erase(*(part.float() for part in maps)))

    def spread(self, direction: Float[np.ndarray, " d"]) -> float:
        """Standard deviation along a direction of length 1."""
        return float((self.rows @ torch.from_numpy(direction).float()).double().std(correction=0))

    def centre(self, direction: Float[np.ndarray, " d"]) -> float:
        """Mean along a direction of length 1."""
        return float((self.rows @ torch.from_numpy(direction).float()).double().mean())


def random_directions(found: Directions, count: int, seed: int) -> Float[np.ndarray, "draw layer head d"]:
    """Those that the probe's own null has; of a probe over tokens, which has none there, so many drawn alike."""
    if len(found.random):
        return found.random
    drawn = np.random.default_rng([seed, 7]).normal(size=(count, *found.fits.shape[1:]))
    return of_length_one(drawn)


def _labels_set_signs_alone(found: Directions, places: Sequence[tuple[int, int]]) -> bool:
    """Whether fits on shuffled labels read along the probe's own directions."""
    cosines = [
        abs(float(direction[places[fit]] @ found.fits[(fit, *places[fit])]))
        for direction, fit in zip(found.shuffled, found.fit_of_shuffled.tolist(), strict=True)
    ]
    return bool(np.median(cosines) > PARALLEL)


def _layers_text(units: Sequence[Unit]) -> str:
    named = Counter(f"{layer}" if head < 0 else f"{layer} head {head}" for layer, head in units)
    if len(named) == 1:
        return next(iter(named))
    return ", ".join(f"{name} ({count}/{len(units)})" for name, count in named.most_common())
