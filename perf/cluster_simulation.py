"""How near to the ideal a cluster comes, with slow machines and lost ones: the real scheduling, on a made-up clock.

    REPENG_GENIES=... python perf/cluster_simulation.py

The work is GENIES' 61 distributions under the stimuli that `repeng cache` takes by default: the 23 whose texts are at
hand are cut into blocks by the very code that cuts a capture's, the others are drawn like them. How long a block takes
is its tokens at the rate of a 70B model, times a factor drawn from blocks of real text that are measured here first, so
that the spread of what packing leaves to compute is real; and a moment to hand it out. Who computes what is `Dispatch`,
as in a capture. The ideal knows everything beforehand: it has every worker busy until it is lost, and cuts the work as
fine as can be.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from repeng.activations.block import read_block
from repeng.activations.dispatch import Dispatch
from repeng.activations.group_capture import begin_groups
from repeng.activations.store.files import SHARD_CHARACTERS, blocks, n_characters
from repeng.activations.store.request import Request, capture_record
from repeng.activations.store.store import Store
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import load_model
from repeng.models.pretrained import load_tokenizer

STIMULI = ("plain", "contrast_yes", "contrast_no")
DISTRIBUTIONS = 61
PARAMETERS = 70e9
PEAK = 989e12
"""Of an H100 in bfloat16, in operations a second."""
UTILISATION = 0.4
HANDED_OUT = 0.05
"""Seconds that a block takes besides: asked for, sent, its shards noted."""
SLOW = ((0.05, 2.0), (0.15, 1.3))
"""Stragglers: the share of the nodes, and how many times slower each is."""
LOST = 0.05
"""The share of nodes that are lost, each at any moment of the ideal time, for good."""


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of the work, as `Dispatch` hands it out: what it is told of its length, and what it really takes."""

    n_tokens: int
    seconds: float


