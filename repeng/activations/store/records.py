"""The JSON files of a store, each a model that checks what is read. docs/store.md describes their keys."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

import numpy as np
from jaxtyping import Int
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from typing_extensions import TypedDict

from repeng.activations.store.files import CAPTURE, INDEX, PLAN, SPLIT, ActivationKey, checksum, file_name
from repeng.atomic import write_atomically
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import RepengError, StoreError, UnreadableFile, sentence
from repeng.limits import DATA_BYTES, read_bounded
from repeng.maths import offsets_of
from repeng.models.fingerprint import Identity
from repeng.places import Place, is_remote, stamp

FORMAT = 2
"""Version of the store's files. Files of format 1 have no checksum, and are read."""
DROP = "drop what is damaged with repeng store verify"
"""How the way out of a damaged file begins."""
DEPTHS = {CAPTURE: 1, SPLIT: 3, INDEX: 4, PLAN: 4}
"""How far below a store's folder a file is."""
SHARD_SUFFIX = ".safetensors"
SEAL = re.compile(rb',\n "checksum": "([0-9a-f]{64})"\n}\n\Z')
"""How a file of format 2 ends: the sha256 of all that stands before it."""

_encode = json.JSONEncoder(ensure_ascii=False).encode


def _known_format(number: int) -> int:
    if number not in (1, FORMAT):
        raise ValueError(f"format {number}; this version of repeng reads formats 1 and {FORMAT}")
    return number


def way_out(path: Place) -> str:
    """What to do about a damaged file or folder of a store."""
    depth = 4 if path.suffix == SHARD_SUFFIX else DEPTHS.get(path.name, 0)
    if depth and is_remote(path):
        # Asked for of every file that is not there: no request is made for it.
        return f"{DROP} {shlex.quote(str(path.parents[depth]))} --repair, then capture it again"
    captures = [folder for folder in (path, *path.parents) if (folder / CAPTURE).is_file()]
    store = captures[0].parent if captures else path.parents[1] if path.name == CAPTURE else Path("STORE")
    return f"{DROP} {shlex.quote(str(store))} --repair, then capture it again"


Format = Annotated[int, AfterValidator(_known_format)]
# beartype, which the tests run all signatures through, takes no `Self` in a class that it does not decorate.
File = TypeVar("File", bound="StoreFile")


