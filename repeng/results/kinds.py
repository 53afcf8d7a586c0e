"""What a method is, by its name: for files that do not say, older ones of ours and the published ones."""

from __future__ import annotations

import re

KINDS = {
    "probe": ("mms", "lat", "lat-stimulus-2", "ccs", "cra", "logistic", "lda"),
    "prompted": ("zero-shot", "zero-shot-mean", "few-shot", "truthfulness"),
    "tuned": ("lora", "prompt-tuning", "full"),
    "text": ("length", "tfidf"),
    "chance": ("random",),
}
"""Kinds and the names that we gave to methods of them before files said a method's kind.
`-genies` marks a preset, `+10%` an augmented source and parentheses parameters: they change no kind."""
FITTED = ("probe", "tuned", "plugin", "published")
"""Kinds of what is fitted on a source's activations or weights, and must beat the others."""
CAPABILITY = "target-tuned:"
"""Begins the method of a row that says which method won a reference, and so its target-tuned capability."""
PUBLISHED_NAMES = {
    "classify_lora": "lora",
    "lora_fine_tuning": "lora",
    "zero_shot": "zero-shot",
    "few_shot": "few-shot",
    "prompt_tuning": "prompt-tuning",
}
"""Methods that GENIES' files name otherwise than we do. Either name is understood."""


def kind_of(method: str) -> str:
    """The kind that a method of this name has where its file does not say: `published` for a name that is not ours."""
    name = re.split(r"[+(]", method.removeprefix(CAPABILITY))[0].removesuffix("-genies")
    return next((kind for kind, names in KINDS.items() if name in names), "published")


def our_name(method: str) -> str:
    """Our name for a method of GENIES' files; any other name as it is."""
    return PUBLISHED_NAMES.get(method, method)
