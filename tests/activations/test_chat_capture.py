"""Plain and chat form captured in one pass: what two captures give, and what each text gives alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from activations_reference import alone
from chat_samples import FAMILIES, SHORT
from torch.testing import assert_close

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import STIMULI
from repeng.errors import BadInput
from repeng.models.load import LanguageModel
from repeng.models.tokens import TokenizedText, tokenize

NAMES = ("chat", "chat_contrast_yes", "chat_lat2", "contrast_yes", "plain")
SPLIT = Split(
    "poems",
    "train",
    (
        Example("The task.\n\n### Instruction:\nWrite a poem.\n\n### Response:\n", ("the waves", "", "¿Cuál es?"), 0),
        Example("S.\n\n### Instruction:\nAdd.\n\n### Input:\n  1 2\n\n### Response:\n", ("3", "Yes, 4"), 1),
        Example("Question: Mars\nAnswer:\n", ("Jupiter", " Mars"), 0),
        Example(SHORT, ("Yes", "No"), 0),
        Example("", ("The sea is blue.",), (0,)),
    ),
)


@pytest.fixture
def lm(chat_lm: LanguageModel) -> LanguageModel:
    chat_lm.tokenizer.chat_template = FAMILIES["chatml"][0]
    return chat_lm


def request(*names: str) -> Request:
    tokens = ("last", "response_mean", "prompt_last")
    return Request(tuple(STIMULI[name] for name in names), sites=("resid_post",), tokens=tokens)


def test_one_pass_over_both_forms_is_two_passes_and_each_text_alone(lm: LanguageModel, tmp_path: Path) -> None:
    both, apart = Store(tmp_path / "both"), Store(tmp_path / "apart")
    done = capture(lm, [SPLIT], request(*NAMES), both, storage_dtype="float32")
    for name in NAMES:
        capture(lm, [SPLIT], request(name), apart, storage_dtype="float32")
    render = chat_renderer(lm.tokenizer)
    checked = 0
    for name in NAMES:
        texts = [text for example in SPLIT.examples for text in STIMULI[name].parts(example, render)]
        one, other = (store.capture(done.capture_id) for store in (both, apart))
        logprobs, counts = one.logprobs(SPLIT, name)
        assert_close(torch.tensor(logprobs), torch.tensor(other.logprobs(SPLIT, name)[0]), rtol=1e-5, atol=1e-4)
        for token in ("last", "response_mean", "prompt_last"):
            parts = [each.open(SPLIT, name, "resid_post", token) for each in (one, other)]
            for layer in range(3):
                assert_close(parts[0].layer(layer), parts[1].layer(layer), rtol=1e-5, atol=1e-5)
        for row, text in enumerate(texts):
            expected = alone(lm, "llama", text.prefix, text.response, text.suffix)
            assert counts[row] == expected.end - expected.start
            assert logprobs[row] == pytest.approx(expected.logprob, abs=1e-5 * max(1, counts[row]))
            for layer in range(3):
                vectors = expected.vectors["resid_post", layer]
                assert_close(one.open(SPLIT, name, "resid_post", "last").layer(layer)[row], vectors[-1])
                if text.response:
                    mean = vectors[expected.start : expected.end].mean(0)
                    assert_close(one.open(SPLIT, name, "resid_post", "response_mean").layer(layer)[row], mean)
                checked += 1
    assert checked == 3 * len(NAMES) * SPLIT.n_responses


def test_the_tokens_of_a_turn_are_there_in_chat_form_alone(lm: LanguageModel, tmp_path: Path) -> None:
    wanted = Request(
        (STIMULI["chat"],), sites=("resid_post",), tokens=("mean:user", "turn_end", "last"), layers=(1,), logprob=False
    )
    done, store = capture(lm, [SPLIT.first(3)], wanted, Store(tmp_path)), Store(tmp_path)
    stored = store.capture(done.capture_id)
    rows = {token: stored.open(SPLIT.first(3), "chat", "resid_post", token).layer(1) for token in wanted.tokens}
    assert all(values.abs().sum(1).min() > 0 for values in rows.values())
    # The user's turn is the same for every response of an example.
    assert_close(rows["mean:user"][0], rows["mean:user"][1], rtol=0.02, atol=0.02)
    assert not torch.allclose(rows["turn_end"], rows["last"])
    for token in ("mean:user", "turn_end"):
        mixed = Request((STIMULI["chat"], STIMULI["plain"]), tokens=(token,), layers=(1,), logprob=False)
        with pytest.raises(BadInput, match=f"the token {token!r}: poems/train, example 0 .*, or the stimulus chat"):
            capture(lm, [SPLIT.first(3)], mixed, store)


def texts_of(lm: LanguageModel, name: str, **options: bool) -> list[TokenizedText]:
    found = tokenize(SPLIT.first(3), STIMULI[name], lm, **options)
    return [text for text in found if text is not None]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_response_s_tokens_are_the_response_and_the_turns_are_the_chat_s(family: str, lm: LanguageModel) -> None:
    lm.tokenizer.chat_template, close = FAMILIES[family]
    responses = [text for example in SPLIT.examples[:3] for text in example.responses]
    for name in ("chat", "chat_did_you_lie", "chat_contrast_no"):
        for text, response in zip(texts_of(lm, name, turns=True), responses, strict=True):
            # A border that the response shares with the template, as a blank before it, is one token.
            said = lm.tokenizer.decode(text.ids[text.response_start : text.response_end])
            assert said.strip() == response.strip()
            *users, own = text.turns if response else (*text.turns, None)
            assert [turn.role for turn in users if turn] == ["user"]
            assert own is None or (own.role, own.start, own.end) == (
                "assistant",
                text.response_start,
                text.response_end,
            )
    for text in texts_of(lm, "chat", closed=True):
        assert lm.tokenizer.decode(text.ids[text.length :]) == close
    assert lm.tokenizer.decode(texts_of(lm, "chat_contrast_no")[0].ids).endswith("No")


def test_a_tokenizer_without_a_template_is_told_of_before_the_model_runs(lm: LanguageModel, tmp_path: Path) -> None:
    lm.tokenizer.chat_template = None
    with pytest.raises(BadInput, match=r"chats are written with .* has none; .*--stimuli plain"):
        capture(lm, [SPLIT], request("chat_lat2"), Store(tmp_path))
    with pytest.raises(BadInput, match="its prompt is a text and no chat, .* take last, or chat"):
        texts_of(lm, "plain", closed=True)
