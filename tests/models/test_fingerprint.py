from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from repeng.activations.store.request import capture_record, changed_versions
from repeng.distributions.schema import Split
from repeng.errors import BadInput, UnknownName
from repeng.models import fingerprint
from repeng.models.fingerprint import file_hash, identify, resolve_device, slug
from repeng.tuning.run import plan_tuning


@pytest.fixture
def folder(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model's folder that may be changed."""
    return Path(shutil.copytree(folder_of("llama"), tmp_path / "model"))


def capture_id(name: str, *, dtype: str = "auto", device: str = "auto", **options: Any) -> str:
    return capture_record(identify(name, dtype=dtype, device=device), **options).id


def test_the_same_files_elsewhere_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "model"))
    assert replace(identify(str(other)), model="") == replace(identify(str(folder)), model="")
    assert capture_id(str(other)) == capture_id(str(folder))
    assert capture_id(str(folder)).startswith("model-")


def test_one_changed_weight_is_another_model(folder: Path) -> None:
    before = capture_id(str(folder))
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][311, 7] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert capture_id(str(folder)) != before


@pytest.mark.parametrize(
    ("file", "key", "value", "changes"),
    [
        ("config.json", "rms_norm_eps", 1e-3, True),
        ("tokenizer_config.json", "model_max_length", 99, True),
        ("tokenizer.json", "truncation", {"max_length": 3}, True),
        ("config.json", "transformers_version", "0", False),
        ("config.json", "_name_or_path", "elsewhere", False),
        ("generation_config.json", "temperature", 3.0, False),
    ],
)
def test_what_changes_numbers_changes_the_id_and_nothing_else_does(
    file: str, key: str, value: object, changes: bool, folder: Path
) -> None:
    before = capture_id(str(folder))
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), key: value}))
    assert (capture_id(str(folder)) != before) is changes


@pytest.mark.parametrize(
    "file",
    [
        "adapter_config.json",
        "additional_chat_templates/tool_use.jinja",
        "special_tokenizer.model",
        "sub/config.json",
        "code/tokenization.py",
        "model.safetensors.index.json",
    ],
)
def test_any_further_file_that_can_change_numbers_changes_the_id(file: str, folder: Path, split: Split) -> None:
    def ids() -> tuple[str, str]:
        run = plan_tuning(str(folder), split, method="lora", root=folder.parent)
        return capture_id(str(folder)), run.determined["key"]

    before = ids()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text('{"weight_map": {}, "lora_alpha": 1}')
    once = ids()
    (folder / file).write_text('{"weight_map": {}, "lora_alpha": 50}')
    again = ids()
    for one, two in ((before, once), (once, again), (before, again)):
        assert one[0] != two[0] and one[1] != two[1]
    # A link to a file elsewhere, as in the hub's cache, is the file.
    (folder / file).rename(folder.parent / "elsewhere")
    (folder / file).symlink_to(folder.parent / "elsewhere")
    assert ids() == again


