"""What the labels of texts show that a reader should know: one label alone, contradictions, two forms in one split.

Each function says how many, or nothing where there is nothing to say.
"""

from __future__ import annotations

from collections import Counter

from repeng.distributions.schema import Prompt, Split


def one_label(split: Split) -> str:
    """How many labelled texts are all of one label."""
    values = set(split.labels.tolist()) if split.as_texts else set()
    return f"all {split.n_responses:,} are {values.pop():.0f}" if len(values) == 1 else ""


def contradictions(split: Split, other: Split | None = None) -> str:
    """How many labelled texts have both labels: within a split, or one label here and another there."""
    if not split.as_texts or (other is not None and not other.as_texts):
        return ""
    own = _labels(split)
    theirs = own if other is None else _labels(other)
    both = [text for text, labels in own.items() if len(labels | theirs.get(text, set())) > 1]
    both = [text for text in both if other is None or text in theirs]
    return f"{len(both):,} of {len(own):,} distinct texts" if both else ""


def mixed_forms(split: Split) -> str:
    """How many examples have several responses, and how many are one labelled text, where a split has both."""
    counts = Counter(len(example.responses) > 1 for example in split.examples)
    return f"{counts[True]:,} with several responses, {counts[False]:,} of one text" if len(counts) == 2 else ""


def _labels(split: Split) -> dict[tuple[Prompt, str], set[float]]:
    """Of each prompt and response the labels that it has."""
    found: dict[tuple[Prompt, str], set[float]] = {}
    for example in split.examples:
        for response, label in zip(example.responses, example.labels, strict=True):
            found.setdefault((example.prompt, response), set()).add(label)
    return found
