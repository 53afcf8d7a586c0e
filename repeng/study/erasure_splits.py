"""Train and test splits of a store as erasing reads them: some layers at a time, one vector a response, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import SplitKey
from repeng.distributions.schema import ResponseLabels
from repeng.methods.answers import evaluate
from repeng.methods.base import ResponseScores, Target
from repeng.methods.probes import CachedSource, stacked
from repeng.metrics import Evaluation
from repeng.probes.base import Reading
from repeng.probes.fitted import NO_HEAD
from repeng.probes.fitting import ProbeSpec
from repeng.probes.source import BLOCK_BYTES
from repeng.steering.vector import Unit
from repeng.study.cached_data import CachedData
from repeng.study.refits import Learned
from repeng.study.steps import question_of


class ListedOnce(CachedData):
    """Cached activations whose splits are listed once, for a command that asks after many of them."""

    @classmethod
    def of(cls, data: CachedData) -> ListedOnce:
        """The same activations, with the same data meant."""
        return cls(
            data.folder, data.versions, missing=data.missing, meant=data.meant, named=data.named, trust=data.trust
        )

    @cached_property
    def _splits(self) -> tuple[SplitKey, ...]:
        return super().splits()

    def splits(self) -> tuple[SplitKey, ...]:
        """Every split of which any activations were whole when they were first listed."""
        return self._splits


@dataclass(frozen=True)
class UnitBlock:
    """Some layers that are read together, and which of their (layer, head) are looked at."""

    readings: tuple[Reading, ...]
    units: tuple[Unit, ...]

    def chosen(self, x: Float[Tensor, "layer *head stimulus response d"]) -> Float[Tensor, "unit response d"]:
        """The first stimulus of these units, in float64."""
        layers = [reading.layer for reading in self.readings]
        at = torch.tensor([layers.index(layer) for layer, _ in self.units])
        heads = torch.tensor([head for _, head in self.units])
        found = x[at] if self.units[0][1] == NO_HEAD else x[at, heads]
        return found[:, 0].double()


def unit_blocks(source: CachedSource, units: Sequence[Unit]) -> Iterator[UnitBlock]:
    """All layers, as many at a time as a block of activations has room for, and one at the least."""
    readings = source.readings
    count = max(1, BLOCK_BYTES // max(1, 2 * source.read(readings[:1]).nbytes))
    for first in range(0, len(readings), count):
        some = readings[first : first + count]
        layers = {reading.layer for reading in some}
        if own := tuple(unit for unit in units if unit[0] in layers):
            yield UnitBlock(some, own)


def learned(source: CachedSource, block: UnitBlock) -> Learned:
    """The labelled responses of a train split that were kept, at some units."""
    read = source.read(block.readings)
    assert isinstance(read, Tensor)
    known = {name: getattr(source, name)[source.kept] for name in ("labels", "examples", "groups", "units")}
    return Learned(_rows(block.chosen(read), source.kept), **known)


@dataclass(frozen=True, eq=False)
class TestSplit:
    """A test split: what is asked, its labels, which only `evaluate` looks at, and its activations.

    Attributes:
        asked: where its activations are.
        question: it without its labels.
        labels: of its responses.
        kept: False where a text was skipped.
        spec: which stimulus and token are read.
    """

    __test__ = False

    asked: CachedSplit
    question: Target
    labels: ResponseLabels
    kept: Bool[np.ndarray, " response"]
    spec: ProbeSpec

    @classmethod
    def of(cls, asked: CachedSplit, spec: ProbeSpec, readings: Sequence[Reading]) -> TestSplit:
        """A split as a probe with these settings reads it."""
        question, labels = question_of(asked)
        return cls(asked, question, labels, asked.kept(spec.stimuli, _hooks(readings), spec.token), spec)

    @property
    def name(self) -> str:
        """Of its distribution."""
        return self.asked.distribution

    def read(self, block: UnitBlock) -> Float[Tensor, "unit kept d"]:
        """The activations of the responses that were kept, at some units."""
        read = stacked(self.asked, self.spec.stimuli, _hooks(block.readings), self.spec.token)
        assert isinstance(read, Tensor)
        self.asked.forget()
        return _rows(block.chosen(read), self.kept)

    def evaluate(self, scores: Float[np.ndarray, "fit kept"]) -> Evaluation:
        """What some fits' scores of the responses that were kept are worth."""
        whole = np.full((len(scores), len(self.kept)), np.nan)
        whole[:, self.kept] = scores
        return evaluate(ResponseScores(whole, np.ones(len(scores))), self.question, self.labels)


def _rows(x: Float[Tensor, "unit response d"], kept: Bool[np.ndarray, " response"]) -> Float[Tensor, "unit kept d"]:
    return x if kept.all() else x[:, torch.from_numpy(kept)]


def _hooks(readings: Sequence[Reading]) -> list[tuple[str, int]]:
    return [(reading.site, reading.block) for reading in readings]
