"""Sources that a reward model can learn in a few steps."""

from __future__ import annotations

import numpy as np

from repeng.distributions.schema import Example, Split

WORDS = ("the sea", "a poem", "Madrid", "Jupiter", "return first", "the waves", "Spain", "a planet")


def polite_split(n: int = 40, *, seed: int = 0, name: str = "polite", split: str = "train") -> Split:
    """Examples whose best response says Yes and whose one or two worse responses say No."""
    draw = np.random.default_rng(seed)
    examples = []
    for number in range(n):
        topic = WORDS[int(draw.integers(len(WORDS)))]
        worse = [f"No, it's {topic}."] + ([f"No, never {topic}"] if number % 3 == 0 else [])
        responses = [f"Yes, {topic} of course.", *worse]
        best = int(draw.integers(len(responses)))
        responses[0], responses[best] = responses[best], responses[0]
        examples.append(Example(f"Question {number}: is it {topic}?\nAnswer: ", tuple(responses), best))
    return Split(name, split, tuple(examples))
