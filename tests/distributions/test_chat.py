"""Chats become text with a real tokenizer's chat template."""

from __future__ import annotations

from typing import Any

import pytest

from repeng.distributions.chat import chat_renderer, prompt_text
from repeng.distributions.schema import Message
from repeng.errors import BadInput

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHAT = (Message("system", "Brief."), Message("user", "Sky?"))


def tokenizer(template: str | None, *, adds_bos: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "<unk>": 1, "a": 2, "Sky": 3, "?": 4}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    found = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", unk_token="<unk>")
    found.chat_template = template
    return found


@pytest.mark.parametrize(("adds_bos", "start"), [(True, ""), (False, "<s>")])
def test_a_chat_ends_where_the_response_begins_and_starts_with_one_start_token(adds_bos: bool, start: str) -> None:
    made = tokenizer(TEMPLATE, adds_bos=adds_bos)
    text = chat_renderer(made)(CHAT)
    assert text == start + "<|system|>Brief.<|end|><|user|>Sky?<|end|><|assistant|>"
    assert made(text)["input_ids"].count(0) == 1


def test_an_assistants_last_message_is_continued() -> None:
    text = chat_renderer(tokenizer(TEMPLATE, adds_bos=True))((*CHAT, Message("assistant", "It is")))
    assert text == "<|system|>Brief.<|end|><|user|>Sky?<|end|><|assistant|>It is"


def test_a_chat_that_the_response_begins_is_the_opening_of_the_assistants_turn() -> None:
    assert chat_renderer(tokenizer(TEMPLATE, adds_bos=True))(()) == "<|assistant|>"


def test_a_tokenizer_without_a_template_is_a_clear_error_only_when_a_chat_comes() -> None:
    render = chat_renderer(tokenizer(None, adds_bos=True))
    with pytest.raises(BadInput, match=r"that of .* has none; take a chat model, or plain text: .*--chat plain"):
        render(CHAT)


def test_a_template_that_refuses_a_role_is_a_clear_error() -> None:
    with pytest.raises(BadInput, match="does not take messages of the roles user, tool: no tools here"):
        chat_renderer(tokenizer(TEMPLATE, adds_bos=True))((CHAT[1], Message("tool", "x")))


def test_a_prompt_is_readable_as_text() -> None:
    assert prompt_text("as it is") == "as it is"
    assert prompt_text(CHAT) == "system: Brief.\n\nuser: Sky?"
