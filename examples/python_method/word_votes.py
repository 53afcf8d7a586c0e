"""A method as a Python class: words that best responses use more than worse ones, counted in the source.

Use it as `--methods examples/python_method/word_votes.py:WordVotes`, or install this folder
(`pip install examples/python_method`) and use it by its name, `--methods word-votes`.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from repeng.distributions.schema import Question, Split


class WordVotes:
    """Log-odds of each word between best and worse responses, summed over a response's words."""

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}

    def fit(self, model: str, source: Split, *, seed: int) -> None:  # noqa: ARG002
        """Count words. `model` and `seed` are for methods that run the model or draw at random."""
        best, worse = Counter[str](), Counter[str]()
        for example in source.examples:
            for number, response in enumerate(example.responses):
                (best if number == example.best else worse).update(words(response))
        self.weights = {
            word: math.log((best[word] + 1) / (best.total() + 1)) - math.log((worse[word] + 1) / (worse.total() + 1))
            for word in {*best, *worse}
        }

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """One score a response; p(best) of a pair will be the softmax of its two."""
        return [
            [sum(self.weights.get(word, 0.0) for word in words(response)) for response in question.responses]
            for question in questions
        ]


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"\w+", text.lower())
