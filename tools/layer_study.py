"""What each rule of `--layers` costs: `python -m tools.layer_study --store DIR --shifts mini --out FILE.csv`.

Each probe is fitted on each source of a store once a split seed, all layers in one call; every rule then chooses from
the same held-out curves, and is scored on the targets that the shifts name. Nothing is captured. `--storage` compares
activations rounded to bfloat16 with those of a float32 store instead. docs/layers.md and docs/store.md hold the tables.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import stats

from repeng.benchmarks.shift_lists import get_benchmark
from repeng.distributions.schema import ResponseLabels
from repeng.errors import RepengError
from repeng.maths import all_pairs, pair_accuracy
from repeng.methods.names import parse_name
from repeng.methods.probes import CachedSource
from repeng.probes.base import Probe
from repeng.probes.fitted import to_numpy
from repeng.probes.fitting import RULES, ProbeSpec, fit_block, standardisation
from repeng.probes.registry import get_probe
from repeng.probes.selection import Curves, Unit, choose
from repeng.probes.source import SourceData, split_source
from repeng.study.cached_data import CachedData, open_store

log = logging.getLogger(__name__)

CHOSEN = ("top-k:1", "auto", "one-se", "top-k:3", "average", "all")
"""Rules of `--layers`; the others are held against the first, the layer of highest held-out accuracy."""
CANDIDATES: dict[str, Callable[[Curves], list[Unit]]] = {
    "latest of tied": lambda curves: curves.tied()[-1:],
    "middle of tied": lambda curves: [curves.tied()[len(curves.tied()) // 2]],
    "average of tied": lambda curves: curves.tied(),
}
"""Rules that were weighed as well, and are not offered."""
TIED, ANY, BEST_FIXED = "mean of tied", "a layer drawn at random", "best fixed layer"
"""What a user cannot ask for: the mean accuracy of the tied layers, and of all; and the layer best on the target."""


@dataclass(frozen=True)
class Reader:
    """The activations of a store, all layers, in float32 or rounded to bfloat16 on the way."""

    cached: CachedData
    probe: Probe
    rounded: bool = False

    def split(self, name: str, split: str) -> SourceData:
        """One split with its labels."""
        held = self.cached.split(name, split)
        known: ResponseLabels = held.capture.labels(name, split, data_hash=held.data_hash)
        source = CachedSource.of(ProbeSpec(self.probe), held.capture.n_layers, held, known)
        values = source.read(source.readings)
        held.forget()
        layers = tuple(reading.layer for reading in source.readings)
        assert isinstance(values, torch.Tensor)
        activations = values.bfloat16().float() if self.rounded else values
        return SourceData(activations, known.labels, known.rivals, known.groups, layers, source.kept)


def every_pair(data: SourceData) -> Int[np.ndarray, "pair 2"]:
    """Every pair of a split as rows (best, worse)."""
    return all_pairs(data.labels, data.examples, data.usable)


def layer_gaps(probe: Probe, data: SourceData) -> Float[np.ndarray, "layer pair"]:
    """How much higher each layer of a fitted probe scores the best response of every pair."""
    pairs = every_pair(data)
    scores = to_numpy(probe.decision_function(data.activations))
    return scores[:, pairs[:, 0]] - scores[:, pairs[:, 1]]


def ensemble(curves: Curves, units: list[Unit], gaps: Float[np.ndarray, "layer pair"]) -> Float[np.ndarray, " pair"]:
    """What a fitted probe makes of its chosen layers."""
    _, scale = standardisation(RULES["held-out"], curves.responses, units)
    return np.mean(gaps[[layer for layer, _ in units]] / scale[:, None], axis=0)


def fits(reader: Reader, source: str, seeds: int) -> Iterator[tuple[int, Probe, Curves]]:
    """The probe fitted on a source, split seed by split seed."""
    data = reader.split(source, "train")
    for seed in range(seeds):
        split = split_source(data.labels, data.examples, data.groups, seed=seed, usable=data.usable)
        yield seed, *fit_block(RULES["held-out"], reader.probe, split, data)


def rows_of_source(reader: Reader, source: str, targets: dict[str, SourceData], seeds: int) -> Iterator[dict[str, Any]]:
    """A row for every seed, target and rule, and for every layer alone (rule `layer 3`)."""
    for seed, fitted, curves in fits(reader, source, seeds):
        tied = [layer for layer, _ in curves.tied()]
        chosen = {rule: choose(RULES["held-out"].rules, curves, rule, 1) for rule in CHOSEN}
        chosen |= {rule: candidate(curves) for rule, candidate in CANDIDATES.items()}
        for target, data in targets.items():
            gaps = layer_gaps(fitted, data)
            alone = pair_accuracy(gaps)
            found = {rule: float(pair_accuracy(ensemble(curves, units, gaps))) for rule, units in chosen.items()}
            found |= {TIED: float(alone[tied].mean()), ANY: float(alone.mean())}
            found |= {f"layer {number}": float(value) for number, value in zip(curves.layers, alone, strict=True)}
            for rule, accuracy in found.items():
                layers = " ".join(str(curves.layers[layer]) for layer, _ in chosen.get(rule, []))
                yield {
                    "probe": reader.probe.name,
                    "source": source,
                    "target": target,
                    "seed": seed,
                    "rule": rule,
                    "layers": layers,
                    "accuracy": accuracy,
                    "tied": len(tied),
                    "tied_range": float(np.ptp(alone[tied])),
                    "source_accuracy": float(curves.accuracy.max()),
                    "coin_toss_layers": float(np.mean(np.abs(curves.train_accuracy - 0.5) < 0.05)),
                }


def shifts_here(cached: CachedData, names: Sequence[str]) -> dict[str, list[str]]:
    """The targets of each source, of the shifts that the store holds; `every` is every two distributions of it."""
    here = {key[:2] for key in cached.splits()}
    if names == ["every"]:
        pairs = dict.fromkeys(product(sorted({name for name, _ in here}), repeat=2))
    else:
        pairs = dict.fromkeys((shift.source, shift.target) for name in names for shift in get_benchmark(name).shifts)
    found: dict[str, list[str]] = {}
    for source, target in pairs:
        if source != target and (source, "train") in here and (target, "test") in here:
            found.setdefault(source, []).append(target)
    return found


def study(cached: CachedData, shifts: dict[str, list[str]], probe: Probe, seeds: int, *, rounded: bool) -> pd.DataFrame:
    """Every row of one probe."""
    reader = Reader(cached, probe, rounded)
    test = lru_cache(maxsize=24)(lambda name: reader.split(name, "test"))
    rows: list[dict[str, Any]] = []
    for source, targets in shifts.items():
        try:
            rows += rows_of_source(reader, source, {target: test(target) for target in (source, *targets)}, seeds)
        except RepengError as error:
            log.warning("%s on %s is left out: %s", probe.name, source, error)
    log.info("%s: %d sources", probe.name, len(shifts))
    return pd.DataFrame(rows)


def interval(values: pd.Series) -> str:
    """Mean of the sources' values and the half width of its 95 % t interval, in points."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{100 * values.mean():+.1f} ± {100 * half:.1f}"