def measured(splits: list[Split], n: int, characters: int) -> tuple[list[float], float]:
    """Seconds a token of blocks of real text on the embedded model here, over their median; and of each text alone's
    tokens the share that is computed, texts with a common beginning sharing it."""
    lm = load_model("mini", device="cpu")
    request = Request(tuple(get_stimulus(name) for name in STIMULI))
    # Longer texts than the embedded model was made for take their time all the same.
    record = capture_record(lm.identity, max_length=1 << 20)
    rates, alone, computed = [], 0, 0

    for split in splits[:n]:
        few = split.first(
            max(2, len(split.examples) * characters // max(1, n_characters(split, range(len(split.examples)))))
        )
        with tempfile.TemporaryDirectory() as folder:
            (group,) = begin_groups(
                lm,
                few,
                record,
                request,
                Store(folder),
                layout=lambda _: "trees",
                batch_tokens=2048,
            )
            start = time.perf_counter()
            read = read_block(lm, group.group, 0, group.todo(0))
            read.write()
            rates.append((time.perf_counter() - start) / read.facts.n_tokens)
            alone += read.facts.n_tokens
            computed += read.n_tokens
    middle = statistics.median(rates)
    return [rate / middle for rate in rates], computed / alone


def work(
    splits: list[Split], tokens_per_character: float, generator: random.Random, factors: list[float], share: float
) -> list[Block]:
    """The blocks of 61 distributions."""
    by_name: dict[str, list[Split]] = {}
    for split in splits:
        by_name.setdefault(split.distribution, []).append(split)
    chosen = [*by_name, *generator.choices(list(by_name), k=DISTRIBUTIONS - len(by_name))]
    rate = PEAK * UTILISATION / (2 * PARAMETERS)
    found = []
    for name in chosen:
        for split in by_name[name]:
            for examples in blocks(split, SHARD_CHARACTERS):
                tokens = max(1, round(len(STIMULI) * n_characters(split, examples) * tokens_per_character))
                found.append(Block(tokens, HANDED_OUT + tokens * share / rate * generator.choice(factors)))
    return found


def ideal(total: float, workers: list[tuple[float, float]]) -> float:
    """When so many seconds of work are done by workers, each of a speed and until a time, if none ever waits."""
    low, high = 0.0, total * 100
    for _ in range(100):
        middle = (low + high) / 2
        done = sum(speed * min(middle, until) for speed, until in workers)
        low, high = (low, middle) if done >= total else (middle, high)
    return high


def makespan(pieces: list[Block], workers: list[tuple[float, float]], per_node: int) -> float:
    """When the last piece is done."""
    now = 0.0
    dispatch: Dispatch[Block] = Dispatch(pieces, clock=lambda: now)
    events: list[tuple[float, int, int, str]] = []
    hands: dict[int, list[Block]] = {number: [] for number in range(len(workers))}
    number_of_event = 0

    def push(when: float, worker: int, what: str) -> None:
        nonlocal number_of_event
        number_of_event += 1
        heapq.heappush(events, (when, number_of_event, worker, what))

    def start(worker: int, now: float) -> None:
        """Begin what is next in a worker's hand."""
        if hands[worker]:
            push(now + hands[worker][0].seconds / workers[worker][0], worker, "done")

    def refill(now: float) -> None:
        for worker, hand in hands.items():
            idle = not hand
            while (piece := dispatch.give(worker)) is not None:
                hand.append(piece)
            if idle and hand:
                start(worker, now)

    for worker, (_, until) in enumerate(workers):
        dispatch.join(worker, f"node {worker // per_node}")
        if until < float("inf"):
            push(until, worker, "lost")
    refill(0.0)
    last = 0.0
    while not dispatch.is_done:
        now, _, worker, what = heapq.heappop(events)
        if worker not in hands:
            continue
        if what == "lost":
            del hands[worker]
            dispatch.lost(worker)
        else:
            dispatch.done(worker, hands[worker].pop(0))
            last = now
            start(worker, now)
        refill(now)
    return last


def drawn_workers(gpus: int, per_node: int, span: float, generator: random.Random) -> list[tuple[float, float]]:
    """Of each worker its speed, and when it is lost."""
    workers = []
    for _ in range(gpus // per_node):
        draw, slower = generator.random(), 1.0
        for share, times in SLOW:
            if draw < share:
                slower = times
                break
            draw -= share
        until = generator.uniform(0, span) if generator.random() < LOST else float("inf")
        workers += [(1 / slower, until)] * per_node
    return workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=64, help="16 or more: nodes of eight are drawn too, and lost")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--measured", type=int, default=16, help="blocks of real text that are measured first")
    parser.add_argument("--model", default="mini", help="whose tokenizer counts the tokens")
    asked = parser.parse_args()
    root = os.environ.get("REPENG_GENIES")
    if not root:
        sys.exit("name the folder of GENIES data in REPENG_GENIES")
    found = load_distributions(Path(root) / "distributions")
    splits = [split for distribution in found.values() for split in distribution.splits.values()]
    tokenizer = load_tokenizer(asked.model)
    texts = [f"{e.prompt}{e.responses[0]}" for split in splits for e in split.examples[:4]]
    ratio = sum(len(ids) for ids in tokenizer(texts)["input_ids"]) / sum(map(len, texts))
    factors, share = measured(splits, asked.measured, 20_000)
    print(f"{len(found)} distributions at hand, {ratio:.3f} tokens a character ({asked.model}'s tokenizer)")
    print(
        f"{len(factors)} blocks measured: seconds a token {min(factors):.2f} to {max(factors):.2f} of their median, "
        f"{share:.2f} of the tokens computed"
    )
    for per_node in (1, 8):
        ratios, spans, counts = [], [], []
        for seed in range(asked.draws):
            generator = random.Random(seed)
            pieces = work(splits, ratio, generator, factors, share)
            total = sum(piece.seconds for piece in pieces)
            workers = drawn_workers(asked.gpus, per_node, total / asked.gpus, generator)
            best = ideal(total, workers)
            took = makespan(pieces, workers, per_node)
            ratios.append(took / best)
            spans.append(took)
            counts.append(len(pieces))
        ratios.sort()
        high = ratios[int(0.95 * len(ratios)) - 1]
        print(
            f"{asked.gpus} GPUs in nodes of {per_node}: {statistics.median(counts):.0f} blocks, "
            f"{statistics.median(spans) / 60:.1f} min; makespan over ideal: median {statistics.median(ratios):.3f}, "
            f"95 % of {len(ratios)} draws up to {high:.3f}, worst {ratios[-1]:.3f}"
        )


if __name__ == "__main__":
    main()
