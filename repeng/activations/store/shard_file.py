"""One tensor of a shard at a time: by memory map from a disk, by a range of bytes from an object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from repeng.places import Place, is_remote, read_at_most, read_range

DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
"""What is in shards, by safetensors' name."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LENGTH_BYTES = 8
FIRST_BYTES = 1 << 14
"""Read at first, in the hope that the header is in it."""
HEADER_BYTES = 10_000_000
"""Of the description of a shard's tensors, at most."""
BLOCK = 8 << 20
"""Bytes that are hashed at once."""


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor is in a shard's file.

    Attributes:
        dtype: by safetensors' name.
        shape: of the tensor.
        start: first byte of its values in the file.
        stop: one past the last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def rows(self, first: int, stop: int) -> TensorPlace:
        """Some of its rows, those along the first axis, that follow one another."""
        first, stop = min(first, self.shape[0]), min(stop, self.shape[0])
        row = (self.stop - self.start) // max(self.shape[0], 1)
        start = self.start + first * row
        return TensorPlace(self.dtype, (stop - first, *self.shape[1:]), start, start + (stop - first) * row)


def read_header(path: Place) -> dict[str, TensorPlace]:
    """Where each tensor of a shard is, in one or two requests.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no safetensors file.
    """
    begin = read_at_most(path, 0, FIRST_BYTES)
    length = int.from_bytes(begin[:LENGTH_BYTES], "little")
    if len(begin) < LENGTH_BYTES or length > HEADER_BYTES:
        raise ValueError("no safetensors file")
    begin += read_at_most(path, len(begin), LENGTH_BYTES + length)
    described = json.loads(begin[LENGTH_BYTES : LENGTH_BYTES + length])
    found = {}
    for name, said in described.items():
        if name != "__metadata__":
            (start, stop), shape = said["data_offsets"], tuple(said["shape"])
            size = torch.Size(shape).numel() * DTYPES[said["dtype"]].itemsize
            if not 0 <= start <= stop or stop - start != size:
                raise ValueError(f"{name} has {stop - start} bytes instead of {size}")
            found[name] = TensorPlace(said["dtype"], shape, *(LENGTH_BYTES + length + at for at in (start, stop)))
    return found


def read_tensor(path: Place, where: TensorPlace) -> Tensor:
    """A tensor, or some rows of one, from where it is in a shard of an object store.

    Raises:
        OSError: it cannot be read.
        EOFError: the shard is shorter.
    """
    content = bytearray(read_range(path, where.start, where.stop))
    if not content:
        return torch.zeros(where.shape, dtype=DTYPES[where.dtype])
    return torch.frombuffer(content, dtype=DTYPES[where.dtype]).reshape(where.shape)


def tensor_checksum(tensor: Tensor) -> str:
    """The sha256 over a tensor's dtype and shape, as JSON has them (`["BF16", [512, 2048]]`), and its values' bytes."""
    digest = _begun(NAMES[tensor.dtype], tuple(tensor.shape))
    digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensor_checksums(path: Place) -> dict[str, str]:
    """The checksum of every tensor of a shard, by name.

    Raises:
        OSError, SafetensorError, ValueError, EOFError: it cannot be read.
    """
    if is_remote(path):
        return {name: streamed_checksum(path, where) for name, where in sorted(read_header(path).items())}
    with safe_open(path, framework="pt") as file:
        return {name: tensor_checksum(file.get_tensor(name)) for name in sorted(file.keys())}


def streamed_checksum(path: Place, where: TensorPlace) -> str:
    """A tensor's checksum, with a bounded piece of it in memory."""
    digest = _begun(where.dtype, where.shape)
    for start in range(where.start, where.stop, BLOCK):
        digest.update(read_range(path, start, min(start + BLOCK, where.stop)))
    return digest.hexdigest()


def file_checksum(path: Place, size: int) -> str:
    """The sha256 of a whole file of a known size, with a bounded piece of it in memory.

    Raises:
        OSError: it cannot be read.
        EOFError: it is shorter.
    """
    digest = hashlib.sha256()
    for piece in _pieces(path, size):
        digest.update(piece)
    return digest.hexdigest()


def feature_shape(path: Place, but: str) -> list[int]:
    """The shape of a shard's vectors, the same in each of its tensors but the one that is named.

    Raises:
        OSError, SafetensorError, ValueError: it cannot be read.
    """
    if is_remote(path):
        header = read_header(path)
        return list(header[min(header.keys() - {but})].shape[1:])
    with safe_open(path, framework="pt") as file:
        shape: list[int] = file.get_slice(min({*file.keys()} - {but})).get_shape()[1:]
    return shape


UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError, EOFError)
"""What the functions here raise of a shard that is damaged, or cannot be read."""


def _begun(dtype: str, shape: tuple[int, ...]) -> Any:
    return hashlib.sha256(json.dumps([dtype, list(shape)]).encode())


def _pieces(path: Place, size: int) -> Iterator[bytes]:
    if is_remote(path):
        for start in range(0, size, BLOCK):
            yield read_range(path, start, min(start + BLOCK, size))
        return
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
