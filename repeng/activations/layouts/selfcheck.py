"""Is a model right in packed rows? Asked of the model itself, with a few of the texts at hand, before a capture.

A model may read its mask in a way of its own, carry a state from token to token, or scale positions by the longest
text of a batch. No list of architectures knows them all, so nothing is packed that was not just seen to give what each
text gives alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Batches, Layout, Run, TextRequest
from repeng.activations.layouts.packed import MASKS, TREES, PackedLayout
from repeng.activations.layouts.padded import padded_batches
from repeng.models.load import LanguageModel
from repeng.models.parallel import OutOfStep
from repeng.models.sites import Hook
from repeng.models.tokens import common_prefix

log = logging.getLogger(__name__)

ALLOWED = {torch.float32: 5e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far a packed vector may be from the one alone, as a share of its length, before padded batches are tried too."""
NOISE = 4.0
"""Packed may be this many times as far off as the same texts in plain padded batches are."""

SMALL_SHARE = 0.01
"""Texts of this share of all tokens are checked whole."""
AROUND = 16
"""Where the checked texts are more than that: tokens of each on either side of the place where it diverges."""


def packed_layout(lm: LanguageModel, plan: Run) -> PackedLayout | None:
    """The packed layout that is right for this model, tried on a few texts of the plan; None where none is.

    The same few texts go through the model each alone and in one packed row, and every wanted vector and
    log-probability is compared. Where they differ by more than the dtype explains in every packed layout, a warning
    says so.

    Raises:
        torch.OutOfMemoryError: even these few texts do not fit.
    """
    if not plan.texts:
        return MASKS
    check = Check(lm, plan)
    wrong: list[str] = []
    for layout in (TREES, MASKS):
        if not (fault := check.fault(layout)):
            return layout
        wrong.append(f"{layout.kind}: {fault}")
    log.warning(
        "%s (%s) does not give the same in packed rows as alone (%s); using plain batches, which are right but slower",
        lm.name,
        lm.config.model_type,
        "; ".join(wrong),
    )
    return None


class Check:
    """A few of a plan's texts each alone, and whether a layout gives the same for them."""

    def __init__(self, lm: LanguageModel, plan: Run) -> None:
        texts = choose_texts(plan.texts, lm.config.to_dict())
        budget = sum(len(text.ids) for text in texts) + 1
        self._lm, self._plan = lm, replace(plan, texts=texts, batch_tokens=budget, storage_dtype=torch.float32)
        self._alone = Results.of(lm, self._plan, _one_by_one)
        self.allowed = ALLOWED.get(lm.dtype, ALLOWED[torch.float32])
        self._noise: float | None = None

    def fault(self, layout: Layout) -> str:
        """What is wrong with a layout for this model; empty where it is right.

        Raises:
            torch.OutOfMemoryError: the texts do not fit.
            OutOfStep: one of the processes that hold the model together failed alone.
        """
        try:
            off = Results.of(self._lm, self._plan, layout).distance(self._alone)
        except (torch.OutOfMemoryError, OutOfStep):
            raise
        except Exception as error:  # noqa: BLE001  (a model refuses a mask in whatever way it likes)
            log.debug("%s refused", layout, exc_info=True)
            return type(error).__name__
        if off > self.allowed and self._noise is None:
            self._noise = Results.of(self._lm, self._plan, padded_batches).distance(self._alone)
            self.allowed = max(self.allowed, NOISE * self._noise)
        if off > self.allowed:
            return f"off by {off:.1e}"
        log.debug("%s is right to %.1e", layout, off)
        return ""


