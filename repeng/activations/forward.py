"""One forward pass over a batch of any layout: hooks, chosen positions, means over spans, log-probabilities."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.activations.layouts.batch import Batch, Chunk, Layout, Pass, Run, TextRequest
from repeng.errors import BadInput
from repeng.models.load import LanguageModel
from repeng.models.onednn import using_fast_linear
from repeng.models.sites import LN_FINAL, Hook, HookPoint


class Enough(Exception):
    """Raised by a hook when nothing above it is wanted."""


@dataclass(frozen=True)
class _Cells:
    """Cells of a batch, by row and column, one after the other; and how many belong to each slot."""

    rows: Int[Tensor, " cell"]
    columns: Int[Tensor, " cell"]
    lengths: Int[Tensor, " slot"]

    def take(self, values: Float[Tensor, "row pos ..."]) -> Float[Tensor, "cell ..."]:
        """The values of these cells."""
        return values[self.rows.to(values.device), self.columns.to(values.device)]

    def mean(self, values: Float[Tensor, "row pos ..."]) -> Float[Tensor, "slot ..."]:
        """The mean over each slot's cells, in float32."""
        lengths = self.lengths.to(values.device)
        return torch.segment_reduce(self.take(values).float(), "mean", lengths=lengths, axis=0)


def run(lm: LanguageModel, plan: Run, layout: Layout) -> Iterator[Chunk]:
    """Lay texts out and take every batch through the model.

    A batch's results are waited for when the next batch is on its way, so that a GPU need not wait for them.

    Raises:
        UnknownName, BadInput: a hook that the model does not have.
    """
    points = {hook: lm.hook_point(*hook) for hook in plan.hooks}
    receive: Callable[[], Chunk] | None = None
    # A layout may have changed the model's attention for as long as it is iterated.
    with closing(layout(lm, plan.texts, plan.batch_tokens)) as batches, using_fast_linear(lm.model):
        for batch in batches:
            before = receive
            with lm.by_all(partial(Pass.of, layout, batch, plan)):
                receive = send(lm, batch, plan.texts, points, plan.storage_dtype)
            if before is not None:
                yield before()
        if receive is not None:
            yield receive()


@torch.no_grad()
def send(
    lm: LanguageModel,
    batch: Batch,
    texts: Sequence[TextRequest],
    points: Mapping[Hook, HookPoint],
    storage_dtype: torch.dtype,
) -> Callable[[], Chunk]:
    """Take one batch through the model and send what its texts want on its way; the result waits for it.

    Without hook points it gives log-probabilities alone. Nothing above the highest hook is computed unless those are
    wanted.
    """
    here = [
        (texts[text], row, columns) for text, row, columns in zip(batch.texts, batch.rows, batch.columns, strict=True)
    ]
    single = [(row, columns[[position]]) for text, row, columns in here for position in text.positions]
    spans = [
        (row, np.concatenate([columns[start:end] for start, end in mean]))
        for text, row, columns in here
        for mean in text.means
    ]
    single_cells, span_cells = _cells(single, lm.device), _cells(spans, lm.device)
    n_scored = sum(len(text.logprobs) for text, _, _ in here)
    vectors: dict[Hook, Tensor] = {}
    means: dict[Hook, Tensor] = {}
    devices: set[torch.device] = set()

    def leaving(value: Tensor) -> Tensor:
        """The tensor on its way to the CPU: from a CUDA device to pinned memory, while the device computes on."""
        if value.is_cuda:
            devices.add(value.device)
        return value.to("cpu", non_blocking=value.is_cuda)

    def keep(hook: Hook, value: Tensor) -> None:
        point = points[hook]
        cells = by_cell(value, batch.input_ids.shape, hook)
        vectors[hook] = leaving(stored(lm.whole(point, single_cells.take(cells)), point, storage_dtype))
        if spans:
            means[hook] = leaving(stored(lm.whole(point, span_cells.mean(cells)), point, storage_dtype))

    scores = torch.zeros(0, dtype=torch.float64)
    which = slots = np.zeros(0, dtype=np.int64)
    with hooked(points, keep), nullcontext() if n_scored else stop_above(lm, points), suppress(Enough):
        hidden = _last_hidden(lm, batch).flatten(0, 1)
        if n_scored:
            scored, which, slots = _scored_tokens(here, batch.input_ids.shape[1])
            cells, targets = torch.from_numpy(scored).to(hidden.device)
            scores = leaving(lm.token_logprobs(hidden[cells], targets).double())
    arrivals = [torch.cuda.current_stream(device).record_event() for device in devices]
    # The batch is let go of, since its mask may be large.
    texts_here, n_tokens = batch.texts, batch.input_ids.numel()

    def receive() -> Chunk:
        for arrival in arrivals:
            arrival.synchronize()
        totals = np.zeros(n_scored)
        np.add.at(totals, slots, scores.numpy()[which])
        return Chunk(texts_here, vectors, means, totals, n_tokens)

    return receive


