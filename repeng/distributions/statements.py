"""Writing distributions as labelled texts: every response a statement of its own, with its label and its prompt."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repeng.atomic import write_atomically
from repeng.distributions.load import folder_of
from repeng.distributions.schema import Distribution, Example, prompt_value


def write_statements(distribution: Distribution, directory: str | Path) -> None:
    """Write DIRECTORY/NAME/{train,test}.jsonl, a line for each response; an existing file is replaced as a whole.

    A line has the `text` (prompt and response, one after the other), its `label` (1 or 0) and its `group` (the
    example's own, else its prompt). Where the prompt is a chat it has `messages` in place of the text, the last of
    which is the response.

    Raises:
        BadInput: the distribution's name cannot be a folder's.
    """
    folder = folder_of(distribution, directory)
    for name, split in distribution.splits.items():
        rows = [row for example in split.examples for row in _statement_rows(example)]
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(folder / f"{name}.jsonl", "".join(lines))


def _statement_rows(example: Example) -> list[dict[str, Any]]:
    """The labelled texts of an example, one a response."""
    group = {"group": _group(example)} if example.prompt or example.group is not None else {}
    return [
        {**_text(example, response), "label": int(label), **group}
        for response, label in zip(example.responses, example.labels, strict=True)
    ]


def _text(example: Example, response: str) -> dict[str, Any]:
    if isinstance(example.prompt, str):
        return {"text": example.prompt + response}
    messages = [asdict(message) for message in example.prompt]
    # A label of the whole with nothing said in return is of a user's turn, which is the last.
    answered = bool(response) or example.region != "all"
    return {"messages": [*messages, {"role": "assistant", "content": response}] if answered else messages}


def _group(example: Example) -> str:
    if example.group is not None:
        return example.group
    value = prompt_value(example.prompt)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
