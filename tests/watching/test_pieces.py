"""Tokens as text, none of them half a character."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import train_tokenizer
from transformers import PreTrainedTokenizerFast

from repeng.models.pretrained import load_tokenizer
from repeng.watching.pieces import Pieces

TEXTS = (
    "Plain words, as ever.",
    "Où est-ce? 日本語 and 😀😀 done\n\tnext",
    "",
    " a  b ",
    "e\N{COMBINING ACUTE ACCENT}",
    "�? 😀",
)


@pytest.fixture(scope="module", params=["bytes", "mini"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "mini":
        return load_tokenizer("mini")
    return PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(), bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("text", TEXTS)
def test_joined_they_are_the_text_as_it_decodes_as_a_whole(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    pieces = Pieces(tokenizer)
    words = [pieces.add(number) for number in ids]
    assert "".join(words) + pieces.rest() == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_a_character_of_several_tokens_stands_at_the_last_of_them() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(bos=False))
    pieces = Pieces(tokenizer)
    ids = tokenizer("a😀b")["input_ids"]
    assert len(ids) == 6
    assert [pieces.add(number) for number in ids] == ["a", "", "", "", "😀", "b"]


def test_bytes_that_never_become_a_character_are_not_held_back_for_ever() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(bos=False))
    lead = tokenizer("😀")["input_ids"][0]
    pieces = Pieces(tokenizer)
    words = [pieces.add(lead) for _ in range(9)]
    assert words[3] == "����" and words[7] == "����"
    assert pieces.rest() == "�"
