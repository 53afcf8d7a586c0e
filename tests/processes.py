"""Real processes that do something in a folder, at once or one after the other, to be killed at any moment.

They are forked from a server that has imported everything, so that nearly all of a process's life is its work.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

LOG = "said.log"
KILLED = -9
PRELOADED = (
    *("repeng.cli", "repeng.study.study", "repeng.report.html", "repeng.report.charts", "repeng.activations.forward"),
    *("repeng.benchmarks.mini", "repeng.tuning.trainer", "repeng.tuning.reward_model", "peft", "sklearn.linear_model"),
    *("transformers.models.llama.modeling_llama", "transformers.models.qwen3.modeling_qwen3", "altair", "vl_convert"),
)


@dataclass(frozen=True)
class Job:
    """What a process does.

    Attributes:
        name: of it.
        act: called in the process, with its folder as the working directory.
        arguments: of `act`.
        lock: pattern of the lock files that it holds while it writes.
        store: whether there is a store in the folder.
    """

    name: str
    act: Callable[..., None]
    arguments: tuple[str, ...]
    lock: str
    store: bool = True

    def start(self, work: Path) -> ForkServerProcess:
        """Begin it in a folder, which is made; what it says is added to the folder's log."""
        work.mkdir(exist_ok=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        process = context.Process(target=_act, args=(str(work), self.act, self.arguments))
        process.start()
        return process

    def finish(self, work: Path, *, timeout: float = 600) -> float:
        """Do it to the end and return the seconds that it took.

        Raises:
            AssertionError: it failed, or did not end; with what it said.
        """
        started = time.monotonic()
        process = self.start(work)
        process.join(timeout)
        if process.exitcode != 0:
            process.kill()
            raise AssertionError(f"{self.name} ended with {process.exitcode}: {said(work)}")
        return time.monotonic() - started


def command(*arguments: str) -> None:
    """The command line, as it is called from a shell."""
    from repeng.cli import main

    sys.argv = ["repeng", *arguments]
    main()


def job(name: str, *arguments: str, lock: str, store: bool = True) -> Job:
    return Job(name, command, arguments, lock, store)


def _act(work: str, act: Callable[..., None], arguments: tuple[str, ...]) -> None:
    log = os.open(Path(work, f"{LOG}.{os.getpid()}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(work)
    import torch

    torch.set_num_threads(1)
    act(*arguments)


def said(work: Path, process: ForkServerProcess | None = None) -> str:
    """What the processes of a folder said, or one of them."""
    pattern = f"{LOG}.{process.pid}" if process else f"{LOG}.*"
    return "\n".join(path.read_text() for path in sorted(work.glob(pattern), key=lambda path: path.stat().st_mtime))


def state(work: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file that is neither lock nor log."""
    found = {}
    for path in work.rglob("*"):
        if not path.name.endswith(".lock") and not path.name.startswith(LOG) and path.is_file():
            about = path.stat()
            found[str(path)] = (about.st_size, about.st_mtime_ns)
    return found


def left_by(work: Path) -> dict[str, Any]:
    """The content of each file that is neither lock nor log; of split.json without the time of its capture."""
    found: dict[str, Any] = {}
    for path in sorted(work.rglob("*")):
        if path.name.endswith(".lock") or path.name.startswith(LOG) or not path.is_file():
            continue
        found[str(path.relative_to(work))] = path.read_bytes()
        if path.name == "split.json":
            held = json.loads(path.read_bytes())
            sources = [{**source, "when": ""} for source in held["sources"]]
            found[str(path.relative_to(work))] = {**held, "sources": sources, "checksum": ""}
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
