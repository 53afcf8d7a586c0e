"""Tensors from the model's device to the CPU, all of a row in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Parcel:
    """Tensors on their way to the CPU.

    What lies on one device goes as one piece of memory. From a CUDA device it goes to pinned memory while the device
    computes on; `open` waits for it.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._kinds = [(tensor.dtype, tensor.shape) for tensor in tensors]
        self._pieces: list[tuple[list[int], Tensor]] = []
        self._arrivals: list[Any] = []
        for device in dict.fromkeys(tensor.device for tensor in tensors):
            here = [number for number, tensor in enumerate(tensors) if tensor.device == device]
            # Wider values first, so that each begins at a multiple of its size.
            here.sort(key=lambda number: -tensors[number].element_size())
            bytes_ = torch.cat([tensors[number].contiguous().flatten().view(torch.uint8) for number in here])
            self._pieces.append((here, self._send(bytes_)))

    def open(self) -> list[Tensor]:
        """The tensors, on the CPU."""
        for arrival in self._arrivals:
            arrival.synchronize()
        found: dict[int, Tensor] = {}
        for here, piece in self._pieces:
            start = 0
            for number in here:
                dtype, shape = self._kinds[number]
                stop = start + shape.numel() * dtype.itemsize
                found[number] = piece[start:stop].view(dtype).view(shape)
                start = stop
        return [found[number] for number in range(len(found))]

    def _send(self, bytes_: Tensor) -> Tensor:
        if bytes_.device.type != "cuda":
            return bytes_.cpu()
        host = torch.empty(bytes_.shape, dtype=bytes_.dtype, pin_memory=True)
        host.copy_(bytes_, non_blocking=True)
        with torch.cuda.device(bytes_.device):
            arrival = torch.cuda.Event()
            arrival.record()
        self._arrivals.append(arrival)
        return host
