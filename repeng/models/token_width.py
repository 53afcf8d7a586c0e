"""How many characters one token can stand for at most, so that an endless text is known to be too long untokenized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

COMPOSED = 4
"""Characters that NFC makes one of at most."""
KEEPING = ("ByteLevel", "Digits", "Metaspace", "Punctuation", "Sequence", "Split", "UnicodeScripts")
"""Pre-tokenizers that drop nothing of a text, unless their behaviour is `Removed`."""


class FewestTokens:
    """Knows of a text, by its characters alone, that it has more tokens than a limit.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def exceed(self, text: str, limit: int) -> bool:
        """Whether a text surely has more tokens than `limit`; False where only tokenizing it can tell."""
        return len(text) > limit and self._width is not None and len(text) > limit * self._width

    @cached_property
    def _width(self) -> int | None:
        return token_width(self._tokenizer)


def token_width(tokenizer: Any) -> int | None:
    """Characters of a text that one token can stand for at most, so a text of n has n / width tokens or more.

    Known where every character is in some token: a byte-pair tokenizer that falls back to bytes, and neither its
    normaliser, its pre-tokenizer nor an added token drops any. None where that is not so, or not known.
    """
    if not getattr(tokenizer, "is_fast", False):
        return None
    parts: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model, vocabulary = parts["model"], parts["model"].get("vocab")
    steps = [step for name in ("normalizer", "pre_tokenizer") for step in _steps(parts[name])]
    by_byte = any(step["type"] == "ByteLevel" for step in steps)
    added = parts["added_tokens"]
    if (
        model["type"] != "BPE"
        or not _has_every_byte(model, by_byte=by_byte)
        or parts["truncation"] is not None
        or any(token["lstrip"] or token["rstrip"] for token in added)
        or not all(map(_keeps, steps))
    ):
        return None
    composed = COMPOSED if any(step["type"] == "NFC" for step in steps) else 1
    return composed * max(map(len, (*vocabulary, *(token["content"] for token in added))))


def _steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The parts that a normaliser or pre-tokenizer is made of, without those that only hold others."""
    if part is None:
        return []
    inner = part.get("normalizers") or part.get("pretokenizers")
    return [part] if inner is None else [step for one in inner for step in _steps(one)]


def _has_every_byte(model: Mapping[str, Any], *, by_byte: bool) -> bool:
    """Whether there is a token for every byte, so that nothing is unknown and many characters never become one."""
    if by_byte:
        from tokenizers.pre_tokenizers import ByteLevel

        return set(ByteLevel.alphabet()) <= model["vocab"].keys()
    return bool(model.get("byte_fallback")) and all(f"<0x{byte:02X}>" in model["vocab"] for byte in range(256))


def _keeps(step: Mapping[str, Any]) -> bool:
    """Whether a normaliser or pre-tokenizer leaves at least one character for each."""
    if step["type"] == "Replace":
        pattern = step["pattern"].get("String")
        return pattern is not None and len(step["content"]) >= len(pattern)
    return step["type"] in ("NFC", "Prepend", *KEEPING) and step.get("behavior") != "Removed"
