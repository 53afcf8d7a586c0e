"""Contrast-consistent search's optimisation: every layer and start at once, by AdamW as released or by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.probes.minimise import Objective, minimise, units_at_a_time

# AdamW's, as torch has them.
BETAS = (0.9, 0.999)
EPSILON = 1e-8
# L-BFGS: all starts have so many evaluations; then the best of them go on to their end.
SIFTING = 15
SIFTED = 2
EVALUATIONS = 300
DECREASE = 1e-4

LEAST = 1e-15
"""Of a probability: products of smaller ones are below the least normal float32, where a CPU takes far longer."""

Ends = tuple[Float[Tensor, "unit end d"], Float[Tensor, "unit end"], Float[Tensor, "unit end"]]
"""Weights, biases and losses of every start, or of those that were followed to an end."""
Optimiser = Callable[[Float[Tensor, "unit both d"], Float[Tensor, "unit start d"], Float[Tensor, "unit start"]], Ends]


def fit_contrast(
    centred: Float[Tensor, "*batch 2 example d"], optimiser: Optimiser, *, restarts: int, seeds: Sequence[int]
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The direction, bias and loss of each batch element's best start.

    `seeds` are of the starts: one for all, or one for each element of the first batch axis.
    """
    *batch, _, n, d = centred.shape
    rows = centred.reshape(-1, 2 * n, d)
    starts = [initial(restarts, d, seed) for seed in seeds]
    # One after the other on the first axis; what lies behind an element of it shares its starts.
    weight, bias = (
        torch.stack(column).to(rows).repeat_interleave(len(rows) // len(seeds), dim=0)
        for column in zip(*starts, strict=True)
    )
    count = units_at_a_time(rows)
    split = zip(rows.split(count), weight.split(count), bias.split(count), strict=True)
    parts = [optimiser(*part) for part in split]
    weights, biases, losses = (torch.cat(column) for column in zip(*parts, strict=True))
    best = losses.argmin(dim=1)
    every = torch.arange(len(best), device=best.device)
    return (
        weights[every, best].reshape(*batch, d),
        biases[every, best].reshape(batch),
        losses[every, best].reshape(batch),
    )


def initial(restarts: int, d: int, seed: int) -> tuple[Float[Tensor, "restart d"], Float[Tensor, " restart"]]:
    """Random starts, distributed as those of `torch.nn.Linear(d, 1)`."""
    generator = torch.Generator().manual_seed(seed)
    uniform = 2 * torch.rand(restarts, d + 1, generator=generator) - 1
    return uniform[:, :d] / d**0.5, uniform[:, d] / d**0.5


def lbfgs(
    rows: Float[Tensor, "unit both d"],
    weight: Float[Tensor, "unit start d"],
    bias: Float[Tensor, "unit start"],
    *,
    weight_decay: float,
) -> Ends:
    """Minimise the loss plus weight_decay / 2 times the squared length of direction and bias, from every start.

    All starts are followed for a while, and the best ones to their end. The values returned are the loss with that
    term.
    """
    objective_of = penalised(rows, weight_decay)
    start = torch.cat([weight, bias[..., None]], dim=2)
    if start.shape[1] > SIFTED:
        found = minimise(objective_of, start, evaluations=SIFTING, decrease=DECREASE)
        best = found.value.topk(SIFTED, dim=1, largest=False).indices
        start = torch.take_along_dim(found.point, best[..., None], dim=1)
    found = minimise(objective_of, start, evaluations=EVALUATIONS, decrease=DECREASE)
    return found.point[..., :-1], found.point[..., -1], found.value


def penalised(rows: Float[Tensor, "unit both d"], weight_decay: float) -> Callable[[Int[Tensor, " unit"]], Objective]:
    """The objective of some units, for `minimise`: the loss and weight_decay / 2 times the squared length."""
    columns = with_ones(rows)

    def objective_of(units: Int[Tensor, " unit"]) -> Objective:
        own = columns if len(units) == len(columns) else columns[units]

        def objective(
            points: Float[Tensor, "unit start d"],
        ) -> tuple[Float[Tensor, "unit start"], Float[Tensor, "unit start d"]]:
            p = probabilities(points, own)
            penalty = weight_decay / 2 * points.square().sum(dim=-1)
            loss, gradient = loss_and_gradient(p)
            slopes = torch.baddbmm(points, gradient, own.transpose(1, 2), beta=weight_decay)
            return loss + penalty, slopes

        return objective

    return objective_of


def adamw(
    rows: Float[Tensor, "unit both d"],
    weight: Float[Tensor, "unit start d"],
    bias: Float[Tensor, "unit start"],
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
) -> Ends:
    """Full-batch steps from every start, as in the released code; a start's loss is that before its last step.

    The gradient and AdamW's step are written out: they are two matrix products and a few sums, which autograd and an
    optimizer would surround with several times their own cost.
    """
    both = torch.cat([weight, bias[..., None]], dim=2)
    columns = with_ones(rows)
    first, second = torch.zeros_like(both), torch.zeros_like(both)
    for epoch in range(1, epochs + 1):
        loss, gradient = loss_and_gradient(probabilities(both, columns))
        slope = torch.bmm(gradient, columns.transpose(1, 2))
        first.lerp_(slope, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
        both.mul_(1 - learning_rate * weight_decay)
        spread = second.sqrt().div_((1 - BETAS[1] ** epoch) ** 0.5).add_(EPSILON)
        both.addcdiv_(first, spread, value=-learning_rate / (1 - BETAS[0] ** epoch))
    return both[..., :-1], both[..., -1], loss


def with_ones(rows: Float[Tensor, "unit both d"]) -> Float[Tensor, "unit d+1 both"]:
    """Rows as columns, with a row of ones, whose weight is the bias: in this order both products are quicker."""
    columns = rows.new_ones(len(rows), rows.shape[2] + 1, rows.shape[1])
    columns[:, :-1] = rows.transpose(1, 2)
    return columns


def probabilities(
    points: Float[Tensor, "unit start weight"], columns: Float[Tensor, "unit weight both"]
) -> Float[Tensor, "unit start both"]:
    """Of each row by each start, no smaller than `LEAST`, which float32 does not see next to 1."""
    return torch.bmm(points, columns).sigmoid_().clamp_(min=LEAST)


def loss_and_gradient(
    p: Float[Tensor, "unit start both"],
) -> tuple[Float[Tensor, "unit start"], Float[Tensor, "unit start both"]]:
    """The loss of the Yes rows' probabilities, which come first, and the No rows', and its gradient by the logits.

    The loss is mean min(p0, p1)^2 + mean (p0 + p1 - 1)^2. The minimum's gradient goes to the smaller of the two; where
    they are equal, half to each, as autograd does.
    """
    n = p.shape[-1] // 2
    p0, p1 = p[..., :n], p[..., n:]
    least, excess = torch.minimum(p0, p1), (p0 + p1).sub_(1)
    loss = (least.square().sum(dim=-1) + excess.square().sum(dim=-1)) / n
    tilt = torch.sub(p1, p0).sign_().mul_(least).div_(2)
    middle = excess.add_(least, alpha=0.5)
    gradient = torch.empty_like(p)
    torch.add(middle, tilt, out=gradient[..., :n])
    torch.sub(middle, tilt, out=gradient[..., n:])
    return loss, gradient.mul_(p.square().sub_(p)).mul_(-2 / n)
