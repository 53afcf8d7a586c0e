"""What of a store is wanted, what is missing, and what it will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_world import silent, split_of
from transformers import AutoTokenizer

from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.methods.base import MethodSettings, RequiredActivations
from repeng.methods.named_probe import NamedProbe
from repeng.methods.probes import ProbeMethod
from repeng.study.capture_plan import cache_needs, plan_cache, request_of
from repeng.study.model_settings import ModelSettings

PLAIN, YES = get_stimulus("plain"), get_stimulus("contrast_yes")
SETTINGS = MethodSettings("toy", 3, None, "toy-0", Path("plugins"), Path("tuned"))


def needs_of(*probes: str) -> frozenset[RequiredActivations]:
    source = split_of("easy", "train", 4)
    return frozenset(need for name in probes for need in ProbeMethod(NamedProbe.of(name), SETTINGS).requires(source))


def test_a_request_asks_for_the_layers_that_somebody_reads_and_no_others() -> None:
    def parts(*probes: str) -> dict[str, tuple[int, ...]]:
        return {str(name): layers for name, layers in request_of(needs_of(*probes)).layers_by_key(3).items()}

    assert parts("lat-genies") == {"plain.resid_pre.last": (0,), "plain.resid_post.last": (0, 1)}
    assert parts("lat-genies", "mms")["plain.resid_post.last"] == (0, 1, 2)
    assert parts("mms", "cra") == {
        "plain.resid_post.last": (0, 1, 2),
        "contrast_yes.resid_post.last": (0, 1, 2),
        "contrast_no.resid_post.last": (0, 1, 2),
    }
    assert parts("mms", "mms-genies", "cra").keys() == {
        "plain.resid_post.last",
        "plain.hook_z.last",
        "contrast_yes.resid_post.last",
        "contrast_no.resid_post.last",
    }


def test_a_need_of_all_layers_beats_one_of_some() -> None:
    some, every = RequiredActivations(PLAIN, "resid_post", "last", (1,)), RequiredActivations(YES, "resid_post", "last")
    assert set(request_of(frozenset({some, every})).layers_by_key(3).values()) == {(0, 1, 2)}
    assert set(request_of(frozenset({some})).layers_by_key(3).values()) == {(1,)}
    assert set(request_of(frozenset({every}), (2,)).layers_by_key(3).values()) == {(2,)}


def test_log_probabilities_are_of_the_first_stimulus_alone() -> None:
    needs = cache_needs([PLAIN, YES], ["resid_post", "mlp_out"], ["last"], logprob=True)
    names = {str(name) for name in request_of(needs).layers_by_key(3)}
    assert "plain.logprob" in names and "contrast_yes.logprob" not in names
    assert len(names) == 5


def test_a_trial_counts_every_token_once_and_writes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    settings = ModelSettings(str(tiny_model), device="cpu")
    splits = [split_of("easy", "train", 12), split_of("hard", "test", 8)]
    needs = frozenset(
        {
            RequiredActivations(PLAIN, "resid_post", "last"),
            RequiredActivations(PLAIN),
            RequiredActivations(YES, "resid_post", "last"),
        }
    )
    plan = plan_cache(settings, tmp_path / "store", dict.fromkeys(splits, needs), trial=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokens = sum(
        len(tokenizer(str(example.prompt) + response + stimulus.after_response)["input_ids"])
        for split in splits
        for example in split.examples
        for response in example.responses
        for stimulus in (PLAIN, YES)
    )
    assert plan.estimate is not None and plan.estimate.n_tokens == tokens
    assert plan.n_texts == 2 * sum(split.n_responses for split in splits)
    assert plan.estimate.seconds is not None and plan.estimate.seconds > 0
    assert (plan.n_parts, len(plan.missing)) == (6, 6)
    assert list(tmp_path.iterdir()) == []


def test_what_was_captured_is_not_missing_again_and_the_model_is_not_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ModelSettings(str(tiny_model), device="cpu")
    wanted = {split_of("easy", "train", 6): needs_of("lat-genies")}
    first = plan_cache(settings, tmp_path, wanted).carry_out(silent)
    assert first is not None and first.parts_written == 2

    def refuse(*_args: Any, **_keywords: Any) -> None:
        raise AssertionError("the model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr("repeng.models.load.load_model", refuse)
        again = plan_cache(settings, tmp_path, wanted, trial=True)
        summary = again.carry_out(silent)
    assert again.missing == ()
    assert summary is not None and (summary.parts_written, summary.parts_reused) == (0, 2)

    more = plan_cache(settings, tmp_path, {split_of("easy", "train", 6): needs_of("mms")})
    assert [(str(lack.key), lack.layers) for lack in more.missing] == [("plain.resid_post.last", (2,))]


def test_texts_to_be_refused_end_a_capture_at_once(tiny_model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    long = split_of("easy", "train", 4)
    long = replace(long, examples=(*long.examples, replace(long.examples[0], prompt="The waves never rest. " * 300)))
    settings = ModelSettings(str(tiny_model), device="cpu", too_long="refuse")
    plan = plan_cache(settings, tmp_path, {long: needs_of("mms")})
    with pytest.raises(BadInput, match="tokens"):
        plan.carry_out(silent, refused=lambda _job, _error: pytest.fail("it was to be refused"))
