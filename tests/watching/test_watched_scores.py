"""Every token's score is the one that `FittedProbe.scores` gives of cached activations of the text up to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from watched_samples import EXAMPLES, World, as_read, make_world, slow_scores

from repeng.models.load import LanguageModel
from repeng.watching.reading import read_text, tokens_of
from repeng.watching.token_score import TokenScore
from repeng.watching.watch import watch
from repeng.watching.watched_model import Watched

ROWS = ((0, 0), (1, 1), (7, 1))
"""An example and one of its two responses."""
PROBES = (
    ("mms", {}),
    ("mms", {"layers": "all"}),
    ("lat", {"site": "hook_z"}),
    ("mms", {"token": "last:-2"}),
    ("logistic", {"layers": "1"}),
    ("mlp(epochs=5)", {}),
    ("sklearn:sklearn.svm.LinearSVC", {}),
    ("mms-genies(k=3)", {}),
    ("mms", {"token": "response_mean", "layers": "all"}),
    ("mlp(epochs=5)", {"token": "response_mean"}),
    ("mean-of-scores", {"layers": "all"}),
    ("attention(epochs=5)", {"layers": "all"}),
    ("attention(epochs=5)", {"site": "hook_z"}),
    ("max-of-means(epochs=5, window=3)", {}),
    ("softmax-pooling(epochs=5)", {}),
)


def of_response(tokens: list[TokenScore]) -> list[float]:
    return [token.score for token in tokens if token.part == "response" and token.score is not None]


@pytest.mark.parametrize(("name", "how"), PROBES, ids=[f"{name} {how}" for name, how in PROBES])
def test_each_token_scores_as_the_store_has_it(exact: World, name: str, how: dict[str, str]) -> None:
    fitted = exact.probe(name, **how)
    for example, response in ROWS:
        prompt, text = EXAMPLES[example].prompt, EXAMPLES[example].responses[response]
        tokens = list(watch(exact.lm, fitted, text, prompt=prompt))
        expected = slow_scores(exact, fitted, 2 * example + response)
        assert of_response(tokens) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("name", "how"), [PROBES[0], PROBES[2], PROBES[8], PROBES[11]], ids=str)
def test_a_store_in_bfloat16_is_matched_by_rounding_as_it_does(rounded: World, name: str, how: dict[str, str]) -> None:
    fitted = rounded.probe(name, **how)
    close, all_of_them, spread = 0, 0, 0.0
    for example, response in ROWS:
        prompt, text = EXAMPLES[example].prompt, EXAMPLES[example].responses[response]
        found = np.array(of_response(list(watch(rounded.lm, fitted, text, prompt=prompt))))
        expected = np.array(slow_scores(rounded, fitted, 2 * example + response))
        # A value next to a border of bfloat16 may be rounded to its other side.
        close += int((abs(found - expected) < 1e-4).sum())
        all_of_them += len(found)
        spread = max(spread, float(abs(found - expected).max() / expected.std()))
    # The store's means are of float32 values, those here of rounded ones.
    if fitted.token != "response_mean":
        assert close / all_of_them > 0.7
    assert spread < 0.05


@pytest.mark.parametrize(("name", "how"), [PROBES[0], PROBES[3], PROBES[8], PROBES[9], PROBES[12]], ids=str)
def test_the_texts_own_score_is_what_repeng_score_gives(exact: World, name: str, how: dict[str, str]) -> None:
    fitted = exact.probe(name, **how)
    stored = exact.stored.open(exact.stored.splits()[0], "plain", fitted.site, fitted.token)
    if stored.is_ragged:
        wanted = [slow_scores(exact, fitted, row)[-1] for row in range(32)]
    else:
        wanted = list(fitted.scores(as_read(stored.read(fitted.layers)), fitted.layers))
    watched = Watched.of(exact.lm, fitted)
    with watched.hooks() as hooks:
        for row in (0, 5, 15):
            example = EXAMPLES[row // 2]
            tokenized = tokens_of(watched, example.prompt, example.responses[row % 2])
            assert tokenized is not None
            read = read_text(watched, hooks, tokenized)
            assert read.own is not None
            assert read.tokens[read.own].score == pytest.approx(wanted[row], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gemma2", "bloom", "mamba", "granite", "phi3"])
def test_other_architectures_are_read_alike(
    model_of: Callable[[str], LanguageModel], architecture: str, tmp_path: Path
) -> None:
    lm = model_of(architecture)
    site = "resid_post" if architecture == "mamba" else "mlp_out"
    world = make_world(lm, tmp_path, "float32", sites=(site,), tokens=("last", "all"))
    fitted = world.probe("mms", site=site)
    tokens = list(watch(lm, fitted, EXAMPLES[2].responses[1], prompt=EXAMPLES[2].prompt))
    assert of_response(tokens) == pytest.approx(slow_scores(world, fitted, 5), rel=2e-4, abs=2e-4)


def test_under_a_question_after_the_response_the_last_token_of_all_is_the_texts(llama, tmp_path: Path) -> None:
    world = make_world(llama, tmp_path, "float32", ("truthfulness",))
    fitted = world.probe("mms(stimulus=truthfulness)")
    stored = world.stored.open(world.stored.splits()[0], "truthfulness", "resid_post")
    wanted = fitted.scores(as_read(stored.read(fitted.layers)), fitted.layers)
    tokens = list(watch(llama, fitted, EXAMPLES[4].responses[0], prompt=EXAMPLES[4].prompt, alarm="score=-1e9"))
    assert tokens[-1].part == "after"
    assert tokens[-1].score == pytest.approx(wanted[8], abs=1e-4)
    assert [token.alarm for token in tokens] == [False] * (len(tokens) - 1) + [True]


def test_a_long_text_is_scored_in_pieces_as_in_one(exact: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mms", "mms(token=response_mean)", "mean-of-scores", "max-of-means(epochs=3, window=3)"):
        fitted = exact.probe(name)
        whole = [token.score for token in watch(exact.lm, fitted, "one two three " * 8)]
        with monkeypatch.context() as patched:
            patched.setattr("repeng.watching.scoring.AT_ONCE", 5)
            pieces = [token.score for token in watch(exact.lm, fitted, "one two three " * 8)]
        assert pieces[1:] == pytest.approx(whole[1:], rel=1e-5, abs=1e-5)
