"""Activations of one stimulus, site and token in a store, read one layer at a time.

From a disk that is by memory map, from an object store by the bytes of just that layer, of several shards side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor

from repeng.activations.store.files import INDEX, OFFSETS
from repeng.activations.store.records import Shard, read_index, way_out
from repeng.activations.store.shard_file import (
    UNREADABLE,
    TensorPlace,
    file_checksum,
    read_header,
    read_tensor,
    streamed_checksum,
    tensor_checksum,
)
from repeng.errors import BadInput, RemoteError, StoreError, UnreadableFile, sentence
from repeng.maths import offsets_of
from repeng.models.sites import hook_name
from repeng.places import Place, is_remote, stamp

LOGPROB_TENSORS = ("logprob", "token_count", "text_length")
"""What a shard of log-probabilities holds."""
AT_ONCE = 8
"""Shards of an object store that are read side by side: most of the time of a request is waiting."""
TOKENS_BYTES = 256 << 20
"""Of every token's vectors, how many bytes of one layer a block holds at most, unless one response alone has more."""
_checked: set[tuple[object, ...]] = set()
"""Shards and tensors whose content was seen to be what their index says, with what changes when a file is written."""


class StoredActivations:
    """Activations of every response of a split, of one stimulus, site and token, at some or all layers.

    A tensor is checked against its checksum in the index when it is first read in a process (1 to 2 GB a second), from
    an object store each time; its whole shard where an earlier version of repeng wrote the index, which has none of
    tensors.

    Args:
        folder: that holds them.
        trust: read shards without the check.

    Attributes:
        folder: that holds them.
        index: the content of its index.json.
        key: stimulus, site and token.
        layers: the layers that are here, ascending; none of log-probabilities.

    Raises:
        StoreError: the index cannot be read, or is of another format.
    """

    def __init__(self, folder: Place, *, trust: bool = False) -> None:
        self.folder, self.index, self._trust = folder, read_index(folder), trust
        self.key, self.layers = self.index.key, self.index.layers
        self._headers: dict[str, dict[str, TensorPlace]] = {}

    def __repr__(self) -> str:
        split = f"{self.index.distribution}/{self.index.split}"
        return f"StoredActivations({self.key}, {split}, {self.n_responses} responses)"

    @property
    def n_responses(self) -> int:
        """Responses of the split; rows of every tensor, unless each response has a number of tokens of its own."""
        return len(self.index.responses)

    @property
    def is_ragged(self) -> bool:
        """Whether each response has the vectors of all its tokens: to be read with `tokens` and `token_blocks`."""
        return self.index.is_ragged

    @property
    def n_bytes(self) -> int:
        """Size of the shards."""
        return sum(shard.bytes for shard in self.index.shards)

    @cached_property
    def kept(self) -> Bool[np.ndarray, " response"]:
        """False where there is no value and the stored row is zeros.

        That is where the text was skipped as too long (`skipped` in the index), and where there is nothing to take
        (`blank`): the mean of an empty response, the last prompt token of a text without prompt.
        """
        kept = np.ones(self.n_responses, dtype=bool)
        kept[[*self.index.skipped, *self.index.blank]] = False
        return kept

    def layer(self, layer: int) -> Float[Tensor, "response ..."]:
        """One layer's vectors in the stored dtype: [response, d_model], of `hook_z` [response, head, d_head].

        Raises:
            BadInput: each response has a number of tokens of its own.
            StoreError: that layer is not here, or a shard is missing or damaged.
        """
        if self.is_ragged:
            raise BadInput(
                f"{self.key} holds every token of each response, not one vector; read it with tokens or token_blocks"
            )
        return self.tensor(self._name(layer), layer)

    def tokens(
        self, layer: int, responses: Sequence[int] | None = None
    ) -> tuple[Float[Tensor, "token ..."], Int[np.ndarray, " response_1"]]:
        """The vectors of every token of some responses at one layer; no other's are read into memory.

        Args:
            layer: a 0-based block.
            responses: by their row in the split, in the order given; None for all. Neighbours are read together.

        Returns:
            Values in the stored dtype, the responses' tokens one after the other: [token, d_model], of `hook_z`
            [token, head, d_head]; and offsets [response + 1]: those of the n-th response are
            `values[offsets[n] : offsets[n + 1]]`. A response that was skipped or is empty has none.

        Raises:
            BadInput: each response has one vector here; or there is no such response.
            StoreError: that layer is not here, or a shard is missing or damaged.
        """
        if not self.is_ragged:
            raise BadInput(
                f"{self.key} holds one vector of each response; read it with layer, or capture the token all"
            )
        rows = np.arange(self.n_responses) if responses is None else np.array(responses, dtype=np.int64)
        wrong = rows[(rows < 0) | (rows >= self.n_responses)]
        if len(wrong):
            raise BadInput(f"{self.key} has no response {wrong[0]}, only 0 to {self.n_responses - 1}")
        name, shards = self._name(layer), self._shards(layer)
        firsts = np.array([shard.first for shard in shards])
        owners = np.searchsorted(firsts, rows, side="right") - 1
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(owners) != 0)) + 1
        values = [
            self._tokens_of(shards[int(owners[start])], name, int(rows[start]), int(rows[stop - 1]) + 1)
            for start, stop in pairwise([0, *breaks.tolist(), len(rows)])
            if start < stop
        ]
        if not values:
            values = [self._tokens_of(shards[0], name, shards[0].first, shards[0].first)]
        counts = np.array(self.index.token_counts, dtype=np.int64)[rows]
        return torch.cat(values), offsets_of(counts)

    def token_blocks(
        self, layer: int, *, max_bytes: int = TOKENS_BYTES
    ) -> Iterator[tuple[range, Float[Tensor, "token ..."], Int[np.ndarray, " response_1"]]]:
        """Every response's tokens at one layer, some responses at a time, so that a layer need not fit into memory.

        Args:
            layer: a 0-based block.
            max_bytes: of the values of a block; one response alone may have more.

        Yields:
            The rows of some responses that follow one another, and what `tokens` gives of them.
        """
        vector = int(np.prod(self.index.shape[1:])) * getattr(torch, self.index.dtype).itemsize
        for rows in row_blocks(self.index.token_counts, vector, max_bytes):
            yield rows, *self.tokens(layer, rows)

    def read(self, layers: Sequence[int] | None = None) -> Float[Tensor, "layer response ..."]:
        """Some layers, all by default, in the stored dtype, stacked."""
        return torch.stack([self.layer(layer) for layer in (self.layers if layers is None else layers)])

    def numpy(self, layer: int | Sequence[int] | None = None) -> Float[np.ndarray, ...]:
        """Activations in float32; NaN for a response that has none (see `kept`).

        Args:
            layer: one layer, whose axis is left out, or several; None for all that are here.

        Returns:
            [response, d_model] for one layer, [layer, response, d_model] otherwise; the sites that are stored by head,
            such as `hook_z`, have [head, d_head] in place of d_model.

        Raises:
            StoreError: a layer is not here, or a shard is missing or damaged.
        """
        values: Float[np.ndarray, ...]
        values = self.read([layer] if isinstance(layer, int) else layer).float().numpy()
        values[:, ~self.kept] = np.nan
        return values[0] if isinstance(layer, int) else values

    def tensor(self, name: str, layer: int | None = None) -> Tensor:
        """A tensor of every response, by its name in the shards; of log-probabilities without a layer.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        shards = self._shards(layer)
        if is_remote(self.folder) and len(shards) > 1:
            with ThreadPoolExecutor(min(AT_ONCE, len(shards)), thread_name_prefix="repeng-reading") as threads:
                pieces = list(threads.map(lambda shard: self._read(shard, name), shards))
        else:
            pieces = [self._read(shard, name) for shard in shards]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def rows(self, name: str, rows: Sequence[int], layer: int | None = None) -> Tensor:
        """Some responses' rows of a tensor, in the order given; only the shards that hold them are read.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        wanted = np.array(rows, dtype=np.int64)
        pieces, order = [], []
        for shard in self._shards(layer):
            here = np.flatnonzero((wanted >= shard.first) & (wanted < shard.first + shard.rows))
            if len(here):
                pieces.append(self._read(shard, name)[torch.from_numpy(wanted[here] - shard.first)])
                order.append(here)
        return torch.cat(pieces)[torch.from_numpy(np.concatenate(order)).argsort()]

    def check(self, layers: Sequence[int] | None = None) -> None:
        """Check what is there of some layers, of all by default, unless that was done in this process or it is trusted.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        wanted = None if layers is None else {hook_name(self.key.site, layer) for layer in layers}
        for shard in self.index.shards_of(layers):
            names = [name for name in shard.tensors if wanted is None or name in wanted or name == OFFSETS]
            for name in names:
                self._read(shard, name)
            if not names:
                self._check(shard)

    def _name(self, layer: int) -> str:
        """The tensor's name of a layer that is here."""
        if layer not in self.layers:
            raise StoreError(
                f"{self.folder}: no layer {layer} here, only {', '.join(map(str, self.layers)) or 'none'}; "
                "capture it by asking for this layer, or for all"
            )
        return hook_name(self.key.site, layer)

    def _tokens_of(self, shard: Shard, name: str, first: int, stop: int) -> Float[Tensor, "token ..."]:
        """The tokens of the responses from `first` to one before `stop`, all of a shard."""
        path = self.folder / shard.file
        edges = self.index.token_offsets[shard.first : shard.first + shard.rows + 1]
        start, end = (int(edges[row - shard.first] - edges[0]) for row in (first, stop))
        self._check(shard, name)
        try:
            offsets = self._read(shard, OFFSETS).numpy()
            if is_remote(path):
                where = self._header(shard)[name]
                length, tensor = where.shape[0], read_tensor(path, where.rows(start, end))
            else:
                with safe_open(path, framework="pt") as file:
                    whole = file.get_slice(name)
                    length, tensor = whole.get_shape()[0], whole[start:end]
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        if not np.array_equal(offsets, edges - edges[0]) or length != offsets[-1]:
            raise StoreError(f"{path}: {name} has not the tokens that {INDEX} says; {way_out(path)}")
        return tensor

    def _shards(self, layer: int | None) -> list[Shard]:
        found = (shard for shard in self.index.shards if layer is None or layer in shard.layers)
        return sorted(found, key=lambda shard: shard.first)

    def _read(self, shard: Shard, name: str) -> Tensor:
        """A tensor of a shard, checked."""
        path = self.folder / shard.file
        digest = "" if self._trust else shard.tensors.get(name, "")
        if not digest:
            self._check(shard)
        try:
            if is_remote(path):
                tensor, known = read_tensor(path, self._header(shard)[name]), False
            else:
                now = (path.absolute(), *stamp(path), name, digest)
                with safe_open(path, framework="pt") as file:
                    tensor, known = file.get_tensor(name), now in _checked
        except FileNotFoundError as error:
            raise StoreError(f"{path}: is not there; {way_out(self.folder)}") from error
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        if digest and not known:
            if tensor_checksum(tensor) != digest:
                raise StoreError(f"{path}: its content has changed since it was written ({name}); {way_out(path)}")
            if not is_remote(path):
                _checked.add(now)
        rows = shard.rows + 1 if name == OFFSETS else shard.rows
        if len(tensor) != rows and (name == OFFSETS or not self.is_ragged):
            raise StoreError(f"{path}: {name} has {len(tensor)} rows instead of {rows}; {way_out(path)}")
        return tensor

    def _check(self, shard: Shard, name: str = "") -> None:
        """Check a tensor of a shard by itself, where the index has its checksum, or else the whole shard; once."""
        digest = shard.tensors.get(name, "")
        if self._trust:
            return
        if digest and is_remote(self.folder):
            path = self.folder / shard.file
            try:
                if (known := (str(path), name, digest)) not in _checked:
                    if streamed_checksum(path, self._header(shard)[name]) != digest:
                        raise StoreError(f"{path}: its content has changed since it was written; {way_out(path)}")
                    _checked.add(known)
            except UNREADABLE as error:
                raise _unreadable(path, error) from error
        elif digest:
            self._read(shard, name)
        elif fault := shard_fault(self.folder, shard):
            raise StoreError(f"{fault}; {way_out(self.folder)}")

    def _header(self, shard: Shard) -> dict[str, TensorPlace]:
        """Where the tensors of a shard of an object store are."""
        if shard.file not in self._headers:
            self._headers[shard.file] = read_header(self.folder / shard.file)
        return self._headers[shard.file]


