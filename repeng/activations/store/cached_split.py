"""One split as the store knows it: what a probe is fitted on and scored with, read layer by layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.activations.store.files import SplitKey
from repeng.activations.store.records import Index
from repeng.activations.store.store import StoredCapture
from repeng.activations.store.stored_activations import StoredActivations
from repeng.distributions.schema import Split
from repeng.errors import RepengError
from repeng.maths import sigmoid
from repeng.metrics import Evaluation
from repeng.probes.base import Probe, Reading
from repeng.probes.source import SourceData, all_pairs


def some_pairs(pairs: Int[np.ndarray, "pair 2"], name: str) -> Int[np.ndarray, "pair 2"]:
    """The pairs, if there are any.

    Raises:
        RepengError: there is none, since every pair has a text that the model does not take.
    """
    if len(pairs) == 0:
        raise RepengError(
            f"{name}: no pair is left, every one has a text longer than the model takes; see --too-long, or take a "
            "model with a longer context"
        )
    return pairs


@dataclass(frozen=True)
class ResponseRows:
    """What is known of each response of a split, in file order."""

    labels: Float[np.ndarray, " response"]
    examples: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]

    @classmethod
    def of(cls, split: Split) -> ResponseRows:
        """From loaded data."""
        return cls(split.labels, split.response_example, split.groups[split.response_example])

    @classmethod
    def from_index(cls, index: Index) -> ResponseRows:
        """From an index.json."""
        return cls(
            np.array(index.numbers("label"), dtype=np.float64),
            np.array(index.numbers("example"), dtype=np.int64),
            np.array(index.numbers("group"), dtype=np.int64),
        )

    def pairs(self, kept: Bool[np.ndarray, " response"]) -> Int[np.ndarray, "pair 2"]:
        """(best, worse) rows of every pair whose two responses were kept, in file order."""
        return all_pairs(self.labels, self.examples, kept)

    def evaluation(
        self,
        pairs: Int[np.ndarray, "pair 2"],
        probabilities: Float[np.ndarray, " pair"],
        scores: Float[np.ndarray, " response"] | None = None,
    ) -> Evaluation:
        """The one shape in which every method's answer leaves: p(best) a pair, with its example and prompt group."""
        return Evaluation(
            probabilities=np.asarray(probabilities, dtype=np.float64),
            example=self.examples[pairs[:, 0]],
            group=self.groups[pairs[:, 0]],
            scores=None if scores is None else np.asarray(scores, dtype=np.float64)[pairs],
        )


def evaluation_of_scores(
    target: Split, scores: Float[np.ndarray, " response"], *, temperature: float = 1.0
) -> Evaluation:
    """p(best) of each pair is sigmoid(difference of its responses' scores / temperature).

    Args:
        target: whose responses were scored.
        scores: one a response, in file order; NaN for a response that has none, whose pairs are left out.
        temperature: above 0; at 1 p(best) is the softmax of the pair's scores.

    Raises:
        RepengError: no pair is left.
    """
    rows = ResponseRows.of(target)
    pairs = some_pairs(rows.pairs(np.isfinite(scores)), f"{target.distribution}/{target.name}")
    gaps = scores[pairs[:, 0]] - scores[pairs[:, 1]]
    return rows.evaluation(pairs, sigmoid(gaps / temperature), scores)


READ_BYTES = 256 << 20
"""Of one split, at most so much stays in memory for the next probe that reads it."""


