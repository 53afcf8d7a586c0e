"""What the tuning presets learn on the embedded benchmark: source-ID accuracy, steps and seconds of each.

    python perf/tuning_presets.py --sources facts,geography,arithmetic --variant lora --variant lora:learning_rate=3e-4

A variant is METHOD, METHOD-genies, or either with settings changed: `lora:rank=4,steps=50`. Each row is a mean over
sources and seeds; nothing is chosen by what generalises, only by what is learned of the source's own test split.
"""

from __future__ import annotations

import argparse
import ast
import tempfile
import time
from pathlib import Path

import numpy as np

from repeng.benchmarks.mini import mini_distributions
from repeng.tuning.settings import TuneSettings, preset_settings
from repeng.tuning.tuned import score, tune


def variant_settings(variant: str) -> TuneSettings:
    name, _, changes = variant.partition(":")
    pairs = [change.partition("=") for change in changes.split(",") if change]
    values = {key: ast.literal_eval(value) if value[:1].isdigit() else value for key, _, value in pairs}
    method = name.removesuffix("-genies")
    return preset_settings(method, "genies" if name != method else "default", **values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sources", default="facts,geography,arithmetic,words")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--variant", action="append", required=True)
    arguments = parser.parse_args()
    sources = arguments.sources.split(",")
    data = mini_distributions(names=sources)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print(f"{'variant':50s} source-ID  lowest  held-out  steps  seconds  by source")
    for variant in arguments.variant:
        settings = variant_settings(variant)
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for name in sources:
                for seed in seeds:
                    began = time.perf_counter()
                    tuned = tune(
                        arguments.model,
                        data[name].train,
                        method=settings.method,
                        root=Path(folder),
                        settings=settings,
                        seed=seed,
                    )
                    seconds = time.perf_counter() - began
                    probabilities, _ = score(tuned, [data[name].test])[name]
                    accuracy = float(np.mean((probabilities > 0.5) + 0.5 * (probabilities == 0.5)))
                    held_out = np.nan if tuned.held_out_accuracy is None else tuned.held_out_accuracy
                    rows.append((accuracy, held_out, tuned.steps or 0, seconds))
        accuracies, held_out, steps, seconds_taken = np.array(rows).T
        by_source = " ".join(f"{value:.3f}" for value in accuracies.reshape(len(sources), -1).mean(axis=1))
        print(
            f"{variant:50s} {accuracies.mean():9.3f} {accuracies.min():7.3f} {held_out.mean():9.3f} "
            f"{steps.mean():6.0f} {seconds_taken.mean():8.1f}  {by_source}",
            flush=True,
        )


if __name__ == "__main__":
    main()
