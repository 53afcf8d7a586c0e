"""The texts of prompts and responses, fit to be shown."""

from __future__ import annotations

import re

from repeng.distributions.schema import Split


def response_text(split: Split, row: int) -> str:
    """The response that stands at a row of the split."""
    example = int(split.response_example[row])
    return split.examples[example].responses[row - int(split.offsets[example])]


def prompt_text(split: Split, example: int) -> str:
    """An example's prompt; a chat as `role: content`, turn by turn."""
    prompt = split.examples[example].prompt
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def visible(text: str) -> str:
    """The text with control characters as symbols and marks that turn text round as `⟨U+202E⟩`; line ends stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", _symbol, text)


def _symbol(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"⟨U+{code:04X}⟩" if code > 0x7F else "\u2421" if code == 0x7F else chr(0x2400 + code)


def shortened(text: str, most: int) -> str:
    """The text, or its two ends with a note of how much is left out between them."""
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most // 3) :]
    return f"{head}\n[… {len(text) - len(head) - len(tail):,} characters left out …]\n{tail}"
