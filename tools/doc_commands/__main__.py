"""`python -m tools.doc_commands [PAGE ...]`: run the pages, two at a time; say what failed and what was not run."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from tools.doc_commands import stand_ins, tables
from tools.doc_commands.pages import ROOT, pages, pieces_of

if TYPE_CHECKING:
    from tools.doc_commands.running import Outcome

SLOWEST = 8


def main() -> int:
    """Run the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, help="pages to run; all by default")
    parser.add_argument(
        "--keep",
        type=Path,
        help="a folder to work in, whose stand-ins are kept for the next run",
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pages-") as scratch:
        return _run_all([page.resolve() for page in asked.pages], (asked.keep or Path(scratch)).resolve())


def _run_all(asked: list[Path], place: Path) -> int:
    begun = time.monotonic()
    place.mkdir(parents=True, exist_ok=True)
    stand_ins.environment(place)
    os.chdir(place)
    # Only now: what it imports reads the environment. Everything that a command imports is imported once, and forked.
    from tools.doc_commands.checks import missing_files, unknown_options
    from tools.doc_commands.running import FORK, run_command, run_page

    _import()
    problems = []
    chosen = asked or pages()
    for page in chosen:
        name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
        problems += [*unknown_options(pieces_of(text, name), text, name), *missing_files(text, name)]

    def made(commands: list[str], folder: Path) -> None:
        with ProcessPoolExecutor(2, mp_context=FORK) as pool:
            for command, (code, _, said) in zip(commands, pool.map(run_command, commands, repeat(folder)), strict=True):
                if code:
                    raise SystemExit(f"a stand-in could not be made: {command}\n{said}")

    shutil.rmtree(place / "pages", ignore_errors=True)
    if not (place / stand_ins.MADE).is_file():
        stand_ins.make(place, made)
    print(f"stand-ins made in {time.monotonic() - begun:.0f} s", flush=True)
    outcomes: list[Outcome] = []
    # README is the first: it takes longest.
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        for done in as_completed([pool.submit(run_page, page, place) for page in chosen]):
            outcomes += done.result()
            _say_page(done.result())
    problems += unused(outcomes) if not asked else []
    _say(outcomes, problems)
    print(f"{time.monotonic() - begun:.0f} s")
    return int(bool(problems) or any(one.how == "failed" for one in outcomes))


def _import() -> None:
    import altair  # noqa: F401
    import peft  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import transformers  # noqa: F401

    import repeng.cli  # noqa: F401
    import repeng.report.study  # noqa: F401


def unused(outcomes: list[Outcome]) -> list[str]:
    """Entries of the tables that fit no piece of any page."""
    found = []
    for name, how in (("NOT_OURS", "known"), ("SKIPPED", "skipped"), ("MENTIONS", "mention")):
        for entry in getattr(tables, name):
            if not any(one.how == how and entry.fits(one.piece.page, one.piece.text) for one in outcomes):
                found.append(f"tables.{name}: nothing begins with {entry.text!r}; take the entry out")
    pieces = {(one.piece.page, one.piece.text) for one in outcomes}
    found += [
        f"tables.FOREIGN_OPTIONS: no page names {option}; take it out"
        for option in tables.FOREIGN_OPTIONS
        if not any(f"`{option}" in page.read_text(encoding="utf-8") for page in pages())
    ]
    return found + [
        f"tables.EXIT_CODES: there is no {text!r} in {page}" for page, text in tables.EXIT_CODES.keys() - pieces
    ]


def _say_page(outcomes: list[Outcome]) -> None:
    """What was run of a page and how long it took, what was not run and why, and what failed."""
    if not outcomes:
        return
    ran = [one for one in outcomes if one.how == "ran"]
    print(f"{outcomes[0].piece.page}: {len(ran)} ran in {sum(one.seconds for one in outcomes):.0f} s")
    for one in outcomes:
        if one.how in ("known", "skipped"):
            print(f"    not run: line {one.piece.line}, {one.first}: {one.said}")
        if one.how == "failed":
            print(f"\nFAILED {one.piece.place}: {one.piece.text}\n{one.said}\n")
    sys.stdout.flush()


def _say(outcomes: list[Outcome], problems: list[str]) -> None:
    for one in sorted(outcomes, key=lambda one: -one.seconds)[:SLOWEST]:
        print(f"{one.seconds:5.1f} s  {one.piece.place}: {one.first[:90]}")
    for one in outcomes:
        if one.how == "failed":
            print(f"FAILED {one.piece.place}: {one.first}")
    for problem in problems:
        print(f"FAILED {problem}")
    counts = Counter(f"{one.piece.kind} {one.how}" for one in outcomes)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


if __name__ == "__main__":
    sys.exit(main())
