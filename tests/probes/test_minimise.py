"""The batched minimiser against scipy's and against itself, one problem at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize, rosen, rosen_der
from torch import Tensor

from repeng.probes.minimise import MEMORY, Objective, extended, minimise, secant_of

Pieces = tuple[Float[Tensor, "unit column"], Float[Tensor, "unit column d"]]


def rosenbrock(_units: Int[Tensor, " unit"]) -> Objective:
    def objective(points: Float[Tensor, "unit column d"]) -> Pieces:
        flat = points.reshape(-1, points.shape[-1]).numpy()
        values, slopes = np.array([rosen(x) for x in flat]), np.array([rosen_der(x) for x in flat])
        return torch.from_numpy(values).reshape(points.shape[:2]), torch.from_numpy(slopes).reshape(points.shape)

    return objective


def convex(matrices: Tensor, seen: list[list[int]] | None = None) -> Callable[[Int[Tensor, " unit"]], Objective]:
    """sum log cosh(A x - b), with a matrix a unit and column numbers for b."""

    def objective_of(units: Int[Tensor, " unit"]) -> Objective:
        own = matrices[units]
        if seen is not None:
            seen.append(units.tolist())

        def objective(points: Float[Tensor, "unit column d"]) -> Pieces:
            right = torch.arange(points.shape[1], dtype=points.dtype)[:, None]
            inner = points @ own.transpose(1, 2) - right
            return inner.cosh().log().sum(dim=-1), inner.tanh() @ own

        return objective

    return objective_of


def problems(units: int = 4, rows: int = 30, d: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-1, 1, d, dtype=torch.float64)
    return torch.randn(units, rows, d, dtype=torch.float64, generator=generator) * scales / 10


def starts(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_convex_problems_end_where_scipys_do() -> None:
    matrices, start = problems(), starts(4, 3, 6)
    found = minimise(convex(matrices), start, evaluations=500, gradient=1e-9, decrease=0.0)
    assert not found.live.any()
    for unit in range(4):
        for column in range(3):

            def own(x: np.ndarray, unit: int = unit, column: int = column) -> float:
                return float(np.log(np.cosh(matrices[unit].numpy() @ x - column)).sum())

            theirs = minimize(own, start[unit, column].numpy(), method="BFGS", options={"gtol": 1e-8})
            assert float(found.value[unit, column]) == pytest.approx(theirs.fun, rel=1e-9)
            np.testing.assert_allclose(found.point[unit, column].numpy(), theirs.x, rtol=1e-4, atol=1e-4)


def test_rosenbrock_is_solved_about_as_fast_as_by_scipys_lbfgs() -> None:
    start = starts(3, 5, 4)
    found = minimise(rosenbrock, start, evaluations=500, gradient=1e-8, decrease=0.0)
    # In four dimensions there is a second, local minimum.
    assert ((found.value < 1e-12) | (found.value - 3.7).abs().lt(0.1)).all()
    assert (found.value < 1e-12).float().mean() > 0.5
    theirs = [minimize(rosen, x, jac=rosen_der, method="L-BFGS-B", tol=1e-12).nit for x in start.reshape(-1, 4).numpy()]
    assert float(found.steps.mean()) < 1.5 * np.mean(theirs)


def test_what_one_problem_does_depends_on_no_other() -> None:
    start = starts(3, 4, 4)
    together = minimise(rosenbrock, start, evaluations=60, gradient=1e-6)
    for unit in range(3):
        for column in range(4):
            alone = minimise(rosenbrock, start[unit : unit + 1, column : column + 1], evaluations=60, gradient=1e-6)
            # Where both ran out of evaluations, both did so at the same point.
            torch.testing.assert_close(alone.point[0, 0], together.point[unit, column], rtol=1e-9, atol=1e-9)
            assert alone.steps[0, 0] == together.steps[unit, column]
            assert alone.live[0, 0] == together.live[unit, column]


def test_a_problem_that_makes_no_step_keeps_its_memory() -> None:
    def pair(value: float, *moved: bool) -> None:
        nonlocal secants
        step = torch.full((1, 2, 1), value, dtype=torch.float64)
        mask = torch.tensor([moved])
        secant, _ = secant_of(step, step, mask, torch.ones(1, 2, dtype=torch.float64))
        secants = extended(secants, secant, mask, torch.ones(1, 2, dtype=torch.bool))

    secants: list = []
    for number in range(1, MEMORY + 4):
        pair(float(number), True, number <= 3)
    held = torch.stack([secant.step[0, :, 0] for secant in secants])
    assert held[:, 0].tolist() == list(range(4, MEMORY + 4))
    assert held[:, 1].tolist() == [0.0] * (MEMORY - 3) + [1.0, 2.0, 3.0]


def test_units_that_are_done_are_no_longer_evaluated() -> None:
    matrices = problems()
    start = starts(4, 2, 6)
    solved = minimise(convex(matrices), start, evaluations=500, gradient=1e-9, decrease=0.0)
    start[2] = solved.point[2]
    seen: list[list[int]] = []
    found = minimise(convex(matrices, seen), start, evaluations=500, gradient=1e-6)
    assert seen[:2] == [[0, 1, 2, 3], [0, 1, 3]]
    assert len(seen[-1]) < 3
    assert (found.steps[2] == 0).all()
    torch.testing.assert_close(found.point[2], start[2])


def test_the_first_step_of_a_whitened_problem_is_the_gradient() -> None:
    def objective_of(_units: Int[Tensor, " unit"]) -> Objective:
        return lambda points: ((points - 3).square().sum(dim=-1) / 2, points - 3)

    found = minimise(objective_of, starts(2, 3, 4), evaluations=1, whitened=True)
    torch.testing.assert_close(found.point, torch.full_like(found.point, 3.0))
    assert not found.live.any()


def test_who_runs_out_of_evaluations_is_still_moving() -> None:
    found = minimise(rosenbrock, starts(2, 2, 4), evaluations=5, gradient=1e-8)
    assert found.live.all()
    assert found.steps.max() <= 5


def test_a_kink_and_a_place_without_a_value_are_borne() -> None:
    """|x| + x^2 from all sides, and infinite beyond 3: steps that lead there are too long."""

    def objective_of(_units: Int[Tensor, " unit"]) -> Objective:
        def objective(points: Float[Tensor, "unit column d"]) -> Pieces:
            value = (points.abs() + points.square()).sum(dim=-1)
            outside = (points.abs() > 3).any(dim=-1)
            return torch.where(outside, torch.nan, value), points.sign() + 2 * points

        return objective

    found = minimise(objective_of, starts(3, 4, 2).clamp(-2.9, 2.9), evaluations=300)
    assert (found.value < 1e-3).all()
