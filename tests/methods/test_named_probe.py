"""Where a probe reads, in the parentheses of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from repeng.errors import BadInput, UnknownName
from repeng.methods.base import MethodSettings
from repeng.methods.named_probe import NamedProbe
from repeng.methods.names import parse_name
from repeng.methods.registry import make_method
from repeng.probes.logistic import Logistic


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("mms(token=mean:assistant)", "mean:assistant"),
        ("mms(token='mean:assistant')", "mean:assistant"),
        ("mms(token=last:-2)", "last:-2"),
        ("mms(token=mean:user+assistant)", "mean:user+assistant"),
        ("mms", ""),
    ],
)
def test_a_token_needs_no_quotes(text: str, token: str) -> None:
    assert NamedProbe.of(text).token == token


def test_places_and_the_probes_own_parameters_stand_side_by_side() -> None:
    named = NamedProbe.of("logistic(C=0.1, token=response_mean, site=mlp_out, stimulus=did_you_lie)")
    assert isinstance(named.probe, Logistic) and named.probe.C == 0.1
    assert (named.token, named.site) == ("response_mean", "mlp_out")
    assert [stimulus.name for stimulus in named.reads] == ["did_you_lie"]
    spec = named.spec(seed=3)
    assert (spec.token, spec.site, spec.stimuli, spec.seed) == ("response_mean", "mlp_out", ("did_you_lie",), 3)
    assert named.name == "logistic(C=0.1, site='mlp_out', stimulus='did_you_lie', token='response_mean')"
    assert NamedProbe.of(named.name).name == named.name


def test_the_same_probe_at_two_places_is_two_methods_that_require_different_activations(tmp_path: Path, split) -> None:
    shared = MethodSettings("mini", 2, None, "capture", tmp_path, tmp_path)
    one, other = (make_method(name, shared) for name in ("mms", "mms(token=response_mean)"))
    assert one.name != other.name and one.identity() != other.identity()
    assert [need.token for need in (*one.requires(split), *other.requires(split))] == ["last", "response_mean"]


def test_a_contrast_of_the_users_own_is_two_stimuli() -> None:
    named = NamedProbe.of("ccs(stimulus='did_you_lie_yes+did_you_lie_no')")
    assert [stimulus.name for stimulus in named.reads] == ["did_you_lie_yes", "did_you_lie_no"]


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("mms(token=middle)", UnknownName, "middle"),
        ("mms(token=all)", BadInput, "reads one vector a text.*such as attention"),
        ("attention(token=last)", BadInput, "attention reads every token of a text"),
        ("mms-genies(token=response_mean)", BadInput, "reads what GENIES' released code reads.*or take mms"),
        ("ccs(stimulus=did_you_lie)", BadInput, "ccs reads 2 stimuli .* and 1 are named"),
        ("mms(stimulus=nonsense)", UnknownName, "nonsense"),
        ("mms(token=3)", BadInput, "token is 3; give its name"),
        ("mms(token=)", BadInput, "write parameters as name=value"),
        ("mms(depth=3)", BadInput, "has no parameter 'depth'"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(text: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        NamedProbe.of(text)


def test_values_without_quotes_are_read_as_before() -> None:
    assert parse_name("logistic(C=0.1)") == ("logistic", {"C": 0.1})
    assert parse_name("ask:did_you_lie(best=yes)") == ("ask:did_you_lie", {"best": "yes"})
    assert parse_name("mms(token=last:-2, k=3)") == ("mms", {"token": "last:-2", "k": 3})
    for wrong in ("logistic(C)", "logistic(C=0.1, 2)", "logistic(C=a b)", "mms(token=last:-2 x)"):
        with pytest.raises(BadInput, match="write parameters as name=value"):
            parse_name(wrong)
