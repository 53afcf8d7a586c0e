"""Whether this process was started together with others, by torchrun or accelerate's launcher."""

from __future__ import annotations

import os

LAUNCH = "torchrun --nproc-per-node N -m repeng ..."


def launched() -> int:
    """How many processes were started together; 1 where this was started alone."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """The number of this process among those that were started together; 0 for one that was started alone."""
    return int(os.environ.get("RANK", "0")) if launched() > 1 else 0
