"""What watching adds to the time of generating: the same tokens with and without, in turn, round after round.

    OMP_NUM_THREADS=1 python perf/watch.py                       # mini, and random Llamas of two sizes
    OMP_NUM_THREADS=1 python perf/watch.py --models smollm2

Ways: generate alone; with a `Watcher` that is asked at the end; with one that tells every token as it is read. Probes:
one direction at one layer, and an ensemble of every second layer. A round's ratio is of CPU seconds, so that others who
use the machine count little; medians over rounds and their range are printed, and the operations of PyTorch that
watching adds to a step. The activations that probes are fitted on are random: what a score is makes no difference to
its cost.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from repeng.models.load import load_model
from repeng.probes import MMS
from repeng.probes.calibration import Temperature, TextCalibration
from repeng.probes.fitted import FittedProbe
from repeng.watching.watcher import Watcher

SHAPES = {
    # layers, width, inner width, heads
    "llama-85m": (12, 768, 2048, 12),
    "llama-400m": (24, 1024, 4096, 16),
}
VOCABULARY = 32_000
PROMPT = 64
"""Tokens of the prompt."""


def model_of(name: str) -> tuple[Any, Any]:
    """A model of transformers and a tokenizer."""
    if name not in SHAPES:
        lm = load_model(name, device="cpu", dtype="float32")
        return lm.model, lm.tokenizer
    layers, width, inner, heads = SHAPES[name]
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": inner}
    config = AutoConfig.for_model("llama", **sizes, num_attention_heads=heads, vocab_size=VOCABULARY)
    return AutoModelForCausalLM.from_config(config).eval(), load_model("mini", device="cpu").tokenizer


def probe_on(layers: tuple[int, ...], d: int) -> FittedProbe:
    """A probe on random activations."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(len(layers), 1, 40, d, generator=generator)
    ones, curve = np.ones(len(layers)), np.full(len(layers), 0.5)
    return FittedProbe(
        probe=MMS().fit(made, np.tile([1.0, 0.0], 20), np.repeat(np.arange(20), 2)),
        fitted_layers=layers,
        units=tuple((layer, -1) for layer in layers),
        centre=0 * ones,
        scale=ones,
        calibration=Temperature(1.0),
        layer_heads=(-1,) * len(layers),
        layer_temperatures=ones,
        held_out_accuracy=curve,
        held_out_log_loss=curve,
        head_accuracy=curve[:, None],
        train_accuracy=curve,
        projection_mean=curve[:, None],
        projection_spread=curve[:, None],
        seed=0,
        site="resid_post",
        token="last",
        stimuli=("plain",),
        texts=TextCalibration(1.0, 0.0, 2.0, 1.6),
    )


class Counts(TorchDispatchMode):
    """How many of PyTorch's operations are called."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations_a_step(way: Callable[[int], None]) -> float:
    """Operations of one more token."""
    counts = []
    for tokens in (4, 12):
        with Counts() as mode:
            way(tokens)
        counts.append(mode.count)
    return (counts[1] - counts[0]) / 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="mini,llama-85m,llama-400m")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    for name in asked.models.split(","):
        measure(name, asked.tokens, asked.rounds)


def measure(name: str, tokens: int, rounds: int) -> None:
    """One model."""
    model, tokenizer = model_of(name)
    n_layers, d = model.config.num_hidden_layers, model.config.hidden_size
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    ids = torch.randint(5, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False}
    found: list[Any] = []

    def alone(n: int, **how: Any) -> None:
        found.append(model.generate(ids, **given, min_new_tokens=n, max_new_tokens=n, **how))

    def watched(probe: FittedProbe, told: bool) -> Callable[[int], None]:
        heard: list[Any] = []
        on_token = (lambda *said: heard.append(said)) if told else None
        watcher = Watcher(model, probe, tokenizer=tokenizer, on_token=on_token)

        def way(n: int) -> None:
            with watcher:
                alone(n, logits_processor=[watcher.processor])
                assert len(watcher.tokens[0]) == PROMPT + n - 1

        return way

    one, several = (n_layers // 2,), tuple(range(0, n_layers, 2))
    ways: dict[str, Callable[[int], None]] = {
        "1 layer, asked at the end": watched(probe_on(one, d), False),
        "1 layer, told token by token": watched(probe_on(one, d), True),
        f"{len(several)} layers, asked at the end": watched(probe_on(several, d), False),
        f"{len(several)} layers, told token by token": watched(probe_on(several, d), True),
    }
    print(
        f"{name}: {n_parameters / 1e6:.0f} M parameters, {n_layers} layers, {d} wide; {tokens} tokens, {rounds} rounds"
    )
    base = operations_a_step(alone)
    added = {label: operations_a_step(way) - base for label, way in ways.items()}
    seconds: dict[str, list[float]] = {label: [] for label in ("alone", *ways)}
    alone(tokens)
    for _ in range(rounds):
        for label, way in (("alone", alone), *ways.items()):
            start = time.process_time()
            way(tokens)
            seconds[label].append(time.process_time() - start)
    if not all(torch.equal(each, found[-1]) for each in found if each.shape == found[-1].shape):
        raise SystemExit("watching changed what is generated")
    step = statistics.median(seconds["alone"]) / tokens
    print(f"  alone: {1e3 * step:.2f} ms of CPU a token, {base:.0f} operations")
    for label in ways:
        ratios = [with_it / without for with_it, without in zip(seconds[label], seconds["alone"], strict=True)]
        differences = [
            (with_it - without) / tokens for with_it, without in zip(seconds[label], seconds["alone"], strict=True)
        ]
        print(
            f"  {label}: {100 * (statistics.median(ratios) - 1):+.1f} % (rounds {100 * (min(ratios) - 1):+.1f} to "
            f"{100 * (max(ratios) - 1):+.1f}), {1e3 * statistics.median(differences):.2f} ms a token, "
            f"{added[label]:.0f} operations more"
        )


if __name__ == "__main__":
    main()
