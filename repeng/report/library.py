"""What the browser page reads: one file of facts, and one file for each split of each distribution."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from repeng.distributions.schema import Distribution, Pair, Split
from repeng.report.pair_texts import prompt_text
from repeng.report.predictions import Prediction

log = logging.getLogger(__name__)

SPLIT_ORDER = {"test": 0, "train": 1}


class Library:
    """Distributions and predictions, as the page asks for them.

    Args:
        distributions: by name. A mapping that loads on demand is asked for one at a time.
        predictions: evaluations of their test splits; those of other data are passed over with a warning.
    """

    def __init__(self, distributions: Mapping[str, Distribution], predictions: Sequence[Prediction] = ()) -> None:
        self._distributions = distributions
        self._predictions: dict[str, list[Prediction]] = {}
        for prediction in predictions:
            self._predictions.setdefault(prediction.target, []).append(prediction)
        self.methods = tuple(dict.fromkeys((one.model, one.method) for one in predictions))
        self.splits = tuple((name, split) for name in distributions for split in self._split_names(name))

    def info(self, *, tokens: bool) -> dict[str, Any]:
        """The facts that the page starts from.

        Args:
            tokens: whether a response can be scored token by token.
        """
        many = len({model for model, _ in self.methods}) > 1
        return {
            "splits": [
                {"name": name, "split": split, "scored": split == "test" and name in self._predictions}
                for name, split in self.splits
            ],
            "methods": [f"{method} · {model}" if many else method for model, method in self.methods],
            "tokens": tokens,
        }

    def split_data(self, number: int) -> dict[str, Any]:
        """One split's examples, its pairs as [example, best, worse] by response number, and its predictions."""
        name, split_name = self.splits[number]
        split = self.split(number)
        examples = [
            {"prompt": prompt_text(split, row), "responses": list(example.responses), "right": list(example.right)}
            for row, example in enumerate(split.examples)
        ]
        pairs = [_by_number(split, pair) for pair in split.pairs]
        scored = self._predictions.get(name, []) if split_name == "test" else []
        found = [self._scores(split, prediction) for prediction in scored]
        return {"examples": examples, "pairs": pairs, "predictions": [one for one in found if one is not None]}

    def split(self, number: int) -> Split:
        """The split of that number."""
        name, split_name = self.splits[number]
        return self._distributions[name].split(split_name)

    def _split_names(self, name: str) -> list[str]:
        return sorted(self._distributions[name].splits, key=lambda split: (SPLIT_ORDER.get(split, 2), split))

    def _scores(self, split: Split, prediction: Prediction) -> dict[str, Any] | None:
        """p(best) for each pair of the split, null where the evaluation says nothing of it."""
        probabilities = prediction.evaluation.probabilities
        matched = prediction.pairs_in(split)
        if probabilities is None or matched is None:
            log.warning(
                "the predictions of %s on %s are not of these pairs and are not shown",
                prediction.method,
                prediction.target,
            )
            return None
        by_pair = {pair: float(p) for pair, p in zip(matched, probabilities, strict=True) if pair is not None}
        p = [round(by_pair[pair], 4) if pair in by_pair else None for pair in split.pairs]
        method = self.methods.index((prediction.model, prediction.method))
        return {"method": method, "source": prediction.source, "p": p}


def json_of(value: Any) -> str:
    """Data as JSON that may also stand inside a script element of a page.

    All but ASCII and every `<` is escaped, so that nothing in the data can end the element or the string.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _by_number(split: Split, pair: Pair) -> list[int]:
    start = int(split.offsets[pair.example])
    return [pair.example, pair.best - start, pair.worse - start]
