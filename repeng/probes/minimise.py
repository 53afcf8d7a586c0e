"""Many small smooth problems minimised side by side by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Objective = Callable[
    [Float[Tensor, "unit column d"]], tuple[Float[Tensor, "unit column"], Float[Tensor, "unit column d"]]
]
"""The value and the gradient at a point of each problem."""

CACHE_BYTES = 16 * 2**20
"""On a CPU, units are minimised this many bytes of data at a time: what stays in a core's cache from one evaluation to
the next is several times faster than what is streamed from memory at each."""
MEMORY = 10
"""Steps that the estimate of the curvature is made of."""
LEFT = 0.75
"""Units that are done are let go of where no more than this share is left: what is left is copied."""
TRIALS = 30
"""Lengths that are tried of one step."""
GAIN, SLOPE_LEFT = 1e-4, 0.9
"""The weak Wolfe conditions: a step gains at least this share of what the slope promises, and leaves at most this share
of the slope."""


class Minimum(NamedTuple):
    """The least that was found of each problem.

    Attributes:
        point: where it is.
        value: of the objective there.
        steps: how many led there.
        live: whether it was still moving when the evaluations ran out.
    """

    point: Float[Tensor, "unit column d"]
    value: Float[Tensor, "unit column"]
    steps: Float[Tensor, "unit column"]
    live: Bool[Tensor, "unit column"]


@dataclass(frozen=True)
class Search:
    """Where each problem stands: its point, the step that it is about to try, and whether it still moves.

    `low` and `high` are the longest length that was too short and the shortest that was too long; `scale` is the
    inverse curvature of the last step.
    """

    point: Float[Tensor, "unit column d"]
    value: Float[Tensor, "unit column"]
    gradient: Float[Tensor, "unit column d"]
    direction: Float[Tensor, "unit column d"]
    length: Float[Tensor, "unit column"]
    low: Float[Tensor, "unit column"]
    high: Float[Tensor, "unit column"]
    scale: Float[Tensor, "unit column"]
    trials: Float[Tensor, "unit column"]
    steps: Float[Tensor, "unit column"]
    live: Bool[Tensor, "unit column"]

    def of(self, units: Bool[Tensor, " unit"]) -> Search:
        """Some units' part of it."""
        return Search(**{field.name: getattr(self, field.name)[units] for field in fields(self)})


class Secant(NamedTuple):
    """A step, the gradient's change along it, and one over their product; zeros where a problem made no step."""

    step: Float[Tensor, "unit column d"]
    change: Float[Tensor, "unit column d"]
    inverse: Float[Tensor, "unit column"]


def minimise(
    objective_of: Callable[[Int[Tensor, " unit"]], Objective],
    start: Float[Tensor, "unit column d"],
    *,
    evaluations: int,
    gradient: float = 1e-5,
    decrease: float = 1e-9,
    whitened: bool = False,
) -> Minimum:
    """Minimise from every start at once. What one problem does depends on no other.

    Each evaluation serves all problems: where a step was too long or too short another length is tried (Lewis and
    Overton 2013, whose bisection bears kinks in the objective), while the others go on. A unit takes part until all of
    its columns are done, as are those of enough others to make a copy of what is left worth while.

    Args:
        objective_of: the objective of some units; asked again when a share of them is done.
        start: a unit is what has data of its own (a layer), its columns are problems on these data (random starts,
            labels).
        evaluations: the most.
        gradient: a problem is done where no component of its gradient is larger,
        decrease: or where a step gained no more than this share of its value (of 1, where that is smaller).
        whitened: whether the Hessian at the start is the identity, so that the gradient itself is the first step; else
            that is as long as 1.
    """
    units = torch.arange(len(start), device=start.device)
    objective = objective_of(units)
    now = begin(start, *objective(start), tolerance=gradient, whitened=whitened)
    done = Minimum(*(torch.empty_like(part) for part in (now.point, now.value, now.steps, now.live)))
    secants: list[Secant] = []
    for _ in range(evaluations):
        at_work = now.live.any(dim=-1)
        if int(at_work.sum()) <= LEFT * len(units):
            keep(done, units[~at_work], now.of(~at_work))
            units, now = units[at_work], now.of(at_work)
            if len(units) == 0:
                return done
            objective = objective_of(units)
            secants = [Secant(*(part[at_work] for part in secant)) for secant in secants]
        trial = torch.addcmul(now.point, now.direction, now.length[..., None])
        value, slopes = objective(trial)
        slope, unit = dot(now.gradient, now.direction), torch.finfo(trial.dtype).eps
        # Not a number counts as too long; a gain below rounding counts as one.
        enough = value <= now.value + GAIN * now.length * slope + 4 * unit * now.value.abs()
        short = enough & (dot(slopes, now.direction) < SLOPE_LEFT * slope)
        moved = now.live & enough & ~short
        now = retry(now, short=short, long=~enough)
        if bool(moved.any()):
            secant, scale = secant_of(trial - now.point, slopes - now.gradient, moved, now.scale)
            secants = extended(secants, secant, moved, now.live)
            small = now.value - value <= decrease * now.value.abs().clamp(min=1.0)
            live = now.live & ~(moved & (small | (slopes.abs().amax(dim=-1) <= gradient)))
            now = advance(replace(now, scale=scale, live=live), moved, trial, value, slopes, secants)
    keep(done, units, now)
    return done


