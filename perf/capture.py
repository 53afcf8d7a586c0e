"""How fast activations are captured, against what people write themselves, other libraries, and the hardware.

    python perf/capture.py                                   a quick look on this machine
    python perf/capture.py --shape 7b --dtype bfloat16 --device cuda --examples 40       on a GPU
    python perf/capture.py --model smollm2 --examples 2      a real model
    python perf/capture.py --each                            every distribution alone, ours against sorted batches

The model is a Llama with random weights (12 layers, 768 wide, vocabulary 32,000; `--shape 7b`: 32 layers, 4,096 wide)
whose tokenizer is trained on the texts, or a real one. The texts are GENIES' (`--data`, or REPENG_GENIES).

First a few texts are captured in float32 on the CPU, in float32 on the device, and in the dtype on the device; where
the model is random, one of its widths with 4 layers does this. The first must give the vectors of each text alone, each
other what the one before gave, log-probabilities included, or the script stops with a sentence. Then all ways run in
turn, round after round, on the same texts with the same weights, and the script stops if any gives other vectors.
Ratios are taken within a round, and medians over rounds. The GPU is waited for around each timing and its memory
cleared between ways. A way that has taken a minute is not timed again; one that is out of memory is left out, and said
so. A library that is not installed is skipped (`pip install -c constraints.txt -e ".[perf]"`).

Printed at the end: a table of the ways (contestants.py says what each is), and one of figures: what the check found,
packed tokens a second, the operations of blocks, head and attention (two for each parameter of a matrix and token, and
the query-key pairs that see each other), the rate of a large matrix product measured between the rounds, which share of
it a capture reaches, what GENIES' 11.3 million packed tokens would take with this model and with one of 7B, and a GPU's
memory. On a machine that others use too, compare processor seconds, with OMP_NUM_THREADS=1. Few examples flatter
nobody: the more there are, the less the check weighs and the fuller rows are.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from contestants import DENSE_ROW, PEERS, Ours, bound, installed, pair_by_pair, usual_loop
from operations import Operations, block_parameters, matrix_rate
from workload import (
    SHAPES,
    TRAINED_ON,
    Vectors,
    Workload,
    clear_memory,
    genies_folder,
    load,
    synchronize,
    train_tokenizer,
    write_random,
    write_real,
)

from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split

ALLOWED = {"float32": 1e-2, "bfloat16": 1e-1}
"""How far vectors may be from ours, in parts of their length; ours are stored in bfloat16."""
CHECK_ALLOWED = {"float32": (1e-3, 1e-3), "bfloat16": (1e-1, 0.3)}
"""The same of the check, whose vectors are stored in float32; and of a token's log-probability, in nats: bfloat16 has
numbers an eighth apart next to a logit of 20."""
CHECK_SPLITS, CHECK_LAYERS = 4, 4
ENOUGH = 60.0
"""A way that has taken so many seconds is not timed again."""
ALL_OF_GENIES = 11.3e6
"""Tokens of all 61 distributions in prefix trees."""
OURS, SORTED, BOUND = "repeng", "repeng, method=batched (sorted)", "dense rows, no hooks (the bound)"
VECTORS_ALONE = "repeng, vectors alone"
"""Without log-probabilities, which no other way keeps either."""
USUAL, PAIRS = "usual loop, batch 16", "pair by pair, batch 1, all tokens kept"

Way = Callable[[Workload], Vectors]


@dataclass
class Times:
    """Seconds of each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, run: Callable[[], Vectors | None]) -> Vectors | None:
        """Run once and note how long it took."""
        synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        synchronize()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return result

    def ratio(self, other: Times) -> float:
        """How many times as long this took as the other: the median over the rounds of both."""
        return median(a / b for a, b in zip(self.wall, other.wall, strict=False))


def distance(ours: Vectors, theirs: Vectors) -> float:
    """The furthest that a vector is from ours, in parts of its length, over the layers that both have."""
    ours = ours[: len(theirs)]
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())


def check(folder: Path, splits: Sequence[Split], device: str, dtype: str) -> list[tuple[str, str]]:
    """Capture a few texts in float32 on the CPU, then on the device, then in the dtype; each against the one before.

    Raises:
        SystemExit: one is off.
    """
    found, before, scores = [], None, None
    for where, kind in dict.fromkeys([("cpu", "float32"), (device, "float32"), (device, dtype)]):
        work, ours = load(folder, splits, device=where, dtype=kind), Ours(storage_dtype="float32")
        vectors = ours(work)
        assert ours.logprobs is not None
        off = distance(vectors, pair_by_pair(work) if before is None else before)
        nats = 0.0 if scores is None else float(np.abs(ours.logprobs - scores).max())
        against = f"each text alone ({work.n_layers} layers)" if before is None else "the one before"
        name, value = (
            f"check: {kind} on {where} against {against}",
            f"vectors off by {off:.1e}, {nats:.1e} nats a token",
        )
        most, most_nats = CHECK_ALLOWED[kind]
        if not (off <= most and nats <= most_nats):
            raise SystemExit(f"{name}: {value}; {most} and {most_nats} are allowed, so nothing is measured")
        print(f"{name}: {value}", flush=True)
        found.append((name, value))
        before, scores = vectors, ours.logprobs
        del work
        clear_memory()
    return found


