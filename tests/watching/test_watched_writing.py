"""A text that the model writes: the tokens that generate gives, with the scores that the text has when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import make_model
from watched_samples import World, make_world

from repeng.errors import BadInput
from repeng.models.load import LanguageModel, load_model
from repeng.models.tokens import TokenizedText
from repeng.watching.reading import read_text
from repeng.watching.session import TextEnd, write_one
from repeng.watching.token_score import TokenScore
from repeng.watching.watch import watch
from repeng.watching.watched_model import Watched
from repeng.watching.writing import Writing

PROMPT = "### Instruction:\nWrite a short poem.\n\n### Response:\n"


def read_again(watched: Watched, tokens: list[TokenScore]) -> list[float | None]:
    """The scores of the same tokens read in one pass."""
    start = sum(token.part == "prompt" for token in tokens)
    text = TokenizedText([token.token_id for token in tokens], start, len(tokens))
    with watched.hooks() as hooks:
        return [token.score for token in read_text(watched, hooks, text).tokens]


@pytest.mark.parametrize(
    "name",
    ["mms", "mms(token=response_mean)", "mean-of-scores", "attention(epochs=3)", "max-of-means(epochs=3, window=4)"],
)
def test_what_is_written_scores_as_it_does_when_it_is_read(exact: World, name: str) -> None:
    watched = Watched.of(exact.lm, exact.probe(name, layers="all"))
    tokens = list(watch(exact.lm, watched.fitted, prompt=PROMPT, max_new_tokens=20))
    assert sum(token.part == "response" for token in tokens) == 20
    again = read_again(watched, tokens)
    assert [score is None for score in again] == [token.score is None for token in tokens]
    found, wanted = [t.score for t in tokens if t.score is not None], [s for s in again if s is not None]
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "gemma2", "mistral", "mamba", "bloom"])
def test_the_tokens_are_those_of_generate(
    model_of: Callable[[str], LanguageModel], architecture: str, tmp_path: Path
) -> None:
    lm = model_of(architecture)
    fitted = make_world(lm, tmp_path, "float32", sites=("resid_post",)).probe("mms")
    ids = torch.tensor([lm.tokenizer(PROMPT)["input_ids"]])
    wanted = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0].tolist()
    tokens = list(watch(lm, fitted, prompt=PROMPT, max_new_tokens=12))
    assert [token.token_id for token in tokens] == [one for one in wanted if one not in (lm.tokenizer.eos_token_id,)]
    again = read_again(Watched.of(lm, fitted), tokens)
    assert [token.score for token in tokens] == pytest.approx(again, rel=2e-4, abs=2e-4)


def test_a_model_without_a_cache_of_keys_and_values_reads_the_text_again(exact: World, monkeypatch) -> None:
    for name in ("mms", "mms(token=response_mean)", "attention(epochs=3)"):
        fitted = exact.probe(name)
        wanted = [token.score for token in watch(exact.lm, fitted, prompt=PROMPT, max_new_tokens=6)]
        forward = exact.lm.model.forward

        def without(*args, forward=forward, **kwargs):
            out = forward(*args, **{**kwargs, "use_cache": False})
            out.past_key_values = None
            return out

        with monkeypatch.context() as patched:
            patched.setattr(exact.lm.model, "forward", without)
            found = [token.score for token in watch(exact.lm, fitted, prompt=PROMPT, max_new_tokens=6)]
        assert [score is None for score in found] == [score is None for score in wanted]
        assert [s for s in found if s is not None] == pytest.approx([s for s in wanted if s is not None], abs=1e-4)


def test_sampling_is_repeated_by_its_seed_and_changes_with_it(exact: World) -> None:
    fitted = exact.probe("mms")

    def written(seed: int) -> list[int]:
        how = {"max_new_tokens": 15, "temperature": 1.5, "seed": seed}
        return [token.token_id for token in watch(exact.lm, fitted, prompt=PROMPT, **how)]

    before = torch.get_rng_state()
    assert written(1) == written(1) != written(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_text_ends_at_its_first_alarm_and_only_the_response_rings(exact: World) -> None:
    fitted = exact.probe("mms")
    free = list(watch(exact.lm, fitted, prompt=PROMPT, max_new_tokens=20, alarm="none"))
    assert not any(token.alarm for token in free)
    response = [token for token in free if token.part == "response"]
    level = sorted(token.score for token in response)[-4]
    asked = {"max_new_tokens": 20, "alarm": f"score={level!r}"}
    heard = list(watch(exact.lm, fitted, prompt=PROMPT, **asked))
    assert [token.alarm for token in heard] == [token.part == "response" and token.score > level for token in free]
    stopped = list(watch(exact.lm, fitted, prompt=PROMPT, stop_at_alarm=True, **asked))
    first = next(place for place, token in enumerate(heard) if token.alarm)
    assert stopped == heard[: first + 1]


@pytest.mark.parametrize(
    ("how", "why"),
    [(Writing(5), "max_new_tokens"), (Writing(500), "window"), (Writing(500, stop_at_alarm=True), "alarm")],
)
def test_it_is_said_why_a_text_ended(tmp_path: Path, how: Writing, why: str) -> None:
    lm = load_model(str(make_model("llama", tmp_path / "short", positions=80)), device="cpu")
    lm.model.generation_config.eos_token_id = None
    lm.tokenizer.eos_token = None
    world = make_world(lm, tmp_path, "float32")
    watched = Watched.of(lm, world.probe("mms"), alarm="score=-1e9" if why == "alarm" else "none")
    *tokens, end = write_one(watched, PROMPT, how)
    assert isinstance(end, TextEnd) and end.why == why and end.summary is not None
    assert end.summary.score == tokens[-1].token.score
    assert len(tokens) == 80 or why != "window"


def test_the_token_that_ends_a_text_is_neither_given_nor_scored(exact: World, monkeypatch) -> None:
    fitted = exact.probe("mms")
    free = [token.token_id for token in watch(exact.lm, fitted, prompt=PROMPT, max_new_tokens=6)]
    end = free[-2]
    monkeypatch.setattr(exact.lm.model.generation_config, "eos_token_id", [end])
    n_prompt = len(exact.lm.tokenizer(PROMPT)["input_ids"])
    found = [token.token_id for token in watch(exact.lm, fitted, prompt=PROMPT, max_new_tokens=6)]
    assert found == free[: n_prompt + free[n_prompt:].index(end)]


def test_what_cannot_be_written_is_refused_before_the_model_runs(exact: World, tmp_path: Path, llama) -> None:
    fitted = exact.probe("mms")
    with pytest.raises(BadInput, match="prompt has .* tokens"):
        watch(exact.lm, fitted, prompt="word " * 5000)
    with pytest.raises(BadInput, match="temperature is -1"):
        watch(exact.lm, fitted, prompt=PROMPT, temperature=-1.0)
    with pytest.raises(BadInput, match="max_new_tokens is 0"):
        watch(exact.lm, fitted, prompt=PROMPT, max_new_tokens=0)
    asked = make_world(llama, tmp_path, "float32", ("truthfulness",))
    with pytest.raises(BadInput, match="comes after a whole response"):
        watch(llama, asked.probe("mms(stimulus=truthfulness)"), prompt=PROMPT)


def test_hooks_come_off_when_the_generator_is_left_in_the_middle(exact: World) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in exact.lm.model.modules())

    before, tokens = hooks(), watch(exact.lm, exact.probe("mms"), prompt=PROMPT)
    next(tokens)
    assert hooks() > before
    tokens.close()
    assert hooks() == before
