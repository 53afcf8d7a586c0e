"""How long a finished study takes to open: its report, `compare`, `browse` and its table, from 23 x 5 to 69 x 15.

    OMP_NUM_THREADS=1 python perf/tables.py                 # 23 x 5, 69 x 5, 69 x 15 shifts and methods
    OMP_NUM_THREADS=1 python perf/tables.py --sizes 23x5    # one of them

A made-up study of GENIES' size is written with the package's own writers, as `repeng run` leaves it: distributions of
125 prompts and 250 pairs, one prediction file a method, source and target with 5 fits, results.csv, layers.csv of 32
layers, and the mark of a table that is what its predictions give. Each job runs in a process of its own.

| job | what it is |
|---|---|
| report | `repeng report`, where there is no page yet |
| again | `repeng report` of a page that is there and current, as `repeng run` leaves it |
| unmarked | the same where results.csv or a prediction was changed since: every figure is made anew |
| load | Chromium opens that page, until it is laid out; skipped where playwright or a browser is not there |
| compare | `repeng compare RESULTS`: every two methods |
| against | `repeng compare RESULTS --against lora` |
| browse | `repeng browse --results RESULTS`, until page, facts and the first split with its predictions are served |
| table | the table in Python: `repeng.load(RESULTS).frame` |

A job whose processor seconds grow by more than 1.2 times what shifts x methods do is named at the end.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from repeng.distributions.load import write_genies
from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.metrics import Evaluation
from repeng.report.current import mark_settled
from repeng.results import (
    LayerFigure,
    evaluation_path,
    kind_of,
    layer_rows,
    row_from,
    with_verdicts,
    write_evaluation,
    write_layers,
    write_results,
)
from repeng.study.settings import Study

METHODS = (
    *("mms", "lat", "logistic", "lora", "zero-shot"),
    *("ccs", "cra", "lda", "random", "prompt-tuning", "few-shot", "truthfulness", "zero-shot-mean", "length", "tfidf"),
)
CATEGORIES = (("extreme", "difficulty"), ("extreme", "quality"), ("probing", "cues"), ("probing", "personas"))
PROMPTS, FITS, NULLS, LAYERS, MODEL = 125, 5, 20, 32, "llama-7b"
TOLERANCE = 1.2
JOBS = ("report", "again", "unmarked", "load", "compare", "against", "browse", "table")


def write_study(folder: Path, n_shifts: int, n_methods: int) -> None:
    """FOLDER/data and FOLDER/results: three shifts a source."""
    generator = np.random.default_rng(0)
    methods, probes = METHODS[:n_methods], [name for name in METHODS[:n_methods] if kind_of(name) == "probe"]
    shifts = [
        Shift(f"source_{number // 3}", f"target_{number}", "", *CATEGORIES[number * len(CATEGORIES) // n_shifts])
        for number in range(n_shifts)
    ]
    tests = {name: _distribution(name, folder / "data") for one in shifts for name in (one.source, one.target)}
    known: dict[tuple[str, str, str], Evaluation] = {}
    asked = dict.fromkeys(
        pair for one in shifts for pair in ((one.source, one.source), (one.source, one.target), (one.target,) * 2)
    )
    results = folder / "results"
    for method in methods:
        for source, target in asked:
            evaluation = _evaluation(generator, tests[target], probe=method in probes)
            known[method, source, target] = evaluation
            names = {"model": MODEL, "method": method, "kind": kind_of(method), "source": source, "target": target}
            path = evaluation_path(results / "predictions", method, MODEL, source, target)
            write_evaluation(path, evaluation, {**names, "target_data_hash": tests[target].data_hash})
    rows = [
        row_from(
            known[method, one.source, one.target],
            model=MODEL,
            method=method,
            layers="12",
            shift=one,
            source_id=known[method, one.source, one.source],
            baseline=known["zero-shot", one.source, one.target],
            capability=known["lora", one.target, one.target],
        )
        for method in methods
        for one in shifts
    ]
    write_results(with_verdicts(rows), results / "results.csv")
    layers = []
    for probe in probes:
        for source, target in asked:
            reached = generator.uniform(0.5, 1.0, LAYERS)
            figures = [
                LayerFigure(layer, None, one, one - 0.05, min(1.0, one + 0.05), one, float(layer == 12))
                for layer, one in enumerate(reached.tolist())
            ]
            if (target,) * 2 != (source, target) or source.startswith("source"):
                layers += layer_rows(figures, model=MODEL, probe=probe, source=source, target=target)
    write_layers(layers, results / "layers.csv")
    study = Study(
        model=MODEL,
        data=str(folder / "data"),
        methods=methods,
        shift=tuple(f"{one.source}:{one.target}" for one in shifts),
        out=str(results),
    )
    (results / "study.toml").write_text(study.to_toml(), encoding="utf-8")
    mark_settled(results / "results.csv")


def _distribution(name: str, folder: Path) -> Split:
    """A distribution of prompts with one right response and two others, written; its test split."""
    splits = {}
    for split in ("train", "test"):
        examples = tuple(
            Example(f"{name}, {split}: question {number}? " + "Some words about it. " * 8, (f"a{number}", "b", "c"), 0)
            for number in range(PROMPTS)
        )
        splits[split] = Split(name, split, examples)
    write_genies(Distribution(name, splits), folder)
    return splits["test"]


def _evaluation(generator: np.random.Generator, split: Split, *, probe: bool) -> Evaluation:
    """One answer by each fit; some methods and shifts are easier than others, and some prompts too."""
    count = len(split.pairs)
    ease = generator.normal(1.0, 1.0) + generator.normal(0.0, 1.0, count)
    worse = generator.normal(0.0, 1.0, (FITS, count))
    scores = np.stack([worse + ease + generator.normal(0.0, 0.3, (FITS, count)), worse], axis=2)
    null = generator.uniform(0.4, 0.6, NULLS) if probe else None
    return Evaluation.of_fits(
        1 / (1 + np.exp(scores[..., 1] - scores[..., 0])),
        scores,
        example=np.array([pair.example for pair in split.pairs]),
        group=np.array([pair.group for pair in split.pairs]),
        shuffled=null,
        random=null,
    )


def repeng(*arguments: str) -> list[str]:
    """A command of the package."""
    return [sys.executable, "-m", "repeng", *arguments]


def measured(command: list[str], meanwhile: Callable[[subprocess.Popen[str]], None] | None = None) -> tuple[float, ...]:
    """Wall seconds, processor seconds and peak memory (MB) of a command; `meanwhile` talks to it and ends it."""
    code = (
        "import resource, subprocess, sys\n"
        "rc = subprocess.call(sys.argv[1:])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print('used', used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, rc, file=sys.stderr)"
    )
    start = time.perf_counter()
    if meanwhile is not None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            meanwhile(process)
            wall = time.perf_counter() - start
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000
        finally:
            process.kill()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    said = done.stderr.splitlines()[-1].split()
    if said[3] != "0":
        raise SystemExit(done.stderr)
    return wall, float(said[1]), float(said[2])


def first_page(process: subprocess.Popen[str]) -> None:
    """Fetch what a browser fetches first of `browse`."""
    assert process.stdout is not None
    address = process.stdout.readline().split()[0]
    for name in ("", "page.css", "browse.css", "browse.js", "data/info.json", "data/0.json"):
        assert fetched(address + name)


def fetched(address: str) -> bytes:
    """What lies at an address, once the server answers."""
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            time.sleep(0.02)


LOAD = """
import sys, time
from playwright.sync_api import sync_playwright
with sync_playwright() as player:
    browser = player.chromium.launch(executable_path=sys.argv[2])
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto("file://" + sys.argv[1], wait_until="load")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    print(time.perf_counter() - start)
    browser.close()