class Record(BaseModel):
    """A JSON object. A value of a wrong type is refused; keys that are not known are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class StoreFile(Record):
    """A JSON file of a store: an object that ends with a checksum over all that stands before it."""

    format: Format

    @classmethod
    def read(cls: type[File], path: Place) -> File:
        """The content of a file.

        Raises:
            UnreadableFile: it is of a later format, or the system lets nobody read it now.
            StoreError: it is not there, or not what it should be; the message names the field at fault.
        """
        try:
            content = read_bounded(path, DATA_BYTES)
            found = cls.model_validate_json(content)
            seal = SEAL.search(content)
            if found.format > 1 and (seal is None or checksum(content[: seal.start()]) != seal[1].decode()):
                raise StoreError("its content has changed since it was written; its checksum is another")
            return found
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "cannot be read"
            later = (first["loc"], first["type"]) == (("format",), "value_error")
            kind, remedy = (UnreadableFile, "take a later one") if later else (StoreError, way_out(path))
            raise kind(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}; {remedy}") from error
        except StoreError as error:
            raise StoreError(f"{path}: {error}; {way_out(path)}") from error
        except FileNotFoundError as error:
            raise StoreError(f"{path}: is not there; {way_out(path)}") from error
        except (IsADirectoryError, RepengError) as error:
            raise StoreError(
                f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; {way_out(path)}"
            ) from error
        except OSError as error:
            raise UnreadableFile(f"{path}: cannot be read: {sentence(error)}") from error

    def write(self, path: Place, *, flush: bool = True) -> None:
        """Write the file, with the keys that were given; lists of objects one a line, so that people can read it.

        Args:
            path: the file.
            flush: False for what may be lost in a power cut.
        """
        lines = []
        for key, value in self.model_dump(exclude_unset=True, exclude={"checksum"}).items():
            if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
                text = "[\n  " + ",\n  ".join(map(_encode, value)) + "\n ]"
            else:
                text = _encode(value)
            lines.append(f"{_encode(key)}: {text}")
        content = ("{\n " + ",\n ".join(lines)).encode()
        seal = f',\n "checksum": "{checksum(content)}"\n}}\n'
        write_atomically(path, content + seal.encode(), flush=flush)


class CaptureRecord(StoreFile):
    """capture.json: what determines the numbers of a capture, and how it was begun."""

    id: str
    model: Identity
    storage_dtype: str
    joining: int
    max_length: int | None
    too_long: str
    versions: dict[str, str]
    batch_tokens: int | None = None
    model_class: str | None = None


class Plan(StoreFile):
    """plan.json: how activations that are being written are laid out, and which they are.

    Attributes:
        layout: `padded`, `trees` or `masks`.
        batch_tokens: the token budget of a batch.
        stimuli: whose texts are laid out together, by name.
        layers: that are being written.
        first_file: number of the first shard; earlier ones hold other layers.
        closed: stimuli whose texts are read with what closes the response's turn.
        block_characters: bound on the characters of a shard's texts; None for none.
    """

    layout: str
    batch_tokens: int
    stimuli: tuple[Stimulus, ...]
    layers: tuple[int, ...]
    first_file: int
    closed: tuple[str, ...] = ()
    block_characters: int | None = None

    @property
    def rows(self) -> tuple[str, int, tuple[Stimulus, ...], tuple[str, ...], int | None]:
        """How texts are laid out in rows: all that a shard's bytes depend on besides model, split and layers."""
        return self.layout, self.batch_tokens, self.stimuli, self.closed, self.block_characters


class Shard(Record):
    """What an index says of a shard: its rows from `first` on, its layers, its size in bytes and its checksum.

    Attributes:
        tensors: the checksum of each tensor, by name (`shard_file.tensor_checksum`); none where an earlier version of
            repeng wrote it.
    """

    file: str
    first: int
    rows: int
    layers: tuple[int, ...]
    bytes: int
    sha256: str
    tensors: dict[str, str] = {}


class WrittenLayout(Record):
    """What an index says of the layout: its name, the token budget, and the stimuli whose texts shared rows.

    Attributes:
        closed: those of the stimuli whose texts were read with what closes the response's turn.
    """

    layout: str
    batch_tokens: int
    stimuli: tuple[str, ...]
    closed: tuple[str, ...] = ()


# An index has a row for every response: a dict is read five times as fast as a model.
class ResponseRow(TypedDict):
    """What an index says of a response; `unit` where that is not its example (`Split.units`)."""

    example: int
    response: int
    label: float
    group: int
    text_hash: NotRequired[str]
    unit: NotRequired[int]


class DataSource(Record):
    """Data that a split was captured from.

    Attributes:
        place: a file or folder by its absolute path, a hub dataset, the name of an embedded benchmark, or `memory`.
        siblings: the data hash of every split of the distribution that was read there.
        when: it was first captured from there, in UTC.
        options: how it is named on the command line (`Origin.options`); None where no option leads there, and where an
            earlier version of repeng captured it.
    """

    place: str
    siblings: dict[str, str]
    when: str
    options: dict[str, str] | None = None


class SplitRecord(StoreFile):
    """split.json: which data a split is of.

    Attributes:
        rows: a hash over example, number, label and group of each response; every index of the split must have it.
        prompts: the hash of each prompt group's prompt (`Split.prompt_hashes`).
        sources: where the data was read, each place and version once, the latest last.
    """

    distribution: str
    split: str
    data_hash: str
    rows: str
    prompts: tuple[str, ...]
    sources: tuple[DataSource, ...]

    @property
    def place(self) -> str:
        """Where the data was last read."""
        return self.sources[-1].place

    def belongs_with(self, split: str, data_hash: str) -> bool:
        """Whether another split of the distribution, of some data, was read together with this one."""
        return any(source.siblings.get(split) == data_hash for source in self.sources)


