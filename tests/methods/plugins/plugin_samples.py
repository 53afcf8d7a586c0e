"""What the tests of plug-ins share: where the examples are, small distributions, whether a process lives."""

from __future__ import annotations

import os
import time
from pathlib import Path

from repeng.distributions.schema import Distribution, Example, Split

EXAMPLES = Path(__file__).parents[3] / "examples"


def split(name: str, split_name: str, n: int, good: str = "Yes, certainly") -> Split:
    examples = []
    for number in range(n):
        responses = (f"No {number}", f"{good} {number}", f"Never {number}")[: 2 + number % 2]
        examples.append(Example(f"{name} {split_name} {number}? ", responses, 1))
    return Split(name, split_name, tuple(examples))


def distribution(name: str, good: str = "Yes, certainly") -> Distribution:
    return Distribution(name, {part: split(name, part, n, good) for part, n in (("train", 12), ("test", 7))})


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # A killed process that nobody has waited for yet is dead all the same.
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def gone(pid: int) -> bool:
    """Whether a process that was killed is dead within seconds: the kernel takes a moment."""
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)
