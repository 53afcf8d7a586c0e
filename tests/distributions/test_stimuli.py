"""Stimuli: the exact texts of the literature, users' templates, and chats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repeng.distributions.schema import Example, Message
from repeng.distributions.stimuli import STIMULI, Stimulus, StimulusText, get_stimulus
from repeng.errors import BadInput, UnknownName

EXAMPLE = Example("P", ("r1", "", "r3"), 2)
CHAT = Example((Message("user", "hi"),), ("a", "b"), 0)


def texts(name: str) -> list[str]:
    return [part.text for part in get_stimulus(name).parts(EXAMPLE)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", "Pr1"),
        ("zero_shot_genies", "Pr1"),
        (
            "lat2",
            "PConsider the extent to which the responder follows the instruction below.\nr1"
            "\n\nThe probability that the responder followed the instruction",
        ),
        ("contrast_yes", "Pr1\n\n### Does the responder successfully follow the instruction?\nYes"),
        ("contrast_no", "Pr1\n\n### Does the responder successfully follow the instruction?\nNo"),
        ("contrast_yes_eos", "Pr1\n\n### Does the responder successfully follow the instruction?\nYes"),
        ("contrast_no_genies", "Pr1\n\n###Does the responder successfully follow the instruction?\nNo"),
    ],
)
def test_the_texts_of_genies_are_exact(name: str, expected: str) -> None:
    assert texts(name)[0] == expected
    assert texts(name)[2] == expected.replace("r1", "r3")


def test_only_the_stimuli_that_genies_gives_an_end_token_or_joins_apart_do_so() -> None:
    assert {name for name, s in STIMULI.items() if s.eos} == {
        "contrast_yes_eos",
        "contrast_no_genies",
        "zero_shot_genies",
    }
    assert {name for name, s in STIMULI.items() if s.join == "apart"} == {"zero_shot_genies"}
    assert {name for name, s in STIMULI.items() if not s.bos} == {"zero_shot_genies"}


def test_the_pieces_are_prefix_response_and_suffix() -> None:
    lat2 = STIMULI["lat2"]
    assert lat2.parts(EXAMPLE)[1] == StimulusText("P" + lat2.before_response, "", lat2.after_response)
    few_shot = replace(lat2, name="few", preamble="\n\nQA\n\n")
    assert few_shot.parts(EXAMPLE)[0].prefix == "\n\nQA\n\nP" + lat2.before_response


def test_a_verdict_is_what_the_log_probability_is_asked_of() -> None:
    asked = STIMULI["truthfulness"].parts(EXAMPLE)
    for name, verdict in (("truthfulness_yes", "Yes"), ("truthfulness_no", "No")):
        parts = STIMULI[name].parts(EXAMPLE)
        assert [(part.prefix, part.response, part.suffix) for part in parts] == [
            (part.text, verdict, "") for part in asked
        ]
    assert asked[0].text.startswith("Pr1\n\n") and "follows the instruction?" in asked[0].text


def test_a_template_becomes_a_stimulus() -> None:
    stimulus = get_stimulus(r"judge=<s>{prompt}\nAnswer: {response}\n\nGood {x}? \\n")
    assert stimulus.parts(EXAMPLE)[0] == StimulusText("<s>P\nAnswer: ", "r1", "\n\nGood {x}? \\n")
    assert get_stimulus("bare={prompt}{response}").parts(EXAMPLE)[0] == StimulusText("P", "r1", "")
    assert get_stimulus("sign={prompt}=={response}").parts(EXAMPLE)[0].prefix == "P=="


def test_a_template_of_another_wording_has_another_name_and_an_equal_one_the_same() -> None:
    one, same, other = (get_stimulus("j={prompt}{response}" + end) for end in ("?", "?", "!"))
    assert one == same and one.name == same.name
    assert one.name.startswith("j-") and other.name.startswith("j-") and one.name != other.name


def test_stimuli_have_the_fingerprints_that_stores_know_them_by() -> None:
    """Those that came before follow-up questions: activations captured under them stay theirs."""
    known = {
        **{"plain": "e12420", "lat2": "e85ccb", "contrast_yes": "d76bf6", "contrast_no": "c1c074"},
        **{"contrast_yes_eos": "770797", "contrast_no_genies": "f9bb71", "truthfulness": "eb440a"},
        **{"truthfulness_yes": "107477", "truthfulness_no": "fa1690", "zero_shot_genies": "266101"},
    }
    assert {name: STIMULI[name].fingerprint for name in known} == known
    assert get_stimulus("judge={prompt}{response}!").name == "judge-bd59bf"


def test_the_fingerprint_depends_on_everything_but_the_name() -> None:
    base = Stimulus("a")
    changes = {
        "before_response": "x",
        "after_response": "x",
        "join": "apart",
        "bos": False,
        "eos": True,
        "preamble": "x",
        "verdict": "x",
        "question": "x",
    }
    prints = {replace(base, **{key: value}).fingerprint for key, value in changes.items()}
    assert len(prints) == len(changes) and base.fingerprint not in prints
    assert replace(base, name="b").fingerprint == base.fingerprint


@pytest.mark.parametrize(
    "template",
    [
        "ask?=",
        "ask?Yes= ",
        "?=Why?",
        "a b?=Why?",
        "plain?=Why?",
        "is_false?=Is it false?",
        "j={prompt}",
        "j={response}",
        "j={response}{prompt}",
        "j={prompt}{response}{response}",
        "j={prompt}{prompt}{response}",
        "j=",
        "plain={prompt}{response}",
        "a.b={prompt}{response}",
        "../x={prompt}{response}",
        "={prompt}{response}",
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str) -> None:
    with pytest.raises(BadInput):
        get_stimulus(template)


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_form_of_a_template() -> None:
    with pytest.raises(
        UnknownName,
        match=r"unknown stimulus 'plane'; did you mean plain.* NAME=\{prompt\}.*NAME\?=QUESTION.*lat2",
    ):
        get_stimulus("plane")


def test_every_stimulus_stands_under_its_name_and_makes_one_text_a_response() -> None:
    for name, stimulus in STIMULI.items():
        assert stimulus.name == name and get_stimulus(name) is stimulus
        parts = stimulus.parts(EXAMPLE, lambda messages: "".join(message.content for message in messages))
        assert len(parts) == 3
        for part, response in zip(parts, EXAMPLE.responses, strict=True):
            assert part.text.startswith("P") and response in part.text


def test_a_chat_is_rendered_once_and_needs_a_renderer() -> None:
    parts = STIMULI["lat2"].parts(CHAT, lambda messages: f"<{messages[0].role}>{messages[0].content}<bot>")
    assert parts[0].prefix == "<user>hi<bot>" + STIMULI["lat2"].before_response
    with pytest.raises(BadInput, match="chat template"):
        STIMULI["plain"].parts(CHAT)
    assert STIMULI["plain"].parts(EXAMPLE, lambda messages: "never")[0].prefix == "P"