class Index(StoreFile):
    """index.json: what a folder of activations holds.

    Attributes:
        capture: the id of the capture that it belongs to; empty where an earlier version of repeng wrote it.
        taken_over: of how many responses the values came from other versions of the split's data, by their data hash.
        token_counts: of every token's activations, how many tokens each response has; empty of all others.
    """

    capture: str = ""
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
    taken_over: dict[str, int] = {}
    skipped: tuple[int, ...]
    blank: tuple[int, ...]
    token_counts: tuple[int, ...] = ()
    shards: tuple[Shard, ...]
    responses: tuple[ResponseRow, ...]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Index:
        """Rows, shards and layers must fit together."""
        n_rows = len(self.responses)
        if self.is_ragged:
            if len(self.token_counts) != n_rows or any(count < 0 for count in self.token_counts):
                raise ValueError(f"token_counts are not those of {n_rows} responses")
            if self.shape[:1] != (sum(self.token_counts),):
                raise ValueError(f"shape {list(self.shape)} with {sum(self.token_counts)} tokens")
        elif not self.shape or self.shape[0] != n_rows:
            raise ValueError(f"shape {list(self.shape)} with {n_rows} responses")
        if any(not 0 <= row < n_rows for row in (*self.skipped, *self.blank)):
            raise ValueError(f"skipped or blank names a row that is not one of {n_rows}")
        examples = {row["example"] for row in self.responses}
        if examples != set(range(len(examples))) or not {row["label"] for row in self.responses} <= {0.0, 1.0}:
            raise ValueError("responses: a label is neither 1.0 nor 0.0, or an example is missing")
        if self.format == 1:
            # Without a checksum over it, an index of pairs is held to what pairs are.
            best = Counter(row["example"] for row in self.responses if row["label"] == 1.0)
            if any(best[example] != 1 for example in examples):
                raise ValueError("responses: an example has not exactly one response labelled 1.0")
        of_layer: dict[int | None, list[Shard]] = {}
        for shard in self.shards:
            for layer in shard.layers or (None,):
                of_layer.setdefault(layer, []).append(shard)
        named: set[int | None] = set(self.layers)
        if list(self.layers) != sorted(set(self.layers)) or of_layer.keys() != (named or {None}):
            raise ValueError("layers are not those of the shards")
        for layer, shards in of_layer.items():
            stop = 0
            for shard in sorted(shards, key=lambda shard: shard.first):
                if shard.first != stop or Path(shard.file).name != shard.file:
                    raise ValueError(f"shards do not follow one another at row {stop} of layer {layer}")
                stop += shard.rows
            if stop != n_rows:
                raise ValueError(f"shards of layer {layer} have {stop} of {n_rows} rows")
        return self

    @cached_property
    def rows(self) -> str:
        """A hash over example, number, label and group of each response, and its unit where that is said."""
        units = [(r["unit"],) if "unit" in r else () for r in self.responses]
        rows = [(r["example"], r["response"], r["label"], r["group"]) for r in self.responses]
        return rows_hash(tuple((*row, *own) for row, own in zip(rows, units, strict=True)))

    @property
    def key(self) -> ActivationKey:
        """Stimulus, site and token."""
        return ActivationKey(self.stimulus.name, self.site, self.token)

    @property
    def is_ragged(self) -> bool:
        """Whether each response has the vectors of all its tokens, any number of them."""
        return self.token.partition(":")[0] == "all"

    @cached_property
    def token_offsets(self) -> Int[np.ndarray, " response_1"]:
        """Where each response's tokens begin among all of them, and how many there are; of ragged activations."""
        return offsets_of(self.token_counts)

    @property
    def units(self) -> Int[np.ndarray, " response"]:
        """What is never parted, of each response (`Split.units`)."""
        return np.array([row.get("unit", row["example"]) for row in self.responses], dtype=np.int64)

    def numbers(self, key: str) -> list[Any]:
        """One value of every response, by its key in `responses`."""
        return [row[key] for row in self.responses]  # type: ignore[literal-required]

    def shards_of(self, layers: Sequence[int] | None = None) -> list[Shard]:
        """The shards that hold any of some layers, all by default; those of log-probabilities have none, and count."""
        wanted = None if layers is None else set(layers)
        return [one for one in self.shards if wanted is None or not one.layers or wanted.intersection(one.layers)]

    def content(self, layers: Sequence[int] | None = None) -> str:
        """A hash over all that a reader of some layers, of all by default, is given."""
        shards = sorted((shard.first, shard.sha256) for shard in self.shards_of(layers))
        facts: list[Any] = [self.rows, self.skipped, self.blank, shards]
        if self.is_ragged:
            facts.append(self.token_counts)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def response_rows(split: Split) -> tuple[tuple[Any, ...], ...]:
    """Example, number within it, label and group of every response of a split; and its unit, where any is not its
    example."""
    examples = split.response_example
    numbers = np.arange(len(examples)) - split.offsets[examples]
    columns = [examples, numbers, split.labels, split.groups[examples]]
    if (split.units != examples).any():
        columns.append(split.units)
    return tuple(zip(*(column.tolist() for column in columns), strict=True))