class Activations(ABC):
    """Cached activations of some responses, with their labels, example ids and prompt groups."""

    @property
    @abstractmethod
    def rows(self) -> ResponseRows:
        """Labels, examples and groups of the responses."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The distribution and split, for messages."""

    @abstractmethod
    def tensor(self, stimulus: str, reading: Reading, token: str) -> Float[Tensor, response * feature]:
        """One layer, in the stored dtype."""

    @abstractmethod
    def kept_of(self, stimulus: str, site: str, token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text was skipped as too long."""

    def kept(self, probe: Probe, readings: Sequence[Reading], token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text, under any of the probe's stimuli, was skipped as too long."""
        sites = {reading.site for reading in readings}
        return np.logical_and.reduce(
            [self.kept_of(stimulus, site, token) for stimulus in probe.stimuli for site in sites]
        )

    def pairs(self, probe: Probe, readings: Sequence[Reading], token: str) -> Int[np.ndarray, "pair 2"]:
        """(best, worse) rows of every pair whose texts were all kept.

        Raises:
            RepengError: there is none.
        """
        return some_pairs(self.rows.pairs(self.kept(probe, readings, token)), self.name)

    def activations(
        self, probe: Probe, readings: Sequence[Reading], token: str
    ) -> Float[Tensor, "layer *head stimulus response d"]:
        """Float32 activations of the wanted layers for every stimulus of the probe."""
        shape = self.tensor(probe.stimuli[0], readings[0], token).shape
        # Filled layer by layer, so that the stored dtype and float32 of all layers are never in memory together.
        stacked = torch.empty(len(readings), len(probe.stimuli), *shape)
        for place, reading in zip(stacked, readings, strict=True):
            for row, stimulus in zip(place, probe.stimuli, strict=True):
                row.copy_(self.tensor(stimulus, reading, token))
        # hook_z comes as [layer, stimulus, response, head, d_head]; a probe takes heads as a leading batch axis.
        return stacked.permute(0, 3, 1, 2, 4) if stacked.ndim == 5 else stacked

    def source_data(self, probe: Probe, readings: Sequence[Reading], token: str) -> SourceData:
        """Everything that fitting the probe on these responses needs."""
        return SourceData(
            activations=self.activations(probe, readings, token),
            labels=self.rows.labels,
            examples=self.rows.examples,
            groups=self.rows.groups,
            layers=tuple(reading.layer for reading in readings),
            kept=self.kept(probe, readings, token),
        )


@dataclass(frozen=True)
class CachedSplit(Activations):
    """A split as it is in a store.

    Only what is asked for is read, by memory map. Up to READ_BYTES of it are kept until `forget`, for many probes that
    read the same layers.
    """

    capture: StoredCapture
    distribution: str
    split: str
    data_hash: str
    _read: dict[tuple[str, Reading, str], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, capture: StoredCapture, split: Split) -> CachedSplit:
        """A loaded split's activations."""
        return cls(capture, split.distribution, split.name, split.data_hash)

    @property
    def name(self) -> str:
        """The distribution and split."""
        return f"{self.distribution}/{self.split}"

    def stored(self, stimulus: str, site: str, token: str) -> StoredActivations:
        """What the store holds of one stimulus, site and token."""
        return self.capture.open(SplitKey(self.distribution, self.split, self.data_hash), stimulus, site, token)

    @cached_property
    def rows(self) -> ResponseRows:
        """Labels, examples and groups of the responses."""
        return ResponseRows.from_index(self.capture.index(SplitKey(self.distribution, self.split, self.data_hash)))

    def kept_of(self, stimulus: str, site: str, token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text was skipped as too long."""
        return self.stored(stimulus, site, token).kept

    def tensor(self, stimulus: str, reading: Reading, token: str) -> Float[Tensor, response * feature]:
        """One layer, in the stored dtype."""
        key = (stimulus, reading, token)
        if key in self._read:
            return self._read[key]
        tensor = self.stored(stimulus, reading.site, token).layer(reading.block)
        if tensor.nbytes + sum(held.nbytes for held in self._read.values()) <= READ_BYTES:
            self._read[key] = tensor
        return tensor

    def forget(self) -> None:
        """Let go of what was read."""
        self._read.clear()


@dataclass(frozen=True)
class MixedSplit(Activations):
    """Some examples of several cached splits, such as a source with a few target examples among its own.

    Attributes:
        members: where the activations are.
        take: for each response, its row among the members' responses one after the other.
        mixture: the examples as they stand in the mixture.
    """

    members: tuple[CachedSplit, ...]
    take: Int[np.ndarray, " response"]
    mixture: Split

    @cached_property
    def rows(self) -> ResponseRows:
        """Labels, examples and groups within the mixture."""
        return ResponseRows.of(self.mixture)

    @property
    def name(self) -> str:
        """The distribution and split."""
        return f"{self.mixture.distribution}/{self.mixture.name}"

    @classmethod
    def of(cls, mixture: Split, members: Sequence[tuple[Split, CachedSplit]]) -> MixedSplit:
        """The activations of a split whose every example is one of the members' very objects."""
        place: dict[int, int] = {}
        start = 0
        for split, _ in members:
            place |= {id(e): start + int(offset) for e, offset in zip(split.examples, split.offsets, strict=True)}
            start += split.n_responses
        take = [place[id(e)] + number for e in mixture.examples for number in range(len(e.responses))]
        cached = tuple(cached for _, cached in members)
        return cls(cached, np.array(take, dtype=np.int64), mixture)

    def kept_of(self, stimulus: str, site: str, token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text was skipped as too long."""
        return np.concatenate([member.kept_of(stimulus, site, token) for member in self.members])[self.take]

    def tensor(self, stimulus: str, reading: Reading, token: str) -> Float[Tensor, response * feature]:
        """One layer, in the stored dtype."""
        whole = torch.cat([member.tensor(stimulus, reading, token) for member in self.members])
        return whole[torch.from_numpy(self.take)]