def contestants(ours: Ours, peers: Sequence[str], left_out: Sequence[str]) -> dict[str, Callable[[Workload], Way]]:
    """What makes each way, by name. A library that is not installed is skipped, and said so."""
    ways: dict[str, Callable[[Workload], Way]] = {
        OURS: lambda _: ours,
        VECTORS_ALONE: lambda _: Ours(batch_tokens=ours.batch_tokens, logprob=False),
        SORTED: lambda _: Ours(method="batched", batch_tokens=ours.batch_tokens),
        USUAL: lambda _: usual_loop,
        PAIRS: lambda _: pair_by_pair,
    }
    for name in peers:
        package, make = PEERS[name]
        if not installed(package):
            print(f"skipped: {name}: {package} is not installed")
            continue
        ways[f"{name} ({package} {importlib.metadata.version(package)}), batch 16"] = make
    return {name: way for name, way in ways.items() if name == OURS or not any(part in name for part in left_out)}


def measure(
    work: Workload, ours: Ours, makers: dict[str, Callable[[Workload], Way]], repeats: int, dtype: str
) -> tuple[dict[str, Times], float]:
    """Every way in turn, `repeats` rounds, each time after a few texts that count for nothing.

    Returns:
        The times, and the operations a second of large matrix products: the median over rounds.

    Raises:
        SystemExit: a way gives other vectors than ours.
    """
    few = work.of(work.splits[0].first(2))
    times: dict[str, Times] = {}
    rates = []
    for number in range(repeats):
        reference = torch.zeros(0)
        for name, make in makers.items():
            one = times.setdefault(name, Times())
            if (number and not one.wall) or (sum(one.wall) > ENOUGH and name != OURS):
                continue
            try:
                way = make(work)
                way(few)
                vectors = one.take(partial(way, work))
            except torch.OutOfMemoryError:
                print(f"left out: {name}: out of memory", flush=True)
                continue
            finally:
                way = None  # type: ignore[assignment]
                clear_memory()
            assert vectors is not None
            if name == OURS:
                reference = vectors
            elif (off := distance(reference, vectors)) > ALLOWED[dtype]:
                raise SystemExit(f"{name} gives other vectors than repeng: off by {off:.1e}")
            elif number == 0:
                print(f"same vectors: {name}: off by {off:.1e} at most, {len(vectors)} layers", flush=True)
            print(f"round {number + 1}: {name}: {one.wall[-1]:.1f} s", flush=True)
        assert ours.summary is not None
        n_tokens, row = ours.summary.n_tokens, DENSE_ROW if work.lm.device.type == "cpu" else 8 * DENSE_ROW
        times.setdefault(BOUND, Times()).take(partial(bound, work, n_tokens, ours.n_scored, row))
        rates.append(matrix_rate(work))
    return {name: one for name, one in times.items() if one.wall}, median(rates)