"""


def loaded(page: Path) -> tuple[float, ...] | None:
    """Seconds until a browser shows a page, from the moment that it is asked to; None without a browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    command = [sys.executable, "-c", LOAD, str(page), browser or ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else (float(done.stdout), float("nan"), float("nan"))


def one_job(job: str, folder: Path) -> tuple[float, ...] | None:
    """Run a job once."""
    results = folder / "results"
    page, mark = results / "report.html", results / ".checked"
    if job == "load":
        return loaded(page)
    if job in ("report", "again", "unmarked"):
        if job != "again":
            page.unlink(missing_ok=True)
        if job == "unmarked":
            mark.unlink(missing_ok=True)
        return measured(repeng("report", str(results)))
    if job == "browse":
        return measured(repeng("browse", "--results", str(results), "--port", "0"), first_page)
    if job == "table":
        code = "import sys, repeng; print(repeng.load(sys.argv[1]).frame.shape)"
        return measured([sys.executable, "-c", code, str(results)])
    return measured(repeng("compare", str(results), *(["--against", "lora"] if job == "against" else [])))


def main() -> None:
    """Write the studies, run every job on each, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="23x5,69x5,69x15")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the studies there, and take those that are there already")
    given = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in given.sizes.split(",")]
    found: dict[tuple[str, int], tuple[float, ...]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = given.folder or Path(temporary)
        for shifts, methods in sizes:
            folder = root / f"{shifts}x{methods}"
            if not folder.is_dir():
                write_study(folder, shifts, methods)
        for job in given.jobs.split(","):
            for shifts, methods in sizes:
                rounds = [one_job(job, root / f"{shifts}x{methods}") for _ in range(given.rounds)]
                known = [one for one in rounds if one is not None]
                if known:
                    wall, processor, memory = (statistics.median(values) for values in zip(*known, strict=True))
                    found[job, shifts * methods] = (wall, processor, memory)
                    print(f"| {job} | {shifts} x {methods} | {wall:.1f} | {processor:.1f} | {memory:.0f} |", flush=True)
    counts = sorted({count for _, count in found})
    for job in JOBS:
        for small, large in zip(counts, counts[1:], strict=False):
            if (job, small) in found and (job, large) in found:
                column = 0 if job == "load" else 1
                grows = found[job, large][column] / found[job, small][column]
                if grows > TOLERANCE * large / small:
                    more = large / small
                    print(f"{job}: {more:.1f} times as many results ({large}) take {grows:.1f} times as long")


if __name__ == "__main__":
    main()
