"""How much memory, and how long, fitting, scoring and sweeping take on a store that need not fit into memory.

    python perf/reading.py                                  # 2 GB: 8 distributions, 32 layers, 2,048 wide
    python perf/reading.py --gigabytes 20 --responses 8000  # splits of 1 GB

The store is in bfloat16, each distribution a train and a test split. Each job runs in a process of its own, whose
memory is measured when everything is imported and the store is opened ("idle"), and at its peak: what the job took is
the difference. Pages of files that are mapped count, as the operating system counts them.

| job | what it is |
|---|---|
| fit | `repeng.fit` on one source, every layer |
| study | the fits of a study on that source: 5 fits, 20 nulls of each kind |
| score | every split of the store by the mean of all layers, and every layer's own figure |
| sweep | `repeng.sweep` of one source over every distribution |
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sweep import write_store

from repeng.methods.probes import CachedSource, FittedOnCache
from repeng.probes.repeats import fit_repeatedly
from repeng.study.cached_data import CachedData, open_store
from repeng.study.cached_sweep import sweep as sweep_over
from repeng.study.cached_train import train_of
from repeng.study.steps import cached_target, fit, probe_of, question_of, spec_of


def memory(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024


def forget_peak() -> None:
    """Let the peak be what is in memory now."""
    Path("/proc/self/clear_refs").write_text("5")


def fit_one(data: CachedData, probe: str) -> None:
    """One fit, every layer."""
    fit(data, data.trained_distributions()[0], probe)


def fit_study(data: CachedData, probe: str) -> None:
    """The fits of a study."""
    train = train_of(data, data.trained_distributions()[0])
    spec = spec_of(probe_of(probe), site=None, token=None, seed=0, layers="auto")
    source = CachedSource.of(spec, data.n_layers, train.activations, train.labels)
    fit_repeatedly(spec, source, fits=5, nulls=20)


def score(data: CachedData, probe: str) -> None:
    """Every split by all layers together and by each alone."""
    fitted = fit(data, data.trained_distributions()[0], probe, layers="all")
    alone = FittedOnCache.alone(fitted, data.n_layers)
    for key in data.splits():
        question, _ = question_of(cached_target(fitted, data, key.distribution, split=key.split, allow_shared=True))
        alone.answer(question)
        alone.layer_scores(question)


def sweep_all(data: CachedData, probe: str) -> None:
    """One source over every distribution."""
    targets = data.trained_distributions()
    sweep_over(data, targets[0], targets, [probe])


JOBS: dict[str, Callable[[CachedData, str], None]] = {
    "fit": fit_one,
    "study": fit_study,
    "score": score,
    "sweep": sweep_all,
}


def measure(store: str, job: str, probe: str) -> None:
    """Do one job in this process; print what it took as one line of JSON."""
    logging.disable(logging.WARNING)
    data = open_store(store)
    # What a first fit imports is not what reading takes.
    import scipy.optimize  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    forget_peak()
    idle, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    JOBS[job](data, probe)
    took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "idle": idle, "peak": memory("VmHWM") - idle}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--responses", type=int, default=1000)
    parser.add_argument("--probes", default="mms,logistic")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--store", type=Path, help="read this one instead of one made up")
    parser.add_argument("--folder", type=Path, help="where the store is written and removed again; default: temporary")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(str(options.store), options.measure, options.probes)
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        store = options.store
        if store is None:
            store = folder / "store"
            count, size = write_store(store, options.gigabytes, options.layers, options.width, options.responses)
            print(f"store of {size / 1e9:.2f} GB: {count} distributions, {options.layers} layers, {options.width} wide")
        print(f"{'job':8}{'probe':12}{'idle MB':>9}{'peak over idle MB':>20}{'seconds':>10}{'CPU':>8}", flush=True)
        for job in options.jobs.split(","):
            for probe in options.probes.split(","):
                own = [sys.executable, __file__, "--measure", job, "--store", str(store), "--probes", probe]
                found = json.loads(subprocess.run(own, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
                took = f"{found['peak'] / 1e6:>20.0f}{found['seconds']:>10.1f}{found['cpu']:>8.1f}"
                print(f"{job:8}{probe:12}{found['idle'] / 1e6:>9.0f}{took}", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
