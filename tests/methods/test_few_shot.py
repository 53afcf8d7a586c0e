"""Few-shot preambles and verdicts."""

from __future__ import annotations

import pytest

from repeng.distributions.chat import RenderChat
from repeng.distributions.schema import Example, Message, Split
from repeng.distributions.stimuli import STIMULI, Stimulus
from repeng.errors import BadInput
from repeng.methods.few_shot import few_shot_stimulus, room_for_shots


def split(name: str, n: int) -> Split:
    return Split(name, "train", tuple(Example(f"{name} {i}? ", (f"no {i}", f"yes {i}"), 1) for i in range(n)))


def words(text: str) -> int:
    return len(text.split())


def test_a_preamble_is_the_best_responses_of_k_source_examples_and_no_others() -> None:
    source = split("easy", 30)
    stimulus = few_shot_stimulus(source, shots=4, seed=1, count_tokens=words, room=100)
    shots = stimulus.preamble.strip().split("\n\n")
    assert len(set(shots)) == 4
    assert all(shot in {f"easy {i}? yes {i}" for i in range(30)} for shot in shots)
    text = stimulus.parts(Example("hard? ", ("a", "b"), 0))[0].text
    assert text == stimulus.preamble + "hard? a"
    assert text.startswith("\n\neasy ")


def test_the_same_seed_draws_the_same_and_the_name_tells_draws_apart() -> None:
    draws = [few_shot_stimulus(split("easy", 30), seed=s, count_tokens=words, room=100) for s in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0].name != draws[2].name
    assert draws[0].name.startswith("few_shot_4-")


def test_an_example_that_overfills_the_room_is_passed_over_for_a_shorter_one(caplog: pytest.LogCaptureFixture) -> None:
    long = Example("long " * 50, ("no", "yes"), 1)
    source = Split("s", "train", tuple([long] * 10 + [Example(f"q {i}?", ("no", "yes"), 1) for i in range(3)]))
    stimulus = few_shot_stimulus(source, shots=4, count_tokens=words, room=12)
    assert "long" not in stimulus.preamble
    assert words(stimulus.preamble) <= 12
    assert stimulus.name.startswith("few_shot_3-")
    assert "only 3 of 4 examples of s fit" in caplog.text


def test_where_no_example_fits_the_context_is_named() -> None:
    with pytest.raises(BadInput, match="no example of easy fits in 2 tokens"):
        few_shot_stimulus(split("easy", 30), count_tokens=words, room=2)


def test_every_text_of_the_source_that_fits_alone_fits_behind_the_preamble() -> None:
    target = Split("t", "train", tuple(Example("w " * n, ("a", "b c"), 0) for n in (3, 20, 500)))
    room = room_for_shots(target, 60, words)
    assert room == 60 - 22
    stimulus = few_shot_stimulus(split("easy", 30), shots=100, count_tokens=words, room=room)
    lengths = [words(part.text) for example in target.examples[:2] for part in stimulus.parts(example)]
    assert max(lengths) <= 60
    assert max(lengths) > 50


def test_a_stimulus_of_its_own_keeps_everything_but_the_preamble() -> None:
    stimulus = few_shot_stimulus(split("e", 9), count_tokens=words, room=99, base=STIMULI["zero_shot_genies"])
    assert (stimulus.join, stimulus.bos, stimulus.eos) == ("apart", False, True)


def test_a_chat_without_a_template_is_refused() -> None:
    chat = Split("c", "train", (Example((Message("user", "hi"),), ("a", "b"), 0),))
    with pytest.raises(BadInput, match="chat template"):
        few_shot_stimulus(chat, count_tokens=words, room=99)


SAYS = Message("system", "Be brief.")
OTHER = Message("system", "Be long.")


def strict(messages: tuple[Message, ...]) -> str:
    """As a template that takes one system message, at the start, and then user and assistant in turn."""
    turns = messages[messages[:1] == (SAYS,) :]
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2):
        raise BadInput("roles must alternate")
    return loose(messages)


def loose(messages: tuple[Message, ...]) -> str:
    """As a template that takes every message, and lets the last one go on where it is the assistant's."""
    text = "".join(f"<{message.role}>{message.content};" for message in messages)
    return text.removesuffix(";") if messages[-1].role == "assistant" else f"{text}<assistant>"


def chats(*prompts: tuple[Message, ...] | str) -> Split:
    return Split("chats", "train", tuple(Example(prompt, ("no", "yes"), 1) for prompt in prompts))


def in_chat(source: Split, render: RenderChat) -> Stimulus:
    return few_shot_stimulus(source, count_tokens=words, room=99, base=STIMULI["chat"], render_chat=render)


def user(text: str) -> Message:
    return Message("user", text)


def test_in_chat_form_a_system_message_that_is_repeated_is_said_once() -> None:
    stimulus = in_chat(chats(*((SAYS, user(f"{n}?")) for n in range(4))), strict)
    text = stimulus.parts(Example((SAYS, user("9?")), ("a", "b"), 0), strict)[0].text
    shots = sorted(f"<user>{n}?;<assistant>yes;" for n in range(4))
    assert text.startswith("<system>Be brief.;<user>") and text.endswith(";<user>9?;<assistant>a")
    assert all(shot in text for shot in shots) and text.count("system") == 1
    # A prompt without one follows in the same chat.
    assert stimulus.parts(Example("9?", ("a", "b"), 0), strict)[0].text == text


def test_in_chat_form_another_system_message_stays_for_the_template_to_take_or_refuse() -> None:
    stimulus = in_chat(chats((SAYS, user("1?"))), strict)
    other = Example((OTHER, user("9?")), ("a", "b"), 0)
    assert stimulus.parts(other, loose)[0].text == (
        "<system>Be brief.;<user>1?;<assistant>yes;<system>Be long.;<user>9?;<assistant>a"
    )
    with pytest.raises(BadInput, match="must alternate"):
        stimulus.parts(other, strict)


def test_in_chat_form_a_response_goes_on_with_the_turn_that_its_prompt_ends_with() -> None:
    stimulus = in_chat(chats((user("1?"), Message("assistant", "Well, "))), strict)
    assert stimulus.shots == (user("1?"), Message("assistant", "Well, yes"))
    begun = Example((user("9?"), Message("assistant", "So ")), ("a", "b"), 0)
    assert stimulus.parts(begun, strict)[0].text == "<user>1?;<assistant>Well, yes;<user>9?;<assistant>So a"


@pytest.mark.parametrize("prompt", ["", (SAYS,), (Message("assistant", "So "),)], ids=["empty", "system", "begun"])
def test_in_chat_form_a_prompt_without_a_user_s_turn_is_refused_before_and_behind_others(
    prompt: tuple[Message, ...] | str,
) -> None:
    stimulus = in_chat(chats((SAYS, user("1?"))), loose)
    with pytest.raises(BadInput, match="no user speaks before the assistant, .* leave few-shot in chat form out"):
        stimulus.parts(Example(prompt, ("a", "b"), 0), loose)
    with pytest.raises(BadInput, match="no user speaks before the assistant"):
        in_chat(chats(prompt), loose)
