"""How fast activations are captured, against what people write themselves, other libraries, and the hardware.

    python perf/capture.py                                   a quick look on this machine
    python perf/capture.py --shape 7b --dtype bfloat16 --device cuda --examples 40 --repeats 3       on a GPU
    python perf/capture.py --each                            every distribution alone, ours against sorted batches

All ways run one after the other, several times over, on the same texts with the same weights; what they give is
compared. Ratios are taken within a round, and medians over rounds. `--data` names a folder of GENIES distributions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from contestants import DENSE_ROW, PEERS, Ours, bound, installed, pair_by_pair, usual_loop
from workload import SHAPES, Vectors, Workload, genies_folder, make_workload

ALLOWED = {"float32": 1e-2, "bfloat16": 1e-1}
"""How far vectors may be from ours, in parts of their length; ours are stored in bfloat16."""
ALL_OF_GENIES = 11.3e6
"""Tokens of all 61 distributions in prefix trees."""
OURS, SORTED, BOUND = "repeng", "repeng, method=batched (sorted)", "dense rows, no hooks (the bound)"
VECTORS_ALONE = "repeng, vectors alone"
"""Without log-probabilities, which no other way keeps either."""
USUAL, PAIRS = "usual loop, batch 16, padding right", "pair by pair, batch 1, all tokens kept"


@dataclass
class Times:
    """Seconds of each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, run: Callable[[], Vectors | None]) -> Vectors | None:
        """Run once and note how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return result

    def ratio(self, other: Times) -> float:
        """How many times as long this took as the other: the median over rounds."""
        return median(a / b for a, b in zip(self.wall, other.wall, strict=True))


def contestants(
    work: Workload, ours: Ours, peers: Sequence[str], left_out: Sequence[str]
) -> dict[str, Callable[[Workload], Vectors]]:
    """All that run, by name. A library that is not installed is skipped, and said so."""
    ways: dict[str, Callable[[Workload], Vectors]] = {
        OURS: ours,
        VECTORS_ALONE: Ours(batch_tokens=ours.batch_tokens, logprob=False),
        SORTED: Ours(method="batched", batch_tokens=ours.batch_tokens),
        USUAL: usual_loop("right"),
        "usual loop, batch 16, padding left": usual_loop("left"),
        PAIRS: pair_by_pair,
    }
    for name in peers:
        package, make = PEERS[name]
        if not installed(package):
            print(f"skipped: {name}: {package} is not installed")
            continue
        ways[f"{name} ({package} {importlib.metadata.version(package)}), batch 16"] = make(work)
    return {name: way for name, way in ways.items() if name == OURS or not any(part in name for part in left_out)}


def distance(ours: Vectors, theirs: Vectors) -> float:
    """The furthest that a vector is from ours, in parts of its length, over the layers that both have."""
    ours = ours[: len(theirs)]
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())


def measure(
    work: Workload, ours: Ours, peers: Sequence[str], left_out: Sequence[str], repeats: int, dtype: str
) -> dict[str, Times]:
    """Every way in turn, `repeats` rounds after one on a few texts that counts for nothing.

    Raises:
        SystemExit: a way gives other vectors than ours.
    """
    ways = contestants(work, ours, peers, left_out)
    first = work.of(work.splits[0].first(2))
    for way in ways.values():
        way(first)
    times = {name: Times() for name in (*ways, BOUND)}
    for number in range(repeats):
        reference = torch.zeros(0)
        for name, way in ways.items():
            vectors = times[name].take(lambda way=way: way(work))  # type: ignore[misc]
            assert vectors is not None
            if name == OURS:
                reference = vectors
            elif (off := distance(reference, vectors)) > ALLOWED[dtype]:
                raise SystemExit(f"{name} gives other vectors than repeng: off by {off:.1e}")
            elif number == 0:
                print(f"same vectors: {name}: off by {off:.1e} at most, {len(vectors)} layers", flush=True)
        assert ours.summary is not None
        n_tokens, row = ours.summary.n_tokens, DENSE_ROW if work.lm.device.type == "cpu" else 8 * DENSE_ROW
        times[BOUND].take(lambda: bound(work, n_tokens, ours.n_scored, row))  # noqa: B023  (run at once)
        print(f"round {number + 1}: " + ", ".join(f"{t.wall[-1]:.1f}" for t in times.values()), flush=True)
    return times


def table(times: dict[str, Times]) -> str:
    """The figures as a Markdown table."""
    lines = ["| way | seconds (median) | CPU seconds | times ours | share of the bound |", "|---|---|---|---|---|"]
    for name, one in sorted(times.items(), key=lambda item: median(item[1].wall)):
        share = 1 / one.ratio(times[BOUND])
        lines.append(
            f"| {name} | {median(one.wall):.2f} | {median(one.cpu):.1f} | {one.ratio(times[OURS]):.2f} | {share:.0%} |"
        )
    return "\n".join(lines)


def matrix_rate(work: Workload) -> float:
    """FLOP a second of one large product in the model's dtype, measured now."""
    size = 8192 if work.lm.device.type == "cuda" else 2048
    one = torch.randn(size, size, device=work.lm.device, dtype=work.lm.dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        one @ one
        if work.lm.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def speed(work: Workload, ours: Ours, times: Times) -> str:
    """Tokens a second, the share of the matrix rate that they are, and what all of GENIES would take."""
    assert ours.summary is not None
    rate = ours.summary.n_tokens / median(times.wall)
    parameters = sum(p.numel() for p in work.model.model.layers.parameters())
    share = 2 * parameters * rate / matrix_rate(work)
    return (
        f"{rate:,.0f} packed tokens/s; {share:.0%} of the matrix rate measured in the same run; "
        f"all of GENIES ({ALL_OF_GENIES / 1e6} million tokens) in {ALL_OF_GENIES / rate / 60:,.1f} minutes"
    )


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
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of GENIES distributions [default: that of REPENG_GENIES]")
    parser.add_argument("--distributions", help="names with commas between; all of them by default")
    parser.add_argument("--examples", type=int, default=4, help="of each distribution's test split")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--dtype", choices=ALLOWED, default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-tokens", type=int, help="our token budget; by default what `repeng cache` takes")
    parser.add_argument("--peers", default=",".join(PEERS), help="libraries to compare with; empty for none")
    parser.add_argument("--leave-out", default="", help="ways with one of these (commas between) in their name")
    parser.add_argument("--each", action="store_true", help="every distribution alone, ours against sorted batches")
    options = parser.parse_args()
    names = options.distributions.split(",") if options.distributions else None
    with TemporaryDirectory() as folder:
        work = make_workload(
            Path(folder),
            genies_folder(options.data),
            names,
            options.examples,
            shape=options.shape,
            device=options.device,
            dtype=options.dtype,
        )
        device = torch.cuda.get_device_name() if work.lm.device.type == "cuda" else f"{torch.get_num_threads()} threads"
        print(f"{platform.machine()}, {device}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
        print(f"python {' '.join(sys.argv)}")
        print(f"{len(work.splits)} distributions, {len(work.texts)} responses, {len(work.pairs)} pairs")
        if options.each:
            each(work, options.batch_tokens, options.repeats)
            return
        ours = Ours(batch_tokens=options.batch_tokens)
        peers, left_out = ([name for name in text.split(",") if name] for text in (options.peers, options.leave_out))
        times = measure(work, ours, peers, left_out, options.repeats, options.dtype)
        assert ours.summary is not None
        print(f"method {ours.summary.method}: {ours.summary.n_tokens} tokens computed, {ours.n_scored} scored")
        print(table(times))
        print(speed(work, ours, times[OURS]))


if __name__ == "__main__":
    main()
