"""Operations: how many a capture takes, and how many a second this machine makes of a large matrix product."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from contestants import Ours
from torch import nn
from workload import SHAPES, Workload, synchronize

from repeng.activations.budget import budget_of
from repeng.activations.layouts.packing import pack
from repeng.activations.store.files import SHARD_CHARACTERS, blocks
from repeng.models.onednn import using_fast_linear

ROUNDS = 6


@torch.inference_mode()
def matrix_rate(work: Workload) -> float:
    """Operations a second of a large linear layer in the model's dtype, measured now and computed as captures do."""
    size = 8192 if work.lm.device.type == "cuda" else 2048
    layer = nn.Linear(size, size, bias=False, device=work.lm.device, dtype=work.lm.dtype)
    values = torch.randn(size, size, device=work.lm.device, dtype=work.lm.dtype)
    best = float("inf")
    with using_fast_linear(layer):
        for _ in range(ROUNDS):
            synchronize()
            start = time.perf_counter()
            layer(values)
            synchronize()
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@dataclass(frozen=True)
class Operations:
    """Multiplications and additions of a capture.

    Attributes:
        blocks: two for each token and parameter of the blocks' matrices.
        head: two for each response token and parameter of the head.
        attention: scores and weighted values of all query-key pairs that see each other.
    """

    blocks: float
    head: float
    attention: float

    @classmethod
    def of(cls, work: Workload, ours: Ours) -> Operations:
        """Those of a capture that was made."""
        assert ours.summary is not None
        lm, config = work.lm, work.lm.config.get_text_config()
        heads, linear = config.num_attention_heads, [m for b in lm.blocks for m in b.modules() if type(m) is nn.Linear]
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        budget = ours.batch_tokens or budget_of(lm.config, lm.dtype, lm.device)
        return cls(
            blocks=2 * sum(layer.weight.numel() for layer in linear) * ours.summary.n_tokens,
            head=2 * sum(weight.numel() for weight in lm.unembed.parameters()) * ours.n_scored,
            attention=4 * width * work.n_layers * n_seen(work, budget),
        )

    @property
    def total(self) -> float:
        return self.blocks + self.head + self.attention


def n_seen(work: Workload, batch_tokens: int) -> int:
    """Query-key pairs that see each other in packed rows: of each token those before it in its texts, and itself."""
    total = 0
    for split in work.splits:
        for numbers in blocks(split, SHARD_CHARACTERS):
            examples = [split.examples[number] for number in numbers]
            ids = {tuple(work.tokenizer(f"{e.prompt}{r}")["input_ids"]) for e in examples for r in e.responses}
            total += sum(int((row.positions + 1).sum()) for row in pack(sorted(ids), batch_tokens))
    return total


def block_parameters(shape: str) -> int:
    """Those of the matrices in the blocks of a Llama of a shape."""
    sizes = SHAPES[shape]
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    return sizes["num_hidden_layers"] * width * (4 * width + 3 * inner)