def _unreadable(path: Place, error: Exception) -> StoreError:
    """What is said of a shard that cannot be read: that it is damaged, unless it is the object store that fails."""
    if isinstance(error, RemoteError | PermissionError):
        return UnreadableFile(f"{path}: cannot be read: {sentence(error)}")
    return StoreError(f"{path}: cannot be read ({error}); {way_out(path)}")


def row_blocks(
    counts: Sequence[int] | Int[np.ndarray, " response"], vector_bytes: int, max_bytes: int
) -> Iterator[range]:
    """Responses that follow one another, as many as their tokens' vectors fit into some bytes; at least one."""
    start = held = 0
    for row, count in enumerate(counts):
        if row > start and (held + int(count)) * vector_bytes > max_bytes:
            yield range(start, row)
            start, held = row, 0
        held += int(count)
    if start < len(counts):
        yield range(start, len(counts))


def shard_fault(folder: Place, shard: Shard, *, again: bool = False) -> str:
    """What is wrong with a shard, in words; nothing where its content is what its index says.

    Args:
        folder: that holds it.
        shard: as the index describes it.
        again: also read one that was found whole in this process before, and has not been written to since.

    Raises:
        UnreadableFile: the system lets nobody read it now.
    """
    path = folder / shard.file
    try:
        size = int(path.stat().st_size)
        if size != shard.bytes:
            return f"{path}: has {size} bytes instead of {shard.bytes}"
        seen = (path.absolute(), *stamp(path), shard.sha256)
        if seen in _checked and not again:
            return ""
        digest = file_checksum(path, size)
    except FileNotFoundError:
        return f"{path}: is not there"
    except EOFError as error:
        return f"{path}: {error}"
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read: {sentence(error)}") from error
    if digest != shard.sha256:
        return f"{path}: its content has changed since it was written"
    _checked.add(seen)
    return ""
