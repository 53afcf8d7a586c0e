"""Token ids as text, one after the other: no token prints half a character."""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LONGEST = 4
"""Bytes of a character in UTF-8, and so tokens that one may be spread over."""


class Pieces:
    """The characters that each token of a text completes; joined they are the text as it decodes as a whole.

    A token's text hangs on those before it (a space at the beginning, bytes of a character), so what is decoded is the
    token together with those before it since the last whole character.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._known = 0

    def add(self, token_id: int) -> str:
        """The characters that the next token completes; empty while one goes on."""
        self._ids.append(token_id)
        before, whole = self._decoded(self._ids[: self._known]), self._decoded(self._ids)
        if whole.endswith(REPLACEMENT) and len(self._ids) - self._known < LONGEST:
            return ""
        # From here on the tokens that were just completed are what later ones are decoded after.
        self._ids = self._ids[self._known :]
        self._known = len(self._ids)
        return whole[len(before) :]

    def rest(self) -> str:
        """What is left when the text ends: bytes that never became a character."""
        return self._decoded(self._ids)[len(self._decoded(self._ids[: self._known])) :]

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
