"""Loading distributions, and writing them as GENIES does."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repeng.atomic import write_atomically
from repeng.distributions.examples import examples_from
from repeng.distributions.known import PREFIX, Source, find_data
from repeng.distributions.reading import Fields, Reading, class_name, is_label, overruled
from repeng.distributions.schema import Distribution, Example, Split
from repeng.distributions.sources import choose_splits
from repeng.distributions.splitting import split_by_prompt
from repeng.errors import BadData, BadInput, UnknownName

logger = logging.getLogger(__name__)
MOST_NAMED = 8


def list_distributions(data: str | Path) -> tuple[str, ...]:
    """Names of the distributions under `data`, sorted; no example is read.

    Raises:
        BadInput: there is no such file, folder or hub dataset, or nothing in it.
    """
    return tuple(find_data(data)[0])


def load_distributions(
    data: str | Path,
    names: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    reading: Reading | None = None,
) -> dict[str, Distribution]:
    """Distributions by name: those of `names` in that order, or all of them, sorted.

    Args:
        data: a folder of distributions (NAME/train.json and NAME/test.json as GENIES has them, or the same names as
            .jsonl, .csv, .parquet; or one file NAME.jsonl each), the folder of a single one, one file, a hub dataset
            id, a local folder in the hub's layout, or a public set as `known:NAME` or `known:NAME=FOLDER`.
        names: which distributions; others are not read.
        limit: only the first so many examples of each split.
        reading: what columns and labels mean, where their names do not say it.

    Raises:
        BadData: an example is wrong; the message has the file, the example's number and the reason.
        BadInput: there is no such data, `limit` is not positive, or what `reading` says is of nothing in it.
        UnknownName: a name that is not among the distributions.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; it is the number of examples to keep of each split, 1 or more")
    sources, merged = find_data(data, reading)
    for name in names or ():
        if name not in sources:
            raise UnknownName("distribution", name, sources)
    options = _options(data, limit, reading)
    loaded = {name: _load(sources[name], limit, merged, options) for name in (sources if names is None else names)}
    if reading is not None:
        by_name = {
            name: [each for split in one.splits.values() for each in split.examples] for name, one in loaded.items()
        }
        if reading.positive is not None:
            _check_positive(reading.positive, merged, by_name)
        _check_used(reading, [each for examples in by_name.values() for each in examples])
    return loaded


def _check_positive(positive: str, reading: Reading, by_name: Mapping[str, Sequence[Example]]) -> None:
    """See that the label that counts as 1 is somewhere, and that where it is not no label says by itself that it is 1.

    A distribution of other classes alone, such as a benign one, lacks it and is all 0.
    """
    lacking = {
        name: [label for example in own for label in _labels(example, reading)]
        for name, own in by_name.items()
        if not any(example.right for example in own)
    }
    if len(lacking) == len(by_name):
        found = [label for labels in lacking.values() for label in labels]
        raise BadInput(f"no label is {positive!r} (--positive); the labels are {_named(found)}")
    for name, labels in lacking.items():
        if any(overruled(label, positive) for label in labels):
            raise BadInput(
                f"no label of {name} is {positive!r} (--positive), and all of it would be 0; its labels are "
                f"{_named(labels)}: give it apart from the others, or name its labels as theirs"
            )


def _named(labels: Sequence[Any]) -> str:
    return ", ".join(sorted(set(map(class_name, labels)))[:MOST_NAMED])


def _labels(example: Example, reading: Reading) -> list[Any]:
    """The labels of an example as they stood in its row."""
    fields = Fields(example.metadata, reading)
    try:
        value = fields.value("labels" if len(example.responses) > 1 else "label")
    except BadData:
        return []
    return [label for label in (value if isinstance(value, list) else [value]) if is_label(label)]


def _check_used(reading: Reading, examples: Sequence[Example]) -> None:
    """See that what the user says of turns is of something."""
    chats = reading.chat == "template"
    if (
        reading.turn is not None
        and chats
        and all(isinstance(one.prompt, str) and one.region == "response" for one in examples)
    ):
        raise BadInput(f"--turn {reading.turn} says which message is labelled, and there is no conversation of several")


def _options(data: str | Path, limit: int | None, reading: Reading | None) -> dict[str, str]:
    """The options that name the same data wherever one stands."""
    name, is_copy, folder = str(data).partition("=") if str(data).startswith(PREFIX) else ("", "", str(data))
    path = Path(folder).expanduser()
    place = str(path.resolve()) if folder and path.exists() else folder
    cut = {} if limit is None else {"limit": str(limit)}
    return {"data": f"{name}{is_copy}{place}", **cut, **({} if reading is None else reading.options)}


def _load(source: Source, limit: int | None, reading: Reading, options: Mapping[str, str]) -> Distribution:
    chosen = choose_splits(source.splits(), source.place)
    if "" in chosen:
        place = source.split_place(chosen[""])
        examples = examples_from(source.rows(chosen[""]), place, reading)
        try:
            train, test = split_by_prompt(examples)
        except BadData as error:
            raise BadData(error.reason, path=place) from error
        logger.info("%s: divided into %d train and %d test examples", place, len(train), len(test))
        both = (("train", train), ("test", test))
        cut = {name: Split(source.name, name, own).first(limit) for name, own in both}
        return Distribution.read_from(source.origin, source.name, cut, options)
    splits = {}
    for name, given in chosen.items():
        rows = source.rows(given)
        splits[name] = Split(source.name, name, examples_from(rows[:limit], source.split_place(given), reading))
    return Distribution.read_from(source.origin, source.name, splits, options)


def write_genies(distribution: Distribution, directory: str | Path) -> None:
    """Write DIRECTORY/NAME/{train,test}.json in GENIES' format; an existing file is replaced as a whole.

    A prompt that is a chat is written as its messages, which GENIES' own code does not read and `load_distributions`
    does.

    Raises:
        BadInput: the distribution's name cannot be a folder's, or an example is no prompt with right and wrong
            responses, which is all that the format holds.
    """
    folder = folder_of(distribution, directory)
    for split in distribution.splits.values():
        for number, example in enumerate(split.examples):
            if not example.has_both or example.group is not None or example.region != "response":
                raise BadInput(
                    f"{distribution.name}/{split.name}, example {number}, is a labelled text, or has a group, which "
                    "GENIES' format does not hold; write it as statements (--as statements)"
                )
    for name, split in distribution.splits.items():
        rows = [_as_row(example) for example in split.examples]
        # Metadata of Parquet files may hold values that JSON does not have, such as dates.
        text = json.dumps(rows, indent=4, ensure_ascii=False, default=str) + "\n"
        write_atomically(folder / f"{name}.json", text)


def folder_of(distribution: Distribution, directory: str | Path) -> Path:
    """DIRECTORY/NAME.

    Raises:
        BadInput: the distribution's name cannot be a folder's.
    """
    if distribution.name in ("", ".", "..") or Path(distribution.name).name != distribution.name:
        raise BadInput(f"a distribution named {distribution.name!r} cannot be written to a folder of that name")
    return Path(directory) / distribution.name


def _as_row(example: Example) -> dict[str, Any]:
    prompt = example.prompt
    labels = zip(example.responses, example.labels, strict=True)
    return {
        **example.metadata,
        "prompt": prompt if isinstance(prompt, str) else [asdict(message) for message in prompt],
        "responses": dict(labels),
    }
