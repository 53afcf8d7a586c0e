"""What the names of tokens mean, and what is said of those that mean nothing."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from chat_samples import CHAT, SHORT, conversations
from made_up import made_up

from repeng.activations.capture import Request
from repeng.activations.store.files import ActivationKey
from repeng.activations.token_rules import TOKENS, check_tokens, token_rule
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, UnknownName
from repeng.models.tokens import TokenizedText
from repeng.models.turns import Turn

TEXT = TokenizedText(
    list(range(20)), 12, 17, turns=(Turn("user", 2, 5), Turn("assistant", 6, 8), Turn("assistant", 12, 17)), n_closing=1
)
EMPTY = TokenizedText([7, 8], 2, 2)


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("last", ((18, 19),)),
        ("last:-1", ((17, 18),)),
        ("last:-18", ((0, 1),)),
        ("last:-19", ()),
        ("prompt_last", ((11, 12),)),
        ("first_response", ((12, 13),)),
        ("turn_end", ((19, 20),)),
        ("response_mean", ((12, 17),)),
        ("all", ((12, 17),)),
        ("mean:assistant", ((6, 8), (12, 17))),
        ("all:user+assistant", ((2, 5), (6, 8), (12, 17))),
        ("all:system", ()),
        ("", ((12, 17),)),
    ],
)
def test_a_name_means_some_tokens_of_a_text(name: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert token_rule(name).spans(TEXT) == spans


def test_an_empty_response_that_nothing_closes_has_a_last_token_and_a_log_probability_alone() -> None:
    assert {name: token_rule(name).spans(EMPTY) for name in ("last", "prompt_last", "")} == {
        "last": ((1, 2),),
        "prompt_last": ((1, 2),),
        "": ((2, 2),),
    }
    for name in ("first_response", "turn_end", "response_mean", "all", "all:assistant", "mean:user"):
        assert token_rule(name).spans(EMPTY) == ()


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("al", UnknownName, "unknown token 'al'; did you mean all.* Choose from all, all:ROLE"),
        ("last:2", BadInput, "'last:2': an offset counts back .* as last:-1"),
        ("last:-0", BadInput, "an offset counts back"),
        ("last:", BadInput, "an offset counts back"),
        ("mean", BadInput, "'mean' names no role; write mean:assistant"),
        ("mean:", BadInput, "'mean:' names no role; write mean:assistant"),
        ("all:", BadInput, "'all:' names no role; write all:assistant"),
        ("mean:user,system", BadInput, "several as mean:user\\+assistant"),
        ("prompt_last:-1", UnknownName, "unknown token 'prompt_last:-1'"),
        ("turn_end:user", UnknownName, "unknown token"),
    ],
)
def test_a_malformed_name_is_refused_with_how_it_is_written(name: str, kind: type[BadInput], what: str) -> None:
    with pytest.raises(kind, match=what):
        Request((get_stimulus("plain"),), tokens=(name,))


def test_every_form_that_is_listed_is_taken() -> None:
    for form in TOKENS:
        name = form.replace("[+ROLE]", "+user").replace("ROLE", "assistant").replace("K", "3")
        assert token_rule(name).is_ragged == name.startswith("all")
        Request((get_stimulus("plain"),), tokens=(name,))


def test_roles_are_named_once_and_in_one_order_also_in_a_store() -> None:
    assert token_rule("mean:user+assistant+user").name == "mean:assistant+user"
    key = ActivationKey("plain", "resid_post", "mean:user+assistant+user")
    assert key == ActivationKey("plain", "resid_post", "mean:assistant+user")
    assert (str(key), key.folder) == ("plain.resid_post.mean:assistant+user", "plain.resid_post.mean%3Aassistant+user")
    folders = [ActivationKey("plain", "hook_z", name).folder for name in ("last:-2", "all:a_b-c", "last", "")]
    assert folders == ["plain.hook_z.last%3A-2", "plain.hook_z.all%3Aa_b-c", "plain.hook_z.last", "plain.hook_z"]
    assert all(re.fullmatch(r"[\w.%+-]+", folder) for folder in folders)
    assert unquote(folders[0]) == "plain.hook_z.last:-2"


def test_what_plain_prompts_do_not_have_is_refused_with_the_way_out() -> None:
    plain, chats = made_up(3), conversations()
    check_tokens(plain, ("last:-5", "mean:assistant", "all:assistant", "first_response", "all"))
    check_tokens(chats, ("turn_end", "mean:system+user", "all:assistant"))
    for name, way_out in (("turn_end", "take last"), ("mean:user", "take mean:assistant"), ("all:system", "all:ass")):
        with pytest.raises(BadInput, match=f"'{name}': .*/train, example 0 has a text as its prompt .*{way_out}"):
            check_tokens(plain, (name,))
    mixed = Split("d", "train", (Example(CHAT, ("a", "b"), 0), Example("Q", ("a", "b"), 0)))
    with pytest.raises(BadInput, match="example 1 has a text as its prompt"):
        check_tokens(mixed, ("turn_end",))
    with pytest.raises(UnknownName, match="unknown role in d/train .*'system'; choose from assistant, user"):
        check_tokens(Split("d", "train", (Example(SHORT, ("a", "b"), 0),)), ("mean:system+user",))