def choose_texts(texts: Sequence[TextRequest], config: Mapping[str, Any]) -> tuple[TextRequest, ...]:
    """A few texts that would show what packing can do wrong: some that share a prefix, some that do not.

    Where they are more than a small share of all texts, of each only the first token and those around the place where
    it diverges from the others are taken, as each goes through the model twice. But where the longest text reaches past
    some length at which the model behaves otherwise (a sliding window, the original length of stretched positions), it
    is among them, and all are taken whole.
    """
    if not texts:
        return ()
    by_ids = sorted(range(len(texts)), key=lambda number: texts[number].ids)
    by_length = sorted(range(len(texts)), key=lambda number: (len(texts[number].ids), number))
    short, longest = by_length[len(texts) // 4], by_length[-1]
    place = by_ids.index(short)
    shared = {number: common_prefix(texts[number].ids, texts[short].ids) for number in by_length}
    beside = [*by_ids[max(place - 1, 0) : place], *by_ids[place + 1 : place + 2]]
    relative = max(beside, key=lambda number: (shared[number], -len(texts[number].ids)), default=short)
    stranger = min(by_length, key=lambda number: shared[number])
    # Few, for each is a pass of its own.
    chosen = {short, relative, stranger}
    odd = bool(limits_passed(len(texts[longest].ids), config))
    if odd:
        chosen.add(longest)
    whole = tuple(texts[number] for number in sorted(chosen))
    if odd or sum(len(text.ids) for text in whole) <= SMALL_SHARE * sum(len(text.ids) for text in texts):
        return whole
    shared[short] = shared[relative]
    pieces = [_around(texts[number], shared[number]) for number in sorted(chosen)]
    return tuple({piece.ids: piece for piece in pieces}.values())


def _around(text: TextRequest, place: int) -> TextRequest:
    """The first token of a text and those around a place; of them the middle, the last, and the half between."""
    ids = (*text.ids[:1], *text.ids[max(place - AROUND, 1) : place + AROUND])
    middle, last = len(ids) // 2, len(ids) - 1
    half = ((middle, len(ids)),)
    return TextRequest(
        ids,
        positions=tuple(dict.fromkeys((middle, last))) if text.positions else (),
        means=(half,) if text.means else (),
        logprobs=half if text.logprobs else (),
    )


def limits_passed(length: int, config: Mapping[str, Any]) -> frozenset[int]:
    """The lengths at which a model may begin to behave otherwise that a text of `length` tokens exceeds."""
    return frozenset(limit for limit in _limits(config) if limit < length)


def _limits(config: Mapping[Any, Any]) -> Iterator[int]:
    """Every number of tokens in a configuration at which a model may begin to behave otherwise: 0 and False are off."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _limits(value)
        elif type(value) is int and value > 0 and any(p in str(name) for p in ("window", "chunk", "max_position")):
            yield value


def _one_by_one(lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Batches:  # noqa: ARG001
    """Each text a batch of its own, so without padding."""
    yield from padded_batches(lm, texts, 1)


@dataclass(frozen=True)
class Results:
    """What a layout gave for each text, by text, kind of request and hook (None of log-probabilities)."""

    values: dict[tuple[int, str, Hook | None], Float[Tensor, "slot _"]]

    @staticmethod
    def of(lm: LanguageModel, plan: Run, layout: Layout) -> Results:
        """Take the plan's texts through the model."""
        results = Results({})
        for chunk in run(lm, plan, layout):
            scores = {None: torch.from_numpy(chunk.logprobs)[:, None]}
            for kind, found in (("positions", chunk.vectors), ("means", chunk.means), ("logprobs", scores)):
                sizes = [len(getattr(plan.texts[text], kind)) for text in chunk.texts]
                for hook, values in found.items():
                    for text, piece in zip(chunk.texts, values.flatten(1).split(sizes), strict=True):
                        results.values[text, kind, hook] = piece
        return results

    def distance(self, other: Results) -> float:
        """The furthest that a vector is from the other's, relative to its length; infinite where one is not finite."""
        distances = [0.0]
        for (text, kind, hook), theirs in other.values.items():
            shortest = 1.0 if kind == "logprobs" else 1e-12
            far = (self.values[text, kind, hook] - theirs).norm(dim=1) / theirs.norm(dim=1).clamp_min(shortest)
            distances += far.tolist()
        return max(distance if math.isfinite(distance) else math.inf for distance in distances)
