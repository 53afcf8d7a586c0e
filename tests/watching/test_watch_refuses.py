"""What cannot be watched is refused in a sentence that says what can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from watched_samples import World, make_world

from repeng.errors import BadInput, NonFinite, UnknownName
from repeng.models.load import LanguageModel
from repeng.watching.watch import watch

OWN = """
import torch
from repeng.probes import LinearProbe, Probe


class Standardised(LinearProbe):
    def fit_direction(self, features, labels, pairs):
        direction = features[..., pairs[:, 0], :].mean(-2) - features[..., pairs[:, 1], :].mean(-2)
        return direction, torch.zeros(direction.shape[:-1])

    def response_scores(self, activations):
        x = activations[..., 0, :, :].float()
        return ((x - x.mean(-2, keepdim=True)) * self.direction_[..., None, :]).sum(-1)


class Plain(LinearProbe):
    def fit_direction(self, features, labels, pairs):
        direction = features[..., pairs[:, 0], :].mean(-2) - features[..., pairs[:, 1], :].mean(-2)
        return direction, torch.zeros(direction.shape[:-1])


class Longest(Plain):
    ragged = True
    token = "all"

    def learn(self, activations, labels, pairs):
        super().learn(activations.means(), labels, pairs)

    def response_scores(self, activations):
        return super().response_scores(activations.means())
"""


@pytest.mark.parametrize("name", ["cra", "ccs(restarts=2)", "cra-genies(k=2)"])
def test_a_probe_that_compares_two_texts(llama: LanguageModel, tmp_path: Path, name: str) -> None:
    world = make_world(llama, tmp_path, "float32", ("contrast_yes", "contrast_no"), tokens=("last",))
    with pytest.raises(BadInput, match=r"compares two texts \(contrast_yes and contrast_no\).*such as mms, lat"):
        watch(llama, world.probe(name), "Some text.")


def test_a_probe_of_turns_that_are_not_known_yet(exact: World) -> None:
    fitted = exact.probe("mms")
    for token in ("turn_end", "mean:user", "all:assistant"):
        with pytest.raises(BadInput, match="not known while a text is read"):
            watch(exact.lm, replace(fitted, token=token), "Some text.")


def test_a_probe_whose_score_hangs_on_what_else_is_scored(exact: World, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(BadInput, match="scores a text by what else it is given"):
        list(watch(exact.lm, exact.probe(f"{tmp_path}/own.py:Standardised"), "Some text of several words."))
    assert list(watch(exact.lm, exact.probe(f"{tmp_path}/own.py:Plain"), "Some text of several words."))


def test_a_probe_over_tokens_in_a_way_of_its_own(exact: World, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(BadInput, match="in a way of its own.*take attention"):
        watch(exact.lm, exact.probe(f"{tmp_path}/own.py:Longest"), "Some text.")


def test_a_probe_of_layers_or_of_a_site_that_the_model_lacks(exact: World) -> None:
    fitted = replace(exact.probe("mms"), provenance={})
    with pytest.raises(BadInput, match="reads layer 7"):
        watch(exact.lm, replace(fitted, units=((7, -1),), fitted_layers=(0, 1, 7)), "Some text.")
    with pytest.raises(UnknownName, match="unknown hook site"):
        watch(exact.lm, replace(fitted, site="hook_nothing"), "Some text.")


@pytest.mark.parametrize(
    ("text", "how", "said"),
    [
        ("", {}, "the text is empty"),
        ("word " * 5000, {}, "longer than the 2048 tokens"),
        ("a", {"too_long": "drop"}, "way with too long texts"),
        ("a", {"alarm": "loud"}, "write 1%"),
        ("a", {"stimulus": "mine={prompt}!{response}"}, "reads the stimulus 'plain'"),
    ],
)
def test_bad_arguments_are_refused_at_once(exact: World, text: str, how: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        watch(exact.lm, exact.probe("mms"), text, **how)


def test_a_text_that_is_too_long_can_be_cut_or_skipped(exact: World) -> None:
    fitted, text = exact.probe("mms"), "word " * 5000
    assert len(list(watch(exact.lm, fitted, text, too_long="cut"))) == 2048
    assert list(watch(exact.lm, fitted, text, too_long="skip")) == []


def test_an_activation_that_is_no_number_is_an_error_and_no_score(exact: World, monkeypatch) -> None:
    fitted = exact.probe("mlp(epochs=3)", layers="1")

    def broken(module, args, output):
        return torch.full_like(output, -torch.inf)

    handle = exact.lm.blocks[1].register_forward_hook(broken)
    try:
        with pytest.raises(NonFinite, match="activation of token 0"):
            list(watch(exact.lm, fitted, "Some text."))
    finally:
        handle.remove()


def test_a_stimulus_of_ones_own_is_given_again(llama: LanguageModel, tmp_path: Path) -> None:
    own = "mine={prompt} >> {response}"
    world = make_world(llama, tmp_path, "float32", (own,), tokens=("last",))
    fitted = world.probe(f"mms(stimulus='{own}')")
    with pytest.raises(BadInput, match="a template or question of your own"):
        watch(llama, fitted, "Some text.")
    assert "".join(token.text for token in watch(llama, fitted, "b", prompt="a", stimulus=own)).endswith("a >> b")
