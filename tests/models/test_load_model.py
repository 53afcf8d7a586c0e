from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from made_up import made_up
from tiny_models import ARCHITECTURES, make_model
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.models.load import LanguageModel, load_model


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_loads_with_its_parts(architecture: str, model_of: Callable[[str], LanguageModel]) -> None:
    lm = model_of(architecture)
    assert (lm.n_layers, lm.d_model, len(lm.blocks)) == (3, 32, 3)
    assert lm.dtype == torch.float32 == next(lm.model.parameters()).dtype
    assert not lm.model.training and not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert lm.final_norm is not None and lm.unembed is lm.model.get_output_embeddings()
    assert lm.identity.n_layers == 3 and lm.identity.dtype == "float32"
    if architecture != "mamba":
        assert lm.config.num_attention_heads == 4
        point = lm.hook_point("hook_z", 1)
        assert point.d_head == (12 if architecture in ("gemma", "gemma2", "gemma3_text", "qwen3") else 8)
        assert point.side == "input" and point.d_head * 4 in point.module.weight.shape
    point = lm.hook_point("resid_post", 2)
    assert (point.module, point.side) == (lm.blocks[2], "output")
    assert lm.max_length == 2048


def test_a_dtype_can_be_asked_for(folder_of: Callable[[str], Path]) -> None:
    lm = load_model(str(folder_of("llama")), device="cpu", dtype="bfloat16")
    assert lm.dtype == torch.bfloat16 == next(lm.model.parameters()).dtype
    assert lm.identity.dtype == "bfloat16"
    lm.check_logits()


def test_a_device_map_is_taken(folder_of: Callable[[str], Path], llama: LanguageModel, tmp_path: Path) -> None:
    lm, split, stores = (
        load_model(str(folder_of("llama")), device_map="cpu"),
        made_up(4),
        (tmp_path / "a", tmp_path / "b"),
    )
    assert lm.device == torch.device("cpu")
    request = Request((get_stimulus("plain"),))
    found = [capture(model, [split], request, Store(root)) for model, root in zip((llama, lm), stores, strict=True)]
    first, second = (Store(root).capture(found[0].capture_id).open(split, "plain", "resid_post") for root in stores)
    assert torch.equal(first.read(), second.read())


def test_the_longest_text_is_the_least_of_what_model_and_tokenizer_say(tmp_path: Path) -> None:
    folder = make_model("gpt2", tmp_path / "m", positions=77)
    assert load_model(str(folder), device="cpu").max_length == 77
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_max_length": 55}))
    assert load_model(str(folder), device="cpu").max_length == 55
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_max_length": int(1e30)}))
    assert load_model(str(folder), device="cpu").max_length == 77


def test_what_is_no_causal_language_model_is_refused(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    config = T5Config(vocab_size=50, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    for file in folder_of("llama").glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BadInput, match="cannot load .* as a causal language model"):
        load_model(str(tmp_path))


def test_opt_with_its_norms_behind_or_a_narrow_embedding_is_refused_or_right(tmp_path: Path) -> None:
    narrow = load_model(str(make_model("opt", tmp_path / "a", config={"word_embed_proj_dim": 16})), device="cpu")
    narrow.check_logits()
    assert narrow.d_model == 32
    with pytest.raises(BadInput, match="has no ln_final"):
        behind = make_model("opt", tmp_path / "b", config={"do_layer_norm_before": False})
        load_model(str(behind), device="cpu").hook_point("ln_final", 2)


def test_models_that_threads_load_at_once_keep_their_tied_weights(tmp_path: Path) -> None:
    folder = str(make_model("llama", tmp_path / "tied", config={"tie_word_embeddings": True}))
    before = PreTrainedModel.tie_weights
    with ThreadPoolExecutor(8) as pool:
        for lm in pool.map(lambda _: load_model(folder), range(24)):
            assert lm.unembed.weight is lm.model.get_input_embeddings().weight  # type: ignore[operator]
    assert PreTrainedModel.tie_weights is before
