"""The embedded benchmark: GENIES in miniature, about the facts that the embedded model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from repeng.benchmarks.mini.generate import make_distribution
from repeng.benchmarks.mini.recipes import MYTHS, RECIPES, Recipe
from repeng.distributions.schema import Benchmark, Distribution
from repeng.distributions.shifts import load_shifts
from repeng.errors import UnknownName

_RECIPES: dict[str, Recipe | str] = {**{recipe.name: recipe for recipe in RECIPES}, **{name: name for name in MYTHS}}
MINI_DISTRIBUTIONS = tuple(sorted(_RECIPES))
"""The name of every distribution of the miniature."""


@cache
def mini_benchmark() -> Benchmark:
    """The shifts of the miniature: GENIES' eight categories, two or more of each."""
    return Benchmark("mini", load_shifts(Path(__file__).parent / "shifts.json"))


@cache
def _distribution(name: str, seed: int) -> Distribution:
    return make_distribution(_RECIPES[name], seed)


def mini_distributions(
    seed: int = 0, names: Sequence[str] | None = None, limit: int | None = None
) -> dict[str, Distribution]:
    """The miniature's distributions by name: those of `names` in that order, or all of them, sorted.

    Args:
        seed: of the generator; 0 is what is shipped. The world's facts, and which of them may stand in a train or a
            test split, never depend on it.
        names: which distributions.
        limit: only this many examples of each split, from the first.

    Raises:
        UnknownName: a name that is not among the distributions.
    """
    chosen: dict[str, Distribution] = {}
    for name in MINI_DISTRIBUTIONS if names is None else names:
        if name not in _RECIPES:
            raise UnknownName("distribution of the miniature", name, MINI_DISTRIBUTIONS)
        made = _distribution(name, seed)
        cut = {part: split.first(limit) for part, split in made.splits.items()}
        options = {"data": "mini", **({} if limit is None else {"limit": str(limit)})} if seed == 0 else None
        chosen[name] = Distribution.read_from(f"mini, seed {seed}", name, cut, options)
    return chosen
