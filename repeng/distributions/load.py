"""Loading distributions, and writing them as GENIES does."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repeng.atomic import write_atomically
from repeng.distributions.examples import examples_from
from repeng.distributions.schema import Distribution, Example, Split
from repeng.distributions.sources import Source, choose_splits, find_sources
from repeng.distributions.splitting import split_by_prompt
from repeng.errors import BadData, BadInput, UnknownName

logger = logging.getLogger(__name__)


def list_distributions(data: str | Path) -> tuple[str, ...]:
    """Names of the distributions under `data`, sorted; no example is read.

    Raises:
        BadInput: there is no such file, folder or hub dataset, or nothing in it.
    """
    return tuple(find_sources(data))


def load_distributions(
    data: str | Path, names: Sequence[str] | None = None, *, limit: int | None = None
) -> dict[str, Distribution]:
    """Distributions by name: those of `names` in that order, or all of them, sorted.

    Args:
        data: a folder of distributions (NAME/train.json and NAME/test.json as GENIES has them, or the same names as
            .jsonl, .csv, .parquet; or one file NAME.jsonl each), the folder of a single one, one file, a hub dataset
            id, or a local folder in the hub's layout.
        names: which distributions; others are not read.
        limit: only the first so many examples of each split.

    Raises:
        BadData: an example is wrong; the message has the file, the example's number and the reason.
        BadInput: there is no such data, or `limit` is not positive.
        UnknownName: a name that is not among the distributions.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; it is the number of examples to keep of each split, 1 or more")
    sources = find_sources(data)
    for name in names or ():
        if name not in sources:
            raise UnknownName("distribution", name, sources)
    return {name: _load(sources[name], limit) for name in (sources if names is None else names)}


def _load(source: Source, limit: int | None) -> Distribution:
    chosen = choose_splits(source.splits(), source.place)
    if "" in chosen:
        place = source.split_place(chosen[""])
        examples = examples_from(source.rows(chosen[""]), place)
        try:
            train, test = split_by_prompt(examples)
        except BadData as error:
            raise BadData(error.reason, path=place) from error
        logger.info("%s: divided into %d train and %d test examples", place, len(train), len(test))
        both = (("train", train), ("test", test))
        cut = {name: Split(source.name, name, own).first(limit) for name, own in both}
        return Distribution.read_from(source.origin, source.name, cut)
    splits = {}
    for name, given in chosen.items():
        rows = source.rows(given)
        splits[name] = Split(source.name, name, examples_from(rows[:limit], source.split_place(given)))
    return Distribution.read_from(source.origin, source.name, splits)


def write_genies(distribution: Distribution, directory: str | Path) -> None:
    """Write DIRECTORY/NAME/{train,test}.json in GENIES' format; an existing file is replaced as a whole.

    A prompt that is a chat is written as its messages, which GENIES' own code does not read and `load_distributions`
    does.

    Raises:
        BadInput: the distribution's name cannot be a folder's.
    """
    if distribution.name in ("", ".", "..") or Path(distribution.name).name != distribution.name:
        raise BadInput(f"a distribution named {distribution.name!r} cannot be written to a folder of that name")
    folder = Path(directory) / distribution.name
    for name, split in distribution.splits.items():
        rows = [_as_row(example) for example in split.examples]
        # Metadata of Parquet files may hold values that JSON does not have, such as dates.
        text = json.dumps(rows, indent=4, ensure_ascii=False, default=str) + "\n"
        write_atomically(folder / f"{name}.json", text)


def _as_row(example: Example) -> dict[str, Any]:
    prompt = example.prompt
    return {
        **example.metadata,
        "prompt": prompt if isinstance(prompt, str) else [asdict(message) for message in prompt],
        "responses": {text: float(number == example.best) for number, text in enumerate(example.responses)},
    }
