"""Float32 linear layers on this CPU: as PyTorch computes them (MKL), and by oneDNN, as a capture does on AMD's CPUs.

    python perf/linear.py

Both take turns on the same values; figures are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from repeng.models.onednn import cpu_vendor, favours_onednn, onednn_linear

SHAPES = ((128, 192, 512), (128, 768, 32_000), (512, 768, 768), (2048, 768, 2048), (2048, 2048, 768))
"""Tokens, width in, width out."""
ROUNDS = 15


def seconds(layer: Callable[[Tensor], Tensor], values: Tensor) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    layer(values)
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    print(f"{cpu_vendor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print(f"a capture takes {'oneDNN' if favours_onednn() else 'what PyTorch takes'} here\n")
    print("| tokens, in, out | PyTorch, GFLOP/s | oneDNN, GFLOP/s | ratio |\n|---|---|---|---|")
    for n_tokens, d_in, d_out in SHAPES:
        layer, values = nn.Linear(d_in, d_out, bias=False), torch.randn(n_tokens, d_in)
        rounds = [(seconds(layer, values), seconds(lambda x: onednn_linear(layer, x), values)) for _ in range(ROUNDS)]  # noqa: B023
        own, ours = (median(column) for column in zip(*rounds[1:], strict=True))
        work = 2 * n_tokens * d_in * d_out / 1e9
        ratio = median(one / other for one, other in rounds[1:])
        print(f"| {n_tokens}, {d_in}, {d_out} | {work / own:.0f} | {work / ours:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
