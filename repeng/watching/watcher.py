"""A probe that watches `model.generate` of transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from repeng.activations.token_rules import token_rule
from repeng.errors import BadInput
from repeng.watching.pieces import Pieces
from repeng.watching.reading import finite, reads_after
from repeng.watching.token_score import Part, TokenScore
from repeng.watching.watched_model import Model, ProbeAt, Watched
from repeng.watching.writing import end_ids

WRONG = (
    "this way of generating takes tokens back or reads others in between (assisted decoding, prompt lookup, beam "
    "search, guidance by a second pass), and scores would be of other tokens than those that come out; generate with "
    "num_beams=1 and without an assistant, or watch the text when it is there (repeng.watch)"
)


@dataclass(frozen=True)
class _Step:
    """What one step of generation read: new tokens of each row, and their scores, still on the device."""

    ids: Int[Tensor, "row pos"]
    scores: Float[Tensor, "row pos"]


class Watcher:
    """Scores every token that `model.generate` reads, in each row of a batch.

        with Watcher(model, probe, tokenizer=tokenizer) as watcher:
            model.generate(**inputs, logits_processor=[watcher.processor], stopping_criteria=[watcher.stopping])
        for token in watcher.tokens[0]:
            print(token.text, token.score, token.alarm)

    A token is scored when the model reads it, one step after it was chosen. So the very last one, which `generate`
    returns unread, has no score, and neither has the token that ends a text (`repeng.watch` reads the last one too).
    Nothing is copied from the device while it generates, unless `on_token` or `stopping` wants to know: then one small
    tensor a step. A second `generate` in the same context begins anew; where it has no cache, call `reset` first.

    Padding on the left and any number of rows are taken; beam search, assisted decoding and whatever else takes tokens
    back is refused at the step at which it shows. Hooks that change the model (steering) are watched with their
    effect if they were attached before.

    Args:
        model: what `repeng.load_model` gives, a name for it, or a causal language model of transformers.
        probe: what `repeng.fit` gives, or its folder.
        tokenizer: of a model of transformers.
        alarm: as of `repeng.watch`.
        on_token: called with the row and each of its tokens that was read, step by step.
        stimulus: as of `repeng.watch`.
        any_model: as of `repeng.watch`.

    Attributes:
        model: the model of transformers, whose `generate` is watched.
        processor: to be given to `generate` in `logits_processor`: it tells which tokens were read, and leaves the
            logits as they are.
        stopping: to be given to `generate` in `stopping_criteria`, if a row is to stop at its first alarm. One token
            more has been chosen by then.

    Raises:
        BadInput: the probe cannot be followed token by token, or reads what comes after a whole response.
        CaptureMismatch: the probe was fitted on another model.
    """

    def __init__(
        self,
        model: Model,
        probe: ProbeAt,
        *,
        tokenizer: Any = None,
        alarm: str | None = None,
        on_token: Callable[[int, TokenScore], None] | None = None,
        stimulus: str | None = None,
        any_model: bool = False,
    ) -> None:
        self._watched = Watched.of(
            model, probe, tokenizer=tokenizer, alarm=alarm, any_model=any_model, stimulus=stimulus
        )
        if reads_after(self._watched):
            raise BadInput(
                f"probe {self._watched.fitted.name!r} reads what its stimulus ({self._watched.stimulus.name}) writes "
                "after a whole response: there is none while one is written"
            )
        self.model: Any = self._watched.lm.model
        self._hooks = self._watched.hooks()
        self._one_token = token_rule(self._watched.fitted.token).kind == "positions"
        self._ends = end_ids(self.model, self._watched.lm.tokenizer)
        self._on_token = on_token
        self.processor = _Processor(self)
        self.stopping = _Stopping(self)
        self.reset()

    def __enter__(self) -> Watcher:
        self._hooks.__enter__()
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()

    def reset(self) -> None:
        """Begin with another generation."""
        self._hooks.reset()
        # Of the prompt a probe of a whole response reads nothing.
        self._hooks.counted = False
        self._length = self._offset = self._prompt = 0
        self._last: Tensor | None = None
        self._changed: Tensor | None = None
        self._steps: list[_Step] = []
        self._rows: list[_Row] = []

    @property
    def tokens(self) -> list[list[TokenScore]]:
        """The tokens of each row that were read, prompt and response, without padding and without what ends a text.

        Raises:
            BadInput: the rows changed places meanwhile, as beams do.
            NonFinite: an activation is infinite or not a number.
        """
        self._drain()
        return [list(row.tokens) for row in self._rows]

    def read(self, input_ids: Int[Tensor, "row length"]) -> None:
        """What `processor` is told: all tokens so far, the newest of which the model has just read."""
        begins, passes = self._hooks.begins, self._hooks.take()
        if not passes and not self._length:
            raise BadInput(
                "the watched model has read nothing; give the watcher's processor to that model's generate, inside "
                f"`with`. Or {WRONG}"
            )
        if begins and self._length:
            self.reset()
        rows, length = input_ids.shape
        n_read = sum(one.shape[1] for one in passes)
        if not self._length:
            self._begin(rows, length, n_read)
        expected = length - self._length
        if len(passes) == 1 and n_read == length and not self._hooks.has_cache and self._length:
            if not self._one_token:
                raise BadInput("a probe of a whole response is watched with a cache alone; leave use_cache=False out")
            n_read = expected
        if n_read != expected or expected < 1 or rows != len(self._rows):
            raise BadInput(WRONG)
        self._compare(input_ids)
        scores = passes[0] if len(passes) == 1 else torch.cat(passes, dim=1)
        scores = scores[:, -expected:]
        self._steps.append(_Step(input_ids[:, -expected:], scores))
        self._length, self._last = length, input_ids
        self._hooks.counted = True
        if self._on_token is not None:
            self._drain()

    def rang(self, rows: int) -> Bool[Tensor, " row"]:
        """What `stopping` says: the rows of which a token rang."""
        self._drain()
        return torch.tensor([any(token.alarm for token in row.tokens) for row in self._rows] or [False] * rows)

    def _begin(self, rows: int, length: int, n_read: int) -> None:
        """The first step: where each row's padding ends."""
        if n_read > length:
            raise BadInput(WRONG)
        # What a cache held already was read before anybody watched.
        self._length = self._offset = length - n_read
        self._prompt = length
        mask = self._hooks.attention_mask
        starts = [0] * rows
        if isinstance(mask, Tensor) and mask.ndim == 2:
            starts = (mask[:, :length].cumsum(dim=1) == 0).sum(dim=1).tolist()
        elif mask is not None and rows > 1:
            raise BadInput(
                "several rows are watched with an attention mask of [row, position], and this one has more axes"
            )
        self._rows = [_Row(Pieces(self._watched.lm.tokenizer), start) for start in starts]

    def _compare(self, input_ids: Int[Tensor, "row length"]) -> None:
        """Note whether the rows' tokens are still those that were read. Looked at when scores are asked for."""
        if self._last is None or (input_ids.shape[0] == 1 and self._hooks.has_cache):
            return
        changed = (input_ids[:, : self._length] != self._last).any()
        self._changed = changed if self._changed is None else self._changed | changed

    def _drain(self) -> None:
        """Take what was read from the device, in one copy, and say it."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        if self._changed is not None and bool(self._changed):
            raise BadInput(WRONG)
        # Ids are exact in a float64; MPS has none, and takes two copies.
        ids, scores = torch.cat([step.ids for step in steps], dim=1), torch.cat([step.scores for step in steps], dim=1)
        if scores.dtype == torch.float64 and ids.device == scores.device:
            ids, scores = torch.stack([ids.to(scores), scores]).cpu()
        first = self._length - ids.shape[1]
        rows = zip(self._rows, ids.long().tolist(), scores.tolist(), strict=True)
        for number, (row, own_ids, own_scores) in enumerate(rows):
            for place, (token_id, score) in enumerate(zip(own_ids, own_scores, strict=True), first):
                if (token := self._token(row, place, token_id, score)) is not None and self._on_token is not None:
                    self._on_token(number, token)

    def _token(self, row: _Row, place: int, token_id: int, score: float) -> TokenScore | None:
        """The next token of a row; None of padding and of what follows its end."""
        written = place >= self._prompt
        row.ended |= written and token_id in self._ends
        if place < row.start or row.ended:
            return None
        part: Part = "response" if written else "prompt"
        position = place - row.start
        value = finite(score, position) if self._one_token or written else None
        token = self._watched.token(token_id, row.pieces.add(token_id), value, position, part, rings=written)
        row.tokens.append(token)
        return token


class _Row:
    """A row of the batch: its tokens so far, and where its padding ends."""

    def __init__(self, pieces: Pieces, start: int) -> None:
        self.pieces, self.start, self.ended = pieces, start, False
        self.tokens: list[TokenScore] = []


class _Processor(LogitsProcessor):
    """Tells a watcher which tokens the model has read."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits, as they are."""
        self._watcher.read(input_ids)
        return scores


class _Stopping(StoppingCriteria):
    """Ends a row at its first alarm."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002  (transformers' arguments)
        """Which rows are to end."""
        return self._watcher.rang(input_ids.shape[0]).to(input_ids.device)
