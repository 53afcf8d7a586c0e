"""Activations of texts of one's own: each row against a lone forward pass with a hook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tiny_models import make_model

import repeng
from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Message
from repeng.errors import BadData, BadInput, UnknownName
from repeng.models.load import LanguageModel, load_model
from repeng.study.cached_data import CachedData
from repeng.study.text_activations import TextActivations, as_example

TEXTS = ["The sky is blue.", "The sky is green, and grass is not.", "No.", "The sky is blue."]
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ASKED = {"role": "user", "content": "Which colour?"}
CHATS = [
    [{"role": "system", "content": "Brief."}, ASKED, {"role": "assistant", "content": "Blue, mostly."}],
    [ASKED],
    [Message("user", "And now?"), Message("assistant", "Green.")],
    [{"role": "assistant", "content": "I lie."}],
]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    lm = load_model(str(make_model("llama", tmp_path_factory.mktemp("chat") / "m")), device="cpu")
    lm.tokenizer.chat_template = CHATML
    return lm


@torch.no_grad()
def every_token(lm: LanguageModel, text: str, layer: int) -> torch.Tensor:
    """What a hook on a block sees of one text by itself, unpadded: [token, d_model]."""
    seen: list[Any] = []
    handle = lm.blocks[layer].register_forward_hook(lambda *args: seen.append(args[2]))
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    lm.model(input_ids=ids)
    handle.remove()
    hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    found: torch.Tensor = hidden[0]
    return found


def alone(lm: LanguageModel, text: str, layer: int) -> torch.Tensor:
    """The same at the last token."""
    return every_token(lm, text, layer)[-1]


def test_rows_are_the_texts_in_order_as_each_alone_gives_them(llama: LanguageModel) -> None:
    acts = repeng.capture(llama, TEXTS, layers=[0, 2], token="last")
    assert acts.layers == (0, 2) and len(acts) == 2 and acts.n_texts == 4
    for layer in acts:
        expected = torch.stack([alone(llama, text, layer) for text in TEXTS])
        torch.testing.assert_close(acts[layer], expected, rtol=1e-4, atol=1e-5)
    assert acts[2].dtype == torch.float32 and acts[2].numpy().shape == (4, llama.d_model)
    # It does not lie in a file that is gone.
    acts[2].add_(1.0)
    torch.testing.assert_close(acts.rows([2, 0])[2], acts[2][[2, 0]])
    assert acts.rows(slice(1, None)).n_texts == 3
    assert acts.rows(3).n_texts == 1 and torch.equal(acts.rows(3)[2], acts[2][3:])


def test_chats_are_read_at_the_last_message_s_end_or_where_the_answer_begins(chat_model: LanguageModel) -> None:
    acts = repeng.capture(chat_model, CHATS, layers=1)
    rendered = [
        "<|system|>\nBrief.<|end|>\n<|user|>\nWhich colour?<|end|>\n<|assistant|>\nBlue, mostly.",
        "<|user|>\nWhich colour?<|end|>\n<|assistant|>\n",
        "<|user|>\nAnd now?<|end|>\n<|assistant|>\nGreen.",
        "<|assistant|>\nI lie.",
    ]
    expected = torch.stack([alone(chat_model, text, 1) for text in rendered])
    torch.testing.assert_close(acts[1], expected, rtol=1e-4, atol=1e-5)


def test_a_follow_up_question_is_read_where_its_answer_begins(chat_model: LanguageModel) -> None:
    question = "Did you lie in the conversation above? Answer yes or no."
    acts = repeng.capture(chat_model, CHATS[:1], layers=[1], stimulus="did_you_lie")
    messages = tuple(Message(each["role"], each["content"]) for each in CHATS[0])  # type: ignore[index]
    whole = chat_renderer(chat_model.tokenizer)((*messages, Message("user", question)))
    assert whole.endswith(f"{question}<|end|>\n<|assistant|>\n")
    torch.testing.assert_close(acts[1][0], alone(chat_model, whole, 1), rtol=1e-4, atol=1e-5)
    plain = repeng.capture(chat_model, TEXTS[:1], layers=[1], stimulus="did_you_lie")
    text = f"{TEXTS[0]}\n\n### Question:\n{question}\n\n### Answer:\n"
    torch.testing.assert_close(plain[1][0], alone(chat_model, text, 1), rtol=1e-4, atol=1e-5)


def test_every_token_of_a_text_is_there_with_offsets(llama: LanguageModel) -> None:
    acts = repeng.capture(llama, TEXTS, layers=[0, 2], token="all")
    assert acts.offsets is not None and acts.n_texts == 4
    for number, text in enumerate(TEXTS):
        expected = every_token(llama, text, 2)
        own = acts[2][acts.offsets[number] : acts.offsets[number + 1]]
        # The token that the tokenizer adds at the beginning is not the text's.
        torch.testing.assert_close(own, expected[-len(own) :], rtol=1e-4, atol=1e-5)
        assert len(expected) - len(own) == 1
    some = acts.rows([2, 0])
    assert some.offsets is not None and some.n_texts == 2
    pieces = [acts[2][acts.offsets[text] : acts.offsets[text + 1]] for text in (2, 0)]
    assert torch.equal(acts.rows(2)[2], pieces[0])
    assert torch.equal(some[2], torch.cat(pieces)) and some.offsets.tolist() == [0, len(pieces[0]), len(some[2])]


def test_a_mean_over_a_role_and_an_offset_are_those_of_each_chat_alone(chat_model: LanguageModel) -> None:
    text = "<|system|>\nBrief.<|end|>\n<|user|>\nWhich colour?<|end|>\n<|assistant|>\nBlue, mostly."
    tokens = every_token(chat_model, text, 1)
    acts = repeng.capture(chat_model, CHATS[:1], layers=1, token="last:-2")
    torch.testing.assert_close(acts[1][0], tokens[-3], rtol=1e-4, atol=1e-5)
    encoded = chat_model.tokenizer(text)
    start = text.index("Which")
    inside = {encoded.char_to_token(at) for at in range(start, start + len("Which colour?"))} - {None}
    acts = repeng.capture(chat_model, CHATS[:1], layers=1, token="mean:user")
    torch.testing.assert_close(acts[1][0], tokens[sorted(inside)].mean(0), rtol=1e-4, atol=1e-5)


def test_a_store_keeps_them_and_another_call_reads_them(tiny_model: Path, tmp_path: Path) -> None:
    first = repeng.capture(str(tiny_model), TEXTS, store=tmp_path / "store", device="cpu")
    (captured,) = repeng.Store(tmp_path / "store").captures()
    written = {path: path.stat().st_mtime_ns for path in captured.folder.rglob("*.safetensors")}
    again = repeng.capture(str(tiny_model), data=iter(TEXTS), store=tmp_path / "store", device="cpu")
    assert again.capture_id == first.capture_id == captured.id and again.layers == first.layers == (0, 1, 2)
    assert all(torch.equal(again[layer], first[layer]) for layer in first)
    assert {path: path.stat().st_mtime_ns for path in captured.folder.rglob("*.safetensors")} == written != {}


def test_distributions_go_to_a_store_as_ever(llama: LanguageModel, tmp_path: Path, split: Any) -> None:
    found = repeng.capture(llama, [split], store=tmp_path, stimuli=["plain"], token="prompt_last", logprob=False)
    assert isinstance(found, CachedData)
    assert {str(held) for held in found.contents()} == {str(found.find(split.distribution, split.name))}
    assert found.activations(split.distribution, split.name, token="prompt_last").shape[1] == split.n_responses


def test_what_is_no_collection_of_texts_is_refused_with_the_way_out(llama: LanguageModel) -> None:
    with pytest.raises(BadInput, match="no text to capture"):
        repeng.capture(llama, [])
    with pytest.raises(BadInput, match=r"one chat; give a list of chats: \[chat\]"):
        repeng.capture(llama, CHATS[0])
    with pytest.raises(BadInput, match=r"is a table; give its column of texts, as in table\['claim'\]"):
        repeng.capture(llama, pd.DataFrame({"claim": TEXTS}))
    assert repeng.capture(llama, pd.DataFrame({"claim": TEXTS})["claim"], layers=1).n_texts == 4
    with pytest.raises(BadInput, match="is a mapping"):
        repeng.capture(llama, {"a": "text"})
    with pytest.raises(BadData, match="message 0 of chat 1 has as its role nothing"):
        repeng.capture(llama, [CHATS[1], [{"content": "x"}]])
    with pytest.raises(BadInput, match="chats are written with the tokenizer.s chat template, and that of .* has none"):
        repeng.capture(llama, CHATS)
    with pytest.raises(BadInput, match="is loaded already; give device and dtype to load_model"):
        repeng.capture(llama, TEXTS, device="cpu")
    with pytest.raises(BadInput, match="text 1 is a number"):
        as_example(3, 1)


def test_a_text_that_is_too_long_is_refused_or_cut_and_never_left_out(tiny_model: Path) -> None:
    texts = [TEXTS[0], "word " * 400]
    with pytest.raises(BadInput, match="texts/all, example 1"):
        repeng.capture(str(tiny_model), texts, device="cpu")
    with pytest.raises(UnknownName, match="choose from cut, refuse"):
        repeng.capture(str(tiny_model), texts, too_long="skip")
    acts = repeng.capture(str(tiny_model), texts, layers=1, too_long="cut", device="cpu")
    assert acts.n_texts == 2 and torch.isfinite(acts[1]).all()


@pytest.mark.parametrize("token", ["response_mean", "last:-3"])
def test_a_text_with_nothing_at_the_token_is_refused_by_number_and_is_no_row_of_zeros(
    llama: LanguageModel, tmp_path: Path, token: str
) -> None:
    texts = [TEXTS[0], "", TEXTS[1], ""]
    # From a model, and from what the store holds by then.
    for _ in range(2):
        with pytest.raises(BadInput, match=rf"2 of 4 texts have nothing at the token '{token}' .*: 1, 3\); leave them"):
            repeng.capture(llama, texts, layers=1, token=token, store=tmp_path)
    acts = repeng.capture(llama, texts[::2], layers=1, token=token, store=tmp_path)
    assert bool(acts[1].any(dim=1).all())


def test_a_layer_that_was_not_captured_is_named() -> None:
    acts = TextActivations(
        {2: torch.zeros(3, 4)}, token="last", site="resid_post", stimulus="plain", capture_id="m-1", n_texts=3
    )
    with pytest.raises(UnknownName, match="unknown captured layer '3'; choose from 2"):
        acts[3]
    assert acts.get(99) is None and acts.get(2) is acts[2]
    assert 2 in acts and "layers 2: [3, 4] each" in repr(acts)
