"""Probes fitted again on activations without a concept, at many layers and heads side by side: what they then score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.base import clone
from torch import Tensor

from repeng.errors import BadInput
from repeng.maths import all_pairs, independent_groups
from repeng.probes.base import LinearProbe, Probe
from repeng.probes.fitted import to_numpy
from repeng.probes.projection import unit_directions
from repeng.probes.repeats import fit_seeds, reseeded
from repeng.probes.source import DRAWS
from repeng.steering.eraser import AffineMaps, erased, leace

BLOCK_BYTES = 8 << 20
"""Activations that are fitted on at a time. Larger blocks leave the processor's cache and take twice the time."""
TIE_DIGITS = 6
"""Scores are compared to so many digits, in standard deviations of those before. Erased class means are equal but for
rounding, and along such a difference of means the scores are of rounding too, not of anything that is left."""

Half = tuple[Bool[np.ndarray, " response"], Bool[np.ndarray, " response"]]
"""Which responses an eraser is fitted on, and which a probe."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Labelled responses that are learned from, at some (layer, head), the units.

    Attributes:
        x: their activations, float64.
        labels: 1.0 for a right response, 0.0 for the others.
        examples: what each competes within.
        groups: its prompt group.
        units: what is never parted.
    """

    x: Float[Tensor, "unit response d"]
    labels: Float[np.ndarray, " response"]
    examples: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]
    units: Int[np.ndarray, " response"]

    def take(self, rows: Bool[np.ndarray, " response"]) -> Learned:
        """Some of them."""
        known = {name: getattr(self, name)[rows] for name in ("labels", "examples", "groups", "units")}
        return Learned(self.x[:, torch.from_numpy(rows)], **known)

    def fit(self, probe: Probe, x: Float[Tensor, "*batch response d"]) -> Probe:
        """A probe fitted on each of a batch of these responses' activations, as they are or erased.

        What holds groups out of its training keeps prompt groups together; any other is given examples, whose pairs it
        may look at, or no pairs where examples hold one response each.
        """
        independent, _ = independent_groups(self.groups, self.units)
        paired = len(all_pairs(self.labels, self.examples)) > 1
        groups = independent if probe.in_groups else self.examples if paired else None
        fitted: Probe = clone(probe).fit(_as_read(probe, x), self.labels, groups)
        return fitted


