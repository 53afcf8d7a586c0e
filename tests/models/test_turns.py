"""Which characters and tokens of a chat are whose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chat_samples import CHAT, CLOSE, FAMILIES, MARKED, SHORT, TEMPLATES, UNMARKED, conversations, written

from repeng.distributions.chat import RenderChat, chat_renderer
from repeng.distributions.schema import Example, Message, Split
from repeng.distributions.stimuli import Stimulus, StimulusText, get_stimulus
from repeng.distributions.turns import example_texts, prompt_turns, text_turns, turn_close
from repeng.errors import BadInput
from repeng.models.load import LanguageModel
from repeng.models.tokens import TokenizedText, tokenize
from repeng.models.turns import Turn, spans_of_roles

PLAIN = get_stimulus("plain")


def one(lm: LanguageModel, messages: tuple[Message, ...], response: str, **options: object) -> TokenizedText:
    split = Split("d", "train", (Example(messages, (response, response + "!?"), 0),))
    text = tokenize(split, PLAIN, lm, **options)[0]  # type: ignore[arg-type]
    assert text is not None
    return text


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("messages", [CHAT, SHORT, CHAT[:3], CHAT[1:3], (CHAT[0], *SHORT * 2)], ids=len)
def test_the_characters_of_each_turn_are_those_that_the_template_writes(
    template: str, messages: tuple[Message, ...], chat_lm: LanguageModel
) -> None:
    chat_lm.tokenizer.chat_template = TEMPLATES[template]
    text, turns = written(messages, marked=template == "marked")
    assert chat_renderer(chat_lm.tokenizer)(messages) == text
    found = prompt_turns(messages, chat_lm.tokenizer)
    assert [(turn.role, turn.start, turn.stop) for turn in found] == turns
    for message, turn in zip(messages, found, strict=True):
        assert text[turn.start : turn.stop].removesuffix(CLOSE) == message.content.strip()


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_tokens_of_each_turn_decode_to_what_it_says(template: str, chat_lm: LanguageModel) -> None:
    chat_lm.tokenizer.chat_template = TEMPLATES[template]
    text = one(chat_lm, CHAT, "Madrid.", turns=True)
    decoded = [(turn.role, chat_lm.tokenizer.decode(text.ids[turn.start : turn.end])) for turn in text.turns]
    said = [*((message.role, message.content.strip()) for message in CHAT), ("assistant", "Madrid.")]
    closed = [(role, words + CLOSE if template == "marked" and words[0] == "J" else words) for role, words in said]
    assert [(role, words.strip()) for role, words in decoded] == closed


def test_a_content_that_stands_in_its_own_header_is_found_behind_it(chat_lm: LanguageModel) -> None:
    messages = (Message("user", "user"), Message("assistant", "]"), Message("user", "[assistant]"))
    text = chat_renderer(chat_lm.tokenizer)(messages)
    assert [turn.start for turn in prompt_turns(messages, chat_lm.tokenizer)] == [
        len("[user]\n"),
        len("[user]\nuser</s>\n[assistant]\n"),
        text.index("[user]\n[assistant]") + len("[user]\n"),
    ]


def test_a_system_message_that_is_written_into_the_user_s_turn_is_found_there(chat_lm: LanguageModel) -> None:
    chat_lm.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}<{{ m.role }}>{% if loop.first %}{{ first }}{% endif %}{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    messages = (CHAT[0], *SHORT)
    text, turns = chat_renderer(chat_lm.tokenizer)(messages), prompt_turns(messages, chat_lm.tokenizer)
    assert [text[turn.start : turn.stop] for turn in turns] == [message.content for message in messages]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_turns_of_well_known_templates_are_found(family: str, chat_lm: LanguageModel) -> None:
    template, close = FAMILIES[family]
    chat_lm.tokenizer.chat_template = template
    messages = CHAT[1:] if family in ("gemma", "mistral") else CHAT
    for asked in (messages, messages[:1], messages[-1:]):
        text = chat_renderer(chat_lm.tokenizer)(asked)
        turns = prompt_turns(asked, chat_lm.tokenizer)
        assert [turn.role for turn in turns] == [message.role for message in asked]
        said = [text[turn.start : turn.stop].strip() for turn in turns]
        assert said == [message.content.strip() for message in asked]
        assert turn_close(asked, chat_lm.tokenizer) == close


def test_a_stimulus_that_writes_the_chat_in_another_way_is_refused(chat_lm: LanguageModel) -> None:
    class Backwards(Stimulus):
        def parts(self, example: Example, render_chat: RenderChat | None = None) -> list[StimulusText]:
            return [replace(text, prefix=text.prefix[::-1]) for text in super().parts(example, render_chat)]

    example = Example(CHAT, ("a", "b"), 0)
    with pytest.raises(BadInput, match="under the stimulus 'plain' a chat is written in another way"):
        text_turns(example, Backwards("plain"), chat_lm.tokenizer)


STRIPPING = UNMARKED.replace("m.content | trim", "m.content.split('</think>')[-1] | trim")
TWICE = UNMARKED.replace("m.content | trim +", "m.content | trim + m.content | trim +")
LOUD = UNMARKED.replace("m.content | trim", "m.content | upper")
WRONG = MARKED.replace("m.role == 'assistant' %}{%", "m.role == 'user' %}{%")


@pytest.mark.parametrize(
    ("template", "what"),
    [
        (STRIPPING, "does not write the assistant's '<think>hm</think>Yes' once and as it is .*strip the thinking"),
        (TWICE, "does not write the user's"),
        (LOUD, "does not write the user's"),
        (WRONG, "generation markers hold what message 0 says, which is the user's"),
    ],
    ids=["stripping", "twice", "loud", "wrong"],
)
def test_a_template_that_rewrites_a_turn_is_refused_where_turns_are_asked_for_and_only_there(
    template: str, what: str, chat_lm: LanguageModel
) -> None:
    chat_lm.tokenizer.chat_template = template
    messages = (*SHORT, Message("assistant", "<think>hm</think>Yes"), *SHORT)
    assert one(chat_lm, messages, "no").ids
    with pytest.raises(BadInput, match=f"d/train, example 0: .*{what}.*; take last, response_mean"):
        one(chat_lm, messages, "no", turns=True)


@pytest.mark.parametrize(
    ("close", "expected"), [("</s>\n", "</s>"), ("\n", "\n"), ("<|im_end|>\n", "<|im_end|>"), (" </s>", " </s>")]
)
def test_a_turn_is_closed_by_all_that_the_template_writes_but_blanks_after_it(
    close: str, expected: str, chat_lm: LanguageModel
) -> None:
    chat_lm.tokenizer.chat_template = UNMARKED.replace("</s>\n", close)
    assert turn_close(SHORT, chat_lm.tokenizer) == expected
    assert turn_close(CHAT[1:3], chat_lm.tokenizer) == expected
    open_, closed = one(chat_lm, SHORT, "Yes"), one(chat_lm, SHORT, "Yes", closed=True)
    assert closed.ids[: closed.length] == open_.ids and closed.last == open_.last
    assert chat_lm.tokenizer.decode(closed.ids[closed.length :]) == expected
    assert (closed.response_start, closed.response_end) == (open_.response_start, open_.response_end)


def test_a_turn_that_nothing_closes_or_that_would_be_too_long_has_no_end(chat_lm: LanguageModel) -> None:
    whole = one(chat_lm, SHORT, "Yes", closed=True)
    at_limit = one(chat_lm, SHORT, "Yes", closed=True, max_length=len(whole.ids) - 1)
    assert (at_limit.n_closing, at_limit.ids) == (0, whole.ids[:-1])
    chat_lm.tokenizer.chat_template = UNMARKED.replace("</s>\n", "")
    with pytest.raises(BadInput, match="example 0: .* writes nothing that closes an assistant's turn; take last"):
        one(chat_lm, SHORT, "Yes", closed=True)
    split = Split("d", "train", (Example(SHORT, ("a", "b"), 0),))
    chat_lm.tokenizer.chat_template = UNMARKED
    with pytest.raises(BadInput, match="'contrast_yes' goes on after the response"):
        tokenize(split, get_stimulus("contrast_yes"), chat_lm, closed=True)


def test_turns_move_with_the_text_when_it_is_cut(chat_lm: LanguageModel) -> None:
    whole = one(chat_lm, CHAT, "Madrid.", turns=True)
    for limit in range(2, len(whole.ids)):
        text = one(chat_lm, CHAT, "Madrid.", turns=True, max_length=limit, too_long="cut")
        dropped = len(whole.ids) - limit
        for turn in text.turns:
            before = next(each for each in whole.turns if each.end - dropped == turn.end)
            assert (turn.role, turn.start) == (before.role, max(before.start - dropped, 1))
        assert len(text.turns) == sum(turn.end - dropped > 1 for turn in whole.turns)


def test_a_label_of_the_whole_conversation_has_its_response_begin_with_the_first_turn(chat_lm: LanguageModel) -> None:
    prompt = written(CHAT, marked=False)[0]
    whole, header = Example(CHAT, ("a",), (0,), region="all"), "[system]\n"
    expected = StimulusText(header, prompt.removeprefix(header) + "a")
    assert example_texts(whole, PLAIN, chat_lm.tokenizer) == [expected]
    few = replace(PLAIN, name="few", preamble="Read:\n", after_response=" Right?")
    shifted = StimulusText("Read:\n" + header, expected.response, " Right?")
    assert example_texts(whole, few, chat_lm.tokenizer) == [shifted]
    text = tokenize(Split("d", "train", (whole,)), PLAIN, chat_lm, turns=True)[0]
    assert text is not None
    assert (text.response_start, text.response_end) == (text.turns[0].start, len(text.ids))
    request = Example(CHAT, ("",), (0,), region="all")
    end = "</s>\n[assistant]\n"
    assert example_texts(request, few, chat_lm.tokenizer) == [
        StimulusText("Read:\n" + header, prompt.removeprefix(header).removesuffix(end), end + " Right?")
    ]
    statement = Example("Paris is", (" in Spain",), (), region="all")
    assert example_texts(statement, PLAIN, chat_lm.tokenizer) == [StimulusText("", "Paris is in Spain")]


def test_a_verdict_is_what_is_scored_also_of_a_whole_conversation(chat_lm: LanguageModel) -> None:
    verdict = get_stimulus("truthfulness_yes")
    whole = Example(SHORT, ("a",), (0,), region="all")
    assert example_texts(whole, verdict, chat_lm.tokenizer)[0].response == "Yes"
    text = tokenize(Split("d", "train", (whole,)), verdict, chat_lm, turns=True)[0]
    assert text is not None
    assert chat_lm.tokenizer.decode(text.ids[text.turns[-1].start : text.turns[-1].end]) == "a"
    assert chat_lm.tokenizer.decode(text.ids[text.response_start :]) == "Yes"


def test_turns_are_found_in_the_tokens_that_the_model_reads_or_not_at_all(chat_lm: LanguageModel) -> None:
    split = conversations()
    straddling = Split("d", "train", (Example("Answer: ", ("Jupiter", "Mars"), 0),))
    with pytest.raises(BadInput, match="d/train, example 0: .*'zero_shot_genies' tokenizes prompt and response apart"):
        tokenize(straddling, get_stimulus("zero_shot_genies"), chat_lm, turns=True)
    few = tokenize(split, replace(PLAIN, name="few", preamble="Read this:\n"), chat_lm, turns=True)
    plain = tokenize(split, PLAIN, chat_lm, turns=True)
    for shifted, text in zip(few, plain, strict=True):
        assert shifted is not None and text is not None
        assert [turn.role for turn in shifted.turns] == [turn.role for turn in text.turns]
        for one_, other in zip(shifted.turns, text.turns, strict=True):
            assert shifted.ids[one_.start : one_.end] == text.ids[other.start : other.end]


def test_spans_of_roles_hold_each_token_once() -> None:
    turns = (Turn("user", 1, 4), Turn("assistant", 3, 6), Turn("user", 8, 9), Turn("tool", 9, 12))
    assert spans_of_roles(turns, ("user",)) == ((1, 4), (8, 9))
    assert spans_of_roles(turns, ("user", "assistant")) == ((1, 6), (8, 9))
    assert spans_of_roles(turns, ("user", "tool")) == ((1, 4), (8, 12))
    assert spans_of_roles(turns, ("nobody",)) == ()
