"""How long probes over all tokens take to fit all layers, against the same training by `torch.nn` a layer at a time.

    OMP_NUM_THREADS=2 python perf/token_probes.py

Synthetic activations: 4 layers of 1,000 texts (`--texts`, a multiple of 4) of 100 tokens, 576 wide, of which a tenth of
the tokens of one class carry the signal; 500 more texts are scored. `--nulls` adds 20 fits with exchanged labels, side
by side. The peer is an attention probe as published code trains it: padded batches, one layer after the other, as many
passes as ours took. Training takes one thread of a processor, whatever is given: more wait for each other.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from repeng.probes import MLP, Attention, MaxOfMeans, MeanOfScores, Probe, Ragged, SoftmaxPooling
from repeng.probes.trained import TrainedProbe

MARKED = 10
"""Neighbouring tokens that carry the signal."""


def synthetic(layers: int, texts: int, tokens: int, width: int, seed: int) -> tuple[Ragged, Tensor]:
    """Texts of one length, best, worse, best, worse, ...; and their labels."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(layers, 1, texts * tokens, width, generator=generator)
    for text in range(0, texts, 2):
        first = text * tokens + int(torch.randint(0, tokens - MARKED + 1, (1,), generator=generator))
        values[:, 0, first : first + MARKED, :4] += 1.0
    return Ragged(values, np.arange(texts + 1) * tokens), torch.tensor([1.0, 0.0]).repeat(texts // 2)


class Peer(nn.Module):
    """One attention probe in `torch.nn`'s words."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(width, heads, bias=False), nn.Linear(width, heads)

    def forward(self, padded: Tensor, there: Tensor) -> Tensor:
        """A logit a text."""
        scaled = self.query(padded) / padded.shape[-1] ** 0.5
        weights = scaled.masked_fill(~there[..., None], -torch.inf).softmax(dim=1)
        return (weights * self.value(padded)).sum(dim=1).mean(dim=-1)


def peer_seconds(ragged: Ragged, labels: Tensor, probe: Attention, passes: list[int]) -> float:
    """The same number of passes, a layer at a time, on padded batches."""
    start = time.perf_counter()
    tokens = int(ragged.lengths.max())
    for layer, count in enumerate(passes):
        padded = ragged.values[layer, 0].reshape(len(labels), tokens, -1)
        padded = (padded - padded.mean(dim=(0, 1))) / padded.std(dim=(0, 1))
        there = torch.ones(padded.shape[:2], dtype=torch.bool)
        model = Peer(padded.shape[-1], probe.heads)
        optimiser = torch.optim.AdamW(model.parameters(), lr=probe.learning_rate, weight_decay=probe.weight_decay)
        learned, held_out = torch.arange(len(labels)).split([len(labels) * 4 // 5, len(labels) - len(labels) * 4 // 5])
        for _ in range(count):
            for batch in learned[torch.randperm(len(learned))].split(probe.batch_size):
                optimiser.zero_grad()
                logits = model(padded[batch], there[batch])
                nn.functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
                optimiser.step()
            with torch.no_grad():
                model(padded[held_out], there[held_out])
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 4), ("texts", 1000), ("tokens", 100), ("width", 576)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--nulls", action="store_true")
    asked = parser.parse_args()
    shape = (asked.layers, asked.texts, asked.tokens, asked.width)
    ragged, labels = synthetic(*shape, seed=0)
    other, own = synthetic(asked.layers, asked.texts // 2, asked.tokens, asked.width, seed=1)
    groups = np.arange(asked.texts) // 2
    print(f"{shape} layers, texts, tokens, width; {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| probe | fit, s | processor, s | passes | score, s | AUROC |" + (" 20 nulls, s |" if asked.nulls else ""))
    print("|---|---|---|---|---|---|" + ("---|" if asked.nulls else ""))
    probes: list[Probe] = [MeanOfScores(), SoftmaxPooling(), MaxOfMeans(), Attention(), MLP()]
    for probe in probes:
        # The network reads one token: here the mean.
        x: Any = ragged if probe.ragged else ragged.means()
        x_other = other if probe.ragged else other.means()
        start, used = time.perf_counter(), time.process_time()
        probe.fit(x, labels, groups)
        spent, used = time.perf_counter() - start, time.process_time() - used
        start = time.perf_counter()
        scores = probe.decision_function(x_other)
        scoring = time.perf_counter() - start
        auroc = np.mean([roc_auc_score(own, layer) for layer in scores])
        passes = probe.epochs_.tolist() if isinstance(probe, TrainedProbe) else []
        line = (
            f"| {probe.name} | {spent:.1f} | {used:.1f} | {' '.join(map(str, passes))} | {scoring:.2f} | {auroc:.3f} |"
        )
        if asked.nulls:
            swaps = torch.rand(20, asked.texts // 2, generator=torch.Generator().manual_seed(0)) < 0.5
            start = time.perf_counter()
            probe.fit_swapped(x, swaps)
            line += f" {time.perf_counter() - start:.1f} |"
        print(line, flush=True)
        if isinstance(probe, Attention):
            # Ours goes on for `patience` passes more before it knows.
            ran = [min(count + probe.patience, probe.epochs) for count in passes]
            theirs = peer_seconds(ragged, labels, probe, ran)
            print(
                f"| torch.nn, a layer at a time | {theirs:.1f}, {theirs / spent:.2f} times ours | | | | |", flush=True
            )


if __name__ == "__main__":
    main()
