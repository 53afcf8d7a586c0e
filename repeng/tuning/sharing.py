"""Texts with shared prefixes: a prompt that stands before several responses is computed once, virtual tokens too."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repeng.activations.layouts.packing import Row, pack, tree_mask

if TYPE_CHECKING:
    from repeng.tuning.reward_model import RewardModel

log = logging.getLogger(__name__)

ROW_TOKENS = {"cpu": 512}
"""Longest row by type of device. The mask of a row is dense, so that its attention costs its length squared."""
ROW_TOKENS_ELSEWHERE = 2048
FEW = 6
"""Texts that both ways are tried on before one is trusted."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""How far apart the two ways may be, in parts of the largest logit."""
WORTHWHILE = 0.9
"""Share of all tokens that must remain for rows to be worth their masks."""


def shares_prefixes(reward: RewardModel, ids: Sequence[list[int]]) -> bool:
    """Whether these texts share enough to be packed, and this model gives the same when they are.

    What it says of a model is found out once, on a few of the texts: no list of architectures knows every way of
    reading a mask. Sliding windows and models that refuse such a mask mean no.
    """
    if reward.packs is False or len(ids) < 2:
        return False
    if sum(row.n_tokens for row in pack(ids, _budget(reward))) > WORTHWHILE * sum(map(len, ids)):
        return False
    if reward.packs is None:
        reward.packs = _same_when_packed(reward, sorted(ids)[:FEW])
    return reward.packs


def packed_logits(
    reward: RewardModel, ids: Sequence[list[int]], batch_tokens: int | None = None
) -> Iterator[tuple[list[int], Float[Tensor, "response logit"]]]:
    """Logits of the texts of each row: the texts' numbers, and two logits for each.

    Args:
        reward: the model.
        ids: token ids of each text.
        batch_tokens: tokens of the longest row; None for what suits the device.
    """
    for row in pack(ids, min(batch_tokens or _budget(reward), _budget(reward))):
        last = torch.tensor([int(row.path(slot)[-1]) for slot in range(len(row.texts))]) + reward.virtual_tokens
        yield list(row.texts), reward.logits_at(torch.zeros_like(last), last, **_inputs(row, reward))


@torch.no_grad()
def _same_when_packed(reward: RewardModel, few: Sequence[list[int]]) -> bool:
    model: Any = reward.model
    config = model.config.get_text_config()
    if getattr(config, "sliding_window", None) or len(set(getattr(config, "layer_types", None) or ())) > 1:
        return False
    if reward.virtual_tokens and model.active_peft_config.peft_type != "PROMPT_TUNING":
        return False
    training = model.training
    model.eval()
    try:
        alone = torch.cat([reward.logits([text]) for text in few])
        packed = torch.zeros_like(alone)
        for texts, logits in packed_logits(reward, few):
            packed[texts] = logits
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        log.warning("this model takes no packed rows (%s); plain batches are used", error)
        return False
    finally:
        model.train(training)
    apart = (packed - alone).abs().max() / alone.abs().max().clamp(min=1e-6)
    if not bool(apart <= TOLERANCE[reward.dtype]):
        log.warning("this model gives other scores in packed rows (off by %.1e); plain batches are used", apart)
        return False
    return True


def _budget(reward: RewardModel) -> int:
    return ROW_TOKENS.get(reward.device.type, ROW_TOKENS_ELSEWHERE)


def _inputs(row: Row, reward: RewardModel) -> dict[str, Tensor]:
    """A row as the model takes it: ids, or embeddings behind the virtual tokens, which every text sees."""
    seen = torch.from_numpy(tree_mask(row))
    ids, positions = torch.from_numpy(row.ids)[None], torch.from_numpy(row.positions)[None]
    count = reward.virtual_tokens
    if not count:
        return {"input_ids": ids, "position_ids": positions, "attention_mask": _float_mask(seen, reward.dtype)}
    model: Any = reward.model
    whole = torch.ones(count + row.n_tokens, count + row.n_tokens, dtype=torch.bool).tril()
    whole[count:, count:] = seen
    words = model.word_embeddings(ids.to(reward.device))
    return {
        "inputs_embeds": torch.cat([model.get_prompt(batch_size=1).to(words), words], dim=1),
        "position_ids": torch.cat([torch.arange(count)[None], positions + count], dim=1),
        "attention_mask": _float_mask(whole, reward.dtype),
    }


def _float_mask(seen: Bool[Tensor, "query key"], dtype: torch.dtype) -> Tensor:
    """0 where a token is seen and the dtype's minimum where not: some models misread a mask of booleans."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[None, None]
