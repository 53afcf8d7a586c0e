from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from repeng.activations.store.request import capture_record
from repeng.errors import BadInput, UnknownName
from repeng.models import fingerprint
from repeng.models.fingerprint import file_hash, identify, resolve_dtype, slug


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


def test_a_dtype_of_auto_is_float32_on_a_cpu_and_never_float16() -> None:
    assert resolve_dtype("auto", "cpu", "bfloat16") == "float32"
    assert resolve_dtype("auto", "cuda", "bfloat16") == "bfloat16"
    assert resolve_dtype("auto", "cuda:1", "float16") == "bfloat16"
    assert resolve_dtype("auto", "cuda", "float32") == resolve_dtype("auto", "cuda", None) == "float32"
    assert resolve_dtype("float16", "cpu", "float32") == "float16"
    with pytest.raises(BadInput, match="unknown dtype 'half'; choose from auto, float32"):
        resolve_dtype("half", "cpu", None)


def test_a_name_becomes_part_of_a_file_s_name(folder: Path) -> None:
    assert slug("org/model") == "org--model"
    assert slug(str(folder)) == slug(f"{folder}/") == "model"
    assert slug("mini") == "mini"


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
from repeng.models.load import load_model
from repeng.errors import BadInput
identity = identify("org/tiny", device="cpu")
assert identity.weights == identity.tokenizer == "org/tiny@" + "0123456789" * 4
assert load_model("org/tiny", device="cpu").identity == identity
assert capture_record(identity).id.startswith("org--tiny-")
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
    subprocess.run(
        [sys.executable, "-c", HUB], env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}, check=True
    )