# Every index of a split has the same rows.
@lru_cache(maxsize=8)
def rows_hash(rows: tuple[tuple[Any, ...], ...]) -> str:
    """A hash over what `response_rows` gives."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


FILES_KEPT = 512
_kept: dict[Place, tuple[tuple[Any, ...], StoreFile]] = {}


def read_capture(folder: Place) -> CaptureRecord:
    """The capture.json of a capture's folder.

    Raises:
        StoreError: it cannot be read, was changed, or is that of another folder.
    """
    record = CaptureRecord.read(folder / CAPTURE)
    if record.id != folder.name:
        raise StoreError(f"{folder / CAPTURE}: is that of {record.id}, and does not belong here; {way_out(folder)}")
    return record


def read_split(folder: Place) -> SplitRecord:
    """The split.json of a split's folder, parsed once a process while the file stays the same.

    Raises:
        StoreError: it cannot be read, was changed, or is that of another folder.
    """
    record = _once(SplitRecord, folder / SPLIT)
    place = file_name(record.distribution), f"{file_name(record.split)}.{record.data_hash}"
    if folder.absolute().parts[-2:] != place:
        raise StoreError(f"{folder / SPLIT}: is that of another split, and does not belong here; {way_out(folder)}")
    return record


def read_index(folder: Place) -> Index:
    """The index of a folder of activations, parsed once a process while the file stays the same.

    Raises:
        StoreError: it cannot be read, was changed, or is that of another folder.
    """
    index = _once(Index, folder / INDEX)
    here = folder.absolute().parts[-4:]
    split = f"{file_name(index.split)}.{index.data_hash}"
    place = index.capture or here[0], file_name(index.distribution), split, index.key.folder
    if here != place:
        raise StoreError(
            f"{folder / INDEX}: is the index of {'/'.join(place)}, and does not belong here; {way_out(folder)}"
        )
    return index


def _once(kind: type[File], path: Place) -> File:
    try:
        now = stamp(path)
    except OSError:
        return kind.read(path)
    held = _kept.get(path.absolute())
    if held is not None and held[0] == now and isinstance(held[1], kind):
        return held[1]
    found = kind.read(path)
    while len(_kept) >= FILES_KEPT:
        _kept.pop(next(iter(_kept)), None)
    _kept[path.absolute()] = now, found
    return found
