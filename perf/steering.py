"""What many edits of a model cost: from the lowest edited block on, in shared rows, against whole passes.

    python perf/steering.py                                      # the embedded model, 20 examples, 10 edits
    python perf/steering.py --model smollm2 --examples 4 --layers 5,15,25

Three ways score the same texts under the same edits, in turn, round after round, and give the same log-probabilities:

| way | what it is |
|---|---|
| ours | `score_under`: texts share a common prefix, blocks below the edited one are computed once a batch |
| whole passes | the same rows, the whole model for each edit (`repeng.steer` around it) |
| padded | whole passes over padded batches, each text a row: the usual loop |

CPU seconds; medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from repeng.activations.layouts.batch import Layout, Run
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.layouts.selfcheck import packed_layout
from repeng.benchmarks.loaded import load_benchmark
from repeng.models.load import LanguageModel, load_model
from repeng.probes.fitted import NO_HEAD
from repeng.steering.edits import Add
from repeng.steering.hooks import Edits
from repeng.steering.questions import SplitQuestions
from repeng.steering.scoring import score_under
from repeng.steering.steer import steering

Scores = Float[np.ndarray, "edit span"]


def whole(lm: LanguageModel, asked: SplitQuestions, edits: list[Edits], layout: Layout, budget: int) -> Scores:
    """Each edit by a whole pass."""
    rows = []
    for own in edits:
        with steering(lm, "resid_post", own):
            rows.append(score_under(lm, asked.texts, "resid_post", [{}], layout, batch_tokens=budget)[0])
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--distribution", default="facts")
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("--layers", default="")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lm = load_model(options.model)
    split = load_benchmark(None, None, limit=options.examples).distributions[options.distribution].test
    asked, budget = SplitQuestions.of(lm, split), 2048
    layout = packed_layout(lm, Run(asked.texts, (), budget)) or padded_batches
    layers = [int(each) for each in options.layers.split(",")] if options.layers else list(range(0, lm.n_layers, 2))
    print(f"{lm.name}, {lm.identity.dtype}: {len(asked.texts)} texts, {asked.n_tokens} tokens, {options.edits} edits")
    print("layer   ours, CPU s   whole passes, times   padded, times   largest difference, nats")
    for layer in layers:
        scale = 0.05 * lm.d_model**0.5
        drawn = torch.randn(options.edits, lm.d_model, generator=torch.Generator().manual_seed(0)) * scale
        edits: list[Edits] = [{(layer, NO_HEAD): (Add(one),)} for one in drawn]
        ways: dict[str, Callable[[], Scores]] = {
            "ours": partial(score_under, lm, asked.texts, "resid_post", edits, layout, batch_tokens=budget),
            "whole": partial(whole, lm, asked, edits, layout, budget),
            "padded": partial(whole, lm, asked, edits, padded_batches, budget),
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, Scores] = {}
        for _ in range(options.rounds):
            for name, way in ways.items():
                begin = time.process_time()
                found[name] = way()
                spent[name].append(time.process_time() - begin)
        middle = {name: statistics.median(values) for name, values in spent.items()}
        far = max(np.abs(found[name] - found["ours"]).max() for name in ways)
        times = "   ".join(f"{middle[name] / middle['ours']:.2f}" for name in ("whole", "padded"))
        print(f"{layer:5d}   {middle['ours']:.2f}   {times}   {far:.1e}", flush=True)


if __name__ == "__main__":
    main()