def halves(learned: Learned, *, fits: int, seed: int) -> list[Half]:
    """Prompt groups in two random halves, each of which is once the eraser's and once the probe's, as often as asked.

    Raises:
        BadInput: there are too few groups for two responses of each label in either half.
    """
    independent, _ = independent_groups(learned.groups, learned.units)
    names = np.unique(independent)
    rng = np.random.default_rng([seed, 17])
    found: list[Half] = []
    while len(found) < fits:
        for _ in range(DRAWS):
            one = np.isin(independent, rng.permutation(names)[: len(names) // 2])
            if min(np.sum(learned.labels[side] == label) for side in (one, ~one) for label in (0.0, 1.0)) > 1:
                break
        else:
            raise BadInput(
                f"{len(learned.labels)} training responses in {len(names)} group(s) cannot be halved with two of each "
                "label in either half; give more"
            )
        found += [(one, ~one), (~one, one)]
    return found[:fits]


def concept_maps(by: Probe | None, learned: Learned) -> AffineMaps:
    """What takes the concept of the labels away: LEACE's maps, or along the directions of a probe, to the mean.

    Raises:
        BadInput: the probe reads along no direction.
    """
    if by is None:
        return leace(learned.x, learned.labels)
    found = unit_directions(learned.fit(by, learned.x))
    if found is None:
        raise BadInput(f"probe {by.name!r} reads along no direction, so none can be erased; take mms, lat or logistic")
    one = along(torch.from_numpy(found)[:, None], learned.x)
    return one.each(lambda part: part[:, 0])


def along(directions: Float[Tensor, "unit draw d"], x: Float[Tensor, "unit response d"]) -> AffineMaps:
    """The projection out of each of some directions of length 1, set to the responses' mean along it."""
    centre = torch.einsum("ukd,ud->uk", directions, x.mean(dim=1))
    return AffineMaps(directions[..., None], directions[..., None, :], centre[..., None] * directions)


def random_maps(x: Float[Tensor, "unit response d"], *, draws: int, seed: int) -> AffineMaps:
    """Projections out of random directions that are distributed as the responses are, one rank each as a concept's."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, 18]).generate_state(1)[0]))
    # A sum of rows with Gaussian weights has their covariance. One draw for all units.
    weights = torch.randn(draws, x.shape[1], generator=generator, dtype=x.dtype)
    drawn = weights @ (x - x.mean(dim=1, keepdim=True))
    return along(torch.nn.functional.normalize(drawn, dim=-1), x)


def variance_removed(x: Float[Tensor, "unit response d"], maps: AffineMaps) -> Float[np.ndarray, "unit variant"]:
    """By which share the trace of the responses' covariance shrinks; below 0 where an oblique map makes it grow."""
    centred = x - x.mean(dim=1, keepdim=True)
    taken = torch.einsum("und,uvkd->uvnk", centred, maps.right)
    # Of r(x) = x - y, the trace of the covariance changes by that of y, less twice that of x and y.
    gram = torch.einsum("uvdk,uvdl->uvkl", maps.left, maps.left)
    own = torch.einsum("uvnk,uvkl,uvnl->uv", taken, gram, taken)
    both = torch.einsum("und,uvdk,uvnk->uv", centred, maps.left, taken)
    before = centred.square().sum(dim=(-2, -1))
    return to_numpy((2 * both - own) / before[:, None].clamp_min(torch.finfo(x.dtype).tiny))


def scored(
    probe: Probe, learned: Learned, tests: Sequence[Float[Tensor, "unit _response d"]], maps: AffineMaps
) -> list[Float[np.ndarray, "unit variant _response"]]:
    """What a probe says of other responses, fitted with the activations as they are and after each of some maps.

    A block of activations has room for so many units and variants at a time.

    Args:
        probe: unfitted.
        learned: what it is fitted on, before.
        tests: other responses, to which the same maps are applied.
        maps: `[unit, variant]`; their variants come after the first, which has none.

    Returns:
        Scores of each test, in standard deviations of those before, to `TIE_DIGITS`.
    """
    found: list[list[np.ndarray]] = [[] for _ in tests]
    largest = max(x.shape[1] * x.shape[2] * x.element_size() for x in (learned.x, *tests))
    room = max(1, BLOCK_BYTES // max(1, largest))
    n_variants = maps.bias.shape[1] + 1
    at_once = max(1, room // n_variants)
    for first in range(0, len(learned.x), at_once):
        units = slice(first, first + at_once)
        own = AffineMaps(maps.left[units], maps.right[units], maps.bias[units])
        here: list[list[np.ndarray]] = [[] for _ in tests]
        for start in range(0, n_variants, room):
            some = slice(start, start + room)
            fitted = learned.fit(probe, variants(learned.x[units], own, some))
            for scores, test in zip(here, tests, strict=True):
                asked = _as_read(probe, variants(test[units], own, some))
                scores.append(to_numpy(fitted.decision_function(asked)))
        for whole, scores in zip(found, here, strict=True):
            joined = np.concatenate(scores, axis=1)
            spread = joined[:, :1].std(axis=-1, keepdims=True)
            whole.append(np.round(joined / np.where(spread > 0, spread, 1.0), TIE_DIGITS))
    return [np.concatenate(of_test) for of_test in found]


def variants(
    x: Float[Tensor, "unit response d"], maps: AffineMaps, some: slice = slice(None)
) -> Float[Tensor, "unit variant response d"]:
    """Some of: activations as they are, then by each map."""
    first, stop, _ = some.indices(maps.bias.shape[1] + 1)
    own = maps.each(lambda part: part[:, max(first - 1, 0) : stop - 1])
    after = erased(x[:, None].expand(-1, own.bias.shape[1], -1, -1), own)
    return torch.cat([x[:, None], after], dim=1) if first == 0 else after


def fresh_scores(
    probe: Probe,
    learned: Learned,
    tests: Sequence[Float[Tensor, "unit _response d"]],
    parts: Sequence[Half],
    maps: Sequence[AffineMaps],
    *,
    seed: int,
) -> list[Float[np.ndarray, "fit unit 2 _response"]]:
    """Before and after, by a probe that is fitted on other training responses than the eraser, once for each half."""
    fits = [
        scored(reseeded(probe, own_seed), learned.take(rest), tests, alone(own))
        for own_seed, (_, rest), own in zip(fit_seeds(seed, len(parts)), parts, maps, strict=True)
    ]
    return [np.stack(of_test) for of_test in zip(*fits, strict=True)]


def same_scores(
    probe: Probe,
    learned: Learned,
    tests: Sequence[Float[Tensor, "unit _response d"]],
    maps: AffineMaps,
    *,
    fits: int,
    seed: int,
) -> list[Float[np.ndarray, "fit unit 2 _response"]]:
    """Before and after, by a probe that is fitted on the responses that the eraser was fitted on.

    Fitted several times where it draws at random, as a network does.
    """
    seeds = fit_seeds(seed, fits) if "seed" in probe.get_params() else (seed,)
    found = [scored(reseeded(probe, own), learned, tests, alone(maps)) for own in seeds]
    return [np.stack(of_test) for of_test in zip(*found, strict=True)]


def alone(maps: AffineMaps) -> AffineMaps:
    """One map a unit, as a single variant."""
    return maps.each(lambda part: part[:, None])


def _as_read(probe: Probe, x: Float[Tensor, "*batch response d"]) -> Float[Tensor, "*batch 1 response d"]:
    # Training step by step takes twice the time in float64, and has noise of its own.
    return (x if isinstance(probe, LinearProbe) else x.float()).unsqueeze(-3)
