"""Activations of a GGUF file against the folder saved from it, and against hooks on transformers' own model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from activations_reference import texts_of
from gguf_files import make_gguf_folder, write_gguf
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.activations.store.stored_capture import StoredCapture
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import load_model

REQUEST = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), tokens=("last", "response_mean"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf_folder(tmp_path_factory.mktemp("gguf") / "tiny")


def captured(model: str | Path, split: Split, root: Path, dtype: str = "float32") -> StoredCapture:
    store = Store(root)
    lm = load_model(str(model), device="cpu", dtype=dtype)
    return store.capture(capture(lm, [split], REQUEST, store, storage_dtype="float32").capture_id)


def assert_same(one: StoredCapture, other: StoredCapture, split: Split) -> None:
    """Bit for bit."""
    for stimulus in REQUEST.stimuli:
        for token in REQUEST.tokens:
            ours, theirs = (each.open(split, stimulus.name, "resid_post", token) for each in (one, other))
            assert torch.equal(ours.read(), theirs.read()) and np.array_equal(ours.kept, theirs.kept)
        for mine, yours in zip(one.logprobs(split, stimulus.name), other.logprobs(split, stimulus.name), strict=True):
            assert np.array_equal(mine, yours)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
def test_a_file_gives_what_the_folder_saved_from_it_gives(
    kind: str, dtype: str, folder: Path, split: Split, tmp_path: Path
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind=kind)
    lm = load_model(str(file), device="cpu", dtype=dtype)
    lm.model.save_pretrained(tmp_path / "saved")
    lm.tokenizer.save_pretrained(tmp_path / "saved")
    ours = captured(file, split, tmp_path / "a", dtype)
    theirs = captured(tmp_path / "saved", split, tmp_path / "b", dtype)
    assert ours.id.rpartition("-")[2] != theirs.id.rpartition("-")[2]
    assert_same(ours, theirs, split)


def test_an_unquantised_file_gives_what_the_folder_that_it_was_written_from_gives(
    folder: Path, split: Split, tmp_path: Path
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf")
    assert_same(captured(file, split, tmp_path / "a"), captured(folder, split, tmp_path / "b"), split)


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_a_file_gives_what_a_hook_on_transformers_own_model_sees(
    kind: str, folder: Path, split: Split, tmp_path: Path
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind=kind)
    stored = captured(file, split, tmp_path / "store")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).eval()
    seen: dict[int, torch.Tensor] = {}
    for layer, block in enumerate(model.model.layers):
        block.register_forward_hook(
            lambda _module, _inputs, output, layer=layer: seen.__setitem__(layer, output[0, -1])
        )
    last = stored.open(split, "plain", "resid_post")
    logprobs, counts = stored.logprobs(split)
    for row, (prompt, response) in enumerate(texts_of(split)):
        encoded = tokenizer(prompt + response, return_tensors="pt")
        ids = encoded["input_ids"]
        with torch.no_grad():
            scores = model(ids).logits[0].float().log_softmax(-1)
        for layer in (0, 1):
            assert_close(last.layer(layer)[row], seen[layer], rtol=1e-5, atol=1e-5)
        start = encoded.char_to_token(len(prompt)) if response else ids.shape[1]
        total = sum(float(scores[place - 1, ids[0, place]]) for place in range(start, ids.shape[1]))
        assert logprobs[row] == pytest.approx(total, rel=1e-5, abs=1e-5)
        assert counts[row] == ids.shape[1] - start
