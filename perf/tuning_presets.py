"""What the tuning presets learn on the embedded benchmark: the table of docs/tuning.md.

    python perf/tuning_presets.py
    python perf/tuning_presets.py --sources facts,geography --seeds 0,1 --variant lora --variant lora:learning_rate=3e-4

A variant is a probe, or METHOD, METHOD-genies, or either with settings changed: `lora:rank=4,steps=50`. Figures are
means over seeds; accuracy is that of pairs of the source's own test split. Nothing is chosen by what generalises. CPU
seconds are those of one tuning, data and model loaded; a probe's are not counted, since its cost is the capture's.
"""

from __future__ import annotations

import argparse
import ast
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repeng.benchmarks.mini import mini_distributions
from repeng.distributions.schema import Distribution
from repeng.probes.registry import known_probes
from repeng.study.settings import Study
from repeng.study.study import plan_study, run_study
from repeng.tuning.scoring import score
from repeng.tuning.settings import TuneSettings, preset_settings
from repeng.tuning.tuned_model import tune

VARIANTS = ("mms", "logistic", "lora", "lora-genies", "prompt-tuning", "prompt-tuning-genies", "full", "full-genies")


@dataclass(frozen=True)
class Tried:
    """One variant on one source with one seed; blanks (NaN) where a probe has none."""

    accuracy: float
    held_out: float = np.nan
    steps_run: float = np.nan
    seconds: float = np.nan


def variant_settings(variant: str) -> TuneSettings:
    name, _, changes = variant.partition(":")
    pairs = [change.partition("=") for change in changes.split(",") if change]
    values = {key: ast.literal_eval(value) if value[:1].isdigit() else value for key, _, value in pairs}
    method = name.removesuffix("-genies")
    return preset_settings(method, "genies" if name != method else "default", **values)


def tried_tuning(model: str, data: Distribution, settings: TuneSettings, seed: int) -> Tried:
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tuned = tune(model, data.train, method=settings.method, root=Path(folder), settings=settings, seed=seed)
        seconds = time.process_time() - began
        probabilities, _ = score(tuned, [data.test])[data.name]
    wins = (probabilities > 0.5) + 0.5 * (probabilities == 0.5)
    held_out = np.nan if tuned.held_out_accuracy is None else tuned.held_out_accuracy
    return Tried(float(wins.mean()), held_out, tuned.record["steps_run"], seconds)


def tried_probe(model: str, probe: str, sources: Sequence[str], seed: int, store: Path) -> list[Tried]:
    shifts = store.parent / "shifts.json"
    shifts.write_text(json.dumps([{"source": name, "target": name} for name in sources]))
    study = Study(
        model=model,
        benchmark=str(shifts),
        data="mini",
        methods=(probe,),
        store=str(store),
        out=str(store.parent / f"{probe}-{seed}"),
        seed=seed,
    )
    found = run_study(plan_study(study), progress=lambda _title: nullcontext(lambda _done, _of: None), note=print)
    accuracies = {row.source: row.accuracy for row in found.rows if row.method == probe}
    return [Tried(accuracies[name] or np.nan) for name in sources]


def cells(variant: str, by_source: Sequence[Sequence[Tried]]) -> str:
    """A row of the table: accuracy by source and its mean, then what tuning did, by source."""
    means = [float(np.mean([one.accuracy for one in tried])) for tried in by_source]
    steps = [np.mean([one.steps_run for one in tried]) for tried in by_source]
    rest = ["", "", ""]
    if not np.isnan(steps).any():
        held_out = np.mean([one.held_out for tried in by_source for one in tried])
        seconds = np.mean([one.seconds for tried in by_source for one in tried])
        rest = ["" if np.isnan(held_out) else f"{held_out:.3f}", ", ".join(f"{n:.0f}" for n in steps), f"{seconds:.0f}"]
    figures = [*(f"{mean:.3f}" for mean in means), f"{np.mean(means):.3f}", *rest]
    return f"| `{variant}` | {' | '.join(figures)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sources", default="facts,words")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--variant", action="append", help="again for more; all presets and two probes by default")
    arguments = parser.parse_args()
    sources = arguments.sources.split(",")
    data = mini_distributions(names=sources)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(f"| | {' | '.join(sources)} | mean | held-out | steps run | CPU s |\n|---|{'---|' * (len(sources) + 4)}")
    with tempfile.TemporaryDirectory() as folder:
        for variant in arguments.variant or VARIANTS:
            if variant in known_probes():
                runs = [tried_probe(arguments.model, variant, sources, seed, Path(folder) / "store") for seed in seeds]
                by_source = [list(tried) for tried in zip(*runs, strict=True)]
            else:
                settings = variant_settings(variant)
                by_source = [
                    [tried_tuning(arguments.model, data[name], settings, seed) for seed in seeds] for name in sources
                ]
            print(cells(variant, by_source), flush=True)


if __name__ == "__main__":
    main()
