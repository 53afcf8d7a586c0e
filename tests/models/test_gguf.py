"""GGUF files as models: what is loaded against llama.cpp's own package, and what is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_files import TEMPLATE, WIDE, make_gguf_folder, weights_of, write_gguf
from tiny_models import SENTENCES
from transformers import AutoModelForSequenceClassification

from repeng.errors import BadInput
from repeng.models.fingerprint import identify
from repeng.models.gguf import read_header, readable_architectures
from repeng.models.load import LanguageModel, load_model
from repeng.models.outline import load_outline
from repeng.models.pretrained import read_model
from repeng.models.source import find_model
from repeng.tuning.loading import load_classifier

TEXTS = (*SENTENCES, "<s>marked</s> and not", " 12  34\n\n\tnaïve 😀", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf_folder(tmp_path_factory.mktemp("gguf") / "tiny")


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf_folder(tmp_path_factory.mktemp("gguf") / "wide", width=256)


def loaded(file: Path, dtype: str = "float32") -> LanguageModel:
    return load_model(str(file), device="cpu", dtype=dtype)


def test_an_unquantised_file_is_the_model_of_the_folder_that_it_was_written_from(folder: Path, tmp_path: Path) -> None:
    ours, theirs = loaded(write_gguf(folder, tmp_path / "tiny.gguf")), load_model(str(folder), device="cpu")
    assert ours.model.state_dict().keys() == theirs.model.state_dict().keys()
    for name, tensor in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], tensor), name
    ids = torch.arange(40)[None]
    assert torch.equal(ours.model(ids).logits, theirs.model(ids).logits)
    ours.check_logits()
    assert (ours.n_layers, ours.d_model, ours.max_length) == (theirs.n_layers, theirs.d_model, theirs.max_length)
    assert ours.sites() == theirs.sites() and ours.pad_id == theirs.pad_id


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K"])
def test_weights_are_unpacked_as_llama_cpp_unpacks_them(
    kind: str, folder: Path, wide_folder: Path, tmp_path: Path
) -> None:
    file = write_gguf(wide_folder if kind in WIDE else folder, tmp_path / "m.gguf", kind=kind)
    wanted, model = weights_of(file), loaded(file).model.state_dict()
    narrow = loaded(file, "bfloat16").model.state_dict()
    assert wanted.keys() == model.keys() == narrow.keys()
    for name, tensor in wanted.items():
        assert torch.equal(model[name], tensor), name
        assert torch.equal(narrow[name], tensor.bfloat16()), name


def test_the_tokenizer_and_its_chat_template_come_with_the_file(folder: Path, tmp_path: Path) -> None:
    ours = loaded(write_gguf(folder, tmp_path / "tiny.gguf", kind="Q8_0")).tokenizer
    theirs = load_model(str(folder), device="cpu").tokenizer
    for text in TEXTS:
        for special in (True, False):
            assert (
                ours(text, add_special_tokens=special)["input_ids"]
                == (theirs(text, add_special_tokens=special)["input_ids"])
            ), text
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(ours, name) == getattr(theirs, name) is not None
    assert ours.chat_template == TEMPLATE
    chat = [{"role": "user", "content": "Hello"}]
    assert ours.apply_chat_template(chat, tokenize=False) == "<s>user: Hello</s>"


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    folder = make_gguf_folder(tmp_path / "tied", config={"tie_word_embeddings": True})
    lm = loaded(write_gguf(folder, tmp_path / "tied.gguf"))
    assert lm.unembed.weight is lm.model.get_input_embeddings().weight  # type: ignore[operator]


def test_an_outline_has_the_same_sites_and_reads_no_weights(folder: Path, tmp_path: Path) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind="Q4_1")
    outline = load_outline(str(file), device="cpu", dtype="float32")
    assert outline.sites() == loaded(file).sites() and outline.n_layers == 2
    assert {parameter.device.type for parameter in outline.model.parameters()} == {"meta"}


def test_a_classifier_has_the_file_s_weights_under_a_new_head_of_two(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind="Q8_0")
    model = load_classifier(str(file), seed=3, device=torch.device("cpu"), dtype=torch.float32)
    wanted = weights_of(file)
    held = model.state_dict()
    assert held["score.weight"].shape == (2, 32)
    assert all(torch.equal(held[name], wanted[name]) for name in held if name != "score.weight")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16"), ("Q8_0", "bfloat16"), ("Q4_1", "bfloat16")],
)
def test_the_stored_dtype_is_that_of_the_tensors(kind: str, stored: str, folder: Path, tmp_path: Path) -> None:
    assert read_header(write_gguf(folder, tmp_path / "tiny.gguf", kind=kind)).config["dtype"] == stored
    # What the file says of itself may be another.
    lies = write_gguf(folder, tmp_path / "lies.gguf", kind=kind, metadata={"general.file_type": 2})
    assert read_header(lies).config["dtype"] == stored


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"extra": {"rope_freqs.weight": np.ones(4)}}, "rope_freqs.weight"),
        ({"extra": {"blk.0.attn_q.bias": np.ones(32)}}, "blk.0.attn_q.bias"),
        ({"metadata": {"llama.rope.scaling.type": "linear"}}, "llama.rope.scaling.type = linear"),
        ({"metadata": {"tokenizer.ggml.pre": "deepseek-llm"}}, "tokenizer.ggml.pre = deepseek-llm"),
        ({"metadata": {"llama.rope.scaling.type": "none", "tokenizer.ggml.pre": "llama-bpe"}}, ""),
    ],
)
def test_what_transformers_leaves_aside_is_warned_of(
    changes: dict[str, Any], named: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", **changes)
    caplog.set_level(logging.WARNING, "repeng")
    caplog.clear()
    loaded(file)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("repeng")]
    assert [f"{file}: transformers leaves aside" in line and named in line for line in said] == [True] * bool(named)


def test_the_architectures_are_named_as_llama_cpp_names_them() -> None:
    # The first is written as a Llama, and umt5 as t5.
    assert readable_architectures() - {"mistral", "umt5"} <= set(gguf.MODEL_ARCH_NAMES.values())
    assert {"llama", "qwen2", "qwen3", "gemma3", "gpt-oss"} <= readable_architectures()


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a part", {"metadata": {"split.count": 3}}, "one of 3 files of a model.*llama-gguf-split --merge"),
    (
        "a count in words",
        {"metadata": {"split.count": "three"}},
        "header says that split.count is 'three'; it is a number",
    ),
    (
        "no layers",
        {"metadata": {"llama.block_count": 0}},
        r"its header names none of llama\.block_count; fetch it again",
    ),
    ("layers in words", {"metadata": {"llama.block_count": "two"}}, r"header says that llama\.block_count is 'two'"),
    ("its architecture", {"architecture": "plamo"}, "architecture 'plamo' cannot be read from GGUF files"),
    ("its blocks", {"kind": "Q1_0"}, r"cannot be read \(MOSTLY_Q1_0\): .*Q1_0"),
    ("a lost matrix", {"leave_out": "blk.1.ffn_up.weight"}, r"lacks weights of the model, .*layers\.1\.mlp\.up_proj"),
    ("a lost norm", {"leave_out": "output_norm.weight"}, r"lacks weights of the model, such as model\.norm\.weight"),
    ("no embedding", {"leave_out": "token_embd.weight"}, r"lacks weights of the model, such as model\.embed_tokens"),
    (
        "another width",
        {"metadata": {"llama.embedding_length": 64}},
        r"not of the size .*lm_head\.weight, \(403, 32\) where the model has \(403, 64\)",
    ),
]


@pytest.mark.parametrize(("changes", "complaint"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_file_that_cannot_be_taken_is_refused_by_name_in_one_line(
    changes: dict[str, Any],
    complaint: str,
    folder: Path,
    wide_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = write_gguf(wide_folder if changes.get("kind") in WIDE else folder, tmp_path / "tiny.gguf", **changes)
    with pytest.raises(BadInput, match=complaint) as caught:
        load_model(str(file), device="cpu")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    # Nor does transformers tell the same in a table of its own.
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_a_file_that_is_none_or_cut_short_is_refused_before_its_weights_are_read(folder: Path, tmp_path: Path) -> None:
    whole = write_gguf(folder, tmp_path / "whole.gguf").read_bytes()
    file = tmp_path / "broken.gguf"
    for content in (b"", b"GG", b"PK\x03\x04" + whole[4:], *(whole[:n] for n in (4, 20, 100, 5000))):
        file.write_bytes(content)
        with pytest.raises(BadInput, match=r"broken\.gguf: no readable GGUF file"):
            identify(str(file))
    for length in (len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=f"cut short: {length:,} bytes of the {len(whole):,} that its header"):
            identify(str(file))
    file.write_bytes(whole)
    assert identify(str(file)).n_layers == 2


def test_without_the_package_gguf_the_message_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf")
    monkeypatch.setattr("repeng.models.gguf.find_spec", lambda name: None if name == "gguf" else find_spec(name))
    with pytest.raises(BadInput, match=r"tiny\.gguf is a GGUF file.* pip install 'repeng-toolkit\[gguf\]'"):
        identify(str(file))


def test_weights_of_a_file_are_not_quantised_anew(folder: Path, tmp_path: Path) -> None:
    source = find_model(str(write_gguf(folder, tmp_path / "tiny.gguf")))
    with pytest.raises(BadInput, match="whose weights cannot be quantised anew; use quantization 'none'"):
        read_model(AutoModelForSequenceClassification, source, quantization_config=object())


def test_a_script_that_loads_its_model_by_itself_is_told_to_take_a_folder(folder: Path, tmp_path: Path) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind="Q8_0")
    with pytest.raises(BadInput, match="a plug-in loads its model from a folder; save it as one") as caught:
        find_model(str(file)).folder_for_others()
    # What the message says works as it stands.
    code = str(caught.value).partition("(")[2].partition(") and give")[0].replace("FOLDER", str(tmp_path / "saved"))
    subprocess.run([sys.executable, "-c", f"import repeng; {code}"], check=True, capture_output=True)
    saved = load_model(str(tmp_path / "saved"), device="cpu", dtype="float32").model.state_dict()
    unpacked = load_model(str(file), device="cpu").model.state_dict()
    assert all(torch.equal(saved[name], tensor.float()) for name, tensor in unpacked.items())
    assert find_model(str(tmp_path / "saved")).folder_for_others() == str(tmp_path / "saved")
