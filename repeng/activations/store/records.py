"""The JSON files of a store, each a model that checks what is read. docs/store.md describes their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from typing_extensions import TypedDict

from repeng.atomic import write_atomically
from repeng.distributions.stimuli import Stimulus
from repeng.errors import RepengError, StoreError
from repeng.models.fingerprint import Identity

FORMAT = 1
"""Version of the store's files."""


def _known_format(number: int) -> int:
    if number != FORMAT:
        raise ValueError(f"format {number}; this version of repeng reads format {FORMAT}")
    return number


Format = Annotated[int, AfterValidator(_known_format)]
# beartype, which the tests run all signatures through, takes no `Self` in a class that it does not decorate.
File = TypeVar("File", bound="StoreFile")


class StoreFile(BaseModel):
    """A JSON object of a store. A value of a wrong type is refused; keys that are not known are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    @classmethod
    def read(cls: type[File], path: Path) -> File:
        """The content of a file.

        Raises:
            StoreError: it is not there, or not what it should be; the message names the field at fault.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "cannot be read"
            raise StoreError(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
        except (OSError, RepengError) as error:
            raise StoreError(f"{path}: cannot be read: {error}") from error

    def write(self, path: Path, *, flush: bool = True) -> None:
        """Write the file, with the keys that were given; lists of objects one a line, so that people can read it.

        Args:
            path: the file.
            flush: False for what may be lost in a power cut.
        """
        lines = []
        for key, value in self.model_dump(exclude_unset=True).items():
            text = json.dumps(value, ensure_ascii=False)
            if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
                text = "[\n  " + ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n ]"
            lines.append(f"{json.dumps(key)}: {text}")
        write_atomically(path, "{\n " + ",\n ".join(lines) + "\n}\n", flush=flush)


class CaptureRecord(StoreFile):
    """capture.json: what determines the numbers of a capture, and how it was begun."""

    format: Format
    id: str
    model: Identity
    storage_dtype: str
    joining: int
    max_length: int | None
    too_long: str
    versions: dict[str, str]
    batch_tokens: int | None = None
    attention: str | None = None
    model_class: str | None = None


class Plan(StoreFile):
    """plan.json: how activations that are being written are laid out, and which they are.

    Attributes:
        layout: `padded`, `trees`, `flex` or `masks`.
        batch_tokens: the token budget of a batch.
        stimuli: whose texts are laid out together, by name.
        layers: that are being written.
        first_file: number of the first shard; earlier ones hold other layers.
    """

    layout: str
    batch_tokens: int
    stimuli: tuple[Stimulus, ...]
    layers: tuple[int, ...]
    first_file: int

    @property
    def rows(self) -> tuple[str, int, tuple[Stimulus, ...]]:
        """How texts are laid out in rows: all that a shard's bytes depend on besides model, split and layers."""
        return self.layout, self.batch_tokens, self.stimuli


class Shard(StoreFile):
    """What an index says of a shard: its rows from `first` on, its layers, its size in bytes and its checksum."""

    file: str
    first: int
    rows: int
    layers: tuple[int, ...]
    bytes: int
    sha256: str


class WrittenLayout(StoreFile):
    """What an index says of the layout: its name, the token budget, and the stimuli whose texts shared rows."""

    layout: str
    batch_tokens: int
    stimuli: tuple[str, ...]


# An index has a row for every response: a dict is read five times as fast as a model.
class ResponseRow(TypedDict):
    """What an index says of a response."""

    example: int
    response: int
    label: float
    group: int
    text_hash: NotRequired[str]


class Index(StoreFile):
    """index.json: what a folder of activations holds."""

    format: Format
    distribution: str
    split: str
    data_hash: str
    stimulus: Stimulus
    site: str
    token: str
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    layout: WrittenLayout | None = None
    skipped: tuple[int, ...]
    blank: tuple[int, ...]
    shards: tuple[Shard, ...]
    responses: tuple[ResponseRow, ...]

    def numbers(self, key: str) -> list[Any]:
        """One value of every response, by its key in `responses`."""
        return [row[key] for row in self.responses]  # type: ignore[literal-required]
