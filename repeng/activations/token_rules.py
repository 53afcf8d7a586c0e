"""Which tokens of a text a name means: `last`, `last:-2`, `response_mean`, `mean:user+assistant`, `all`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from repeng.distributions.chat_form import chat_prompt
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Form
from repeng.distributions.turns import ASSISTANT
from repeng.errors import BadInput, UnknownName
from repeng.models.tokens import TokenizedText
from repeng.models.turns import Span, spans_of_roles

TOKENS = (
    "last",
    "last:-K",
    "response_mean",
    "prompt_last",
    "first_response",
    "turn_end",
    "mean:ROLE[+ROLE]",
    "all",
    "all:ROLE[+ROLE]",
)
"""The forms of a name. K counts back from the last token; ROLE is a message's: system, user, assistant."""
ROLES = re.compile(r"[A-Za-z0-9_-]+(\+[A-Za-z0-9_-]+)*")
Kind = Literal["positions", "means", "tokens", "logprobs"]
"""What a text is asked for: one vector, a mean, the vector of each of several tokens, or a log-probability."""


@dataclass(frozen=True)
class TokenRule:
    """Which tokens of a text a name means, and what is kept of them.

    Attributes:
        name: the one name of the rule; empty for log-probabilities.
        kind: what is kept.
        place: the name up to its colon.
        offset: tokens before the last one.
        roles: whose turns are meant, sorted; empty where the name does not say.
    """

    name: str
    kind: Kind
    place: str
    offset: int = 0
    roles: tuple[str, ...] = ()

    @property
    def is_ragged(self) -> bool:
        """Whether each text has a number of vectors of its own."""
        return self.kind == "tokens"

    @property
    def is_closed(self) -> bool:
        """Whether the text is read with what closes the response's turn."""
        return self.place == "turn_end"

    @property
    def needs_chat(self) -> bool:
        """Whether a prompt that is no chat has no such token."""
        return self.is_closed or bool({*self.roles} - {ASSISTANT})

    def spans(self, text: TokenizedText) -> tuple[Span, ...]:
        """The tokens of a text that are meant, ascending; none of an empty response, or where no turn has the roles."""
        start, end, last = text.response_start, text.response_end, text.last
        if self.roles:
            return spans_of_roles(text.turns, self.roles)
        if self.place == "last":
            return _one(last - self.offset)
        if self.place == "prompt_last":
            return _one(text.prompt_last)
        if self.place == "turn_end":
            return _one(len(text.ids) - 1) if text.n_closing else ()
        if self.place == "first_response":
            return _one(start) if start < end else ()
        # An empty response has a log-probability, of nothing.
        return ((start, end),) if start < end or self.kind == "logprobs" else ()


def _one(position: int) -> tuple[Span, ...]:
    return ((position, position + 1),) if position >= 0 else ()


@lru_cache(maxsize=1024)
def token_rule(name: str) -> TokenRule:
    """The rule of a name; of the empty one that of log-probabilities.

    Raises:
        UnknownName: no rule has such a name.
        BadInput: its offset or its roles are not what they should be; the message says how they are written.
    """
    place, colon, detail = name.partition(":")
    if place == "last" and colon:
        if not re.fullmatch(r"-[1-9]\d{0,5}", detail):
            raise BadInput(
                f"the token {name!r}: an offset counts back from the last token, as last:-1 for the one before it"
            )
        return TokenRule(name, "positions", place, offset=-int(detail))
    if place in ("mean", "all") and (colon or place == "mean"):
        if not ROLES.fullmatch(detail):
            raise BadInput(
                f"the token {name!r} names no role; write {place}:assistant, or several as {place}:user+assistant"
            )
        roles = tuple(sorted(set(detail.split("+"))))
        return TokenRule(f"{place}:{'+'.join(roles)}", "means" if place == "mean" else "tokens", place, roles=roles)
    kinds: dict[str, Kind] = {
        "last": "positions",
        "prompt_last": "positions",
        "first_response": "positions",
        "turn_end": "positions",
        "response_mean": "means",
        "all": "tokens",
        "": "logprobs",
    }
    if name not in kinds:
        raise UnknownName("token", name, TOKENS)
    return TokenRule(name, kinds[name], place)


def check_tokens(split: Split, names: Iterable[str], form: Form = "plain") -> None:
    """See that the texts of a split can have the tokens of some names, in a form in which every prompt may be a chat.

    Raises:
        BadInput: a name needs turns that a plain prompt does not have, or a role that no message has.
    """
    place = f"{split.distribution}/{split.name}"
    for rule in map(token_rule, names):
        if rule.needs_chat:
            plain = [number for number, example in enumerate(split.examples) if isinstance(example.prompt, str)]
            if plain and form == "plain":
                way_out = "take last" if rule.is_closed else f"take {rule.place}:{ASSISTANT}, which is the response"
                raise BadInput(
                    f"the token {rule.name!r}: {place}, example {plain[0]} has a text as its prompt and no chat, so it "
                    f"has no such turn; {way_out}, or data whose prompts are messages, or the stimulus chat"
                )
        known = {ASSISTANT}
        for example in split.examples if rule.roles else ():
            prompt = example.prompt if form == "plain" else chat_prompt(example.prompt)
            known |= {message.role for message in prompt if not isinstance(message, str)}
        if unknown := {*rule.roles} - known:
            raise UnknownName(f"role in {place} (of the token {rule.name!r})", min(unknown), known)
