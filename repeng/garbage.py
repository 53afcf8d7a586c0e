"""How often a process of ours looks for garbage among its objects."""

from __future__ import annotations

import atexit
import gc

GARBAGE_AFTER = 50_000
"""New objects behind which Python looks for garbage, which is what refers to itself in a circle."""


def look_for_garbage_seldom() -> None:
    """A study reads millions of small objects that are no garbage, and looking took a fifth of its time.

    What is left at the end goes with the process: not looking through it once more saves up to two seconds.
    """
    gc.set_threshold(GARBAGE_AFTER, 50, 20)
    atexit.register(gc.freeze)
