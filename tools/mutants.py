"""Change the code of one room a little, many times, and see whether its tests notice: `make mutants ROOM=metrics`.

cosmic-ray finds the places and makes the changes; one change is drawn for each place, and a sample of the places can be
drawn. All of it happens in a copy of the files that git knows, so that the working tree stays as it is when this is
stopped. Each run of the tests is a process forked from this one, which has imported the slow third-party packages.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.modules import find_modules
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parents[1]
IMPORTED_ONCE = (
    "torch",
    "pandas",
    "scipy.stats",
    "sklearn.linear_model",
    "transformers",
    "hypothesis",
    "beartype.claw",
)


ROOMS = {
    "metrics": ("cover", "keeps_its_level"),
    "probes": ("check_that_a_type_checker_forbids",),
    "study": (),
    "activations/store": (),
}
"""Rooms of repeng/ and tests/, with a word of each slow test that is left out: simulations of intervals' coverage, and
scikit-learn's own suite in a process of its own."""


def copy_files(place: Path) -> None:
    """Every file that git knows, or that it does not ignore."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def annotated(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a file's type annotations begin and end: a change there says nothing of the tests."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
    return [
        ((one.lineno, one.col_offset), (one.end_lineno or one.lineno, one.end_col_offset or one.col_offset))
        for one in found
        if one is not None
    ]


def draw(room: str, *, sample: int | None, seed: int) -> tuple[list[MutationSpec], int]:
    """One change for each place drawn, and how many places there are. Reads the current folder."""
    with tempfile.TemporaryDirectory() as name, use_db(Path(name) / "session.sqlite", WorkDB.Mode.create) as session:
        init(sorted(find_modules([Path("repeng") / room])), session, {})
        items = [change for item in session.work_items for change in item.mutations]
    places: dict[tuple[Path, tuple[int, int]], list[MutationSpec]] = defaultdict(list)
    types = {path: annotated(path) for path in {item.module_path for item in items}}
    for item in sorted(items, key=lambda one: (str(one.module_path), one.start_pos, one.operator_name, one.occurrence)):
        if not any(start <= item.start_pos < end for start, end in types[item.module_path]):
            places[item.module_path, item.start_pos].append(item)
    chance = random.Random(seed)
    changes = [chance.choice(here) for here in places.values()]
    return changes if sample is None else chance.sample(changes, min(sample, len(changes))), len(changes)


def run_pytest(room: str, module: str, output: Path, write_bytecode: bool) -> None:
    """Run a room's tests in this process, a module's own first; it ends with pytest's exit status."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.path[0] = os.environ["PYTHONPATH"] = os.getcwd()
    sys.dont_write_bytecode = not write_bytecode
    import pytest

    files = sorted(Path("tests", room).glob("test_*.py"), key=lambda file: (file.stem != f"test_{module}", file))
    words = " and ".join(f"not {word}" for word in ROOMS[room])
    sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--tb=line", "-k", words, *map(str, files)]))


def tests_pass(
    room: str, output: Path, *, module: str = "", timeout: float | None = None, write_bytecode: bool = False
) -> bool:
    """Whether the room's tests pass in the current folder. After `timeout` seconds they do not."""
    output.unlink(missing_ok=True)
    forked = multiprocessing.get_context("fork")
    process = forked.Process(target=run_pytest, args=(room, module, output, write_bytecode))
    process.start()
    try:
        process.join(timeout)
    finally:
        if process.is_alive() and process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
    return process.exitcode == 0


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n`."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return middle - half, middle + half


def main() -> None:
    """Mutate, test, and say what survived."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutants", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("--sample", type=int, help="how many places to change; all by default, which takes hours")
    parser.add_argument("--seed", type=int, default=0, help="which places, and which change at each")
    settings = parser.parse_args()
    # As Ctrl-C does: the copy is removed, and the score so far is printed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for module in IMPORTED_ONCE:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        output = Path(name) / "pytest.txt"
        copy = Path(name) / "copy"
        copy_files(copy)
        os.chdir(copy)
        begun = time.monotonic()
        # It writes the bytecode that the others read.
        if not tests_pass(settings.room, output, write_bytecode=True):
            raise SystemExit(f"the tests fail without any change:\n{output.read_text()}")
        timeout = 60 + 5 * (time.monotonic() - begun)
        changes, n_places = draw(settings.room, sample=settings.sample, seed=settings.seed)
        print(f"{len(changes)} of {n_places} places in repeng/{settings.room}, seed {settings.seed}", flush=True)
        done = survivors = 0
        try:
            for change in changes:
                operator = get_operator(change.operator_name)(**change.operator_args)
                with use_mutation(change.module_path, operator, change.occurrence) as (before, after):
                    survived = tests_pass(settings.room, output, module=change.module_path.stem, timeout=timeout)
                done += 1
                survivors += survived
                place = f"{change.module_path}:{change.start_pos[0]} {change.operator_name}"
                print(f"{done:4} {'SURVIVED' if survived else 'killed'} {place}", flush=True)
                if survived:
                    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
                    print("\n".join(f"         {line}" for line in list(lines)[2:]), flush=True)
        except KeyboardInterrupt:
            print("stopped")
        os.chdir(ROOT)
    if done:
        share = 1 - survivors / done
        low, high = wilson(share, done)
        print(f"killed {done - survivors}, survived {survivors}: {share:.0%} ({low:.0%} to {high:.0%}, Wilson 95 %)")


if __name__ == "__main__":
    main()
