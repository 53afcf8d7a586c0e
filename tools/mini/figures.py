"""The figures of docs/mini.md: `python -m tools.mini.figures --work DIR --out FILE.md`.

Runs the ordinary study with the embedded model, or with `--model FOLDER`, on each generator seed's distributions, and
writes tables: every shift and method on seed 0, their means and spread over the other seeds, and accuracy by layer.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from repeng.activations.store.store import Store, StoredCapture
from repeng.benchmarks.loaded import export
from repeng.benchmarks.mini import mini_benchmark
from repeng.results import ResultRow
from repeng.study.cached_sweep import sweep
from repeng.study.settings import DEFAULT_METHODS, Study
from repeng.study.study import plan_study, run_study

log = logging.getLogger(__name__)

LAYER_SOURCES = ("geography", "arithmetic", "words", "science", "facts")
Accuracies = dict[tuple[str, str, str], float]
"""(method, source, target) -> pair accuracy."""


@contextmanager
def _quiet(what: str) -> Iterator[Callable[[int, int], None]]:
    log.info("%s", what)
    yield lambda _done, _total: None


def run_seed(
    model: str, seed: int, work: Path, methods: Sequence[str]
) -> tuple[Accuracies, Sequence[ResultRow], StoredCapture]:
    """One study on one generator seed, with a store of its own: accuracies, its rows, and the capture."""
    data = work / f"seed-{seed}" / "data"
    export("mini", data, seed=seed)
    shifts = data.parent / "shifts.json"
    (data / "shifts.json").replace(shifts)
    study = Study(
        model=model,
        benchmark=str(shifts),
        data=str(data),
        methods=tuple(methods),
        store=str(work / f"seed-{seed}" / "store"),
        out=str(work / f"seed-{seed}" / "results"),
    )
    result = run_study(plan_study(study), progress=_quiet, note=log.info)
    found = {
        (row.method, row.source, row.target): float(row.accuracy)
        for row in result.rows
        if row.accuracy is not None and row.source and row.target
    }
    return found, result.rows, Store(Path(study.store)).capture(result.plan.cache.settings.capture_id)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def shift_table(by_seed: Sequence[Accuracies], methods: Sequence[str]) -> str:
    """Every shift and method, in percent: the mean over the seeds, its spread where there are several; then the means
    over the extreme and over the probing shifts."""

    def cell(values: Sequence[float]) -> str:
        mean, spread = 100 * float(np.mean(values)), 100 * float(np.std(values, ddof=1)) if len(values) > 1 else None
        return f"{mean:.0f}" if spread is None else f"{mean:.0f} ± {spread:.0f}"

    rows = []
    for shift in mini_benchmark().shifts:
        values = [[seed[method, shift.source, shift.target] for seed in by_seed] for method in methods]
        rows.append([shift.category, f"{shift.source} → {shift.target}", *(cell(value) for value in values)])
    for label in ("extreme", "probing"):
        shifts = [shift for shift in mini_benchmark().shifts if shift.label == label]
        means = [
            [float(np.mean([seed[method, s.source, s.target] for s in shifts])) for seed in by_seed]
            for method in methods
        ]
        rows.append([f"**{label} mean**", "", *(f"**{cell(value)}**" for value in means)])
    return table(["category", "shift", *methods], rows)


def cue_table(rows: Sequence[ResultRow], methods: Sequence[str]) -> str:
    """Shifts of spurious cues in percent: the mean over fits, the fits' range, and the range over tied layers."""
    by_name = {(row.method, row.source, row.target): row for row in rows}

    def span(low: float | None, high: float | None) -> str:
        return "–" if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}"

    lines = []
    for shift in mini_benchmark().shifts:
        for method in methods if shift.category == "spurious_cues" else ():
            row = by_name[method, shift.source, shift.target]
            if row.kind == "probe" and row.accuracy is not None:
                fits, ties = span(row.fit_lowest, row.fit_highest), span(row.tied_lowest, row.tied_highest)
                named = [f"{shift.source} → {shift.target}", method, f"{100 * row.accuracy:.0f}", fits, ties]
                lines.append([*named, row.layers])
    header = ["shift", "probe", "mean over fits", "lowest and highest fit", "lowest and highest tied layer", "layers"]
    return table(header, lines)


def layer_table(capture: StoredCapture) -> str:
    """In-distribution accuracy of mms and logistic at every layer, in percent."""
    rows: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for source in LAYER_SOURCES:
        for row in sweep(capture, source, [source], ["mms", "logistic"]):
            rows[row.probe, source][row.layer] = 100 * row.accuracy
    layers = sorted({layer for values in rows.values() for layer in values})
    return table(
        ["probe", "source", *(f"layer {layer}" for layer in layers)],
        [[probe, source, *(f"{values[layer]:.0f}" for layer in layers)] for (probe, source), values in rows.items()],
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, store and results")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(DEFAULT_METHODS))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    runs = {seed: run_seed(arguments.model, seed, arguments.work, arguments.methods) for seed in arguments.seeds}
    parts = []
    others = [seed for seed in arguments.seeds if seed]
    for title, seeds in (
        ("The shipped seed", [0] if 0 in runs else []),
        ("Other seeds, mean and standard deviation", others),
    ):
        if seeds:
            made = shift_table([runs[seed][0] for seed in seeds], arguments.methods)
            parts.append(f"{title} ({', '.join(str(seed) for seed in seeds)}):\n\n{made}")
    first = arguments.seeds[0]
    cues = cue_table(runs[first][1], arguments.methods)
    parts.append(f"Spurious cues, by fit and by layer (seed {first}):\n\n{cues}")
    layers = layer_table(runs[first][2])
    parts.append(f"In-distribution accuracy by layer (seed {first}):\n\n{layers}")
    arguments.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
