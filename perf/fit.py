"""Fit mms, lat, ccs and cra on every layer at once, against a plain loop over layers (and restarts).

    OMP_NUM_THREADS=1 python perf/fit.py

A synthetic cache: 12 layers, 768 wide, 600 pairs, a Yes and a No text a response. Both sides are timed in one run, turn
about; the figures are medians of the rounds. The loop of CCS over 12 layers, 10 starts and 1000 epochs takes minutes:
`--epochs 100` shortens both sides alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from repeng.probes.base import Probe
from repeng.probes.ccs import CCS, initial
from repeng.probes.cra import CRA
from repeng.probes.lat import LAT, turns
from repeng.probes.mms import MMS

RESTARTS = 10


def synthetic(layers: int, width: int, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Activations [layer, stimulus, response, d_model], labels and example ids."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([1.0, 0.0]).repeat(pairs)
    activations = torch.randn(layers, 2, 2 * pairs, width, generator=generator)
    activations[:, 0, :, 0] += 2 * labels
    activations[:, 1, :, 0] -= 2 * labels
    return activations, labels, torch.arange(pairs).repeat_interleave(2)


def loop_mms(activations: Tensor, labels: Tensor) -> list[Tensor]:
    directions = []
    for layer in activations[:, 0].numpy():
        best, worse = layer[labels.numpy() == 1], layer[labels.numpy() == 0]
        directions.append(torch.from_numpy(best.mean(axis=0) - worse.mean(axis=0)))
    return directions


def loop_cra(activations: Tensor, labels: Tensor) -> list[Tensor]:
    return loop_mms(activations[:, :1] - activations[:, 1:], labels)


def loop_lat(activations: Tensor, labels: Tensor) -> list[Tensor]:
    directions = []
    for layer in activations[:, 0].numpy():
        best, worse = layer[labels.numpy() == 1], layer[labels.numpy() == 0]
        differences = (best - worse) * turns(len(best), 0).numpy()[:, None]
        component = np.linalg.svd(differences - differences.mean(axis=0), full_matrices=False)[2][0]
        right = np.mean((best - worse) @ component > 0)
        directions.append(torch.from_numpy(component if right >= 0.5 else -component))
    return directions


def loop_ccs(activations: Tensor, epochs: int) -> list[Tensor]:
    """One layer and one start after another, as the released code trains."""
    weights, biases = initial(RESTARTS, activations.shape[-1], seed=0)
    directions = []
    for layer in activations:
        x0, x1 = layer - layer.mean(dim=1, keepdim=True)
        best, best_loss = weights[0], float("inf")
        for weight, bias in zip(weights, biases, strict=True):
            linear = torch.nn.Linear(len(weight), 1)
            with torch.no_grad():
                linear.weight.copy_(weight[None])
                linear.bias.copy_(bias[None])
            probe = torch.nn.Sequential(linear, torch.nn.Sigmoid())
            optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.01)
            for _ in range(epochs):
                p0, p1 = probe(x0), probe(x1)
                loss = (torch.min(p0, p1) ** 2).mean(0) + ((p0 - (1 - p1)) ** 2).mean(0)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if loss.item() < best_loss:
                best, best_loss = linear.weight[0].detach().clone(), loss.item()
        directions.append(best)
    return directions


Result = TypeVar("Result")


def clocked(function: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1000, help="of CCS, on both sides")
    options = parser.parse_args()
    both, labels, groups = synthetic(options.layers, options.width, options.pairs)
    plain = both[:, :1].contiguous()
    threads = torch.get_num_threads()
    print(f"{options.layers} layers, {options.width} wide, {options.pairs} pairs, {threads} thread(s)")

    cases: dict[str, tuple[Probe, Tensor, Callable[[], list[Tensor]]]] = {
        "mms": (MMS(), plain, lambda: loop_mms(plain, labels)),
        "lat": (LAT(), plain, lambda: loop_lat(plain, labels)),
        "cra": (CRA(), both, lambda: loop_cra(both, labels)),
        "ccs": (CCS(restarts=RESTARTS, epochs=options.epochs), both, lambda: loop_ccs(both, options.epochs)),
    }
    print(f"{'probe':<6}{'batched, s':>12}{'loop, s':>12}{'ratio':>8}   least |cosine| of the two directions")
    for name, (probe, activations, loop) in cases.items():
        fast, slow = [], []
        probe.fit(activations, labels, groups)
        for _ in range(options.rounds):
            seconds, _ = clocked(partial(probe.fit, activations, labels, groups))
            fast.append(seconds)
            seconds, expected = clocked(loop)
            slow.append(seconds)
        cosine = torch.cosine_similarity(probe.state()["direction_"], torch.stack(expected), dim=-1).abs().min()
        batched, looped = statistics.median(fast), statistics.median(slow)
        label = f"{name:<6}{batched:>12.3f}{looped:>12.3f}{looped / batched:>8.1f}   {cosine:.6f}"
        print(label + (f"   ({options.epochs} epochs)" if name == "ccs" else ""))


if __name__ == "__main__":
    main()
