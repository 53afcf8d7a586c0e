"""Rows of trees as batches for one forward pass, in the form of mask that a model takes.

`TREES` hands the model compact masks and computes attention by blocks (`tree_attention`); `MASKS` hands it dense ones,
for models with attention code of their own. Neither is taken on trust: `selfcheck` tries them on the texts at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repeng.activations.layouts.batch import Batch, Batches, TextRequest
from repeng.activations.layouts.packing import Row, pack, sees
from repeng.activations.layouts.tree_attention import compact_mask, using_tree_attention
from repeng.models.load import LanguageModel


@dataclass(frozen=True)
class PackedLayout:
    """A `batch.Layout`: each text shares a row with others, and every shared prefix is computed once a row.

    Take each batch through the model before the next is asked for: with `kind` "trees" the model attends in our way
    from the first batch until the iterator ends or is closed, and as it did before from then on.

    Attributes:
        kind: "trees" for compact masks and attention by blocks, "masks" for dense masks.
    """

    kind: Literal["trees", "masks"]

    def __call__(self, lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Batches:
        """Yield batches of one row each, of about `batch_tokens` tokens.

        Raises:
            NotImplementedError: `kind` is "trees" and the model's attention is its own.
        """
        rows = pack([text.ids for text in texts], batch_tokens)
        with attending(self.kind, lm.model):
            for row in rows:
                dense = self.kind == "masks"
                yield as_batch(
                    row, dense_masks(row, lm.model.config, lm.dtype, lm.device) if dense else compact_mask(row)
                )


def attending(kind: str, model: nn.Module) -> AbstractContextManager[None]:
    """While a model reads the batches of a layout, by its `kind`; all but "trees" it reads as it always does.

    Raises:
        NotImplementedError: `kind` is "trees" and the model's attention is its own.
    """
    return using_tree_attention(model) if kind == "trees" else nullcontext()


TREES = PackedLayout("trees")
MASKS = PackedLayout("masks")


def as_batch(row: Row, mask: Tensor | dict[str, Tensor]) -> Batch:
    """A row and its mask as the batch of one row that `forward` runs."""
    return Batch(
        input_ids=torch.from_numpy(row.ids)[None],
        position_ids=torch.from_numpy(row.positions)[None],
        attention_mask=mask,
        texts=row.texts,
        rows=(0,) * len(row.texts),
        columns=tuple(row.path(slot) for slot in range(len(row.texts))),
    )


def dense_masks(row: Row, config: Any, dtype: torch.dtype, device: torch.device) -> Tensor | dict[str, Tensor]:
    """The mask of a row as a stock model takes it: 0 and the dtype's minimum, [1, 1, pos, pos].

    One for each kind of layer, under its name, where the configuration lists several kinds; the windowed one alone
    where every layer has a sliding window. Masks are of floats: some models misread a boolean one.
    """
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    kinds = set(getattr(text_config, "layer_types", None) or ())
    window = getattr(text_config, "sliding_window", None)
    if len(kinds) > 1:
        return {kind: _dense(row, window if "sliding" in kind else None, dtype, device) for kind in sorted(kinds)}
    windowed = not kinds or "sliding" in next(iter(kinds))
    return _dense(row, window if windowed else None, dtype, device)


def _dense(row: Row, window: int | None, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "1 1 pos pos"]:
    ends, positions = torch.from_numpy(row.ends).to(device), torch.from_numpy(row.positions).to(device)
    place = torch.arange(row.n_tokens, device=device)
    seen = sees(ends, positions, place[:, None], place[None, :], window)
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)[None, None]
