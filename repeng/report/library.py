"""What the browser page reads: one file of facts, and one file for each split of each distribution."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repeng.distributions.schema import Distribution, Example, Pair, Split
from repeng.report.pair_texts import prompt_text
from repeng.report.predictions import Prediction, PredictionsByTarget
from repeng.report.prompt_frames import prompt_frames

log = logging.getLogger(__name__)

SPLIT_ORDER = {"test": 0, "train": 1}


class Library:
    """Distributions and predictions, as the page asks for them.

    Args:
        distributions: by name. A mapping that loads on demand is asked for one at a time.
        predictions: evaluations of their test splits; those of other data are passed over with a warning. Stored
            ones are read when their split is asked for.
    """

    def __init__(
        self, distributions: Mapping[str, Distribution], predictions: PredictionsByTarget | Sequence[Prediction] = ()
    ) -> None:
        self._distributions = distributions
        if not isinstance(predictions, PredictionsByTarget):
            predictions = PredictionsByTarget.of(predictions)
        self._predictions = predictions
        self.methods = self._predictions.methods
        self.splits = tuple((name, split) for name in distributions for split in self._split_names(name))

    def info(self, *, tokens: bool) -> dict[str, Any]:
        """The facts that the page starts from.

        Args:
            tokens: whether a response can be scored token by token.
        """
        many = len({model for model, _ in self.methods}) > 1
        return {
            "splits": [
                {"name": name, "split": split, "scored": split == "test" and name in self._predictions.targets}
                for name, split in self.splits
            ],
            "methods": [f"{method} · {model}" if many else method for model, method in self.methods],
            "tokens": tokens,
        }

    def split_data(self, number: int) -> dict[str, Any]:
        """One split's examples, its items, its predictions and the frame of its prompts (of bare texts, of these).

        Items are `pairs`, as [example, best, worse] by response number, with the example of the worse one after it
        where that is another; or of labelled texts `texts`, as [example, response, label].
        """
        name, split_name = self.splits[number]
        split = self.split(number)
        examples = [_shown(split, row, example) for row, example in enumerate(split.examples)]
        scored = self._predictions.on(name) if split_name == "test" else []
        found = [self._scores(split, prediction) for prediction in scored]
        if split.as_texts:
            items: dict[str, list[list[int]]] = {"texts": _texts(split)}
        else:
            items = {"pairs": [_by_number(split, pair) for pair in split.pairs]}
        prompts = [one["prompt"] for one in examples]
        framed = prompts if any(prompts) else [text for one in examples for text in one["responses"]]
        said = [one for one in found if isinstance(one, dict)]
        for reason in dict.fromkeys(one for one in found if isinstance(one, str)):
            unmatched = [of.method for of, one in zip(scored, found, strict=True) if one == reason]
            listed = ", ".join(dict.fromkeys(unmatched))
            log.warning("the predictions of %s on %s %s and are not shown", listed, name, reason)
        return {"examples": examples, **items, "predictions": said, "frame": prompt_frames(framed)}

    def split(self, number: int) -> Split:
        """The split of that number."""
        name, split_name = self.splits[number]
        return self._distributions[name].split(split_name)

    def _split_names(self, name: str) -> list[str]:
        return sorted(self._distributions[name].splits, key=lambda split: (SPLIT_ORDER.get(split, 2), split))

    def _scores(self, split: Split, prediction: Prediction) -> dict[str, Any] | str:
        """p(best) by pair, of a labelled text that of its own label, null where nothing is said; or why not."""
        probabilities = prediction.evaluation.probabilities
        texts = split.as_texts
        matched: Sequence[Pair | int | None] | None = (
            prediction.texts_in(split) if texts else prediction.pairs_in(split)
        )
        if probabilities is None or matched is None:
            items = "texts" if texts else "pairs"
            if texts and probabilities is None:
                return "have no probabilities"
            return f"are not of these {items} (give the data and --limit of the study)"
        said = {item: float(p) for item, p in zip(matched, probabilities, strict=True) if item is not None}
        listed: Sequence[Pair | int] = range(split.n_responses) if texts else split.pairs
        p = [round(said[item], 4) if item in said else None for item in listed]
        method = self.methods.index((prediction.model, prediction.method))
        return {"method": method, "source": prediction.source, "p": p}


def json_of(value: Any) -> str:
    """Data as JSON that may also stand inside a script element of a page.

    All but ASCII and every `<` is escaped, so that nothing in the data can end the element or the string.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _shown(split: Split, row: int, example: Example) -> dict[str, Any]:
    """What the page shows of an example: a chat also turn by turn, and whether its labels are of all of it."""
    shown: dict[str, Any] = {"prompt": prompt_text(split, row)}
    shown |= {"responses": list(example.responses), "right": list(example.right)}
    if not isinstance(example.prompt, str):
        shown["turns"] = [[message.role, message.content] for message in example.prompt]
    return shown if example.region == "response" else {**shown, "region": example.region}


def _texts(split: Split) -> list[list[int]]:
    numbers = np.arange(split.n_responses) - split.offsets[split.response_example]
    rows = np.stack([split.response_example, numbers, split.labels], axis=1)
    return rows.astype(np.int64).tolist()


def _by_number(split: Split, pair: Pair) -> list[int]:
    other = int(split.response_example[pair.worse])
    best, worse = pair.best - int(split.offsets[pair.example]), pair.worse - int(split.offsets[other])
    return [pair.example, best, worse] if other == pair.example else [pair.example, best, worse, other]
