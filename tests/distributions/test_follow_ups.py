"""Follow-up questions: their texts, plain and in a chat, named and of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_chat import tokenizer

from repeng.activations.store.records import Plan
from repeng.distributions.chat import chat_renderer
from repeng.distributions.follow_ups import FOLLOW_UPS, chat_question
from repeng.distributions.schema import Example, Message
from repeng.distributions.stimuli import STIMULI, Stimulus, StimulusText, get_stimulus
from repeng.distributions.turns import text_turns
from repeng.errors import BadInput
from repeng.models.turns import closing_ids

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = Example("P", ("r1", "", "r3"), 2)
CHAT = Example((Message("system", "Brief."), Message("user", "Sky?")), (" Blue. ", "", "Green."), 0)
BEGUN = Example((Message("user", "Sky?"), Message("assistant", "It is")), (" blue.", " green."), 0)
ASKED = "Did you lie in the conversation above? Answer yes or no."


def chatml(template: str = CHATML) -> Any:
    return chat_renderer(tokenizer(template, adds_bos=True))


def test_a_question_after_a_text_ends_where_its_answer_begins() -> None:
    after = f"\n\n### Question:\n{ASKED}\n\n### Answer:\n"
    assert STIMULI["did_you_lie"].parts(TEXT) == [StimulusText("P", text, after) for text in TEXT.responses]


def test_a_question_in_a_chat_is_the_user_s_next_turn_and_the_response_stays_as_it_is() -> None:
    before = "<|im_start|>system\nBrief.<|im_end|>\n<|im_start|>user\nSky?<|im_end|>\n<|im_start|>assistant\n"
    after = f"<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    parts = STIMULI["did_you_lie"].parts(CHAT, chatml())
    assert parts == [StimulusText(before, text, after) for text in CHAT.responses]
    # The prompt's text is that of `plain`, so that a capture of both computes it once.
    assert parts[0].prefix == STIMULI["plain"].parts(CHAT, chatml())[0].prefix


def test_an_answer_that_is_begun_goes_on_before_its_turn_is_closed() -> None:
    first = STIMULI["is_false"].parts(BEGUN, chatml())[0]
    assert first.prefix.endswith("<|im_start|>assistant\nIt is")
    assert first.suffix.startswith("<|im_end|>\n<|im_start|>user\nIs the previous statement false?")
    nothing_yet = (Message("user", "Sky?"), Message("assistant", ""))
    assert chat_question(nothing_yet, "Why?", chatml())[0].count("assistant") == 1


@pytest.mark.parametrize("example", [TEXT, CHAT], ids=["text", "chat"])
@pytest.mark.parametrize("name", FOLLOW_UPS)
def test_every_named_question_has_its_verdicts(name: str, example: Example) -> None:
    read = STIMULI[name].parts(example, chatml())
    assert all(FOLLOW_UPS[name].text in part.suffix for part in read)
    for word in ("Yes", "No"):
        parts = STIMULI[f"{name}_{word.lower()}"].parts(example, chatml())
        assert parts == [StimulusText(part.text, word) for part in read]


def test_a_question_of_one_s_own_is_named_by_its_wording() -> None:
    read, yes, other = map(get_stimulus, (r"ask?=Sure,\nreally?", r"ask?Yes=Sure,\nreally?", "ask?=Sure?"))
    assert read.parts(TEXT)[0].suffix == "\n\n### Question:\nSure,\nreally?\n\n### Answer:\n"
    assert yes.parts(TEXT)[0] == StimulusText(read.parts(TEXT)[0].text, "Yes")
    assert get_stimulus("ask?=Is 1+1=2?").question == "Is 1+1=2?"
    names = [stimulus.name for stimulus in (read, yes, other)]
    assert len(set(names)) == 3 and all(name.startswith("ask-") for name in names)


def test_a_template_that_drops_or_repeats_the_response_is_refused() -> None:
    for template, times in ((CHATML.replace("{{ m.content | trim }}", ""), 0), (CHATML + CHATML, 2)):
        with pytest.raises(BadInput, match=f"writes the response {times} times"):
            STIMULI["did_you_lie"].parts(CHAT, chatml(template))
    with pytest.raises(BadInput, match="needs a tokenizer"):
        STIMULI["did_you_lie"].parts(CHAT)


def test_the_turns_before_a_question_are_those_of_the_chat_or_refused() -> None:
    made = tokenizer(CHATML, adds_bos=True)
    plain, asked = (text_turns(CHAT, STIMULI[name], made) for name in ("plain", "did_you_lie"))
    assert plain == asked
    whole = STIMULI["did_you_lie"].parts(CHAT, chat_renderer(made))[0].text
    assert [whole[turn.start : turn.stop] for turn in asked[0]] == ["Brief.", "Sky?", " Blue. "]
    made.chat_template = CHATML.replace("assistant\n", "assistant\n<think></think>")
    with pytest.raises(BadInput, match="another way before the follow-up question of 'did_you_lie'"):
        text_turns(CHAT, STIMULI["did_you_lie"], made)
    with pytest.raises(BadInput, match="goes on after the response"):
        closing_ids("a", [2], "<|im_end|>", STIMULI["did_you_lie"], made)


def test_a_question_and_text_around_the_response_exclude_each_other() -> None:
    with pytest.raises(BadInput, match="has a question and text around the response"):
        Stimulus("both", after_response="x", question="Why?")


def test_a_store_s_file_names_the_question_of_those_stimuli_alone_that_have_one() -> None:
    plan = {"format": 2, "layout": "padded", "batch_tokens": 8, "layers": (1,), "first_file": 0}
    stimuli = (STIMULI["plain"], STIMULI["did_you_lie"])
    found = Plan(**plan, stimuli=stimuli).model_dump()["stimuli"]
    assert "question" not in found[0] and found[1]["question"] == ASKED
    assert Plan.model_validate_json(json.dumps({**plan, "stimuli": found})).stimuli == stimuli


def test_the_page_lists_every_question_as_it_is_asked() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "data.md"
    for name, asked in FOLLOW_UPS.items():
        assert f"| `{name}` | {asked.text} | {asked.honest or ''}".rstrip() in page.read_text()
