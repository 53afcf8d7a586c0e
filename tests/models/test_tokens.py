from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model

from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Example, Message, Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput
from repeng.models.load import LanguageModel, load_model
from repeng.models.tokens import TokenizedText, tokenize

PLAIN = get_stimulus("plain")


def one(lm: LanguageModel, prompt: str, response: str, stimulus: Stimulus = PLAIN, **options: Any) -> TokenizedText:
    """The tokens of one response."""
    split = Split("d", "train", (Example(prompt, (response, response + "!?"), 0),))
    text = tokenize(split, stimulus, lm, **options)[0]
    assert text is not None
    assert text.last == len(text.ids) - 1
    return text


def pieces(lm: LanguageModel, text: TokenizedText) -> tuple[str, str, str]:
    """What stands before, in and after the response's tokens."""
    start, end = text.response_start, text.response_end
    decode = lm.tokenizer.decode
    return decode(text.ids[:start]), decode(text.ids[start:end]), decode(text.ids[end:])


def test_a_text_is_tokenized_as_a_whole_with_the_tokenizer_s_special_tokens(llama: LanguageModel) -> None:
    text = one(llama, "Question: which?\nAnswer:", " Jupiter, of course")
    assert text.ids == llama.tokenizer("Question: which?\nAnswer: Jupiter, of course")["input_ids"]
    assert pieces(llama, text) == ("<s>Question: which?\nAnswer:", " Jupiter, of course", "")
    assert text.prompt_last == text.response_start - 1


def test_a_token_that_straddles_prompt_and_response_is_the_response_s_first(llama: LanguageModel) -> None:
    # Byte-level tokens take the blank before a word with it.
    text = one(llama, "Answer: ", "Jupiter")
    assert pieces(llama, text) == ("<s>Answer:", " Jupiter", "")


def test_a_token_that_straddles_response_and_suffix_is_the_response_s_last(llama: LanguageModel) -> None:
    stimulus = Stimulus("ends", after_response="iter of")
    text = one(llama, "Answer:", " Jup", stimulus)
    assert pieces(llama, text) == ("<s>Answer:", " Jupiter", " of")


def test_every_token_of_a_character_that_takes_several_is_the_response_s(llama: LanguageModel) -> None:
    text = one(llama, "A:", "日")
    assert len(text.ids) == 1 + 2 + 3 and pieces(llama, text) == ("<s>A:", "日", "")


def test_a_suffix_is_not_the_response_and_the_last_token_is_the_suffix_s(llama: LanguageModel) -> None:
    text = one(llama, "Q\nA:", " yes", get_stimulus("contrast_yes"))
    before, response, after = pieces(llama, text)
    assert (before, response) == ("<s>Q\nA:", " yes") and after.endswith("instruction?\nYes")
    assert text.last > text.response_end


def test_a_verdict_is_what_is_scored(llama: LanguageModel) -> None:
    text = one(llama, "Q\nA:", " yes", get_stimulus("truthfulness_no"))
    before, response, after = pieces(llama, text)
    assert before.endswith("Answer:\n") and (response, after) == ("No", "")


@pytest.mark.parametrize("stimulus", ["plain", "contrast_yes", "lat2"])
def test_an_empty_response_has_no_tokens_and_stands_after_its_prompt(llama: LanguageModel, stimulus: str) -> None:
    text = one(llama, "Q\nA:", "", get_stimulus(stimulus))
    assert text.response_start == text.response_end == text.prompt_last + 1
    assert pieces(llama, text)[0].startswith("<s>") and "Q\nA:" in pieces(llama, text)[0]
    if stimulus == "plain":
        assert text.last == text.prompt_last


def test_apart_is_prefix_and_response_one_after_the_other(llama: LanguageModel) -> None:
    text = one(llama, "Answer: ", "Jupiter", get_stimulus("zero_shot_genies"))
    encode = llama.tokenizer
    prefix = encode("Answer: ", add_special_tokens=False)["input_ids"]
    response = encode("Jupiter", add_special_tokens=False)["input_ids"]
    assert text.ids == [*prefix, *response, encode.eos_token_id]
    assert (text.response_start, text.response_end) == (len(prefix), len(text.ids))
    assert text.prompt_last == len(prefix) - 1


def test_an_end_of_sequence_token_is_the_response_s_where_it_follows_it_directly(llama: LanguageModel) -> None:
    plain = one(llama, "A:", " yes", Stimulus("closed", eos=True))
    assert pieces(llama, plain) == ("<s>A:", " yes</s>", "")
    suffixed = one(llama, "A:", " yes", get_stimulus("contrast_yes_eos"))
    assert pieces(llama, suffixed)[1] == " yes" and pieces(llama, suffixed)[2].endswith("Yes</s>")
    assert suffixed.ids[suffixed.last] == llama.tokenizer.eos_token_id
    assert suffixed.ids[-2:] != [llama.tokenizer.eos_token_id] * 2


