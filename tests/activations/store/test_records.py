"""The JSON files of a store: what is refused, what is kept, and that a file read and written is the same bytes."""

from __future__ import annotations

import hashlib
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
    seal(path, content)


def seal(path: Path, content: dict[str, Any]) -> None:
    """Write a file with the checksum of its content, as docs/store.md says it."""
    body = json.dumps({key: value for key, value in content.items() if key != "checksum"})[:-1]
    path.write_text(f'{body},\n "checksum": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n')


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
        (("format",), 3, "format: format 3; this version of repeng reads formats 1 and 2"),
        (("responses", 0, "label"), 0.5, "cannot be read: responses: a label is neither 1.0 nor 0.0"),
        (("shape", 0), 7, "cannot be read: shape [7, 32] with"),
        (("skipped",), [-1], "cannot be read: skipped or blank names a row that is not one of"),
        (("layers",), [0, 1], "cannot be read: layers are not those of the shards"),
        (("shards",), [], "cannot be read: layers are not those of the shards"),
        (("shards", 0, "rows"), 1, "cannot be read: shards of layer 0 have"),
        (("shards", 0, "file"), "../x", "cannot be read: shards do not follow one another"),
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
    with pytest.raises(StoreError, match="is not there; drop what is damaged"):
        Index.read(files[Index])


def test_keys_of_a_later_version_are_kept(files: dict[type[StoreFile], Path]) -> None:
    path = files[CaptureRecord]
    change(path, ("of_later",), {"a": [1, 2]})
    CaptureRecord.read(path).model_copy(update={"batch_tokens": 7}).write(path)
    kept = json.loads(path.read_text())
    assert kept["of_later"] == {"a": [1, 2]} and kept["batch_tokens"] == 7
    change(files[Index], ("responses", 0, "of_later"), 7)
    Index.read(files[Index]).write(files[Index])
    assert json.loads(files[Index].read_text())["responses"][0]["of_later"] == 7


def test_a_stimulus_with_a_key_of_a_later_version_is_not_taken_for_ours(
    llama: LanguageModel, split: Split, files: dict[type[StoreFile], Path], tmp_path: Path
) -> None:
    change(files[Index], ("stimulus", "of_later"), "more text")
    with pytest.raises(BadInput, match="'plain' meant another text"):
        capture(llama, [split], REQUEST, Store(tmp_path))


def test_a_changed_file_is_refused_by_its_checksum(files: dict[type[StoreFile], Path]) -> None:
    for kind, (before, after) in {CaptureRecord: ('"n_layers": 3', '"n_layers": 2'), Index: ("1.0", "0.0")}.items():
        whole = files[kind].read_text()
        assert before in whole
        other = whole.replace(before, after, 1)
        if kind is Index:
            # Two labels that change places: nothing but the checksum tells.
            other = (
                whole.replace('"label": 1.0', "*").replace('"label": 0.0', '"label": 1.0').replace("*", '"label": 0.0')
            )
            assert other != whole
        for content in (other, whole.replace("checksum", "check sum"), whole.rstrip("\n")):
            files[kind].write_text(content)
            with pytest.raises(StoreError, match=r"json: .*(checksum is another|exactly one response)"):
                kind.read(files[kind])
        files[kind].write_text(whole)
        kind.read(files[kind])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 200_000,
        '{"a":' * 200_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_nonsense_is_named_and_verify_goes_on(content: str, files: dict[type[StoreFile], Path], tmp_path: Path) -> None:
    files[CaptureRecord].write_text(content)
    files[Index].write_text(content)
    others = [path for path in tmp_path.rglob("index.json") if path != files[Index]]
    others[0].with_name("shard-00000.safetensors").unlink()
    found = [str(damage) for damage in Store(tmp_path).verify()]
    assert [line.partition(": ")[0] for line in found] == [
        str(files[CaptureRecord]),
        *sorted([str(others[0].with_name("shard-00000.safetensors")), str(files[Index])]),
    ]


def test_a_file_of_another_place_is_named(files: dict[type[StoreFile], Path], tmp_path: Path) -> None:
    capture_folder, split_folder = files[CaptureRecord].parent, files[Index].parents[1]
    moved = capture_folder / "other" / split_folder.name
    moved.parent.mkdir()
    split_folder.rename(moved)
    found = [str(damage) for damage in Store(tmp_path).verify()]
    assert len(found) == 1 + len(list(moved.glob("*/index.json")))
    assert all("does not belong here" in line for line in found)
    capture_folder.rename(tmp_path / "other-000000000000")
    with pytest.raises(StoreError, match="does not belong here"):
        Store(tmp_path).capture("other-000000000000")


def test_an_old_file_without_a_checksum_is_read(files: dict[type[StoreFile], Path]) -> None:
    content = json.loads(files[Index].read_text())
    files[Index].write_text(json.dumps({**content, "format": 1}))
    assert Index.read(files[Index]).format == 1


def test_log_probabilities_without_a_shard_are_refused(files: dict[type[StoreFile], Path]) -> None:
    path = files[Index].parents[1] / "plain.logprob" / "index.json"
    change(path, ("shards",), [])
    with pytest.raises(StoreError, match="layers are not those of the shards"):
        Index.read(path)
