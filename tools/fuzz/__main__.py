"""Reads thousands of files that are nearly right. Anything but success or a RepengError is a finding, and so are more
than 5 s, more than 1 GB, and the end of the process."""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from repeng.activations.store.files import checksum
from repeng.errors import RepengError
from tools.fuzz.loaders import LOADERS, Loader
from tools.fuzz.mutations import mutate, sealed

SECONDS, BYTES = 5.0, 1 << 30


class TooLong(BaseException):
    """Reading took too long."""


def too_long(*_: Any) -> None:
    """The alarm's handler."""
    raise TooLong


def run_one(loader: Loader, seed: Path, work: Path, number: int) -> str:
    """Read one changed input; what was found, or nothing."""
    draw = random.Random(f"{loader.name} {number}")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(seed, work)
    files = sorted({path for pattern in loader.patterns for path in work.glob(pattern) if path.is_file()})
    contents = [path.read_bytes() for path in files]
    for path in draw.sample(files, min(len(files), draw.choice((1, 1, 1, 2)))):
        changed = mutate(path.read_bytes(), contents, draw, path.name)
        if loader.sealed and path.suffix == ".json" and draw.random() < 0.6:
            changed = sealed(changed, checksum)
        path.write_bytes(changed)
    start = time.monotonic()
    try:
        loader.read(work)
    except (RepengError, KeyboardInterrupt):
        pass
    except TooLong:
        return "too long"
    except BaseException as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}repeng{os.sep}" in f.filename]
        return f"{type(error).__name__} {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else repr(error)[:80]
    return "too long" if time.monotonic() - start > SECONDS else ""


def worker(loader: Loader, seed: Path, work: Path, out: Path, first: int, until: float) -> None:
    """Read inputs until the time is up, noting each number before it and each finding after it."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_long)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    number = first
    with (out / f"{loader.name}.log").open("a", buffering=1) as log, open(os.devnull, "w") as nothing:
        sys.stdout = sys.stderr = nothing
        while time.monotonic() < until:
            log.write(f"{number}\n")
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            found = run_one(loader, seed, work, number)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if found:
                log.write(f"{number} {found}\n")
                keep(work, out / "found", loader, found, number)
            number += 1
        log.write("end\n")
    os._exit(0)


def keep(work: Path, out: Path, loader: Loader, found: str, number: int) -> None:
    """Keep the first input of each finding."""
    name = "".join(c if c.isalnum() or c in "-." else "_" for c in f"{loader.name}-{found}")[:100]
    if not (out / name).exists():
        shutil.copytree(work, out / name)
        (out / f"{name}.number").write_text(f"{number} {found}\n")


def fuzz(loader: Loader, place: Path, seconds: float) -> tuple[int, Counter[str]]:
    """Fuzz a loader in processes of its own; executions and findings."""
    seed, work = place / "seeds" / loader.name, place / "work" / loader.name
    if not seed.is_dir():
        seed.mkdir(parents=True)
        loader.make(seed)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(seed, work)
    loader.read(work)
    (place / "found").mkdir(exist_ok=True)
    log = place / f"{loader.name}.log"
    log.write_text("")
    until, number, findings = time.monotonic() + seconds, 0, Counter[str]()
    while time.monotonic() < until:
        child = os.fork()
        if child == 0:
            worker(loader, seed, work, place, number, until)
        _, status = os.waitpid(child, 0)
        lines = log.read_text().splitlines()
        number = 1 + max((int(line) for line in lines if line.isdigit()), default=-1)
        if not lines or lines[-1] != "end":
            found = f"process ended {status}"
            findings[found] += 1
            keep(work, place / "found", loader, found, number - 1)
    findings.update(line.partition(" ")[2] for line in log.read_text().splitlines() if " " in line)
    return number, findings


def main() -> None:
    """Fuzz the loaders that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loaders", nargs="*", help="names; all by default")
    parser.add_argument("--work", type=Path, required=True, help="folder for seeds and what is found")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each loader")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    total, bad = 0, 0
    for loader in LOADERS:
        if options.loaders and loader.name not in options.loaders:
            continue
        executions, findings = fuzz(loader, options.work.resolve(), options.seconds)
        total, bad = total + executions, bad + len(findings)
        print(f"{loader.name}: {executions} executions, {len(findings)} findings", flush=True)
        for found, count in findings.most_common():
            print(f"    {count} x {found}", flush=True)
    print(f"{total} executions, {bad} findings")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