def test_files_that_change_no_number_leave_the_id(folder: Path) -> None:
    before = capture_id(str(folder))
    names = ("README.md", "notes.md", "LICENSE.txt", ".gitattributes", "store/mini-1/capture.json", "out/study.toml")
    for name in (*names, "out/rows.csv", ".cache/file"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("x")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    tensors = load_file(folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert capture_id(str(folder)) == before
    index["weight_map"].popitem()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert capture_id(str(folder)) != before


def test_the_embedded_model_keeps_its_id() -> None:
    assert capture_id("mini", device="cpu") == "mini-c835b685c55d"


def test_a_folder_of_too_many_files_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MOST_FILES", 3)
    for number in range(5):
        (folder / f"{number}.txt").write_text("")
    with pytest.raises(BadInput, match="holds over 3 files; give a folder that holds the model alone"):
        identify(str(folder))


def test_libraries_that_changed_are_told_by_name() -> None:
    record = capture_record(identify("mini", device="cpu"))
    assert set(record.versions) == {
        "python",
        "repeng-toolkit",
        "torch",
        "transformers",
        "tokenizers",
        "safetensors",
        "peft",
    }
    assert changed_versions(record) == {}
    versions = {name: version for name, version in record.versions.items() if name != "peft"}
    older = record.model_copy(update={"versions": versions | {"torch": "2.0.0"}})
    assert changed_versions(older) == {"torch": ("2.0.0", record.versions["torch"])}


def test_of_a_gguf_file_the_library_that_unpacks_it_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = capture_record(identify("mini", device="cpu"))
    record = capture_record(replace(identify("mini", device="cpu"), weights="gguf-sha256:0123456789ab"))
    assert set(record.versions) - set(folder.versions) == {"gguf"}
    assert changed_versions(record) == {}
    older = record.model_copy(update={"versions": record.versions | {"gguf": "0.1"}})
    assert changed_versions(older) == {"gguf": ("0.1", version("gguf"))}
    # Neither captures of before it was recorded nor a reader who has not installed it are warned.
    assert changed_versions(record.model_copy(update={"versions": folder.versions})) == {}

    def without(name: str) -> str:
        if name == "gguf":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("repeng.activations.store.request.version", without)
    assert changed_versions(older) == changed_versions(record) == changed_versions(folder) == {}


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("config.json", "[" * 200_000, "config.json: no readable JSON"),
        ("config.json", "{", "config.json: no readable JSON"),
        ("config.json", "[]", "this should be a JSON object"),
        ("config.json", '{"num_hidden_layers": "many"}', "num_hidden_layers is 'many'; it is a number up to 1,000,000"),
        ("config.json", '{"num_hidden_layers": 99999999999}', "num_hidden_layers is 99999999999; it is a number up to"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: no readable JSON"),
    ],
)
def test_a_broken_configuration_is_named(file: str, content: str, complaint: str, folder: Path) -> None:
    (folder / file).write_text(content)
    with pytest.raises(BadInput, match=complaint):
        identify(str(folder))


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta", ""])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(BadInput, match=f"device.*{device!r}"):
        resolve_device(device)


def test_every_way_of_computing_cutting_and_storing_has_its_own_id(folder: Path) -> None:
    options = [
        {},
        {"dtype": "bfloat16"},
        {"storage_dtype": "float32"},
        {"max_length": 100},
        {"too_long": "cut"},
        {"too_long": "refuse"},
    ]
    assert len({capture_id(str(folder), device="cpu", **some) for some in options}) == len(options)
    assert capture_id(str(folder), device="cpu") == capture_id(str(folder), device="cpu", dtype="float32")
    # Naming the model's own limit is no other way of cutting.
    assert capture_id(str(folder), max_length=2048) == capture_id(str(folder))
    with pytest.raises(UnknownName, match="storage dtype 'int8'; choose from bfloat16, float16, float32"):
        capture_id(str(folder), storage_dtype="int8")


def test_no_tensor_is_read_for_an_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    monkeypatch.setattr(torch, "empty", refuse)
    assert capture_id(str(folder))


def test_files_of_several_blocks_are_hashed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "BLOCK", 10)
    file = tmp_path / "file"
    hashes = set()
    for content in (b"0123456789abcdefghijXYZ", b"0123456789abcdefghijXYz", b"0123456789Abcdefghij", b"", b"0"):
        file.write_bytes(content)
        os.utime(file, ns=(0, len(hashes)))
        blocks = [hashlib.sha256(content[at : at + 10]).digest() for at in range(0, len(content), 10)]
        assert file_hash(file) == hashlib.sha256(b"".join(blocks)).hexdigest()
        hashes.add(file_hash(file))
    assert len(hashes) == 5


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = file_hash(file)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("read again"))
    assert file_hash(file) == first
    monkeypatch.undo()
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert file_hash(file) != first


def test_a_name_becomes_part_of_a_file_s_name(folder: Path) -> None:
    assert slug("org/model") == "org--model"
    assert slug(str(folder)) == slug(f"{folder}/") == "model"
    assert slug("mini") == "mini"
    assert slug("m" * 5000) == "m" * 5000


def test_a_record_says_what_determines_the_numbers(folder: Path) -> None:
    record = capture_record(identify(str(folder), device="cpu"))
    assert record.id == capture_id(str(folder), device="cpu")
    assert record.model.weights.startswith("sha256:") and record.model.n_layers == 3
    assert record.max_length == 2048 and set(record.versions) >= {"torch", "transformers", "python"}


def test_folders_that_hold_no_model_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no config.json"):
        identify(str(tmp_path))
    with pytest.raises(BadInput, match="there is no such folder"):
        identify("./nowhere")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="no \\*.safetensors here; repeng reads no pickled weights"):
        identify(str(folder))


HUB = """
from repeng.activations.store.request import capture_record
from repeng.models.fingerprint import identify
from repeng.errors import BadInput
identity = identify("org/tiny", device="cpu")
assert identity.weights == identity.tokenizer == "org/tiny@" + "0123456789" * 4
assert load_model("org/tiny", device="cpu").identity == identity
assert capture_record(identity).id.startswith("org--tiny-")
try:
    identify("org/adapter")
except BadInput as error:
    assert "'org/adapter' is an adapter" in str(error)
else:
    raise AssertionError("an adapter was taken")
try:
    identify("org/absent")
except BadInput as error:
    assert "'org/absent' is no folder here, and not to be had from the hub" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.slow
def test_a_model_of_the_hub_is_known_by_its_commit(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    commit = "0123456789" * 4
    cached = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(folder_of("llama"), cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    adapter = Path(shutil.copytree(cached, tmp_path / "hub" / "models--org--adapter"))
    (adapter / "snapshots" / commit / "adapter_config.json").write_text('{"base_model_name_or_path": "org/tiny"}')
    subprocess.run(
        [sys.executable, "-c", HUB], env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}, check=True
    )
