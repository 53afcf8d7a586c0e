"""Attention by blocks, or in one kernel for a whole row? Asked of the GPU at hand, with one of the rows to be done."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Run
from repeng.activations.layouts.packed import FLEX, TREES, PackedLayout
from repeng.activations.layouts.packing import Row, pack
from repeng.activations.layouts.selfcheck import Check, Results
from repeng.models.load import LanguageModel

log = logging.getLogger(__name__)

WORTH = 180.0
"""With so many seconds to go, compiling kernels (tens of seconds) may be won back."""
MARGIN = 0.9
"""One kernel must take less than this share of the time of blocks."""
TRIALS = 3


def faster_layout(lm: LanguageModel, plan: Run, n_tokens: int) -> PackedLayout | None:
    """FLEX where it is right and clearly faster for a full row, else TREES; None where too little is to be done to ask.

    Args:
        lm: a model for which TREES is right.
        plan: texts at hand, and what is wanted of them.
        n_tokens: of all texts to be done, about, shared ones counted each time.
    """
    rows = pack([text.ids for text in plan.texts], plan.batch_tokens)
    if not rows:
        return None
    row, n_row = fullest_row(plan, rows), max(row.n_tokens for row in rows)
    to_do = n_tokens * sum(row.n_tokens for row in rows) / sum(len(text.ids) for text in plan.texts)
    try:
        blocks = seconds(lm, row, TREES)
    except torch.OutOfMemoryError:
        # The capture will see so itself, and take smaller rows.
        return None
    if blocks * to_do / n_row < WORTH:
        return None
    try:
        check = Check(lm, plan)
        fault = check.fault(FLEX)
        off = Results.of(lm, row, FLEX).distance(Results.of(lm, row, TREES)) if not fault else 0.0
        if fault or off > check.allowed:
            log.info("FlexAttention is not used: %s", fault or f"a row is off by {off:.1e}")
            return TREES
        kernel = seconds(lm, row, FLEX)
    except Exception as error:  # noqa: BLE001  (a compiler, a driver and the GPU's memory each fail in their own way)
        log.info("FlexAttention is not used: %s", type(error).__name__)
        return TREES
    log.info("a row of %s tokens: %.3f s by blocks, %.3f s in one kernel", n_row, blocks, kernel)
    return FLEX if kernel < MARGIN * blocks else TREES


def fullest_row(plan: Run, rows: Sequence[Row]) -> Run:
    """Of a plan that was packed into rows, the texts of the row with the most tokens."""
    row = max(rows, key=lambda row: row.n_tokens)
    return replace(plan, texts=tuple(plan.texts[text] for text in row.texts))


def seconds(lm: LanguageModel, plan: Run, layout: PackedLayout) -> float:
    """The least time that a plan took in a few runs, after one that counts for nothing: it may compile a kernel."""
    taken = []
    for _ in range(1 + TRIALS):
        started = time.perf_counter()
        # What is received has left the device, so all of it is done.
        for _chunk in run(lm, plan, layout):
            pass
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
