"""The JSON files of a store: what is refused, what is kept, and that a file read and written is the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repeng.activations.capture import Request, capture
from repeng.activations.store.records import CaptureRecord, Index, StoreFile
from repeng.activations.store.store import Store
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, StoreError
from repeng.models.load import LanguageModel

REQUEST = Request((get_stimulus("plain"),))


@pytest.fixture
def files(llama: LanguageModel, split: Split, tmp_path: Path) -> dict[type[StoreFile], Path]:
    """An index and a capture.json."""
    capture(llama, [split], REQUEST, Store(tmp_path))
    (record,) = tmp_path.glob("*/capture.json")
    (index,) = tmp_path.glob("*/*/*/plain.resid_post.last/index.json")
    return {CaptureRecord: record, Index: index}


def change(path: Path, place: tuple[str | int, ...], value: Any) -> None:
    content = json.loads(path.read_text())
    held = content
    for step in place[:-1]:
        held = held[step]
    held[place[-1]] = value
    path.write_text(json.dumps(content))


def test_a_file_that_is_read_and_written_is_the_same_bytes(files: dict[type[StoreFile], Path]) -> None:
    for kind, path in files.items():
        before = path.read_bytes()
        kind.read(path).write(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("responses", 3, "label"), "best", "responses.3.label: Input should be a valid number"),
        (("responses", 0, "example"), 0.5, "responses.0.example: Input should be a valid integer"),
        (("shards", 0, "bytes"), "9", "shards.0.bytes: Input should be a valid integer"),
        (("stimulus", "bos"), 1, "stimulus.bos: Input should be a valid boolean"),
        (("stimulus", "name"), "a name", "cannot be read: a stimulus named 'a name'"),
        (("layers",), None, "layers: Input should be a valid"),
        (("format",), 2, "format: format 2; this version of repeng reads format 1"),
    ],
)
def test_a_wrong_type_is_refused_with_the_file_and_the_field(
    files: dict[type[StoreFile], Path], place: tuple[str | int, ...], value: object, message: str
) -> None:
    change(files[Index], place, value)
    with pytest.raises(StoreError) as error:
        Index.read(files[Index])
    assert str(error.value).startswith(f"{files[Index]}: {message}")


def test_a_key_that_is_missing_is_named(files: dict[type[StoreFile], Path]) -> None:
    record = json.loads(files[CaptureRecord].read_text())
    del record["model"]["n_layers"]
    files[CaptureRecord].write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"capture.json: model.n_layers: Field required"):
        CaptureRecord.read(files[CaptureRecord])


def test_what_is_no_json_is_refused(files: dict[type[StoreFile], Path]) -> None:
    for content in ("{", "", "[1]", '{"format": \xff}'):
        files[Index].write_bytes(content.encode("latin-1"))
        with pytest.raises(StoreError, match="index.json: cannot be read: "):
            Index.read(files[Index])
    files[Index].unlink()
    with pytest.raises(StoreError, match="No such file"):
        Index.read(files[Index])


def test_keys_of_a_later_version_are_kept(files: dict[type[StoreFile], Path]) -> None:
    path = files[CaptureRecord]
    change(path, ("of_later",), {"a": [1, 2]})
    CaptureRecord.read(path).model_copy(update={"attention": "flex"}).write(path)
    kept = json.loads(path.read_text())
    assert kept["of_later"] == {"a": [1, 2]} and kept["attention"] == "flex"
    change(files[Index], ("responses", 0, "of_later"), 7)
    Index.read(files[Index]).write(files[Index])
    assert json.loads(files[Index].read_text())["responses"][0]["of_later"] == 7


def test_a_stimulus_with_a_key_of_a_later_version_is_not_taken_for_ours(
    llama: LanguageModel, split: Split, files: dict[type[StoreFile], Path], tmp_path: Path
) -> None:
    change(files[Index], ("stimulus", "of_later"), "more text")
    with pytest.raises(BadInput, match="'plain' meant another text"):
        capture(llama, [split], REQUEST, Store(tmp_path))
