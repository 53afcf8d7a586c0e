"""Examples made up on the spot."""

from __future__ import annotations

from repeng.distributions.schema import Example, Split


def made_up(n_examples: int, name: str = "made_up", split: str = "train") -> Split:
    """Examples of two to four responses and of several lengths; every fifth has an empty response."""
    examples = []
    for number in range(n_examples):
        prompt = f"Question {number}: which is larger, {number % 7} or {number % 4}?\nAnswer:" + " so" * (number % 9)
        responses = [f" The larger is {number % 7}." + " Yes" * (number % 5), f" No {number}", " Maybe", ""]
        count = 2 + number % 3
        chosen = responses[:count] if number % 5 else [responses[0], ""]
        examples.append(Example(prompt, tuple(chosen), best=number % len(chosen)))
    return Split(name, split, tuple(examples))
