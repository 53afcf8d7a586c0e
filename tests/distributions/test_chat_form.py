"""The chat form of texts: headings that are taken off, and what a tokenizer's own template makes of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from chat_samples import CHAT, FAMILIES, SHORT, UNMARKED
from test_chat import tokenizer

from repeng.activations.store.records import Plan
from repeng.benchmarks.mini import mini_distributions
from repeng.distributions.chat import chat_renderer
from repeng.distributions.chat_form import ChatFormCounts, chat_prompt, unwrap
from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Example, Message, Split
from repeng.distributions.stimuli import STIMULI, Stimulus, StimulusText, get_stimulus
from repeng.errors import BadInput, UnknownName

SAYS = "Below is an instruction that describes a task."
WRAPPED = Example(f"{SAYS}\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n", ("3", "It is 4."), 0)
USER = f"{SAYS}\n\nAdd.\n\n1 and 2"
TEMPLATES = {"unmarked": UNMARKED, **{name: template for name, (template, _) in FAMILIES.items()}}
HEADINGS = {"### Instruction:", "### Input:", "### Response:", "### Post Content", "### Comment:"}
"""Of the 23 distributions of GENIES' headline shifts; `## Your response:` and others are of more."""


def said(prompt: str) -> list[str]:
    """The lines of a text that say something."""
    return [line for line in prompt.split("\n") if line.strip()]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (WRAPPED.prompt, USER),
        ("### Instruction:\nWho?\n\n### Response:\n", "Who?"),
        (f"{SAYS}\n\n### Instruction:\nGive me five idioms.", f"{SAYS}\n\nGive me five idioms."),
        ("S.\n\n### Instruction:\nA.\n### Input:\nQ\n\n### Response:\n", "S.\n\nA.\n\nQ"),
        ("S.\n\n### Instruction:\nA\n\n\n### Response:\n", "S.\n\nA"),
        ("### Instruction:\nSay.\n### Post Content\nPennies.\n\nMore.\n### Comment:\n", "Say.\n\nPennies.\n\nMore."),
        ("### Instruction:\nDo.\n\n###Task\nT\n\n###Scene\nS.### Response:\n", "Do.\n\n###Task\nT\n\n###Scene\nS."),
        ("S.\n\n### Instruction:\nBot.\n\n## User input:Hi\n\n## Your response:\n", "S.\n\nBot.\n\n## User input:Hi"),
        # What is the text's own stays: other headings, a second input, indented code.
        ("### Instruction:\nA\n\n### Input:\n    x\n### Eg\ny\n### Input:\nz", "A\n\n    x\n### Eg\ny\n### Input:\nz"),
        ("### Instruction:\nEnd it with ## Response:", "End it with ## Response:"),
        ("### Instruction:\nEnd it with ### Response:", "End it with ### Response:"),
        ("### Instruction:\nSay # or ## comment:\n\n### Response:\n", "Say # or ## comment:"),
        ("### Instruction:\n### Response: is a heading\n\n### Response:\n", "### Response: is a heading"),
    ],
)  # fmt: skip
def test_the_headings_of_a_prompt_are_taken_off_and_nothing_else(prompt: str, expected: str) -> None:
    assert unwrap(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    ["", "Q: currency - Nepal\nA:\n", "See ### Instruction:\nhere", "### Instruction:\n\n### Response:\n", "a"],
)
def test_a_text_without_them_is_not_unwrapped_and_stays_whole_as_the_user_s_turn(prompt: str) -> None:
    assert unwrap(prompt) is None
    assert chat_prompt(prompt) == ((Message("user", prompt),) if prompt else ())


def test_every_prompt_of_genies_is_unwrapped_and_loses_no_line_but_its_headings(genies_root: Any) -> None:
    seen = 0
    for distribution in load_distributions(genies_root / "distributions").values():
        counts = ChatFormCounts.of(distribution.splits.values())
        examples = [example for split in distribution.splits.values() for example in split.examples]
        assert counts == ChatFormCounts(unwrapped=len(examples), whole=0, alone=0, chats=0), distribution.name
        for example in examples:
            found = unwrap(str(example.prompt))
            assert found and said(found) == [line for line in said(str(example.prompt)) if line not in HEADINGS]
            seen += 1
    assert seen > 15_000


def test_of_the_embedded_benchmark_all_is_unwrapped_but_what_has_no_headings() -> None:
    bare = {"notation", "stories", "terse"}
    for name, distribution in mini_distributions(limit=4).items():
        counts = ChatFormCounts.of(distribution.splits.values())
        assert (counts.unwrapped, counts.whole) == ((0, 8) if name in bare else (8, 0))


def test_the_counts_are_said_in_words() -> None:
    examples = (WRAPPED, replace(WRAPPED, prompt="a"), replace(WRAPPED, prompt=""), replace(WRAPPED, prompt=SHORT))
    assert ChatFormCounts.of([Split("d", "train", examples)]).sentence == (
        "chat form: headings are taken off 1 of 2 prompts; 1 have none and stay whole as the user's turn; 1 texts "
        "without a prompt are the assistant's turn; 1 prompts are chats already"
    )


