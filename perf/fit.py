"""Fit every probe on all layers at once, against a plain loop over layers (and restarts), as a study asks it.

    OMP_NUM_THREADS=1 python perf/fit.py

A synthetic cache: 12 layers, 768 wide, 600 pairs, a Yes and a No text a response. A study fits each probe 5 times, and
20 times more with labels exchanged (`fit_swapped`); the loop is one fit, a layer at a time. Both sides are timed in one
run, turn about; the figures are medians of the rounds. The loop of CCS over 12 layers, 10 starts and 1000 epochs takes
minutes: `--epochs 100` shortens it, and `--without ccs` leaves it out.
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
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from repeng.probes.base import Probe
from repeng.probes.ccs import CCS
from repeng.probes.contrast import initial
from repeng.probes.cra import CRA
from repeng.probes.lat import LAT, turns
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.mms import MMS

RESTARTS = 10
FITS, NULLS = 5, 20


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


def loop_logistic(activations: Tensor, labels: Tensor) -> list[Tensor]:
    directions = []
    for layer in activations[:, 0].numpy():
        scaler = StandardScaler().fit(layer)
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(layer), labels.numpy())
        directions.append(torch.from_numpy(model.coef_[0] / scaler.scale_).float())
    return directions


def loop_lda(activations: Tensor, labels: Tensor) -> list[Tensor]:
    directions = []
    for layer in activations[:, 0].double().numpy():
        best, worse = layer[labels.numpy() == 1], layer[labels.numpy() == 0]
        within = np.concatenate([best - best.mean(axis=0), worse - worse.mean(axis=0)])
        covariance, _ = ledoit_wolf(within, assume_centered=True)
        directions.append(torch.from_numpy(np.linalg.solve(covariance, best.mean(axis=0) - worse.mean(axis=0))).float())
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
    parser.add_argument("--epochs", type=int, default=1000, help="of CCS's loop, and of its AdamW")
    parser.add_argument("--without", default="", help="probes to leave out, separated by commas")
    options = parser.parse_args()
    both, labels, groups = synthetic(options.layers, options.width, options.pairs)
    plain = both[:, :1].contiguous()
    swaps = torch.rand(NULLS, options.pairs, generator=torch.Generator().manual_seed(1)) < 0.5
    threads = torch.get_num_threads()
    print(f"{options.layers} layers, {options.width} wide, {options.pairs} pairs, {threads} thread(s)")

    released = CCS(restarts=RESTARTS, epochs=options.epochs, optimizer="adamw")
    cases: dict[str, tuple[Probe, Tensor, Callable[[], list[Tensor]]]] = {
        "mms": (MMS(), plain, lambda: loop_mms(plain, labels)),
        "lat": (LAT(), plain, lambda: loop_lat(plain, labels)),
        "cra": (CRA(), both, lambda: loop_cra(both, labels)),
        "lda": (LDA(), plain, lambda: loop_lda(plain, labels)),
        "logistic": (Logistic(), plain, lambda: loop_logistic(plain, labels)),
        "ccs": (CCS(restarts=RESTARTS), both, lambda: loop_ccs(both, options.epochs)),
        "ccs, adamw": (released, both, lambda: loop_ccs(both, options.epochs)),
    }
    print(
        f"{'probe':<11}{'a fit, s':>9}{f'{NULLS} nulls':>10}{f'{FITS} fits + nulls':>15}{'loop, 1 fit':>13}{'ratio':>7}"
        "   least |cosine| to the loop's direction"
    )
    for name, (probe, activations, loop) in cases.items():
        if name.partition(",")[0] in options.without.split(","):
            continue
        fits, nulls, loops = [], [], []
        probe.fit(activations, labels, groups)
        for _ in range(options.rounds):
            fits.append(clocked(partial(probe.fit, activations, labels, groups))[0])
            nulls.append(clocked(partial(probe.fit_swapped, activations, swaps))[0])
            seconds, expected = clocked(loop)
            loops.append(seconds)
        cosine = torch.cosine_similarity(probe.state()["direction_"], torch.stack(expected), dim=-1).abs().min()
        fit, null, looped = (statistics.median(times) for times in (fits, nulls, loops))
        study = FITS * fit + null
        print(f"{name:<11}{fit:>9.3f}{null:>10.3f}{study:>15.3f}{looped:>13.3f}{looped / study:>7.2f}   {cosine:.6f}")


if __name__ == "__main__":
    main()
