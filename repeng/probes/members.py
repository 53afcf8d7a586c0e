"""Chosen (layer, head) of several fits of a probe, scored together: one product a layer for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.prefetch import read_ahead
from repeng.probes.base import Probe
from repeng.probes.fitted import NO_HEAD, FittedProbe, to_numpy
from repeng.probes.ragged import Ragged
from repeng.probes.source import BLOCK_BYTES, check_finite_layers, take

ReadLayer = Callable[[int], Float[Tensor, "*head stimulus response d"] | Ragged]
"""Gives the activations of one layer, by its number."""


@dataclass(frozen=True)
class Members:
    """Units of several fits, whose scores are averaged fit by fit.

    Attributes:
        probe: the fitted estimators, one a member on the leading axis of its state.
        units: (layer, head) of each member, head -1 where the site has none.
        owner: the fit that each member belongs to, from 0.
        centre: taken from a member's score before the mean.
        scale: what its score is then divided by.
    """

    probe: Probe
    units: tuple[tuple[int, int], ...]
    owner: Int[np.ndarray, " member"]
    centre: Float[np.ndarray, " member"]
    scale: Float[np.ndarray, " member"]

    @classmethod
    def chosen(cls, fits: Sequence[FittedProbe]) -> Members:
        """The units that each fit chose."""
        units = [fitted.units for fitted in fits]
        centre, scale = (np.concatenate([getattr(fitted, name) for fitted in fits]) for name in ("centre", "scale"))
        return cls._of(fits, units, [place for place, own in enumerate(units) for _ in own], centre, scale)

    @classmethod
    def every_layer(cls, fits: Sequence[FittedProbe]) -> Members:
        """Every fitted layer with its best head, each alone: owner `fit * layers + layer`."""
        units = [fitted.layer_units for fitted in fits]
        count = sum(map(len, units))
        return cls._of(fits, units, range(count), np.zeros(count), np.ones(count))

    @classmethod
    def apart(cls, fitted: FittedProbe, units: Sequence[tuple[int, int]]) -> Members:
        """Some units of one fit, each alone."""
        count = len(units)
        return cls._of([fitted], [tuple(units)], range(count), np.zeros(count), np.ones(count))

    @classmethod
    def _of(
        cls,
        fits: Sequence[FittedProbe],
        units: Sequence[tuple[tuple[int, int], ...]],
        owner: Sequence[int],
        centre: np.ndarray,
        scale: np.ndarray,
    ) -> Members:
        states = [fitted.select(own).state() for fitted, own in zip(fits, units, strict=True)]
        state = {name: torch.cat([one[name] for one in states]) for name in states[0]}
        listed = tuple(unit for own in units for unit in own)
        return cls(fits[0].probe.with_state(state), listed, np.array(owner), centre, scale)

    @property
    def n_owners(self) -> int:
        """How many fits there are."""
        return int(self.owner[-1]) + 1

    @cached_property
    def _apart(self) -> dict[int, dict[int, tuple[Int[np.ndarray, " member"], Probe]]]:
        """By layer and head, ascending: the members there, and their estimators side by side."""
        state = self.probe.state()
        found: dict[int, dict[int, tuple[np.ndarray, Probe]]] = {}
        for layer, head in sorted(set(self.units)):
            here = np.array([place for place, unit in enumerate(self.units) if unit == (layer, head)])
            own = self.probe.with_state({name: value[torch.from_numpy(here)] for name, value in state.items()})
            found.setdefault(layer, {})[head] = here, own
        return found

    def scores(self, read: ReadLayer, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "owner row"]:
        """One score a response by each fit: the mean of its standardised members'.

        Raises:
            NonFinite: an activation of one of those rows is infinite or not a number.
        """
        return self._means(read, rows, lambda probe, taken: probe.scores_of_each(taken), self.centre)

    def pair_scores(self, read: ReadLayer, pairs: Int[np.ndarray, "pair 2"]) -> Float[np.ndarray, "owner pair"]:
        """One score a pair by each fit, positive where the first of its two rows is preferred.

        Raises:
            NonFinite: an activation of one of the pairs is infinite or not a number.
        """
        rows, place = np.unique(pairs, return_inverse=True)
        first, second = place.reshape(pairs.shape).T
        if self.probe.ranks_by_scores:
            scores = self.scores(read, rows)
            return scores[:, first] - scores[:, second]

        def of_pairs(probe: Probe, taken: Tensor) -> Tensor:
            return probe.pair_scores_of_each(take(taken, first), take(taken, second))

        return self._means(read, rows, of_pairs, np.zeros_like(self.centre))

    def _means(
        self,
        read: ReadLayer,
        rows: Int[np.ndarray, " row"],
        score: Callable[[Probe, Tensor], Tensor],
        centre: Float[np.ndarray, " member"],
    ) -> Float[np.ndarray, "owner column"]:
        total: np.ndarray | None = None
        with closing(read_ahead([partial(read, layer) for layer in self._apart], BLOCK_BYTES)) as layers:
            for layer, heads in self._apart.items():
                activations = next(layers)
                check_finite_layers(activations[None], (layer,), rows)
                for head, (here, own) in heads.items():
                    taken = take(activations if head == NO_HEAD else activations[head], rows)
                    found = (to_numpy(score(own, taken)) - centre[here, None]) / self.scale[here, None]
                    if total is None:
                        total = np.zeros((self.n_owners, found.shape[1]))
                    # A fit has a layer and head once.
                    total[self.owner[here]] += found
                # Before the next layer is asked for, so that of large ones there is one.
                del activations, taken
        assert total is not None
        return total / np.bincount(self.owner)[:, None]
