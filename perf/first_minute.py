"""What a newcomer waits for: `repeng --help`, the study of `make run` from nothing, and the same once more.

    python perf/first_minute.py                          # this checkout
    python perf/first_minute.py --before ../earlier      # and another one, in turn, round after round

Each in a process of its own with as many threads as torch takes. Of two checkouts the ratio is of their medians. That
both print the same table is for the reader to see: it lies at the end of the output where it differs.
"""

from __future__ import annotations

import argparse
import difflib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
JOBS = {"--help": ("--help",), "run, from nothing": ("run",), "run, once more": ("run",)}


def timed(tree: Path, arguments: tuple[str, ...], folder: Path) -> tuple[float, float, str]:
    """Seconds on the wall and of processors that a command takes, and what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "105"}
    # A newcomer's Python keeps what it has compiled.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "repeng", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout of the repository")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    trees = {"before": options.before.resolve()} if options.before else {}
    trees["now"] = HERE
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    printed: dict[str, str] = {}
    for number in range(options.rounds):
        for name, tree in trees.items():
            with tempfile.TemporaryDirectory() as folder:
                for job, arguments in JOBS.items():
                    wall, cpu, text = timed(tree, arguments, Path(folder))
                    found.setdefault((job, name), []).append((wall, cpu))
                    print(f"round {number + 1}, {name}, {job}: {wall:.1f} s ({cpu:.1f} of processors)", flush=True)
                printed[name] = text
    for job in JOBS:
        middle = {name: [statistics.median(column) for column in zip(*found[job, name], strict=True)] for name in trees}
        told = [f"{name} {wall:.2f} s ({cpu:.2f} of processors)" for name, (wall, cpu) in middle.items()]
        ratio = f"; {middle['before'][0] / middle['now'][0]:.2f} times" if len(trees) > 1 else ""
        print(f"{job}: {', '.join(told)}{ratio}")
    if len(trees) > 1:
        was, now = printed["before"].splitlines(), printed["now"].splitlines()
        print("\n".join(difflib.unified_diff(was, now, "before", "now", lineterm="", n=0)))


if __name__ == "__main__":
    main()
