from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layout_check import check_layout
from tiny_models import ARCHITECTURES

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Chunk, Run, TextRequest
from repeng.activations.layouts.padded import padded_batches
from repeng.errors import RepengError
from repeng.models.load import LanguageModel


def some_texts() -> tuple[TextRequest, ...]:
    generator = np.random.default_rng(1)
    texts = []
    for length in (1, 2, 5, 9, 23, 40, 40):
        ids = tuple(generator.integers(3, 300, length).tolist())
        middle = length // 2
        texts.append(
            TextRequest(ids, (middle, length - 1)[-min(2, length) :], (((middle, length),),), ((middle, length),))
        )
    return tuple(texts)


TEXTS = some_texts()
HOOKS = tuple((site, layer) for layer in range(3) for site in ("resid_pre", "resid_post", "mlp_out"))


def rows(chunks: list[Chunk], texts: tuple[TextRequest, ...]) -> dict[int, dict[Any, torch.Tensor]]:
    """Of each text its vectors, means and log-probabilities."""
    found: dict[int, dict[Any, torch.Tensor]] = {}
    for chunk in chunks:
        place = 0
        for slot, text in enumerate(chunk.texts):
            past = place + len(texts[text].positions)
            found[text] = {hook: value[place:past] for hook, value in chunk.vectors.items()}
            found[text] |= {(*hook, "mean"): value[slot] for hook, value in chunk.means.items()}
            found[text]["logprob"] = torch.tensor(chunk.logprobs[slot])
            place = past
    return found


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "mamba"])
def test_a_padded_batch_gives_what_the_stock_model_gives_each_text_alone(
    architecture: str, model_of: Callable[[str], LanguageModel]
) -> None:
    lm = model_of(architecture)
    found = rows(list(run(lm, Run(TEXTS, HOOKS, 100, torch.float32), padded_batches)), TEXTS)
    for number, text in enumerate(TEXTS):
        with torch.no_grad():
            out = lm.model(input_ids=torch.tensor([text.ids]), output_hidden_states=True)
        for layer in range(3):
            states = out.hidden_states[layer][0]
            torch.testing.assert_close(
                found[number]["resid_pre", layer], states[list(text.positions)], rtol=1e-4, atol=1e-4
            )
            mean = states[slice(*text.means[0][0])].mean(0)
            torch.testing.assert_close(found[number]["resid_pre", layer, "mean"], mean, rtol=1e-4, atol=1e-4)
        scores = out.logits[0].log_softmax(-1)
        start, end = text.logprobs[0]
        total = sum(float(scores[place - 1, text.ids[place]]) for place in range(max(start, 1), end))
        assert float(found[number]["logprob"]) == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("budget", [1, 50, 100, 10_000])
def test_padded_batches_keep_what_a_layout_promises(llama: LanguageModel, budget: int) -> None:
    batches = list(padded_batches(llama, TEXTS, budget))
    assert check_layout(TEXTS, batches) == []
    assert all(batch.input_ids.numel() <= budget or len(batch.texts) == 1 for batch in batches)


def test_texts_of_like_length_share_a_batch(llama: LanguageModel) -> None:
    lengths = [[len(TEXTS[text].ids) for text in batch.texts] for batch in padded_batches(llama, TEXTS, 80)]
    assert lengths == [[40, 40], [23, 9, 5], [2, 1]]


def test_nothing_above_the_highest_hook_is_computed_unless_log_probabilities_are_wanted(llama: LanguageModel) -> None:
    called: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda *_, layer=layer: called.append(layer))
        for layer, block in enumerate(llama.blocks)
    ]
    text = TextRequest((5, 6, 7), positions=(2,))
    asked = {
        (("resid_post", 0),): [0],
        (("mlp_out", 1), ("hook_z", 0)): [0, 1],
        (("resid_pre", 0),): [0],
        (("ln_final", 2),): [0, 1, 2],
    }
    try:
        for hooks, expected in asked.items():
            called.clear()
            [chunk] = run(llama, Run((text,), hooks, 100), padded_batches)
            assert called == expected
            assert set(chunk.vectors) == set(hooks)
        called.clear()
        scored = TextRequest((5, 6, 7), logprobs=((1, 3),))
        [chunk] = run(llama, Run((scored,), (("resid_post", 0),), 100), padded_batches)
        assert called == [0, 1, 2] and chunk.logprobs.shape == (1,)
    finally:
        for handle in handles:
            handle.remove()


def test_hooks_come_off_whatever_happens(llama: LanguageModel) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llama.model.modules())

    before = hooks()
    text = TextRequest((5, 6), positions=(1,))
    list(run(llama, Run((text,), (("resid_post", 0),), 100), padded_batches))
    assert hooks() == before
    with pytest.raises(IndexError):
        list(run(llama, Run((TextRequest((5, 10_000), positions=(1,)),), (("resid_post", 0),), 100), padded_batches))
    assert hooks() == before


def test_logits_are_made_for_response_tokens_alone(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    forward = llama.unembed.forward
    monkeypatch.setattr(llama.unembed, "forward", lambda hidden: made.append(len(hidden)) or forward(hidden))
    texts = (TextRequest((4, 5, 6, 7, 8), logprobs=((3, 5),)), TextRequest((4, 5, 6), positions=(2,)))
    list(run(llama, Run(texts, (("resid_post", 0),), 100), padded_batches))
    assert made == [2]


@pytest.mark.parametrize("architecture", ["gemma2", "cohere", "granite", "llama", "gpt2", "gptj", "phi"])
def test_logits_are_those_of_the_model_itself(architecture: str, model_of: Callable[[str], LanguageModel]) -> None:
    lm, ids = model_of(architecture), torch.tensor([[4, 200, 30, 77, 150]])
    with torch.no_grad():
        ours = lm.logits(lm.base(input_ids=ids)[0][0])
        torch.testing.assert_close(ours, lm.model(input_ids=ids).logits[0], rtol=1e-5, atol=1e-5)
    lm.check_logits()


def test_an_architecture_that_does_more_to_its_logits_is_found_out(
    model_of: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model_of("cohere")
    monkeypatch.setattr(lm.model, "logit_scale", 0.5)
    with pytest.raises(RepengError, match="log-probabilities of cohere models cannot be captured"):
        lm.check_logits()


def test_many_tokens_are_scored_some_at_a_time(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, targets = torch.randn(50, 32), torch.randint(0, 300, (50,))
    made: list[int] = []
    forward = llama.unembed.forward
    with torch.no_grad():
        whole = llama.logits(hidden).log_softmax(1)[torch.arange(50), targets]
        torch.testing.assert_close(llama.token_logprobs(hidden, targets), whole)
        monkeypatch.setattr(llama.unembed, "forward", lambda hidden: made.append(len(hidden)) or forward(hidden))
        for name, value in {"TOKENS_AT_ONCE_ON_CPU": 20, "LOGITS_AT_ONCE": 7 * llama.config.vocab_size}.items():
            monkeypatch.setattr(f"repeng.models.load.{name}", value)
            torch.testing.assert_close(llama.token_logprobs(hidden, targets), whole)
    assert (whole < 0).all()
    assert made == [20, 20, 10] + [7] * 7 + [1]
