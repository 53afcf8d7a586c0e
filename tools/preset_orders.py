"""How often the order of two responses decides a GENIES preset: `python -m tools.preset_orders --store DIR`.

Their released calibration has an intercept, so the same pair may be won by either response, by which stands first. Each
preset is fitted on each source of a store, split seed by split seed; of every target pair both orders are asked. The
store must hold the presets' sites (hook_z, resid_pre, resid_post) and the stimulus lat2. The table is that of
docs/methods/genies-presets.md.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from repeng.errors import RepengError
from repeng.maths import pair_accuracy
from repeng.probes.calibration import LogisticCalibration
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.registry import get_probe
from repeng.study.cached_data import CachedData, open_store
from tools.layer_study import Reader, every_pair, markdown, shifts_here

log = logging.getLogger(__name__)
PRESETS = "mms-genies,lat-genies,cra-genies,lat-stimulus-2-genies"


def rows_of(cached: CachedData, name: str, source: str, targets: list[str], seeds: int) -> Iterator[dict[str, object]]:
    """A row for every seed and target of a preset fitted on a source."""
    reader = Reader(cached, get_probe(name))
    train = reader.split(source, "train")
    tests = {target: reader.split(target, "test") for target in targets}
    for seed in range(seeds):
        fitted = fit_probe(ProbeSpec(reader.probe, seed=seed), train)
        calibration = fitted.calibration
        if not isinstance(calibration, LogisticCalibration):
            raise TypeError(f"{name} is calibrated by {calibration}")
        for target, data in tests.items():
            cosines = fitted.pair_scores(data.activations, every_pair(data))
            first, second = calibration.in_each_order(cosines)
            yield {
                "preset": name,
                "source": source,
                "target": target,
                "drawn": float(np.mean(calibration(cosines) > 0.5)),
                "both orders": float(np.mean([first > 0.5, second > 0.5])),
                "sign": float(pair_accuracy(cosines)),
                "decided by order": float(np.mean((first > 0.5) != (second > 0.5))),
                "p moves": float(np.mean(np.abs(first - second))),
                "p moves at most": float(np.max(np.abs(first - second))),
                "turned": calibration.coefficient < 0,
            }


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """By preset: means over sources, each the mean of its targets and seeds, in %; and the worst of all."""
    figures = ["drawn", "both orders", "sign", "decided by order", "p moves", "turned"]
    by_source = rows.groupby(["preset", "source"], sort=False)[figures].mean()
    found = (100 * by_source.groupby("preset", sort=False).mean()).round(1)
    found["worst shift, decided by order"] = (
        100 * rows.groupby(["preset", "source", "target"])["decided by order"].mean().groupby("preset").max()
    ).round(1)
    found["p moves at most"] = rows.groupby("preset")["p moves at most"].max().round(2)
    return found.reset_index()


def main() -> None:
    """Fit, ask in both orders, print."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="filled by `repeng cache`")
    parser.add_argument("--model", help="where the store holds several captures")
    parser.add_argument("--shifts", default="mini", help="benchmarks or shift files, comma-separated")
    parser.add_argument("--presets", default=PRESETS)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    cached = open_store(asked.store, asked.model)
    found: list[dict[str, object]] = []
    for name in asked.presets.split(","):
        for source, targets in shifts_here(cached, asked.shifts.split(",")).items():
            try:
                found += rows_of(cached, name, source, targets, asked.seeds)
            except RepengError as error:
                log.warning("%s on %s is left out: %s", name, source, error)
    print(markdown(table(pd.DataFrame(found))))


if __name__ == "__main__":
    main()
