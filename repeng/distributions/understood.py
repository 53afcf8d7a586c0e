"""What was understood of data, in a sentence a distribution, and examples of each label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repeng.distributions.chat import prompt_text
from repeng.distributions.examples import format_of, labels_of
from repeng.distributions.known import Source, find_data
from repeng.distributions.label_cautions import mixed_forms
from repeng.distributions.labelled import labelled_content
from repeng.distributions.reading import WHOLE, Fields, Reading, class_name, label_of
from repeng.distributions.schema import Distribution, Example
from repeng.distributions.sources import choose_splits
from repeng.errors import BadInput

LONGEST_SHOWN = 160
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True)
class Understood:
    """What a distribution was taken for.

    Attributes:
        sentence: what its examples are, of which columns, how many are of each label, and what it is asked as.
        examples: one example of each label, as text in which control characters are escaped.
    """

    distribution: str
    sentence: str
    examples: tuple[str, ...]


def understand(data: str | Path, loaded: Sequence[Distribution], reading: Reading | None = None) -> list[Understood]:
    """What each of some loaded distributions was taken for; its rows are looked at again for their columns."""
    sources, merged = find_data(data, reading)
    return [describe(one, columns_of(sources[one.name], merged), merged) for one in loaded]


def columns_of(source: Source, reading: Reading) -> dict[str, str]:
    """For our fields the column that most rows of a source have them in; `format` and `content` say what they make,
    and `one` is what the label of a 1 says, where it is not `1`."""
    found: Counter[tuple[tuple[str, str], ...]] = Counter()
    ones: dict[str, None] = {}
    for split in choose_splits(source.splits(), source.place).values():
        for row in source.rows(split):
            try:
                fields = Fields(row, reading)
                found[tuple(_columns(fields).items())] += 1
                ones |= {class_name(x): None for x in labels_of(fields) if label_of(x, reading.positive) == 1.0}
            except (BadInput, AttributeError):
                continue
    columns = dict(found.most_common(1)[0][0]) if found else {}
    return {**columns, "one": " or ".join(map(repr, ones))} if set(ones) - {"1"} else columns


def describe(distribution: Distribution, columns: dict[str, str], reading: Reading) -> Understood:
    """A sentence about a loaded distribution, and an example of each label."""
    splits = distribution.splits.values()
    examples = [example for split in splits for example in split.examples]
    labels = [label for example in examples for label in example.labels]
    ones, zeros = int(sum(labels)), int(len(labels) - sum(labels))
    texts = any(split.as_texts for split in splits)
    pairs = sum(len(split.pairs) for split in splits)
    groups = {example.group for example in examples if example.group is not None}
    said = f"{distribution.name}: {_counted(len(examples), *_noun(columns, examples, reading.turn))}"
    if texts:
        by = f" by `{columns['label']}`" if "label" in columns else ""
        said += f", labelled{by} ({ones:,} are 1, {zeros:,} are 0"
        one = columns.get("one") or ("" if reading.positive is None else repr(reading.positive))
        said += f"; 1 is {one})" if one else ")"
        mixed = [f"{split.name}: {forms}" for split in splits if (forms := mixed_forms(split))]
        said += f", of two forms ({'; '.join(mixed)})" if mixed else ""
    else:
        said += f", {_counted(len(labels), 'response', 'responses')}"
    grouped = f" by `{columns['group']}`" if "group" in columns else ""
    said += f", {_counted(len(groups), 'group', 'groups')}{grouped}" if groups else ", no groups"
    asked = "asked about each text" if texts else f"asked about {_counted(pairs, 'pair', 'pairs')}"
    said += f"; {asked}" + (f", and {_counted(pairs, 'pair', 'pairs')}" if texts and pairs else "")
    sizes = ", ".join(f"{split.name} {len(split.examples):,}" for split in splits)
    return Understood(distribution.name, f"{said} ({sizes})", tuple(_shown(examples)))


def visible(text: str, longest: int = LONGEST_SHOWN) -> str:
    """A text on one line, its middle left out where it is long, control characters escaped."""
    half = (longest - 5) // 2
    cut = text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), cut)


def _shown(examples: Sequence[Example]) -> list[str]:
    """The first text of label 1 and the first of label 0."""
    found = []
    for wanted in (1.0, 0.0):
        for example in examples:
            if wanted in example.labels:
                response = example.responses[example.labels.index(wanted)]
                prompt = f"{visible(prompt_text(example.prompt))} | " if example.prompt else ""
                found.append(f"{wanted:.0f}: {prompt}{visible(response)}")
                break
    return found


def _columns(fields: Fields) -> dict[str, str]:
    form = format_of(fields)
    content = labelled_content(fields) or "" if form == "labelled" else ""
    wanted = {
        "labelled": (content, "label", *(("prompt",) if content == "response" else ())),
        "listed": ("prompt", "responses", "labels"),
        "named": ("prompt",),
        "preference": ("prompt", "chosen", "rejected"),
        "scored": ("prompt", "responses"),
    }[form]
    found = {"format": form, "content": content}
    for ours in (*(name for name in wanted if name), *(("group",) if form in ("labelled", "listed", "named") else ())):
        column = fields.column(ours)
        if column is not None:
            found["label" if ours == "labels" else ours] = column
    return found


def _noun(columns: dict[str, str], examples: Sequence[Example], turn: str | None) -> tuple[str, str]:
    """What an example is, one and several."""
    form, content = columns.get("format"), columns.get("content")
    if form == "labelled":
        if any(not isinstance(example.prompt, str) for example in examples) and content != "response":
            what = "as a whole" if turn == WHOLE else "up to the labelled turn"
            return f"conversation ({what})", f"conversations ({what})"
        column = columns.get(content or "", "")
        plural = {"statement": "statements", "claim": "claims", "sentence": "sentences"}
        if content == "response" and "prompt" not in columns:
            return "response without a prompt", "responses without a prompt"
        noun = {"response": "prompt with a response", "prompt": "prompt"}.get(content or "", column)
        many = {"response": "prompts with a response each", "prompt": "prompts"}.get(content or "", plural.get(column))
        return (noun, many) if many else ("text", "texts")
    several = any(len(example.right) > 1 for example in examples)
    return (
        ("prompt with several right responses", "prompts, some with several right responses")
        if several
        else (
            "prompt",
            "prompts",
        )
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