def units_at_a_time(rows: Float[Tensor, "unit row d"]) -> int:
    """How many units' data stay in a core's cache; all of them on a GPU."""
    return max(1, CACHE_BYTES // (rows[0].numel() * rows.element_size())) if rows.device.type == "cpu" else len(rows)


def begin(
    point: Float[Tensor, "unit column d"],
    value: Float[Tensor, "unit column"],
    gradient: Float[Tensor, "unit column d"],
    *,
    tolerance: float,
    whitened: bool,
) -> Search:
    """Down the gradient, by a length of one or, of whitened problems, by the gradient."""
    zero = torch.zeros_like(value)
    norm = gradient.norm(dim=-1).clamp(min=torch.finfo(value.dtype).tiny)
    return Search(
        point=point,
        value=value,
        gradient=gradient,
        direction=-gradient,
        length=zero + 1 if whitened else 1 / norm,
        low=zero,
        high=zero + torch.inf,
        scale=zero + 1,
        trials=zero,
        steps=zero,
        live=gradient.abs().amax(dim=-1) > tolerance,
    )


def retry(now: Search, *, short: Bool[Tensor, "unit column"], long: Bool[Tensor, "unit column"]) -> Search:
    """Another length for the steps that were too short or too long: twice it, or the middle of what is known."""
    high, low = torch.where(long, now.length, now.high), torch.where(short, now.length, now.low)
    trials = now.trials + 1
    return replace(
        now,
        length=torch.where(high.isinf(), 2 * low, (low + high) / 2),
        low=low,
        high=high,
        trials=trials,
        live=now.live & (trials < TRIALS),
    )


def secant_of(
    step: Float[Tensor, "unit column d"],
    change: Float[Tensor, "unit column d"],
    moved: Bool[Tensor, "unit column"],
    scale: Float[Tensor, "unit column"],
) -> tuple[Secant, Float[Tensor, "unit column"]]:
    """A step and its inverse curvature; nothing, and the last curvature, where none was made or rounding ate it."""
    product, square = dot(step, change), dot(change, change)
    good = moved & (product > torch.finfo(step.dtype).eps * square)
    column = good[..., None]
    inverse = torch.where(good, 1 / product, 0.0)
    secant = Secant(torch.where(column, step, 0.0), torch.where(column, change, 0.0), inverse)
    return secant, torch.where(good, product / square, scale)


def extended(
    secants: list[Secant], new: Secant, moved: Bool[Tensor, "unit column"], live: Bool[Tensor, "unit column"]
) -> list[Secant]:
    """The last steps of each problem, the newest one last. A problem that made none keeps all that it has."""
    after = [*secants, new]
    if not bool((moved | ~live).all()):
        before = [Secant(*map(torch.zeros_like, new)), *secants]
        masks = (moved[..., None], moved[..., None], moved)
        after = [Secant(*map(torch.where, masks, *pair)) for pair in zip(after, before, strict=True)]
    return after[-MEMORY:]


def advance(
    now: Search,
    moved: Bool[Tensor, "unit column"],
    point: Float[Tensor, "unit column d"],
    value: Float[Tensor, "unit column"],
    gradient: Float[Tensor, "unit column d"],
    secants: list[Secant],
) -> Search:
    """The new point and a new direction where a step was made; where none was, all as it is."""
    column = moved[..., None]
    gradient = torch.where(column, gradient, now.gradient)
    return replace(
        now,
        point=torch.where(column, point, now.point),
        value=torch.where(moved, value, now.value),
        gradient=gradient,
        direction=torch.where(column, -newton(gradient, secants, now.scale), now.direction),
        length=torch.where(moved, 1.0, now.length),
        low=torch.where(moved, 0.0, now.low),
        high=torch.where(moved, torch.inf, now.high),
        trials=torch.where(moved, 0.0, now.trials),
        steps=now.steps + moved,
    )


def newton(
    gradient: Float[Tensor, "unit column d"], secants: list[Secant], scale: Float[Tensor, "unit column"]
) -> Float[Tensor, "unit column d"]:
    """The gradient times the estimated inverse of the Hessian: Nocedal's two loops."""
    result, shares = gradient, []
    for step, change, inverse in reversed(secants):
        share = inverse * dot(step, result)
        result = torch.addcmul(result, change, share[..., None], value=-1)
        shares.append(share)
    result = result * scale[..., None]
    for (step, change, inverse), share in zip(secants, reversed(shares), strict=True):
        result = torch.addcmul(result, step, (share - inverse * dot(change, result))[..., None])
    return result


def keep(done: Minimum, units: Int[Tensor, " unit"], now: Search) -> None:
    """Note where some units ended."""
    for whole, part in zip(done, (now.point, now.value, now.steps, now.live), strict=True):
        whole[units] = part


def dot(one: Float[Tensor, "unit column d"], other: Float[Tensor, "unit column d"]) -> Float[Tensor, "unit column"]:
    """The product of each problem's two vectors."""
    return (one * other).sum(dim=-1)
