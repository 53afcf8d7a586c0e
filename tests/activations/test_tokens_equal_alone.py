"""What is stored under every name of a token is what the text gives alone, unpadded, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from activations_reference import alone
from chat_samples import CLOSE, TEMPLATES, conversations, written
from torch import Tensor
from torch.testing import assert_close

from repeng.activations.capture import Request, capture
from repeng.activations.layouts import choice
from repeng.activations.layouts.packed import MASKS, TREES
from repeng.activations.store.store import Store
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel, load_model

ROLES = {"mean:assistant": ("assistant",), "mean:user+system": ("system", "user"), "all:user": ("user",)}
ROLES |= {"all:user+assistant": ("user", "assistant")}
ONE = ("last", "last:-2", "response_mean", "prompt_last", "first_response", "turn_end")
EXAMPLES = conversations().examples
REQUEST = Request((get_stimulus("plain"),), ("resid_post", "hook_z"), (*ONE, *ROLES, "all"))


def tokens_of(lm: LanguageModel, text: str, stretches: list[tuple[int, int]]) -> list[int]:
    """Character by character, the tokens of some stretches of a text."""
    encoded = lm.tokenizer(text)
    spans = [encoded.token_to_chars(token) for token in range(len(encoded["input_ids"]))]
    found: set[int] = set()
    for start, stop in stretches:
        for character in range(start, stop):
            found |= {at for at, span in enumerate(spans) if span and at and span.start <= character < span.end}
    return sorted(found)


@pytest.mark.parametrize(
    ("architecture", "template", "layout"),
    [
        ("llama", "marked", TREES),
        ("llama", "unmarked", MASKS),
        ("gpt_neox", "unmarked", TREES),
        ("gpt_neox", "marked", None),
        ("gpt2", "marked", MASKS),
        ("gpt2", "unmarked", None),
    ],
    ids=lambda value: getattr(value, "kind", "padded" if value is None else value),
)
def test_every_token_of_a_chat_is_that_of_the_text_alone(
    architecture: str,
    template: str,
    layout: object,
    folder_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "packed_layout", lambda _lm, _plan: layout)
    lm, store, split = load_model(str(folder_of(architecture)), device="cpu"), Store(tmp_path), conversations()
    lm.tokenizer.chat_template = TEMPLATES[template]
    stored = store.capture(capture(lm, [split], REQUEST, store, storage_dtype="float32").capture_id)
    row = checked = 0
    for example in split.examples:
        assert not isinstance(example.prompt, str)
        prompt, turns = written(example.prompt, marked=template == "marked")
        for response in example.responses:
            text = alone(lm, architecture, prompt, response)
            closed = alone(lm, architecture, prompt, response, CLOSE)
            assert closed.length == text.length + 1
            spoken = [*turns, ("assistant", len(prompt), len(prompt) + len(response))]
            for hook, vectors in text.vectors.items():
                if hook[0] not in REQUEST.sites:
                    continue
                expected: dict[str, Tensor | None] = {
                    "last": vectors[-1],
                    "last:-2": vectors[-3],
                    "response_mean": vectors[text.start : text.end].mean(0) if response else None,
                    "prompt_last": vectors[text.start - 1],
                    "first_response": vectors[text.start] if response else None,
                    "turn_end": closed.vectors[hook][-1],
                    "all": vectors[text.start : text.end],
                }
                for name, roles in ROLES.items():
                    stretches = [(start, stop) for role, start, stop in spoken if role in roles]
                    values = vectors[tokens_of(lm, prompt + response, stretches)]
                    expected[name] = values if name.startswith("all") else values.mean(0) if len(values) else None
                for name, value in expected.items():
                    held = stored.open(split, "plain", hook[0], name)
                    if held.is_ragged:
                        values, offsets = held.tokens(hook[1], [row])
                        assert offsets.tolist() == [0, len(value)]  # type: ignore[arg-type]
                        assert_close(values, value, rtol=1e-5, atol=1e-5)
                    else:
                        assert held.kept[row] == (value is not None)
                        zero = torch.zeros_like(vectors[0])
                        assert_close(held.layer(hook[1])[row], zero if value is None else value, rtol=1e-5, atol=1e-5)
                    checked += 1
            row += 1
    assert row == 8 and checked == 8 * 2 * 3 * len(REQUEST.tokens)


@pytest.mark.parametrize("method", ["packed", "batched"])
def test_every_token_of_plain_texts_is_that_of_the_text_alone_also_with_a_suffix(
    method: str, llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    stimuli = (get_stimulus("plain"), get_stimulus("contrast_yes"))
    request = Request(stimuli, tokens=("all", "mean:assistant", "all:assistant", "first_response", "last:-1"))
    store = Store(tmp_path)
    stored = store.capture(capture(llama, [split], request, store, method=method, storage_dtype="float32").capture_id)
    for stimulus in stimuli:
        held = {token: stored.open(split, stimulus.name, "resid_post", token) for token in request.tokens}
        texts = [(example.prompt, response) for example in split.examples for response in example.responses]
        for row, (prompt, response) in enumerate(texts):
            text = alone(llama, "llama", str(prompt), response, stimulus.after_response)
            vectors = text.vectors["resid_post", 1]
            spoken = vectors[text.start : text.end]
            assert_close(held["last:-1"].layer(1)[row], vectors[-2], rtol=1e-5, atol=1e-5)
            for token in ("all", "all:assistant"):
                assert_close(held[token].tokens(1, [row])[0], spoken, rtol=1e-5, atol=1e-5)
            assert held["mean:assistant"].kept[row] == held["first_response"].kept[row] == bool(response)
            if response:
                assert_close(held["mean:assistant"].layer(1)[row], spoken.mean(0), rtol=1e-5, atol=1e-5)
                assert_close(held["first_response"].layer(1)[row], spoken[0], rtol=1e-5, atol=1e-5)


def test_a_label_of_the_whole_conversation_is_read_over_all_of_it(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    lm, store = load_model(str(folder_of("llama")), device="cpu"), Store(tmp_path)
    lm.tokenizer.chat_template = TEMPLATES["unmarked"]
    examples = tuple(Example(example.prompt, example.responses[:1], (0,), region="all") for example in EXAMPLES)
    split = Split("chats", "train", (*examples, Example("Paris is", (" in Spain.",), (), region="all")))
    request = Request((get_stimulus("plain"),), tokens=("all", "response_mean", "first_response", "all:assistant"))
    stored = store.capture(capture(lm, [split], request, store, storage_dtype="float32").capture_id)
    held = {token: stored.open(split, "plain", "resid_post", token) for token in request.tokens}
    logprobs, counts = stored.logprobs(split)
    for row, example in enumerate(split.examples):
        if isinstance(example.prompt, str):
            prompt, start = example.prompt, 0
        else:
            prompt, turns = written(example.prompt, marked=False)
            start = turns[0][1]
        whole = alone(lm, "llama", prompt[:start], prompt[start:] + example.responses[0])
        vectors = whole.vectors["resid_post", 1][whole.start :]
        assert_close(held["all"].tokens(1, [row])[0], vectors, rtol=1e-5, atol=1e-5)
        assert_close(held["response_mean"].layer(1)[row], vectors.mean(0), rtol=1e-5, atol=1e-5)
        assert_close(held["first_response"].layer(1)[row], vectors[0], rtol=1e-5, atol=1e-5)
        assert counts[row] == len(vectors) and logprobs[row] == pytest.approx(whole.logprob, abs=1e-3)
        spoken = sum(held["all:assistant"].index.token_counts[row : row + 1])
        assert 0 < spoken < len(vectors)


def test_a_response_and_the_whole_conversation_are_never_taken_for_each_other(
    llama: LanguageModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    request = Request((get_stimulus("plain"),), tokens=("response_mean",), logprob=False)
    one, whole = (
        Split("d", "train", (Example("Paris is", (" in Spain.", " here"), 0, region=region),))
        for region in ("response", "all")
    )
    for split in (one, whole):
        done = capture(llama, [split], request, store, storage_dtype="float32")
    stored = store.capture(done.capture_id)
    means = [stored.open(split, "plain", "resid_post", "response_mean").layer(1)[0] for split in (one, whole)]
    assert not torch.allclose(*means, atol=1e-3)
    text = alone(llama, "llama", "", "Paris is in Spain.")
    assert_close(means[1], text.vectors["resid_post", 1][text.start :].mean(0), rtol=1e-5, atol=1e-5)
