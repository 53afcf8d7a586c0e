"""Log-probabilities of texts under many edits of a model, with all that the edits leave alone computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from repeng.activations.forward import send
from repeng.activations.layouts.batch import Batch, Layout, TextRequest
from repeng.models.load import LanguageModel
from repeng.models.onednn import using_fast_linear
from repeng.steering.hooks import Edits, always, editing
from repeng.steering.steer import check_width, hook_points


def score_under(
    lm: LanguageModel,
    texts: Sequence[TextRequest],
    site: str,
    edits: Sequence[Edits],
    layout: Layout,
    *,
    batch_tokens: int,
    tokens: Sequence[range] | None = None,
    done: Callable[[int], None] = lambda _tokens: None,
) -> Float[np.ndarray, "edit span"]:
    """The log-probability, in nats, of each wanted span of each text, under each of several edits.

    A batch goes through the model once as it is; for each edit only the blocks from the lowest edited one on are
    computed again, from what entered them. In rows of trees texts share tokens: a choice of tokens needs padded rows.

    Args:
        lm: the model.
        texts: distinct by their ids, with the spans that are wanted.
        site: that is edited.
        edits: of each condition; an empty one leaves the model as it is.
        layout: how the texts are laid out.
        batch_tokens: cells of a batch.
        tokens: of each text, which positions are edited; None for all.
        done: told how many tokens were taken through all conditions.

    Returns:
        Of each condition the spans of the first text, those of the second, ...

    Raises:
        BadInput, UnknownName: as `steer`.
    """
    layers = {layer for own in edits for layer, _ in own}
    points = hook_points(lm, site, layers)
    for own in edits:
        check_width(lm, site, points, own)
    counts = np.array([len(text.logprobs) for text in texts], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    found = np.full((len(edits), int(counts.sum())), np.nan)
    # What leaves the block below is kept; at `resid_post` what leaves the block itself.
    kept = min(layers, default=0) + (1 if site == "resid_post" and layers else 0)
    with closing(layout(lm, texts, batch_tokens)) as batches, using_fast_linear(lm.model):
        for batch in batches:
            places = np.concatenate([starts[text] + np.arange(counts[text]) for text in batch.texts])
            with _from_block(lm.blocks[:kept]) as resume:
                plain = _logprobs(lm, batch, texts)
                resume()
                mask = None if tokens is None else _mask(batch, tokens)
                for row, own in zip(found, edits, strict=True):
                    if not any(own.values()):
                        row[places] = plain
                        continue
                    with editing(points, own, always(mask)):
                        row[places] = _logprobs(lm, batch, texts)
            done(batch.input_ids.numel())
    return found


def _mask(batch: Batch, tokens: Sequence[range]) -> Bool[Tensor, "row pos"]:
    """The cells of some positions of each text."""
    mask = np.zeros(tuple(batch.input_ids.shape), dtype=bool)
    for text, row, columns in zip(batch.texts, batch.rows, batch.columns, strict=True):
        mask[row, columns[tokens[text].start : tokens[text].stop]] = True
    return torch.from_numpy(mask)


def _logprobs(lm: LanguageModel, batch: Batch, texts: Sequence[TextRequest]) -> Float[np.ndarray, " span"]:
    return send(lm, batch, texts, {}, torch.float32)().logprobs


@contextmanager
def _from_block(below: Sequence[nn.Module]) -> Iterator[Callable[[], None]]:
    """Gives what ends a first pass: from then on some first blocks are not computed, but give what the last gave.

    Yields:
        To be called after the first pass.
    """
    if not below:
        yield lambda: None
        return
    last: list[Any] = []
    handle = below[-1].register_forward_hook(lambda _module, _args, output: last.append(output))
    own = [block.__dict__.get("forward") for block in below]

    def resume() -> None:
        handle.remove()
        for block in below:
            # Each passes it on, so that the last one gives it.
            block.forward = lambda *_args, **_kwargs: last[0]

    try:
        yield resume
    finally:
        handle.remove()
        for block, forward in zip(below, own, strict=True):
            # What a device map put there is put back; else the class's own shows again.
            if forward is not None:
                block.forward = forward
            else:
                block.__dict__.pop("forward", None)
