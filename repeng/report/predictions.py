"""Evaluation files of a study, and the pairs of a split that they speak of."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from repeng.distributions.schema import Distribution, Pair, Split
from repeng.errors import BadData
from repeng.metrics import Evaluation
from repeng.results import read_evaluation

log = logging.getLogger(__name__)

Key = tuple[str, str, str, str]
"""Model, method, source, target."""

PUBLISHED_NAMES = {"lora_fine_tuning": "lora", "classify_lora": "lora", "zero_shot": "zero-shot"}
"""What the folders of released evaluations call methods; other folders change their underscores to dashes."""


@dataclass(frozen=True)
class Prediction:
    """One evaluation and where it comes from.

    Attributes:
        model: the model's name; for a file that does not say, what its folder says.
        method: the method's name; for a file that does not say, what its folder says, in our words.
        source: fitted on.
        target: scored on.
        evaluation: p(best) of each pair, as far as the file goes.
        data_hash: of the target's test split; empty where the file does not say.
    """

    model: str
    method: str
    source: str
    target: str
    evaluation: Evaluation
    data_hash: str = ""

    @property
    def key(self) -> Key:
        """What finds it."""
        return self.model, self.method, self.source, self.target

    def pairs_in(self, split: Split) -> list[Pair | None] | None:
        """The split's pair behind each of the evaluation's; None in place of one that cannot be told.

        None as a whole where the evaluation is of other data, or says too little to match its pairs.
        """
        n_pairs, example = self.evaluation.n_pairs, self.evaluation.example
        if n_pairs is None or (self.data_hash and self.data_hash != split.data_hash):
            return None
        if example is None:
            return list(split.pairs) if len(split.pairs) == n_pairs else None
        listed: dict[int, list[Pair]] = defaultdict(list)
        asked: dict[int, list[int]] = defaultdict(list)
        for pair in split.pairs:
            listed[pair.example].append(pair)
        for row, number in enumerate(example.tolist()):
            asked[number].append(row)
        found: list[Pair | None] = [None] * n_pairs
        for number, rows in asked.items():
            # Fewer pairs than the example has: a response was left out, and nothing says which.
            if len(rows) == len(listed[number]):
                for row, pair in zip(rows, listed[number], strict=True):
                    found[row] = pair
        return found


def read_predictions(folder: Path, *, shifts: Collection[tuple[str, str]] | None = None) -> list[Prediction]:
    """Every evaluation under `folder/predictions`, or under `folder` itself: METHOD/MODEL-SOURCE/TARGET.json.

    A file that is no evaluation is passed over with a warning.

    Args:
        folder: a study's, or one of evaluations.
        shifts: the sources and targets to read; None reads all there are.
    """
    root = folder / "predictions" if (folder / "predictions").is_dir() else folder
    paths = sorted(path for path in root.glob("*/*/*.json") if not path.name.startswith("."))
    known, folders = {path.stem for path in paths}, {path.parent.name for path in paths}
    found = []
    for path in paths:
        model, source = _split_folder(path.parent.name, known, folders)
        if shifts is not None and (source, path.stem) not in shifts:
            continue
        try:
            found.append(_read(path, model, source))
        except BadData as error:
            log.warning("passed over: %s", error)
    return found


def by_key(predictions: Iterable[Prediction]) -> dict[Key, Prediction]:
    """Predictions by model, method, source and target."""
    return {prediction.key: prediction for prediction in predictions}


def target_split(distributions: Mapping[str, Distribution], name: str) -> Split | None:
    """The test split of that name, or None where the data are not at hand."""
    distribution = distributions.get(name)
    return distribution.splits.get("test") if distribution is not None else None


def response_text(split: Split, example: int, row: int) -> str:
    """The response that stands at a row of the split."""
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


def _read(path: Path, model: str, source: str) -> Prediction:
    evaluation = read_evaluation(path)
    held = json.loads(path.read_text(encoding="utf-8"))
    folder = path.parent.parent.name
    method = PUBLISHED_NAMES.get(folder, folder.replace("_", "-"))
    names = {"model": model, "method": method, "source": source, "target": path.stem}
    stated = {name: held[name] for name in names if isinstance(held.get(name), str)}
    hashed = held.get("target_data_hash", held.get("data_hash", ""))
    return Prediction(**{**names, **stated}, evaluation=evaluation, data_hash=hashed if isinstance(hashed, str) else "")


def _split_folder(name: str, known: set[str], folders: set[str]) -> tuple[str, str]:
    """MODEL and SOURCE of `MODEL-SOURCE`: the longest ending that is a known distribution, else after the last dash.

    The source is empty for the folder `MODEL` itself, which the released zero-shot evaluations have beside the others.
    """
    cuts = [place for place, char in enumerate(name) if char == "-" and name[place + 1 :] in known]
    if cuts:
        return name[: cuts[0]], name[cuts[0] + 1 :]
    if any(other.startswith(f"{name}-") for other in folders):
        return name, ""
    model, _, source = name.rpartition("-")
    return model, source