def rendered(made: Any, *messages: Message, opens: bool) -> str:
    """What the tokenizer's template makes of a chat, without the start token that the tokenizer adds itself."""
    text: str = made.apply_chat_template(
        [asdict(message) for message in messages], tokenize=False, add_generation_prompt=opens
    )
    return text.removeprefix("<s>")


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_texts_are_what_the_template_makes_of_the_conversation(name: str) -> None:
    made = tokenizer(TEMPLATES[name], adds_bos=True)
    made.eos_token = "</s>"
    render = chat_renderer(made)
    user = Message("user", USER)
    opening = rendered(made, user, opens=True)
    plain = STIMULI["chat"].parts(WRAPPED, render)
    assert plain == [StimulusText(opening, response) for response in WRAPPED.responses]
    lat2 = STIMULI["lat2"]
    assert STIMULI["chat_lat2"].parts(WRAPPED, render)[0] == StimulusText(
        opening + lat2.before_response, "3", lat2.after_response
    )
    question = "Does the responder successfully follow the instruction?"
    truth = "Is it true that the response above successfully follows the instruction? Answer Yes or No."
    for number, response in enumerate(WRAPPED.responses):
        for asked, stimulus in ((question, "chat_contrast"), (truth, "chat_truthfulness")):
            whole = rendered(made, user, Message("assistant", response), Message("user", asked), opens=True)
            for word in ("Yes", "No"):
                part = STIMULI[f"{stimulus}_{word.lower()}"].parts(WRAPPED, render)[number]
                assert part.text == whole + word
                # The contrast is read at its end; of the truthfulness question the verdict itself is scored.
                assert part.response == (response if stimulus == "chat_contrast" else word)
        whole = rendered(
            made, user, Message("assistant", response), Message("user", FOLLOW_UPS["is_false"].text), opens=True
        )
        assert STIMULI["chat_is_false"].parts(WRAPPED, render)[number].text == whole


def test_a_template_that_refuses_system_turns_writes_the_chat_form_and_refuses_what_has_one() -> None:
    made = tokenizer(TEMPLATES["gemma"], adds_bos=False)
    assert STIMULI["chat"].parts(WRAPPED, chat_renderer(made))[0].prefix == (
        f"<s><start_of_turn>user\n{USER}<end_of_turn>\n<start_of_turn>model\n"
    )
    with pytest.raises(BadInput, match="does not take messages of the roles system, .*: no system role"):
        STIMULI["chat"].parts(Example(CHAT, ("a", "b"), 0), chat_renderer(made))


@pytest.mark.parametrize("prompt", [CHAT, SHORT, (*SHORT, Message("assistant", "Yes, and"))], ids=len)
def test_a_prompt_that_is_a_chat_is_the_same_in_both_forms(prompt: tuple[Message, ...]) -> None:
    example, render = Example(prompt, (" a", "b"), 0), chat_renderer(tokenizer(UNMARKED, adds_bos=True))
    for name in ("plain", "lat2", *FOLLOW_UPS, "did_you_lie_yes"):
        chat = "chat" if name == "plain" else f"chat_{name}"
        assert STIMULI[chat].parts(example, render) == STIMULI[name].parts(example, render)


def test_a_text_that_stands_alone_is_the_assistant_s_turn() -> None:
    made = tokenizer(UNMARKED, adds_bos=True)
    alone = Example("", ("The sea is blue.",), (0,))
    assert STIMULI["chat"].parts(alone, chat_renderer(made)) == [StimulusText("[assistant]\n", "The sea is blue.")]


def test_worked_examples_stand_before_the_prompt_as_turns() -> None:
    shots = (Message("user", "1?"), Message("assistant", "2"))
    made = tokenizer(UNMARKED, adds_bos=True)
    text = replace(STIMULI["chat"], shots=shots).parts(WRAPPED, chat_renderer(made))[0].text
    assert text == rendered(made, *shots, Message("user", USER), opens=True) + "3"
    with pytest.raises(BadInput, match="turns before the prompt, which a plain text has none of"):
        Stimulus("x", shots=shots)


def test_every_stimulus_has_a_chat_form_but_those_that_tokenize_as_genies_does() -> None:
    plain = {name: one for name, one in STIMULI.items() if one.form == "plain"}
    without = {name for name, one in plain.items() if one.eos or one.join == "apart"}
    assert without == {"contrast_yes_eos", "contrast_no_genies", "zero_shot_genies"}
    assert STIMULI.keys() - plain.keys() == {
        "chat" if name == "plain" else f"chat_{name}" for name in plain.keys() - without
    }
    prints = {one.fingerprint for one in STIMULI.values()}
    assert len(prints) == len(STIMULI)
    with pytest.raises(
        UnknownName, match=r"unknown stimulus 'chat_contrast'; did you mean .*Choose from .*chat, chat_NAME"
    ):
        get_stimulus("chat_contrast")


def test_a_stimulus_in_chat_form_is_read_back_from_a_store_s_file_and_the_others_files_are_as_they_were() -> None:
    stimuli = (STIMULI["plain"], STIMULI["chat_contrast_yes"], replace(STIMULI["chat"], name="few", shots=SHORT))
    plan = {"format": 2, "layout": "padded", "batch_tokens": 8, "layers": (1,), "first_file": 0}
    found = Plan(**plan, stimuli=stimuli).model_dump()["stimuli"]
    assert set(found[0]) == {
        *("name", "before_response", "after_response", "join", "bos", "eos", "preamble", "verdict"),
    }
    assert Plan.model_validate_json(json.dumps({**plan, "stimuli": found})).stimuli == stimuli


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stimulus("x", answer="Yes"), "has an answer and no question"),
        (lambda: STIMULI["chat"].parts(WRAPPED), "needs a tokenizer that has a chat template"),
    ],
)
def test_a_stimulus_that_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()