def by_source(rows: pd.DataFrame) -> pd.DataFrame:
    """By probe, rule and source, means over its targets: accuracy, spread over seeds, gain, cost, number of choices."""
    cell = ["probe", "source", "target"]
    cells = rows.groupby([*cell, "rule"])["accuracy"].agg(["mean", "std"]).reset_index()
    alone = cells.rule.str.startswith("layer ")
    cells = cells[~alone].join(cells[alone].groupby(cell)["mean"].max().rename("fixed"), on=cell)
    cells = cells.join(cells[cells.rule == CHOSEN[0]].set_index(cell)["mean"].rename("first"), on=cell)
    cells = cells.assign(cost=cells["fixed"] - cells["mean"], gain=cells["mean"] - cells["first"])
    keys = ["probe", "rule", "source"]
    found = cells.groupby(keys, sort=False)[["mean", "std", "cost", "gain"]].mean()
    return found.join(rows.groupby(keys)["layers"].nunique().rename("choices"))


def rule_table(rows: pd.DataFrame) -> pd.DataFrame:
    """By probe and rule, means over sources, with 95 % intervals over them; `every` probe is the mean of the probes."""
    shifted = by_source(rows[rows.source != rows.target])
    own = by_source(rows[rows.source == rows.target])
    of_probes = [(probe, shifted.loc[probe], own.loc[probe]) for probe in rows.probe.unique()]
    if len(of_probes) > 1:
        keys = ["rule", "source"]
        of_probes.append(("every", shifted.groupby(keys).mean(), own.groupby(keys).mean()))
    return pd.DataFrame(
        {
            "probe": probe,
            "rule": rule,
            "accuracy on shifts": f"{100 * there.loc[rule]['mean'].mean():.1f}",
            f"gain over {CHOSEN[0]}": interval(there.loc[rule]["gain"]),
            "sd over seeds": f"{100 * there.loc[rule]['std'].mean():.1f}",
            "choices": f"{there.loc[rule]['choices'].mean():.1f}" if rule not in (TIED, ANY) else "",
            f"cost against the {BEST_FIXED}": interval(there.loc[rule]["cost"]),
            "gain on the source's own test split": interval(here.loc[rule]["gain"]),
        }
        for probe, there, here in of_probes
        for rule in (*CHOSEN, *CANDIDATES, TIED, ANY)
    )