def _cells(slots: Sequence[tuple[int, Int[np.ndarray, " _"]]], device: torch.device) -> _Cells:
    """The cells of slots, each a row and some of its columns."""
    lengths = [len(columns) for _, columns in slots]
    rows = np.repeat(np.array([row for row, _ in slots], dtype=np.int64), lengths)
    columns = np.concatenate([np.zeros(0, dtype=np.int64), *(columns for _, columns in slots)])
    return _Cells(*(torch.from_numpy(part).to(device) for part in (rows, columns, np.array(lengths, dtype=np.int64))))


def by_cell(value: Tensor, shape: torch.Size, hook: Hook) -> Float[Tensor, "row pos ..."]:
    """A module's tensor as [row, pos, ...]: some (OPT's) have rows and positions in one axis."""
    if value.shape[:2] == shape:
        return value
    if value.shape[0] == shape.numel():
        return value.reshape(*shape, *value.shape[1:])
    raise BadInput(
        f"the site {hook[0]!r} has a tensor of shape {tuple(value.shape)} for {shape[0]} texts of {shape[1]} tokens; "
        "only sites with one vector a token can be captured"
    )


def stored(value: Tensor, point: HookPoint, dtype: torch.dtype) -> Tensor:
    """As it is kept: heads apart, scaled as it enters the residual stream, in the storage dtype."""
    if point.d_head is not None:
        value = value.unflatten(-1, (value.shape[-1] // point.d_head, point.d_head))
    if point.scale != 1.0:
        value = value * point.scale
    return value.to(dtype)


@contextmanager
def hooked(points: Mapping[Hook, HookPoint], keep: Callable[[Hook, Tensor], None]) -> Iterator[None]:
    """Hooks on every point, that always come off."""

    def reader(hook: Hook, side: str) -> Callable[..., None]:
        def read(_: Any, args: tuple[Any, ...], last: Any) -> None:
            """`last` holds the keyword arguments where the input is read, else the output."""
            if side == "output":
                value = last[0] if isinstance(last, tuple) else last
            else:
                value = args[0] if args else next(value for value in last.values() if isinstance(value, Tensor))
            keep(hook, value)

        return read

    handles: list[Any] = []
    try:
        for hook, point in points.items():
            if point.side == "input":
                handles.append(point.module.register_forward_pre_hook(reader(hook, point.side), with_kwargs=True))
            else:
                handles.append(point.module.register_forward_hook(reader(hook, point.side)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def stop_above(lm: LanguageModel, points: Mapping[Hook, HookPoint]) -> Iterator[None]:
    """End the pass after the highest block with a hook, unless one reads what comes after all blocks."""
    if not points or any(site == LN_FINAL for site, _ in points):
        yield
        return

    def stop(*_: Any) -> None:
        raise Enough

    # Hooks of a module are called in the order of their registration: this one after those that read.
    handle = lm.blocks[max(layer for _, layer in points)].register_forward_hook(stop)
    try:
        yield
    finally:
        handle.remove()


def _last_hidden(lm: LanguageModel, batch: Batch) -> Float[Tensor, "row pos d_model"]:
    """The last hidden state, after the final norm."""
    mask = batch.attention_mask
    if isinstance(mask, Tensor):
        mask = mask.to(lm.device)
    elif mask is not None:
        mask = {name: value.to(lm.device) for name, value in mask.items()}
    options: dict[str, Any] = {"input_ids": batch.input_ids.to(lm.device), "attention_mask": mask, "use_cache": False}
    # BLOOM takes none: it makes its own from the mask.
    if "position_ids" in inspect.signature(lm.base.forward).parameters:
        options["position_ids"] = batch.position_ids.to(lm.device)
    hidden: Tensor = lm.base(**options)[0]
    return hidden


def _scored_tokens(
    here: Sequence[tuple[TextRequest, int, Any]], width: int
) -> tuple[Int[np.ndarray, "2 distinct"], Int[np.ndarray, " token"], Int[np.ndarray, " token"]]:
    """Which token log-probabilities a batch of some width must give: some belong to several spans.

    Returns:
        Of each distinct one, the cell before the token (counted over all rows), and its id; those of all spans one
        after the other, as numbers among the distinct ones; and to which span each of these belongs.
    """
    cells, targets, lengths = [], [], []
    for text, row, columns in here:
        for start, end in text.logprobs:
            before = np.arange(max(start, 1), end) - 1
            cells.append(row * width + columns[before])
            targets.append(np.array(text.ids, dtype=np.int64)[before + 1])
            lengths.append(len(before))
    # What several texts share is computed once.
    pairs = np.stack([np.concatenate(cells), np.concatenate(targets)])
    distinct, which = np.unique(pairs, axis=1, return_inverse=True)
    return distinct, which.reshape(-1), np.repeat(np.arange(len(lengths)), lengths)
