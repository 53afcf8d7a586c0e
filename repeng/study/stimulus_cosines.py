"""One probe under two stimuli: which methods of a study are one, and what the directions of the two have in common."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from repeng.errors import BadInput
from repeng.methods.named_probe import PLACES, NamedProbe
from repeng.methods.names import parse_name, with_parameters
from repeng.methods.probes import CachedSource
from repeng.metrics import cosine_null_ends, cosine_p
from repeng.probes.directions import Directions, fit_directions


@dataclass(frozen=True)
class StimulusPair:
    """One probe that reads two stimuli.

    Attributes:
        title: its name without them.
        one: with its own stimulus, where that is among the two.
        other: with the other.
    """

    title: str
    one: NamedProbe
    other: NamedProbe

    @property
    def both(self) -> tuple[NamedProbe, NamedProbe]:
        """The two."""
        return self.one, self.other

    @property
    def stimuli(self) -> tuple[str, str]:
        """What each of the two reads, in words: `contrast` of `contrast_yes` and `contrast_no`."""
        return _in_words(self.one), _in_words(self.other)

    @property
    def two_spaces(self) -> str:
        """Why there is no angle between their directions; empty where there is one."""
        one, other = (named.site or named.probe.site for named in self.both)
        return "" if one == other else f"{one} and {other} are two spaces, between which there is no angle"


def stimulus_pairs(methods: Iterable[str]) -> list[StimulusPair]:
    """Every two methods that are one probe, of the same parameters, under two stimuli.

    Two of which one reads another site or token are a pair only where one of them has no partner that reads the same.

    Args:
        methods: names of probes, with their parameters.
    """
    families: dict[str, list[str]] = {}
    for method in methods:
        name, parameters = parse_name(method)
        own = {key: value for key, value in parameters.items() if key not in PLACES}
        families.setdefault(with_parameters(name, own), []).append(method)
    found = []
    for family in families.values():
        # What has no partner is not even looked up: it may be a file of the user's that is no longer there.
        named = sorted(map(NamedProbe.of, family if len(family) > 1 else ()), key=lambda one: bool(one.stimuli))
        both = [(a, b) for a, b in itertools.combinations(named, 2) if a.reads != b.reads]
        alike = [(a, b) for a, b in both if (a.site, a.token) == (b.site, b.token)]
        paired = {one.name for pair in alike for one in pair}
        alike += [(a, b) for a, b in both if a.name not in paired or b.name not in paired]
        found += [StimulusPair(_without_stimulus(a), a, b) for a, b in alike]
    return found


def truthfulness_of(methods: Iterable[str]) -> list[str]:
    """The same probes under the truthfulness stimuli, of those that stand alone under their own stimulus."""
    methods = list(methods)
    paired = {one.name for pair in stimulus_pairs(methods) for one in pair.both}
    found = []
    for method in methods:
        name, parameters = parse_name(method)
        if method in paired or "stimulus" in parameters:
            continue
        try:
            probe = NamedProbe.of(method).probe
        except BadInput:  # a file of the user's that is no longer there
            continue
        if probe.learns and probe.rule != "genies":
            stimulus = "truthfulness" if len(probe.stimuli) == 1 else "truthfulness_yes+truthfulness_no"
            found.append(with_parameters(name, {**parameters, "stimulus": stimulus}))
    return found


def _in_words(named: NamedProbe) -> str:
    names = [stimulus.name for stimulus in named.reads]
    stems = {name.removesuffix(end) for name, end in zip(names, ("_yes", "_no"), strict=False)}
    return stems.pop() if len(names) == 2 and len(stems) == 1 else "+".join(names)


def _without_stimulus(named: NamedProbe) -> str:
    name, parameters = parse_name(named.name)
    return with_parameters(name, {key: value for key, value in parameters.items() if key != "stimulus"})


@dataclass(frozen=True)
class CosineFigure:
    """The cosine of a probe's directions under two stimuli, and what it is held against.

    Attributes:
        cosine: the mean over fits, of which fit k has one split under both stimuli.
        over_fits: its standard deviation over fits; None of one fit.
        between_fits: the mean cosine of two fits under one stimulus, of the first and of the other: what noise leaves
            of a cosine of 1; None of one fit.
        shuffled: the mean with labels shuffled by prompt group, in the same way under both stimuli.
        shuffled_ends: 95 % of such cosines lie between these.
        random: root mean square of the cosines of two random directions; None where none are drawn.
        random_expected: that of directions that are even in all of the space.
        spread: the mean of random directions that are distributed as the activations under either stimulus.
        spread_ends: 95 % of such cosines lie between these.
        p: two-sided p-value of a cosine that shuffled labels would give as well.
        p_spread: the same of those random directions.
        sign_alone: whether shuffled labels turned the directions round and no more, as those of lat and ccs.
    """

    cosine: float
    over_fits: float | None
    between_fits: tuple[float | None, float | None]
    shuffled: float
    shuffled_ends: tuple[float, float]
    random: float | None
    random_expected: float
    spread: float | None
    spread_ends: tuple[float | None, float | None]
    p: float
    p_spread: float | None
    sign_alone: bool


@dataclass(frozen=True)
class StimulusCosines:
    """What the directions of one pair have in common, fitted on one source.

    Attributes:
        chosen: at what both choose, the mean over it; None where there is nothing, and `missing` says why.
        layers: each layer by its number, the mean over its heads.
        chosen_layers: those that both choose in some fit.
        missing: why there is no figure at what both choose.
    """

    pair: StimulusPair
    source: str
    chosen: CosineFigure | None = None
    layers: tuple[tuple[int, CosineFigure], ...] = ()
    chosen_layers: tuple[int, ...] = ()
    missing: str = ""


def directions_of(
    named: NamedProbe,
    source: CachedSource,
    kept: Bool[np.ndarray, " response"],
    *,
    fits: int,
    draws: int,
) -> Directions | None:
    """The directions of a probe on the texts of a source that are kept; None where it has none.

    Args:
        named: the probe, whose random directions differ from those under any other name.
        source: what it reads, with its settings.
        kept: which responses count.
        fits: how many fits.
        draws: of each control.
    """
    stream = zlib.crc32(named.name.encode())
    return fit_directions(source.spec, replace(source, kept=kept), fits=fits, draws=draws, stream=stream)


def compare_directions(pair: StimulusPair, source: str, one: Directions, other: Directions) -> StimulusCosines:
    """The cosines of the directions of a pair, layer by layer and at what both choose.

    At what both choose, each fit's cosine is the mean over the layers (and heads) that both methods chose in that fit,
    and so is that of a shuffled labelling of its split; a fit without any is left out.

    Args:
        pair: the two methods.
        source: the distribution that both were fitted on.
        one: of the first method, fitted with the same seeds on the same texts as the other.
        other: of the other method.
    """
    both = _Cosines(one, other)
    every = np.ones_like(one.chosen)
    layers = tuple((layer, both.figure(every[:, [k]], np.array([k]))) for k, layer in enumerate(one.layers))
    shared = one.chosen & other.chosen
    found = StimulusCosines(pair, source, layers=layers)
    if not shared.any():
        return replace(found, missing="the two choose no layer in common")
    chosen = [layer for layer, any_fit in zip(one.layers, shared.any(axis=(0, 2)), strict=True) if any_fit]
    return replace(found, chosen=both.figure(shared, np.arange(len(layers))), chosen_layers=tuple(chosen))


class _Cosines:
    """Every cosine of two methods' directions, `[draw, layer, head]`."""

    def __init__(self, one: Directions, other: Directions) -> None:
        self.width = one.fits.shape[-1]
        self.fits = _cosine(one.fits, other.fits)
        self.between = tuple(_between(each.fits) for each in (one, other))
        self.shuffled, self.fit_of = _cosine(one.shuffled, other.shuffled), one.fit_of_shuffled
        self.random, self.spread = _cosine(one.random, other.random), _cosine(one.spread, other.spread)

    def figure(self, shared: Bool[np.ndarray, "fit layer head"], at: np.ndarray) -> CosineFigure:
        """The figure at some places of some layers: each fit's mean over its own places, then the mean over fits."""
        counts = shared.sum(axis=(1, 2))
        there = counts > 0
        weights = shared / np.maximum(counts, 1)[:, None, None]
        mean = weights[there].mean(axis=0)
        fits = (self.fits[:, at] * weights).sum(axis=(1, 2))[there]
        shuffled = (self.shuffled[:, at] * weights[self.fit_of]).sum(axis=(1, 2))[there[self.fit_of]]
        random, spread = ((drawn[:, at] * mean).sum(axis=(1, 2)) for drawn in (self.random, self.spread))
        cosine = float(fits.mean())
        between = [None if each is None else float((each[at] * mean).sum()) for each in self.between]
        drawn = len(spread) > 0
        return CosineFigure(
            cosine=cosine,
            over_fits=float(fits.std(ddof=1)) if len(fits) > 1 else None,
            between_fits=(between[0], between[1]),
            shuffled=float(shuffled.mean()),
            shuffled_ends=cosine_null_ends(shuffled),
            random=float(np.sqrt(np.mean(random**2))) if drawn else None,
            random_expected=self.width**-0.5,
            spread=float(spread.mean()) if drawn else None,
            spread_ends=cosine_null_ends(spread) if drawn else (None, None),
            p=cosine_p(cosine, shuffled),
            p_spread=cosine_p(cosine, spread) if drawn else None,
            sign_alone=bool(np.allclose(np.abs(self.shuffled), np.abs(self.fits[self.fit_of]), atol=1e-6)),
        )


def _cosine(
    one: Float[np.ndarray, "draw layer head d"], other: Float[np.ndarray, "draw layer head d"]
) -> Float[np.ndarray, "draw layer head"]:
    """Of vectors of length 1."""
    return (one * other).sum(axis=-1)


def _between(fits: Float[np.ndarray, "fit layer head d"]) -> Float[np.ndarray, "layer head"] | None:
    """The mean cosine of two fits; None of one."""
    count = len(fits)
    total = (fits.sum(axis=0) ** 2).sum(axis=-1)
    return None if count < 2 else (total - count) / (count * (count - 1))
