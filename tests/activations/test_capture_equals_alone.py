"""What is stored is what each text gives alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from activations_reference import alone, texts_of
from torch.testing import assert_close

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel

REQUEST = Request(
    (get_stimulus("plain"), get_stimulus("contrast_yes")),
    sites=("resid_post", "hook_z", "mlp_out", "ln_final"),
    tokens=("last", "response_mean", "prompt_last"),
)


@pytest.mark.parametrize(
    ("architecture", "method"), [("llama", "auto"), ("gpt_neox", "auto"), ("gpt2", "auto"), ("gpt2", "batched")]
)
def test_every_stored_vector_and_log_probability_is_that_of_the_text_alone(
    architecture: str, method: str, model_of: Callable[[str], LanguageModel], real_splits: list[Split], tmp_path: Path
) -> None:
    lm, store = model_of(architecture), Store(tmp_path)
    summary = capture(lm, real_splits, REQUEST, store, method=method, storage_dtype="float32")
    stored = store.capture(summary.capture_id)
    assert summary.method == ("batched" if method == "batched" else "packed")
    checked = empty = 0
    for split in real_splits:
        for stimulus in REQUEST.stimuli:
            parts = {
                (site, token): stored.open(split, stimulus.name, site, token)
                for site in REQUEST.sites
                for token in REQUEST.tokens
            }
            values = {(*key, layer): part.layer(layer) for key, part in parts.items() for layer in part.layers}
            logprobs, counts = stored.logprobs(split, stimulus.name)
            lengths = stored.open(split, stimulus.name, "logprob").tensor("text_length")
            for row, (prompt, response) in enumerate(texts_of(split)):
                expected = alone(lm, architecture, prompt, response, stimulus.after_response)
                assert lengths[row] == expected.length
                assert counts[row] == expected.end - expected.start
                assert logprobs[row] == pytest.approx(expected.logprob, abs=1e-5 * max(1, counts[row]))
                for (site, layer), vectors in expected.vectors.items():
                    assert_close(values[site, "last", layer][row], vectors[-1], rtol=1e-5, atol=1e-5)
                    before = values[site, "prompt_last", layer][row]
                    assert_close(before, vectors[expected.start - 1], rtol=1e-5, atol=1e-5)
                    mean = values[site, "response_mean", layer][row]
                    if response:
                        there = vectors[expected.start : expected.end]
                        assert_close(mean, there.mean(0), rtol=1e-5, atol=1e-5)
                    else:
                        assert not mean.any()
                        assert not parts[site, "response_mean"].kept[row]
                        empty += 1
                    checked += 1
    assert checked > 500
    assert empty > 0


def test_the_last_layer_is_the_last_block_and_not_what_the_final_norm_makes_of_it(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    request = Request((get_stimulus("plain"),), sites=("resid_post", "ln_final"))
    stored = store.capture(capture(llama, [split], request, store, storage_dtype="float32").capture_id)
    prompt, response = texts_of(split)[0]
    ids = torch.tensor([llama.tokenizer(prompt + response)["input_ids"]])
    with torch.no_grad():
        states = llama.model(input_ids=ids, output_hidden_states=True).hidden_states
    block = stored.open(split, "plain", "resid_post").layer(2)[0]
    assert_close(stored.open(split, "plain", "ln_final").layer(2)[0], states[-1][0, -1], rtol=1e-5, atol=1e-5)
    assert_close(stored.open(split, "plain", "resid_post").layer(1)[0], states[2][0, -1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(block, states[-1][0, -1], atol=0.1)


def test_what_is_stored_in_bfloat16_is_the_float32_vector_rounded_once(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    store, request = Store(tmp_path), Request((get_stimulus("plain"),), tokens=("last", "response_mean"))
    narrow = store.capture(capture(llama, [split], request, store).capture_id)
    wide = store.capture(capture(llama, [split], request, store, storage_dtype="float32").capture_id)
    assert narrow.id != wide.id
    for token in request.tokens:
        ours = narrow.open(split, "plain", "resid_post", token).read()
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours, wide.open(split, "plain", "resid_post", token).read().bfloat16())


def test_an_empty_response_has_its_last_token_at_the_end_of_the_text_and_a_log_probability_of_zero(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    store, request = Store(tmp_path), Request((get_stimulus("plain"),), tokens=("last", "response_mean", "prompt_last"))
    stored = store.capture(capture(llama, [split], request, store).capture_id)
    empty = [row for row, (_, response) in enumerate(texts_of(split)) if not response]
    assert empty
    logprobs, counts = stored.logprobs(split)
    last, before = (stored.open(split, "plain", "resid_post", token) for token in ("last", "prompt_last"))
    mean = stored.open(split, "plain", "resid_post", "response_mean")
    assert np.flatnonzero(counts == 0).tolist() == empty == np.flatnonzero(~mean.kept).tolist() == [*mean.index.blank]
    assert not logprobs[empty].any()
    assert torch.equal(last.layer(1)[empty], before.layer(1)[empty])
    assert last.kept.all() and last.layer(1)[empty].any()
