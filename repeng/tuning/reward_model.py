"""A reward model: a base model with a linear head of two logits, read at the last token of each text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repeng.activations.layouts.packing import sees
from repeng.errors import BadInput
from repeng.tuning.batches import Pass, length_batches, packed, padded

log = logging.getLogger(__name__)

HEADS = ("score", "classifier")
ROW_TOKENS = {"cpu": 512}
"""Longest packed row by type of device. Its mask is dense, so that its attention costs its length squared."""
ROW_TOKENS_ELSEWHERE = 2048
FEW = 6
"""Texts that both ways of computing are tried on before packed rows are trusted."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""How far apart the two ways may be, in parts of the largest logit."""
WORTHWHILE = 0.9
"""Share of all tokens that must remain for packed rows to be worth their masks."""


def pair_loss(best: Float[Tensor, "pair logit"], worse: Float[Tensor, "pair logit"]) -> Float[Tensor, ""]:
    """-log sigmoid(z+ - z-), averaged over pairs and over both logits (Clymer et al. 2023, released trainer)."""
    return -nn.functional.logsigmoid(best - worse).mean()


def response_scores(logits: Float[Tensor, "response logit"]) -> Float[Tensor, " response"]:
    """A response's score: the mean of its logits. p(best) of a pair is the softmax of its two scores."""
    return logits.mean(dim=-1)


class RewardModel(nn.Module):
    """A sequence classification model with two labels, a peft model around one, or neither's twin after full tuning.

    Logits are read at each text's last token wherever padding stands, and the head computes in float32: half
    precision makes ties of close scores.

    Attributes:
        model: the module; what is trained in it requires gradients.
        tokenizer: the base model's.
        device: where it is.
        dtype: the compute dtype; `bfloat16` computes under autocast.
        max_length: longest text that it takes, in tokens.
        packs: whether texts may share prefixes in a row; None until it was tried, False to have them padded.
    """

    def __init__(self, model: Any, tokenizer: Any, *, dtype: torch.dtype, max_length: int | None = None) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.device: torch.device = next(model.parameters()).device
        self.virtual_tokens = _virtual_tokens(model)
        self.packs: bool | None = None
        self.head = _head(model).float()
        config = model.config.get_text_config()
        limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length, max_length]
        self.max_length = min(int(limit) for limit in limits if limit) - self.virtual_tokens

    def forward(self, passes: Sequence[Pass]) -> Float[Tensor, "response logit"]:
        """Two logits for each text of some passes, in float32, in the order of the texts' numbers."""
        logits = torch.cat([self._run(one) for one in passes])
        order = torch.cat([one["texts"] for one in passes]).argsort()
        return logits[order.to(logits.device)]

    def logits_at(
        self, rows: Int[Tensor, " response"], columns: Int[Tensor, " response"], **inputs: Tensor
    ) -> Float[Tensor, "response logit"]:
        """Logits, in float32, at some cells of a batch.

        Args:
            rows: row of each cell.
            columns: column of each cell, virtual tokens counted.
            inputs: what the model below the head takes, on any device.
        """
        whole = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        moved = {name: value.to(self.device) for name, value in inputs.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = whole.base_model(**moved, use_cache=False)[0]
        with torch.autocast(self.device.type, enabled=False):
            return self.head(hidden[rows.to(hidden.device), columns.to(hidden.device)].float())

    def passes(self, ids: Sequence[list[int]], batch_tokens: int | None = None) -> list[Pass]:
        """Texts as `forward` takes them: packed where they share enough and this model gives the same so, else padded.

        What is true of a model is found out once, on a few of the texts: no list of architectures knows every way of
        reading a mask. Sliding windows and models that refuse such a mask mean no.

        Args:
            ids: token ids of each text.
            batch_tokens: tokens of a pass, padding counted; None for one pass where texts are padded.
        """
        if len(ids) > 1 and self.packs is not False:
            longest = ROW_TOKENS.get(self.device.type, ROW_TOKENS_ELSEWHERE)
            rows = list(packed(ids, min(batch_tokens or longest, longest), virtual=self.virtual_tokens))
            if sum(row["input_ids"].numel() for row in rows) <= WORTHWHILE * sum(map(len, ids)):
                if self.packs is None:
                    self.packs = self._same_when_packed(sorted(ids)[:FEW])
                if self.packs:
                    return rows
        batches = [None] if batch_tokens is None else length_batches(ids, batch_tokens)
        return [padded(ids, batch, virtual=self.virtual_tokens) for batch in batches]

    @torch.no_grad()
    def scores(self, ids: Sequence[list[int]], *, batch_tokens: int = 8192) -> Float[Tensor, " response"]:
        """A score for each text, on the CPU; arguments as of `passes`."""
        training = self.training
        self.eval()
        scores = torch.zeros(len(ids))
        try:
            for one in self.passes(ids, batch_tokens):
                scores[one["texts"]] = response_scores(self._run(one)).cpu()
        finally:
            self.train(training)
        return scores

    def trainable(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in a fixed order."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @torch.no_grad()
    def _same_when_packed(self, few: Sequence[list[int]]) -> bool:
        config = self.model.config.get_text_config()
        if getattr(config, "sliding_window", None) or len(set(getattr(config, "layer_types", None) or ())) > 1:
            return False
        training = self.training
        self.eval()
        try:
            alone = torch.cat([self([padded([text], virtual=self.virtual_tokens)]) for text in few])
            together = self(list(packed(few, ROW_TOKENS["cpu"], virtual=self.virtual_tokens)))
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            log.warning("this model takes no packed rows (%s); plain batches are used", error)
            return False
        finally:
            self.train(training)
        apart = (together - alone).abs().max() / alone.abs().max().clamp(min=1e-6)
        if not bool(apart <= TOLERANCE[self.dtype]):
            log.warning("this model gives other scores in packed rows (off by %.1e); plain batches are used", apart)
            return False
        return True

    def _run(self, one: Pass) -> Float[Tensor, "response logit"]:
        """Logits of one pass, in the order in which it names its texts."""
        inputs: Pass = {name: one[name] for name in ("attention_mask", "position_ids") if name in one}
        ids = one["input_ids"].to(self.device)
        if self.virtual_tokens:
            words = self.model.word_embeddings(ids)
            prompt = self.model.get_prompt(batch_size=len(ids)).to(words)
            inputs["inputs_embeds"] = torch.cat([prompt, words], dim=1)
        else:
            inputs["input_ids"] = ids
        if "ends" in one:
            place = torch.arange(len(one["ends"]), device=self.device)
            seen = sees(one["ends"].to(self.device), one["position_ids"][0], place[:, None], place[None])
            # 0 where a token is seen and the dtype's minimum where not: some models misread a mask of booleans.
            mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
            inputs["attention_mask"] = mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[None, None]
        return self.logits_at(one["rows"], one["columns"], **inputs)


def _head(model: nn.Module) -> nn.Module:
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in HEADS:
            return module
    raise BadInput(f"{type(model).__name__} has no module named {' or '.join(HEADS)}: not a sequence classifier")


def _virtual_tokens(model: nn.Module) -> int:
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0