def tie_table(rows: pd.DataFrame) -> pd.DataFrame:
    """By probe: how many fits have a tie, of how many layers, and how far apart these are on targets.

    Means over sources. `coin-toss layers` are those with a training accuracy within .05 of .5.
    """
    one = rows[(rows.rule == CHOSEN[0]) & (rows.source != rows.target)]
    one = one.assign(ties=one.tied > 1, tied_range=one.tied_range.where(one.tied > 1))
    columns = ["ties", "tied_range", "source_accuracy", "coin_toss_layers"]
    found = 100 * one.groupby(["probe", "source"])[columns].mean().groupby("probe").mean()
    found["layers tied"] = one.groupby(["probe", "source"])["tied"].mean().groupby("probe").mean()
    found = found.rename(
        columns={"ties": "fits with a tie, %", "tied_range": "range of target accuracy over tied layers"}
    )
    found = found.rename(columns={"source_accuracy": "held-out accuracy", "coin_toss_layers": "coin-toss layers, %"})
    return found.round(1).reset_index()


def storage_table(exact: pd.DataFrame, rounded: pd.DataFrame) -> pd.DataFrame:
    """By probe: how far rounding moves target accuracy, at each layer alone and by rule, and the spread over seeds."""
    keys = ["probe", "source", "target", "seed", "rule"]
    both = exact.merge(rounded, on=keys, suffixes=("", "_rounded"))
    both["moved"] = (both.accuracy_rounded - both.accuracy).abs()
    both["signed"] = both.accuracy_rounded - both.accuracy
    both["what"] = np.where(both.rule.str.startswith("layer "), "each layer alone", both.rule)
    both = both[both.what.isin(["each layer alone", *CHOSEN])]
    spread = both.groupby(["probe", "source", "target", "what", "rule"])["accuracy"].std().groupby(["probe", "what"])
    found = both.groupby(["probe", "what"], sort=False).agg(
        moved=("moved", "mean"), worst=("moved", "max"), signed=("signed", "mean"), cells=("moved", "size")
    )
    cells = both.groupby(["probe", "source", "target", "what", "rule"])["signed"].mean().abs()
    found["worst_mean_over_seeds"] = cells.groupby(["probe", "what"]).max()
    found["sd_over_seeds"] = spread.mean()
    figures = ["moved", "worst", "signed", "worst_mean_over_seeds", "sd_over_seeds"]
    found[figures] = (100 * found[figures]).round(2)
    return found.reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A table as the docs hold it."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="filled by `repeng cache`")
    parser.add_argument("--model", help="where the store holds several captures")
    parser.add_argument("--shifts", default="mini", help="benchmarks or shift files, comma-separated")
    parser.add_argument("--probes", default="mms,lat,cra")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--storage", action="store_true", help="compare with activations rounded to bfloat16")
    parser.add_argument("--out", type=Path, help="also every row, as CSV")
    return parser.parse_args()


def main() -> None:
    """Run the study and print its tables."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    asked = arguments()
    cached = open_store(asked.store, asked.model)
    shifts = shifts_here(cached, asked.shifts.split(","))
    log.info("%d sources, %d shifts", len(shifts), sum(map(len, shifts.values())))
    probes = [get_probe(name, **parameters) for name, parameters in map(parse_name, asked.probes.split(","))]
    rows = pd.concat([study(cached, shifts, probe, asked.seeds, rounded=False) for probe in probes])
    if asked.out:
        rows.to_csv(asked.out, index=False)
    if asked.storage:
        again = pd.concat([study(cached, shifts, probe, asked.seeds, rounded=True) for probe in probes])
        print(markdown(storage_table(rows, again)))
        return
    print(markdown(rule_table(rows)), markdown(tie_table(rows)), sep="\n\n")


if __name__ == "__main__":
    main()
