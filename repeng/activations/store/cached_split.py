"""Cached activations of a split's responses, read layer by layer. They know no label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.activations.store.files import LOGPROB, SplitKey
from repeng.activations.store.store import StoredCapture
from repeng.activations.store.stored_activations import TOKENS_BYTES, StoredActivations, row_blocks
from repeng.maths import offsets_of
from repeng.models.sites import Hook
from repeng.places import is_remote

LAYERS_AT_ONCE = 3
"""Of an object store, layers that are read side by side, so that the next are on their way while one is converted."""
READ_BYTES = 64 << 20
"""Of the splits that are read side by side, at most this much stays in memory for the next probe that reads them."""


@dataclass
class Kept:
    """Layers that were read and stay in memory, `READ_BYTES` of them at most: of one split, or of several together.

    The first that come are kept. Probes go through the layers in one order, so that the last ones would be of no use.
    """

    layers: dict[tuple[SplitKey, str, Hook, str], Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of all layers."""
        # A list, since another thread may be reading ahead.
        return sum(layer.nbytes for layer in list(self.layers.values()))

    def offer(self, key: tuple[SplitKey, str, Hook, str], layer: Tensor) -> None:
        """Keep a layer, if there is room."""
        if self.nbytes + layer.nbytes <= READ_BYTES:
            self.layers[key] = layer