def test_without_special_tokens_the_first_token_is_the_text_s(llama: LanguageModel) -> None:
    text = one(llama, "", "yes", Stimulus("bare", bos=False))
    assert text.ids == llama.tokenizer("yes", add_special_tokens=False)["input_ids"]
    assert (text.response_start, text.prompt_last) == (0, -1)


def test_a_text_without_any_token_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(BadInput, match="d/train, example 0: its text under 'bare' has no token at all"):
        one(llama, "", "", Stimulus("bare", bos=False))


class Slow:
    """A tokenizer that gives no offsets."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: Any, add_special_tokens: bool = True) -> Any:
        return self.tokenizer(text, add_special_tokens=add_special_tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


CASES = [
    ("Question: which?\nAnswer:", " Jupiter, of course", PLAIN),
    ("Answer: ", "Jupiter", PLAIN),
    ("Answer:", " Jup", Stimulus("ends", after_response="iter of")),
    ("Q\nA:", " yes", get_stimulus("contrast_yes_eos")),
    ("Q\nA:", "", PLAIN),
    ("Q\nA:", "", get_stimulus("contrast_yes")),
    ("Answer: ", "Jupiter", get_stimulus("zero_shot_genies")),
    ("", "yes", Stimulus("bare", bos=False)),
]


@pytest.mark.parametrize(("prompt", "response", "stimulus"), CASES)
def test_a_tokenizer_without_offsets_finds_the_same_tokens(
    prompt: str, response: str, stimulus: Stimulus, folder_of: Callable[[str], Path]
) -> None:
    fast = load_model(str(folder_of("llama")), device="cpu")
    slow = load_model(str(folder_of("llama")), device="cpu")
    slow.tokenizer = Slow(slow.tokenizer)
    assert one(slow, prompt, response, stimulus) == one(fast, prompt, response, stimulus)


def test_a_tokenizer_without_offsets_agrees_on_real_texts(folder_of: Callable[[str], Path], genies_root: Path) -> None:
    fast = load_model(str(folder_of("llama")), device="cpu")
    slow = load_model(str(folder_of("llama")), device="cpu")
    slow.tokenizer = Slow(slow.tokenizer)
    for name, data in load_distributions(genies_root / "distributions", ("us_history", "code_easy"), limit=8).items():
        for stimulus in (PLAIN, get_stimulus("lat2")):
            assert tokenize(data.train, stimulus, slow) == tokenize(data.train, stimulus, fast), name


@pytest.mark.parametrize("missing", ["bos", "eos", "pad"])
def test_tokenizers_without_some_special_token_are_taken(missing: str, tmp_path: Path) -> None:
    lm = load_model(str(make_model("gpt2", tmp_path / "m", **{missing: False})), device="cpu")
    text = one(lm, "Q\nA:", " yes")
    assert pieces(lm, text)[1:] == (" yes", "")
    assert pieces(lm, text)[0] == ("Q\nA:" if missing == "bos" else "<s>Q\nA:")
    assert 0 <= lm.pad_id < lm.config.vocab_size
    if missing == "eos":
        with pytest.raises(BadInput, match="'contrast_yes_eos' ends with an end-of-sequence token, and .* has none"):
            one(lm, "Q\nA:", " yes", get_stimulus("contrast_yes_eos"))


def test_a_cut_text_keeps_its_end_and_the_special_tokens_that_it_begins_with(llama: LanguageModel) -> None:
    asked = ("one two three four five", " yes no", get_stimulus("contrast_yes"))
    whole = one(llama, *asked)
    for limit in range(1, len(whole.ids)):
        text = one(
            llama, "one two three four five", " yes no", get_stimulus("contrast_yes"), max_length=limit, too_long="cut"
        )
        assert len(text.ids) == limit
        tail = limit - 1 if limit > 1 else 1
        assert text.ids[-tail:] == whole.ids[-tail:]
        assert limit == 1 or text.ids[0] == whole.ids[0]
        dropped = len(whole.ids) - limit
        assert text.response_end == max(whole.response_end - dropped, limit - tail)
        kept = text.ids[text.response_start : text.response_end]
        assert kept == whole.ids[whole.response_start : whole.response_end][-len(kept) :] or kept == []
        assert text.prompt_last == text.response_start - 1


def test_a_chat_becomes_text_by_the_tokenizer_s_template(tmp_path: Path) -> None:
    lm = load_model(str(make_model("llama", tmp_path / "m")), device="cpu")
    split = Split("d", "train", (Example((Message("user", "which?"),), (" yes", " no"), 0),))
    with pytest.raises(BadInput, match="chats are written with the tokenizer.s chat template, and that of .* has none"):
        tokenize(split, PLAIN, lm)
    lm.tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    text = tokenize(split, PLAIN, lm)[0]
    assert text is not None
    assert pieces(lm, text) == ("<s>[user] which?\n[assistant]", " yes", "")
    assert tokenize(split, replace(PLAIN, bos=False), lm)[0].ids == text.ids[1:]  # type: ignore[union-attr]
