"""The training of the embedded model, at a size that takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.mini.documents import MIX, Writer
from tools.mini.gate import Gate
from tools.mini.train import (
    RATE,
    WARMUP,
    attention_in_float32,
    build_model,
    build_optimizers,
    encode,
    load_checkpoint,
    rate_at,
    train,
)

GOOD = {name: 90.0 for name in ("geography", "arithmetic", "words")}
PASSED = Gate(GOOD, GOOD, {name: [90.0] for name in GOOD})


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_a_run_that_is_stopped_and_resumed_ends_where_an_unbroken_one_does(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import tools.mini.train as module

    monkeypatch.setattr(module, "measure", lambda *_: PASSED)
    monkeypatch.setattr(module, "BATCH", 8)
    settings = {"chunks": 3, "chunk": 2, "watch": 1, "sample": 400}
    train(tmp_path / "whole", **settings)

    class Stopped(Exception):
        pass

    real, calls = module.save_checkpoint, []

    def stop_after_one(*arguments) -> None:  # type: ignore[no-untyped-def]
        real(*arguments)
        calls.append(1)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", stop_after_one)
        with pytest.raises(Stopped):
            train(tmp_path / "broken", **settings)
    train(tmp_path / "broken", **settings)

    whole, broken = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert {tensor.dtype for tensor in whole.values()} == {torch.bfloat16}


def test_attention_in_float32_is_the_attention_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 8, generator=generator) for _ in range(3))
    ours, _ = attention_in_float32(torch.nn.Module(), query, key, value, None, scaling=None)
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(ours, theirs.transpose(1, 2))


def test_a_model_starts_the_same_for_a_seed_and_leaves_the_process_alone() -> None:
    before = torch.random.get_rng_state()
    first, second, other = build_model(0), build_model(0), build_model(1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.model.embed_tokens.weight, second.model.embed_tokens.weight)
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)
    assert first.lm_head.weight is first.model.embed_tokens.weight
    assert 3.0e6 < sum(parameter.numel() for parameter in first.parameters()) < 3.5e6


def test_each_parameter_has_one_optimizer_and_muon_has_the_matrices_of_the_blocks() -> None:
    model = build_model(0)
    muon, adam = ([p for group in o.param_groups for p in group["params"]] for o in build_optimizers(model))
    assert len(muon) == 6 * 7
    assert {id(p) for p in muon} | {id(p) for p in adam} == {id(p) for p in model.parameters()}
    assert len(muon) + len(adam) == len(list(model.parameters()))
    assert any(p is model.model.embed_tokens.weight for p in adam)


def test_a_chunk_is_trained_on_the_loss_of_the_whole_batch(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Logits of counted tokens alone give the weighted mean that the logits of all tokens give."""
    import tools.mini.train as module

    monkeypatch.setattr(module, "RATE", 0.0)
    model = build_model(0)
    ids = torch.randint(5, 3000, (4, 9), generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([0.0, 1.0, 2.0]).repeat(4, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        each = torch.nn.functional.cross_entropy(
            model(ids, use_cache=False).logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
    weight = weights[:, 1:].flatten()
    expected = float((each * weight).sum() / weight.sum())
    got = module.train_chunk(model, build_optimizers(model), [(ids, weights)], 0, 1)
    assert got == pytest.approx(expected, rel=1e-3)


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [rate_at(step / 2000, step) for step in range(2001)]
    assert rates[0] == pytest.approx(RATE / WARMUP)
    assert max(rates) == RATE
    assert rates[-1] == 0.0
    assert all(a >= b for a, b in zip(rates[WARMUP:], rates[WARMUP + 1 :], strict=False))


def test_loss_weights_stand_on_the_tokens_of_their_piece() -> None:
    import random

    from tools.mini.tokenizer import learn_tokenizer

    documents = [document for _, document in Writer(0).write(MIX, 300)]
    tokenizer = learn_tokenizer("".join(text for text, _ in document) for document in documents)
    for document, (ids, weights) in zip(documents, encode(tokenizer, documents, random.Random(1)), strict=True):
        assert weights[-1] == 1.0
        assert ids[-1] == tokenizer.eos_token_id
        for wanted in {weight for _, weight in document}:
            text = "".join(text for text, weight in document if weight == wanted)
            kept = [token for token, weight in zip(ids[:-1], weights[:-1], strict=True) if weight == wanted]
            kept = [token for token in kept if token != tokenizer.bos_token_id]
            assert tokenizer.decode(kept).replace(" ", "") == text.replace(" ", "")


def test_a_folder_without_a_checkpoint_starts_from_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = build_model(0)
    state = load_checkpoint(tmp_path, model, build_optimizers(model))
    assert state == {"done": 0, "tokens": 0}


def test_the_gate_holds_a_model_to_verdicts_and_probes() -> None:
    layers = {name: [55.0, 95.0] for name in GOOD}
    assert Gate(GOOD, GOOD, layers).passed
    assert not Gate({**GOOD, "arithmetic": 60.0}, GOOD, layers).passed
    assert not Gate(GOOD, GOOD, {**layers, "words": [60.0, 61.0]}).passed
    assert not Gate(GOOD, GOOD, {**layers, "geography": [60.0, 70.0]}).passed