def ways_table(times: dict[str, Times], n_responses: int) -> str:
    """Every way as a Markdown table."""
    lines = [
        "| way | seconds (median) | rounds | CPU seconds | times repeng | responses/s | share of the bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in sorted(times.items(), key=lambda item: median(item[1].wall)):
        seconds, share = median(one.wall), 1 / one.ratio(times[BOUND])
        lines.append(
            f"| {name} | {seconds:.2f} | {len(one.wall)} | {median(one.cpu):.1f} | {one.ratio(times[OURS]):.2f} "
            f"| {n_responses / seconds:,.1f} | {share:.0%} |"
        )
    return "\n".join(lines)


def figures(work: Workload, ours: Ours, seconds: float, rate: float) -> list[tuple[str, str]]:
    """What our seconds are in tokens and operations, and what all of GENIES would take at that rate."""
    assert ours.summary is not None
    n_tokens, operations = ours.summary.n_tokens, Operations.of(work, ours)
    reached = operations.total / seconds
    seven = ALL_OF_GENIES * 2 * block_parameters("7b") / reached
    found = [
        ("method", ours.summary.method),
        ("tokens computed, and scored for log-probabilities", f"{n_tokens:,}, {ours.n_scored:,}"),
        ("packed tokens a second", f"{n_tokens / seconds:,.0f}"),
        (
            "operations, TFLOP: blocks, head, attention",
            f"{operations.blocks / 1e12:.3g}, {operations.head / 1e12:.3g}, {operations.attention / 1e12:.3g}",
        ),
        ("matrix rate, measured between rounds, TFLOP/s", f"{rate / 1e12:.3g}"),
        ("reached, TFLOP/s", f"{reached / 1e12:.3g}, {reached / rate:.0%} of the matrix rate"),
        (
            f"{ALL_OF_GENIES / 1e6} million packed tokens, all of GENIES",
            f"{ALL_OF_GENIES * seconds / n_tokens / 60:,.1f} minutes with this model",
        ),
        ("the same with the blocks of a 7B model, at the TFLOP/s reached", f"{seven / 60:,.1f} minutes"),
    ]
    if ours.gpu_memory:
        found.append(("GPU memory of a capture at most, weights included, GB", f"{ours.gpu_memory / 1e9:.1f}"))
    return found


def each(work: Workload, batch_tokens: int | None, repeats: int) -> None:
    """Every split alone, ours with its check against sorted batches: with few examples the check weighs more."""
    ratios = {}
    print("| distribution | repeng | sorted batches | ratio |\n|---|---|---|---|")
    for split in work.splits:
        packed, padded, alone = Times(), Times(), work.of(split)
        for _ in range(repeats):
            packed.take(lambda: Ours(batch_tokens=batch_tokens)(alone))  # noqa: B023  (run at once)
            padded.take(lambda: Ours(method="batched", batch_tokens=batch_tokens)(alone))  # noqa: B023
        ratios[split.distribution] = padded.ratio(packed)
        print(
            f"| {split.distribution} | {median(packed.wall):.2f} | {median(padded.wall):.2f} "
            f"| {ratios[split.distribution]:.2f} |",
            flush=True,
        )
    least = min(ratios, key=lambda name: ratios[name])
    print(f"least: {least}, {ratios[least]:.2f}")


def main() -> None:
    """Parse, check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of GENIES distributions [default: that of REPENG_GENIES]")
    parser.add_argument("--distributions", help="names with commas between; all of them by default")
    parser.add_argument("--examples", type=int, default=4, help="of each distribution's test split")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, default="small", help="of a Llama with random weights")
    parser.add_argument("--model", help="a real model instead, as `repeng cache --model` takes it")
    parser.add_argument("--dtype", choices=ALLOWED, default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-tokens", type=int, help="our token budget; by default what `repeng cache` takes")
    parser.add_argument("--peers", default=",".join(PEERS), help="libraries to compare with; empty for none")
    parser.add_argument("--leave-out", default="", help="ways with one of these (commas between) in their name")
    parser.add_argument("--each", action="store_true", help="every distribution alone, ours against sorted batches")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; leave out --device, or install a torch that is built for CUDA")
    data = load_distributions(genies_folder(options.data), None, limit=max(TRAINED_ON, options.examples))
    names = options.distributions.split(",") if options.distributions else list(data)
    splits = tuple(data[name].test.first(options.examples) for name in names)
    device, dtype = options.device, options.dtype
    with TemporaryDirectory() as root:
        measured = checked = Path(root) / "measured"
        if options.model:
            write_real(measured, options.model, dtype=dtype)
        else:
            checked, tokenizer = Path(root) / "checked", train_tokenizer(data)
            for folder, n_layers in ((measured, None), (checked, CHECK_LAYERS)):
                write_random(folder, tokenizer, shape=options.shape, device=device, dtype=dtype, n_layers=n_layers)
        clear_memory()
        name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
        print(f"{platform.machine()}, {name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
        print(f"python {' '.join(sys.argv)}")
        checks = check(checked, [split.first(1) for split in splits[:CHECK_SPLITS]], device, dtype)
        work = load(measured, splits, device=device, dtype=dtype)
        print(f"{len(work.splits)} distributions, {len(work.texts)} responses, {len(work.pairs)} pairs", flush=True)
        if options.each:
            each(work, options.batch_tokens, options.repeats)
            return
        ours = Ours(batch_tokens=options.batch_tokens)
        peers, left_out = ([name for name in text.split(",") if name] for text in (options.peers, options.leave_out))
        times, rate = measure(work, ours, contestants(ours, peers, left_out), options.repeats, dtype)
        rows = checks + figures(work, ours, median(times[OURS].wall), rate)
        print(f"\n{ways_table(times, len(work.texts))}\n\n| figure | value |\n|---|---|")
        print("\n".join(f"| {name} | {value} |" for name, value in rows))


if __name__ == "__main__":
    main()
