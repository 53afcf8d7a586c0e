"""How a capture lays out its texts: in a way that `selfcheck` saw to be right."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from repeng.activations.layouts.batch import Layout, Run
from repeng.activations.layouts.packed import MASKS, TREES
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.layouts.selfcheck import limits_passed, packed_layout
from repeng.errors import RepengError
from repeng.models.load import LanguageModel

LAYOUTS: dict[str, Layout] = {"padded": padded_batches, "trees": TREES, "masks": MASKS}
"""Every layout, by the name that an index records."""


class Choice:
    """The layout of what a capture begins.

    Found out on the first texts at hand, and again only where texts are longer than some length at which the model may
    behave otherwise, and those seen before were not.

    Args:
        lm: the model.
        method: "auto", "packed" or "batched".
        max_length: of the longest text in tokens; None for no limit.
    """

    def __init__(self, lm: LanguageModel, method: str, max_length: int | None) -> None:
        self._lm, self._method = lm, method
        self._longest = max_length or sys.maxsize
        self._layout: str | None = None
        self._limits: frozenset[int] = frozenset()

    def layout(self, sample: Callable[[], Run]) -> str:
        """The layout's name.

        Args:
            sample: gives texts at hand, and what is wanted of them.

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
            except torch.OutOfMemoryError as error:
                raise RepengError("out of memory with a few texts at once; take a smaller dtype") from error
            if found is None and self._method == "packed":
                raise RepengError(
                    f"packed rows are not right for {self._lm.name}; leave the method to repeng, or take batched"
                )
            self._layout = "padded" if found is None else found.kind
            self._limits |= limits
        return self._layout