class Activations(ABC):
    """Cached activations of some responses."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The distribution and split, for messages."""

    @abstractmethod
    def tensor(self, stimulus: str, hook: Hook, token: str) -> Float[Tensor, response * feature]:
        """One layer, in the stored dtype."""

    @abstractmethod
    def tokens(
        self, stimulus: str, hook: Hook, token: str, responses: Sequence[int] | None = None
    ) -> tuple[Float[Tensor, "token ..."], Int[np.ndarray, " response_1"]]:
        """The vectors of every token of some responses (all for None) at one layer, in the stored dtype.

        Values one response after the other, and their offsets, as of `StoredActivations.tokens`. Nothing of it is kept.
        """

    @abstractmethod
    def token_counts(self, stimulus: str, site: str, token: str) -> Int[np.ndarray, " response"]:
        """How many tokens each response has, of every token's activations."""

    def token_blocks(
        self, stimulus: str, hook: Hook, token: str, *, max_bytes: int = TOKENS_BYTES
    ) -> Iterator[tuple[range, Float[Tensor, "token ..."], Int[np.ndarray, " response_1"]]]:
        """Every response's tokens at one layer, some at a time, so that a layer need not fit into memory.

        Args:
            stimulus: by name.
            hook: site and layer.
            token: `all`, or `all` of some roles.
            max_bytes: of the values of a block; one response alone may have more.

        Yields:
            The rows of some responses that follow one another, and what `tokens` gives of them.
        """
        size = self.tokens(stimulus, hook, token, ())[0][:0]
        vector = size.new_zeros(1, *size.shape[1:]).nbytes
        for rows in row_blocks(self.token_counts(stimulus, hook[0], token), vector, max_bytes):
            yield rows, *self.tokens(stimulus, hook, token, rows)

    @property
    def at_once(self) -> int:
        """How many layers are best read side by side."""
        return 1

    @abstractmethod
    def logprobs(self, stimulus: str) -> tuple[Float[np.ndarray, " response"], Int[np.ndarray, " response"]]:
        """Total log-probability of each response in nats, NaN where its text was skipped, and its token count."""

    @abstractmethod
    def text_lengths(self, stimulus: str) -> Int[np.ndarray, " response"]:
        """Tokens of each whole text whose log-probabilities are kept; 0 for a skipped one."""

    @abstractmethod
    def kept_of(self, stimulus: str, site: str, token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text was skipped as too long."""

    def kept(self, stimuli: Sequence[str], hooks: Sequence[Hook], token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text, under any of some stimuli, was skipped as too long."""
        sites = {site for site, _ in hooks}
        return np.logical_and.reduce([self.kept_of(stimulus, site, token) for stimulus in stimuli for site in sites])

    def stack(
        self, stimuli: Sequence[str], hooks: Sequence[Hook], token: str
    ) -> Float[Tensor, "layer *head stimulus response d"]:
        """Float32 activations of some layers under every one of some stimuli."""
        layers = _in_order(
            [partial(self.tensor, stimulus, hook, token) for hook in hooks for stimulus in stimuli], self.at_once
        )
        first = next(layers)
        # Filled layer by layer, so that the stored dtype and float32 of all layers are never in memory together.
        stacked = torch.empty(len(hooks), len(stimuli), *first.shape)
        for row, layer in zip(stacked.flatten(0, 1), chain((first,), layers), strict=True):
            row.copy_(layer)
        # hook_z comes as [layer, stimulus, response, head, d_head]; a probe takes heads as a leading batch axis.
        return stacked.permute(0, 3, 1, 2, 4) if stacked.ndim == 5 else stacked


@dataclass(frozen=True)
class CachedSplit(Activations):
    """A split as it is in a store.

    Only what is asked for is read, by memory map. Up to READ_BYTES of it are kept until `forget`, for many probes that
    read the same layers; splits that are read side by side share what they keep.
    """

    capture: StoredCapture
    distribution: str
    split: str
    data_hash: str
    _kept: Kept = field(default_factory=Kept, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The distribution and split."""
        return f"{self.distribution}/{self.split}"

    @property
    def key(self) -> SplitKey:
        """Distribution, split and data hash."""
        return SplitKey(self.distribution, self.split, self.data_hash)

    @property
    def at_once(self) -> int:
        """Several of an object store, where most of the time of a request is waiting; one by memory map."""
        return LAYERS_AT_ONCE if is_remote(self.capture.folder) else 1

    def stored(self, stimulus: str, site: str, token: str) -> StoredActivations:
        """What the store holds of one stimulus, site and token."""
        return self.capture.open(self.key, stimulus, site, token)

    def kept_of(self, stimulus: str, site: str, token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text was skipped as too long."""
        return self.stored(stimulus, site, token).kept

    def tensor(self, stimulus: str, hook: Hook, token: str) -> Float[Tensor, response * feature]:
        """One layer, in the stored dtype."""
        key = (self.key, stimulus, hook, token)
        if (known := self._kept.layers.get(key)) is not None:
            return known
        tensor = self.stored(stimulus, hook[0], token).layer(hook[1])
        self._kept.offer(key, tensor)
        return tensor

    def tokens(
        self, stimulus: str, hook: Hook, token: str, responses: Sequence[int] | None = None
    ) -> tuple[Float[Tensor, "token ..."], Int[np.ndarray, " response_1"]]:
        """The vectors of every token of some responses at one layer."""
        return self.stored(stimulus, hook[0], token).tokens(hook[1], responses)

    def token_counts(self, stimulus: str, site: str, token: str) -> Int[np.ndarray, " response"]:
        """How many tokens each response has."""
        return np.array(self.stored(stimulus, site, token).index.token_counts, dtype=np.int64)

    def logprobs(self, stimulus: str) -> tuple[Float[np.ndarray, " response"], Int[np.ndarray, " response"]]:
        """Total log-probability of each response in nats, NaN where its text was skipped, and its token count."""
        return self.capture.logprobs(self.key, stimulus)

    def text_lengths(self, stimulus: str) -> Int[np.ndarray, " response"]:
        """Tokens of each whole text whose log-probabilities are kept; 0 for a skipped one."""
        lengths: Int[np.ndarray, " response"] = self.stored(stimulus, LOGPROB, "").tensor("text_length").numpy()
        return lengths

    def forget(self) -> None:
        """Let go of what was read, of the splits that keep it together too."""
        self._kept.layers.clear()


@dataclass(frozen=True)
class MixedSplit(Activations):
    """Some examples of one or several cached splits, as a `repeng.distributions.mixture.Mixture` has them.

    Attributes:
        mixture: its distribution and split.
        members: where the activations are.
        take: for each response, its row among the members' responses one after the other.
    """

    mixture: str
    members: tuple[CachedSplit, ...]
    take: Int[np.ndarray, " response"]

    @property
    def name(self) -> str:
        """The distribution and split."""
        return self.mixture

    @property
    def at_once(self) -> int:
        """As of its members."""
        return max(member.at_once for member in self.members)

    def kept_of(self, stimulus: str, site: str, token: str) -> Bool[np.ndarray, " response"]:
        """False where a response's text was skipped as too long."""
        return np.concatenate([member.kept_of(stimulus, site, token) for member in self.members])[self.take]

    def tensor(self, stimulus: str, hook: Hook, token: str) -> Float[Tensor, response * feature]:
        """One layer, in the stored dtype."""
        whole = torch.cat([member.tensor(stimulus, hook, token) for member in self.members])
        return whole[torch.from_numpy(self.take)]

    def tokens(
        self, stimulus: str, hook: Hook, token: str, responses: Sequence[int] | None = None
    ) -> tuple[Float[Tensor, "token ..."], Int[np.ndarray, " response_1"]]:
        """The vectors of every token of some responses at one layer."""
        rows = self.take if responses is None else self.take[np.array(responses, dtype=np.int64)]
        edges = offsets_of([len(member.token_counts(stimulus, hook[0], token)) for member in self.members])
        owners = np.searchsorted(edges, rows, side="right") - 1
        breaks = np.flatnonzero(np.diff(owners)) + 1
        pieces = [
            self.members[int(owners[start])].tokens(
                stimulus, hook, token, (rows[start:stop] - edges[owners[start]]).tolist()
            )
            for start, stop in pairwise([0, *breaks.tolist(), len(rows)])
            if start < stop
        ]
        if not pieces:
            return self.members[0].tokens(stimulus, hook, token, ())
        counts = np.concatenate([np.diff(offsets) for _, offsets in pieces])
        return torch.cat([values for values, _ in pieces]), offsets_of(counts)

    def token_counts(self, stimulus: str, site: str, token: str) -> Int[np.ndarray, " response"]:
        """How many tokens each response has."""
        return np.concatenate([member.token_counts(stimulus, site, token) for member in self.members])[self.take]

    def logprobs(self, stimulus: str) -> tuple[Float[np.ndarray, " response"], Int[np.ndarray, " response"]]:
        """Total log-probability of each response in nats, and its token count."""
        totals, counts = zip(*(member.logprobs(stimulus) for member in self.members), strict=True)
        return np.concatenate(totals)[self.take], np.concatenate(counts)[self.take]

    def text_lengths(self, stimulus: str) -> Int[np.ndarray, " response"]:
        """Tokens of each whole text whose log-probabilities are kept."""
        return np.concatenate([member.text_lengths(stimulus) for member in self.members])[self.take]


def _in_order(reads: Sequence[Callable[[], Tensor]], at_once: int) -> Iterator[Tensor]:
    """What some reads give, in order, of which so many are on their way at once."""
    if at_once == 1:
        yield from (read() for read in reads)
        return
    with ThreadPoolExecutor(at_once, thread_name_prefix="repeng-layers") as threads:
        waiting: deque[Future[Tensor]] = deque()
        try:
            for read in reads:
                if len(waiting) == at_once:
                    yield waiting.popleft().result()
                waiting.append(threads.submit(read))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
