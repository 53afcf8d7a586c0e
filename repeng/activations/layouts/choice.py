"""How a capture lays out its texts: in a way that `selfcheck` saw to be right, and of two the faster by `timing`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import torch

from repeng.activations.layouts.batch import Layout, Run
from repeng.activations.layouts.packed import FLEX, MASKS, TREES, PackedLayout
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.layouts.selfcheck import Check, limits_passed, packed_layout
from repeng.activations.layouts.timing import faster_layout
from repeng.activations.store.files import locked
from repeng.activations.store.records import CaptureRecord
from repeng.errors import RepengError
from repeng.models.load import LanguageModel
from repeng.places import Place

log = logging.getLogger(__name__)


LAYOUTS: dict[str, Layout] = {"padded": padded_batches, "trees": TREES, "flex": FLEX, "masks": MASKS}
"""Every layout, by the name that an index records."""


def on_gpu(lm: LanguageModel) -> bool:
    """Whether one kernel for a row may be used: it is compiled for GPUs alone."""
    return lm.device.type == "cuda"


def usable_layouts(lm: LanguageModel) -> frozenset[str]:
    """The layouts in which a model may go on: what a GPU began with one kernel for a row, a CPU begins anew."""
    return frozenset(LAYOUTS if on_gpu(lm) else LAYOUTS.keys() - {"flex"})


class Choice:
    """The layout of what a capture begins.

    Found out on the first texts at hand, and again only where texts are longer than some length at which the model may
    behave otherwise, and those seen before were not.

    Args:
        lm: the model.
        file: capture.json, which records whether a GPU found one kernel for a row the faster, so that runs that go on
            with this one, or at the same time, lay out alike.
        method: "auto", "packed" or "batched".
        max_length: of the longest text in tokens; None for no limit.
    """

    def __init__(self, lm: LanguageModel, file: Place, method: str, max_length: int | None) -> None:
        self._lm, self._file, self._method = lm, file, method
        self._longest = max_length or sys.maxsize
        self._layout: str | None = None
        self._limits: frozenset[int] = frozenset()

    def layout(self, sample: Callable[[], Run], n_texts: int) -> str:
        """The layout's name.

        Args:
            sample: gives texts at hand, and what is wanted of them.
            n_texts: how many there are to do.

        Raises:
            RepengError: out of memory with a few texts; or the packed method was asked for and is not right here.
        """
        if self._layout == "padded" or self._method == "batched":
            return "padded"
        config = self._lm.config.to_dict()
        if self._layout is not None and not limits_passed(self._longest, config):
            return self._layout
        plan = sample()
        limits = limits_passed(max((len(text.ids) for text in plan.texts), default=0), config)
        if self._layout is None or not limits <= self._limits:
            try:
                found = packed_layout(self._lm, plan)
                if found == TREES and on_gpu(self._lm):
                    found = self._attention(plan, n_texts)
            except torch.OutOfMemoryError as error:
                raise RepengError("out of memory with a few texts at once; take a smaller dtype") from error
            if found is None and self._method == "packed":
                raise RepengError(
                    f"packed rows are not right for {self._lm.name}; leave the method to repeng, or take batched"
                )
            self._layout = "padded" if found is None else found.kind
            self._limits |= limits
        return self._layout

    def give_up_flex(self) -> None:
        """Go on with attention by blocks, now and in later runs: the one kernel failed."""
        log.warning("FlexAttention failed; going on with attention by blocks")
        self._layout = TREES.kind
        self._record(TREES)

    def _attention(self, plan: Run, n_texts: int) -> PackedLayout:
        """By blocks, or in one kernel."""
        known = CaptureRecord.read(self._file).attention
        if known is not None:
            return FLEX if known == FLEX.kind and not Check(self._lm, plan).fault(FLEX) else TREES
        length = sum(len(text.ids) for text in plan.texts) / max(1, len(plan.texts))
        found = faster_layout(self._lm, plan, int(length * n_texts))
        if found is None:
            return TREES
        self._record(found)
        return found

    def _record(self, layout: PackedLayout) -> None:
        with locked(self._file.parent, wait=True):
            record = CaptureRecord.read(self._file)
            record.model_copy(update={"attention": layout.kind}).write(self._file)
