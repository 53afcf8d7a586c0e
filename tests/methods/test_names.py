"""How methods are written on the command line and in a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repeng.errors import BadInput, UnknownName
from repeng.methods.base import MethodSettings
from repeng.methods.names import parse_name, split_names, with_parameters
from repeng.methods.registry import make_method, make_methods


@pytest.fixture
def settings(model: str, tmp_path: Path) -> MethodSettings:
    return MethodSettings(model, 3, 256, "capture", tmp_path / "plugins", tmp_path / "tuned")


def test_commas_within_parentheses_do_not_part_methods() -> None:
    assert split_names("mms, logistic(C=0.1, max_iter=50) ,zero-shot,") == (
        "mms",
        "logistic(C=0.1, max_iter=50)",
        "zero-shot",
    )


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("mms", "mms", {}),
        ("logistic(C=0.1)", "logistic", {"C": 0.1}),
        ("logistic( C = 1e-3 , standardize=False)", "logistic", {"C": 0.001, "standardize": False}),
        ("lda(shrinkage='ledoit-wolf')", "lda", {"shrinkage": "ledoit-wolf"}),
        ("lda(shrinkage=ledoit-wolf)", "lda", {"shrinkage": "ledoit-wolf"}),
        ("ccs()", "ccs", {}),
    ],
)
def test_parameters_are_read_as_they_are_written(text: str, name: str, parameters: dict[str, Any]) -> None:
    assert parse_name(text) == (name, parameters)
    assert parse_name(with_parameters(name, parameters)) == (name, parameters)


@pytest.mark.parametrize("text", ["logistic(0.1)", "logistic(C=)", "logistic(C=1; x)", "logistic(**C)"])
def test_what_is_no_list_of_parameters_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match=r"write parameters as name=value, as in logistic\(C=0.1\)"):
        parse_name(text)


def test_a_method_with_parameters_is_made_with_them_and_named_after_them(settings: MethodSettings) -> None:
    method = make_method("logistic(max_iter=50, C=0.1)", settings)
    assert method.name == "logistic(C=0.1, max_iter=50)"
    assert {key: method.parameters[key] for key in ("C", "max_iter", "standardize")} == {
        "C": 0.1,
        "max_iter": 50,
        "standardize": True,
    }
    assert make_method("few-shot(shots=2)", settings).parameters["shots"] == 2
    assert make_method("lora(rank=4)", settings).parameters["rank"] == 4


def test_other_parameters_are_other_methods_and_equal_ones_the_same(settings: MethodSettings) -> None:
    identities = [make_method(text, settings).identity() for text in ("logistic", "logistic(C=0.1)", "logistic(C=1.0)")]
    assert identities[0] != identities[1] != identities[2]
    made = make_methods(("logistic(C=0.1)", "logistic( C=0.1 )", "mms"), settings)
    assert [method.name for method in made] == ["logistic(C=0.1)", "mms"]


def test_the_plain_form_being_the_default_is_not_in_a_name(settings: MethodSettings) -> None:
    names = ("zero-shot", "truthfulness", "few-shot(shots=2)", "ask:is_false(best='no')")
    said = [
        make_method(f"{name.removesuffix(')')}{', ' if '(' in name else '('}stimulus=plain)", settings)
        for name in names
    ]
    assert [method.name for method in said] == list(names)
    assert [method.identity() for method in said] == [make_method(name, settings).identity() for name in names]
    assert len(make_methods(("zero-shot", "zero-shot(stimulus=plain)", "zero-shot(stimulus=chat)"), settings)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logistic(D=1)", "no parameter 'D'; choose from C, max_iter, standardize"),
        ("length(C=1)", "no parameter 'C'; it has none"),
        ("few-shot(shots=0)", "shots is 0; give 1 or more"),
        ("lora(ranks=4)", "unknown tuning setting 'ranks'; did you mean rank"),
    ],
)
def test_parameters_that_a_method_does_not_have_are_refused(settings: MethodSettings, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_method(text, settings)


def test_every_name_makes_a_method_that_says_what_it_is(settings: MethodSettings) -> None:
    for method in make_methods(("all", "mms-genies", "zero-shot-genies", "full"), settings):
        assert method.kind in ("probe", "prompted", "tuned", "text", "chance")
        assert method.title
        assert set(method.identity()) == {"class", "name", "kind", "parameters", "code"}
    kinds = {name: make_method(name, settings).kind for name in ("mms", "random", "zero-shot", "lora", "tfidf")}
    assert kinds == {"mms": "probe", "random": "chance", "zero-shot": "prompted", "lora": "tuned", "tfidf": "text"}


def test_a_name_that_nothing_answers_to_is_refused_with_those_that_there_are(settings: MethodSettings) -> None:
    with pytest.raises(UnknownName, match="unknown method 'msm'; did you mean mms.* Choose from .*zero-shot"):
        make_method("msm", settings)
