"""A text that the model writes, scored at every token as soon as the token has been read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.activations.token_rules import token_rule
from repeng.errors import BadInput
from repeng.models.sampling import Sampling, prompt_ids
from repeng.watching.hooks import ScoreHooks
from repeng.watching.pieces import Pieces
from repeng.watching.reading import finite, reads_after
from repeng.watching.token_score import Part, TokenScore
from repeng.watching.watched_model import Watched


@dataclass(frozen=True)
class Writing(Sampling):
    """How a text is written on.

    Attributes:
        stop_at_alarm: whether it ends with the first token that rings.
    """

    stop_at_alarm: bool = False


def watched_prompt(watched: Watched, prompt: str) -> list[int]:
    """The tokens of what the probe's stimulus writes before a response.

    Raises:
        BadInput: the probe reads a token after the response; or as `prompt_ids`.
    """
    stimulus = watched.stimulus
    if reads_after(watched):
        raise BadInput(
            f"probe {watched.fitted.name!r} reads the token {watched.fitted.token!r} under the stimulus "
            f"{stimulus.name!r}, which comes after a whole response: there is none while one is written. Watch the "
            "text when it is there, or take a probe that was fitted under plain or chat"
        )
    return prompt_ids(watched.lm, stimulus, prompt)


@torch.no_grad()
def write(watched: Watched, hooks: ScoreHooks, ids: list[int], how: Writing) -> Iterator[TokenScore]:
    """The prompt's tokens, then each token of the response when the model has read it.

    Every token that is written is read too, the last one by a pass of its own. The token that ends the text is neither
    scored nor given.

    Args:
        watched: model and probe.
        hooks: of them, on the model.
        ids: of the prompt.
        how: it is written.

    Raises:
        NonFinite: an activation is infinite or not a number.
    """
    lm = watched.lm
    one_token = token_rule(watched.fitted.token).kind == "positions"
    pieces, ends, choose = Pieces(lm.tokenizer), end_ids(lm.model, lm.tokenizer), _Chooser(how, lm.device)
    steps = _Steps(watched, hooks, ids)
    room = how.room(lm, len(ids))
    for number in range(room + 1):
        scores, following = steps.read(choose)
        begin = len(steps.ids) - len(scores)
        part: Part = "response" if number else "prompt"
        last: TokenScore | None = None
        ending = number == room or following in ends
        for position, (token_id, value) in enumerate(zip(steps.ids[begin:], scores, strict=True), begin):
            text = pieces.add(token_id)
            text += pieces.rest() if ending and position == len(steps.ids) - 1 else ""
            score = finite(value, position) if one_token or number else None
            last = watched.token(token_id, text, score, position, part, rings=bool(number))
            yield last
        if ending or (how.stop_at_alarm and last is not None and last.alarm):
            return
        steps.ids.append(following)


class _Steps:
    """Passes of the model, each over the tokens that it has not read."""

    def __init__(self, watched: Watched, hooks: ScoreHooks, ids: list[int]) -> None:
        self._model: Any = watched.lm.model
        self._device, self._hooks = watched.lm.device, hooks
        self._cache: Any = None
        self._prompt, self._n_read = len(ids), 0
        self.ids = list(ids)
        hooks.reset()
        # Logits of a long prompt's every token would take more memory than the model.
        takes = inspect.signature(self._model.forward).parameters
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def read(self, choose: _Chooser) -> tuple[list[float], int]:
        """Read what is new: its scores, and the token that follows."""
        whole = self._n_read == 0 or self._cache is None
        if whole:
            self._hooks.reset()
        start = 0 if whole else self._n_read
        feed = torch.tensor([self.ids[start:]], device=self._device)
        self._hooks.counted = torch.arange(start, len(self.ids))[None] >= self._prompt
        cache = {} if self._cache is None else {"past_key_values": self._cache}
        out = self._model(input_ids=feed, use_cache=True, **cache, **self._options)
        # None of a model that keeps another kind of state (Mamba): it reads the whole text again.
        self._cache = getattr(out, "past_key_values", None)
        (scores,) = self._hooks.take()
        new = scores[0, self._n_read - start :]
        following = choose(out.logits[0, -1].float())
        # One copy from the device for both.
        *found, token = torch.cat([new, following.to(new)[None]]).tolist()
        self._n_read = len(self.ids)
        return found, int(token)


class _Chooser:
    """The token that follows some logits."""

    def __init__(self, how: Writing, device: torch.device) -> None:
        self._temperature = how.temperature
        self._generator = torch.Generator(device=device).manual_seed(how.seed)

    def __call__(self, logits: Float[Tensor, " vocabulary"]) -> Int[Tensor, ""]:
        if not self._temperature:
            return logits.argmax()
        shares = (logits / self._temperature).softmax(dim=-1)
        return torch.multinomial(shares, 1, generator=self._generator)[0]


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text."""
    settings = getattr(model, "generation_config", None)
    named = [getattr(settings, "eos_token_id", None), getattr(tokenizer, "eos_token_id", None)]
    several = [ids if isinstance(ids, list | tuple) else [ids] for ids in named if ids is not None]
    return frozenset(int(one) for ids in several for one in ids)
