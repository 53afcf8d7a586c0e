"""How much faster two workers on this machine capture than one process of one thread: what a cluster itself costs.

    REPENG_GENIES=... OMP_NUM_THREADS=1 python perf/cluster_overhead.py

The same texts, each time into a new store, one way after the other within a round; loading models and starting workers
is left out. The ratio is that of a round, the median over rounds. The stores are compared to the byte.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from repeng.activations.capture import capture, capture_by_pool
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store
from repeng.cluster.ray_cluster import connected
from repeng.cluster.ray_pool import RayPool
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.study.model_settings import ModelSettings

REQUEST = Request(tuple(get_stimulus(name) for name in ("plain", "contrast_yes", "contrast_no")))


def shards(root: Path) -> dict[str, bytes]:
    """The shards of a store."""
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*.safetensors"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--examples", type=int, default=200, help="of each split")
    parser.add_argument("--distributions", default="alpaca_easy,us_history,spanish_output")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    root = os.environ.get("REPENG_GENIES")
    if not root:
        sys.exit("name the folder of GENIES data in REPENG_GENIES")
    torch.set_num_threads(1)
    found = load_distributions(Path(root) / "distributions", asked.distributions.split(","))
    splits: list[Split] = [s.first(asked.examples) for d in found.values() for s in d.splits.values()]
    settings = ModelSettings(asked.model, device="cpu", cluster=f"local:{asked.workers}")
    lm, outline = settings.elsewhere().load_as(settings.identity), settings.outline()
    ratios = []
    with connected(f"local:{asked.workers}") as cluster, tempfile.TemporaryDirectory() as folder:
        shared = Path(folder)
        load = lambda: settings.elsewhere().load_as(settings.identity)  # noqa: E731  (sent to the workers)
        pool = RayPool(cluster, settings.needs(cluster), load, settings.identity, Store(shared))
        with closing(pool):
            while pool.n_ready < asked.workers:
                pool.wait_for_one_more()
            for number in range(asked.rounds):
                start = time.perf_counter()
                alone = capture(lm, splits, REQUEST, Store(shared / f"alone{number}"), too_long="cut")
                middle = time.perf_counter()
                store = Store(shared / f"pool{number}")
                capture_by_pool(
                    pool, lambda: outline, [(splits, REQUEST)], store, too_long="cut", identity=settings.identity
                )
                end = time.perf_counter()
                assert shards(shared / f"alone{number}") == shards(shared / f"pool{number}")
                ratios.append((middle - start) / (end - middle))
                print(
                    f"round {number}: {alone.n_tokens:,} tokens, one process {middle - start:.1f} s, "
                    f"{asked.workers} workers {end - middle:.1f} s: {ratios[-1]:.2f} times as fast"
                )
    print(f"median of {len(ratios)} rounds: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
