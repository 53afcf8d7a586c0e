"""How many tokens a batch may hold, from the device's memory and the model's size."""

from __future__ import annotations

from typing import Any

import torch

from repeng.models.load import LOGITS_AT_ONCE

FEWEST, MOST = 1024, 16_384
CPU_MOST = 2048
CACHE_BYTES = 32 << 20
"""On a CPU, what the widest tensor of a block may take: about what a last-level cache holds. It is not read from the
machine, so that all machines lay out the same rows."""
FREE_SHARE = 0.5
"""Of a GPU's free memory, how much a batch may take."""
LIVE = 8
"""Tensors of the widest kind that a block holds at once, norms, attention and copies in float32 counted in."""
LOGITS_BYTES = 3 * 4 * LOGITS_AT_ONCE
"""Logits of some tokens in float32, and what a log-softmax makes of them."""


def token_budget(*, width: int, itemsize: int, free_bytes: int | None) -> int:
    """Tokens a batch, a power of two.

    Args:
        width: of the widest tensor that a block makes for a token, such as the inner layer of its MLP.
        itemsize: bytes of one of its values.
        free_bytes: of a GPU's memory; None for a CPU.
    """
    token = width * itemsize
    if free_bytes is None:
        return _power_of_two(CACHE_BYTES // token, FEWEST, CPU_MOST)
    return _power_of_two(int((free_bytes * FREE_SHARE - LOGITS_BYTES) // (LIVE * token)), FEWEST, MOST)


def budget_of(config: Any, dtype: torch.dtype, device: torch.device) -> int:
    """The budget of a model of some configuration on a device, by the memory that is free there now."""
    free = None
    if device.type == "cuda":
        # What torch holds and does not use is free too.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + idle
    return token_budget(width=widest(config), itemsize=dtype.itemsize, free_bytes=free)


def widest(config: Any) -> int:
    """The width of the widest tensor that a block makes for a token: four times the stream's, where none is named."""
    text = config.get_text_config()
    stream = int(text.hidden_size)
    inner = [getattr(text, name, None) for name in ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")]
    return max([stream, *(int(size) for size in inner if isinstance(size, int))] if any(inner) else [4 * stream])


def _power_of_two(tokens: int, least: int, most: int) -> int:
    """The largest power of two within `tokens`, `least` and `most`: a little more or less memory changes nothing."""
    return min(max(1 << (max(tokens, 1).bit_length() - 1), least), most)
