"""A watcher next to transformers' own generate: rows, padding, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from watched_samples import World

from repeng.errors import BadInput
from repeng.watching.token_score import TokenScore
from repeng.watching.watch import watch
from repeng.watching.watcher import Watcher

PROMPTS = ("### Instruction:\nSay it again and again.\n\n### Response:\n", "Which of these is the largest?", "The")
PROBES = ("mms", "mms(token=response_mean)", "attention(epochs=3)")


@pytest.fixture
def batch(exact: World) -> Iterator[dict[str, Any]]:
    """Prompts padded on the left, no row of which ends early."""
    tokenizer, settings = exact.lm.tokenizer, exact.lm.model.generation_config
    before = (tokenizer.padding_side, settings.eos_token_id)
    tokenizer.padding_side = "left"
    given = tokenizer(list(PROMPTS), return_tensors="pt", padding=True)
    yield {"input_ids": given["input_ids"], "attention_mask": given["attention_mask"], "do_sample": False}
    tokenizer.padding_side, settings.eos_token_id = before


def scores_of(tokens: list[TokenScore]) -> list[float]:
    return [token.score for token in tokens if token.score is not None]


@pytest.mark.parametrize("name", PROBES)
def test_each_row_of_a_padded_batch_is_watched_as_if_it_were_alone(exact: World, batch, name: str) -> None:
    fitted = exact.probe(name, layers="all")
    with Watcher(exact.lm, fitted) as watcher:
        out = watcher.model.generate(**batch, max_new_tokens=9, logits_processor=[watcher.processor])
    for row, prompt in enumerate(PROMPTS):
        alone = list(watch(exact.lm, fitted, prompt=prompt, max_new_tokens=9))
        # generate never reads the token that comes last.
        n = len(watcher.tokens[row])
        assert n == len(alone) - 1
        assert [t.token_id for t in watcher.tokens[row]] == [t.token_id for t in alone[:n]]
        assert [(t.text, t.part, t.position) for t in watcher.tokens[row]] == [
            (t.text, t.part, t.position) for t in alone[:n]
        ]
        assert scores_of(watcher.tokens[row]) == pytest.approx(scores_of(alone[:n]), rel=1e-3, abs=1e-3)
        assert out[row, -10:-1].tolist()[-3:] == [t.token_id for t in watcher.tokens[row]][-3:]


def test_logits_and_tokens_are_those_without_a_watcher(exact: World, batch) -> None:
    plain = exact.lm.model.generate(**batch, max_new_tokens=9)
    with Watcher(exact.lm, exact.probe("mms")) as watcher:
        watched = watcher.model.generate(**batch, max_new_tokens=9, logits_processor=[watcher.processor])
    assert torch.equal(plain, watched)


def test_tokens_are_told_as_they_are_read_and_again_at_the_end(exact: World, batch) -> None:
    told: list[tuple[int, int]] = []
    lengths: list[int] = []

    def on_token(row: int, token: TokenScore) -> None:
        told.append((row, token.token_id))

    class Counts:
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            lengths.append(len(told))
            return scores

    with Watcher(exact.lm, exact.probe("mms"), on_token=on_token) as watcher:
        watcher.model.generate(**batch, max_new_tokens=5, logits_processor=[watcher.processor, Counts()])
    n_prompt = int(batch["attention_mask"].sum())
    assert lengths == [n_prompt, n_prompt + 3, n_prompt + 6, n_prompt + 9, n_prompt + 12]
    for row in range(3):
        assert [one for number, one in told if number == row] == [token.token_id for token in watcher.tokens[row]]


def test_a_row_ends_with_its_end_of_sequence_token(exact: World, batch) -> None:
    fitted = exact.probe("mms")
    free = exact.lm.model.generate(**batch, max_new_tokens=9)[1, -9:].tolist()
    exact.lm.model.generation_config.eos_token_id = [free[4]]
    with Watcher(exact.lm, fitted) as watcher:
        watcher.model.generate(**batch, max_new_tokens=9, logits_processor=[watcher.processor])
    written = [token.token_id for token in watcher.tokens[1] if token.part == "response"]
    assert written == free[: free.index(free[4])]


def test_a_row_stops_at_its_first_alarm(exact: World, batch) -> None:
    fitted = exact.probe("mms")
    one = {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    with Watcher(exact.lm, fitted, alarm="none") as watcher:
        watcher.model.generate(**one, max_new_tokens=12, logits_processor=[watcher.processor])
    response = [token for token in watcher.tokens[0] if token.part == "response"]
    level = sorted(scores_of(response))[-2]
    with Watcher(exact.lm, fitted, alarm=f"score={level!r}") as watcher:
        out = watcher.model.generate(
            **one, max_new_tokens=12, logits_processor=[watcher.processor], stopping_criteria=[watcher.stopping]
        )
    first = next(place for place, token in enumerate(response) if token.score > level)
    assert [token.alarm for token in watcher.tokens[0] if token.part == "response"] == [False] * first + [True]
    # The token after the one that rang had been chosen.
    assert out.shape[1] == one["input_ids"].shape[1] + first + 2


@pytest.mark.parametrize(
    "how",
    [{"num_beams": 3}, {"guidance_scale": 1.5}, {"num_beams": 2, "num_return_sequences": 2}],
    ids=lambda how: next(iter(how)),
)
def test_what_takes_tokens_back_is_refused(exact: World, batch, how: dict[str, Any]) -> None:
    with Watcher(exact.lm, exact.probe("mms")) as watcher, pytest.raises(BadInput, match="takes tokens back"):
        watcher.model.generate(**batch, max_new_tokens=9, logits_processor=[watcher.processor], **how)
        _ = watcher.tokens


@pytest.mark.parametrize("with_assistant", [True, False])
def test_assisted_decoding_is_refused(exact: World, batch, with_assistant: bool) -> None:
    one = {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    how = {"assistant_model": exact.lm.model} if with_assistant else {"prompt_lookup_num_tokens": 3}
    with Watcher(exact.lm, exact.probe("mms")) as watcher, pytest.raises(BadInput, match="takes tokens back"):
        watcher.model.generate(**one, max_new_tokens=30, logits_processor=[watcher.processor], **how)


def test_several_samples_of_a_prompt_are_rows(exact: World, batch) -> None:
    one = {"input_ids": batch["input_ids"][:1], "attention_mask": batch["attention_mask"][:1]}
    torch.manual_seed(0)
    how = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 6, "temperature": 2.0}
    with Watcher(exact.lm, exact.probe("mms")) as watcher:
        out = watcher.model.generate(**one, logits_processor=[watcher.processor], **how)
    assert len(watcher.tokens) == 3
    for row, tokens in enumerate(watcher.tokens):
        written = [token.token_id for token in tokens if token.part == "response"]
        assert written == out[row, -6:-1].tolist()[: len(written)]


def test_a_second_generation_begins_anew(exact: World, batch) -> None:
    fitted = exact.probe("mms(token=response_mean)")
    with Watcher(exact.lm, fitted) as watcher:
        watcher.model.generate(**batch, max_new_tokens=4, logits_processor=[watcher.processor])
        watcher.model.generate(**batch, max_new_tokens=7, logits_processor=[watcher.processor])
        second = watcher.tokens
        watcher.reset()
        assert watcher.tokens == []
    with Watcher(exact.lm, fitted) as fresh:
        fresh.model.generate(**batch, max_new_tokens=7, logits_processor=[fresh.processor])
    assert fresh.tokens == second


def test_without_a_cache_each_token_is_scored_and_a_running_mean_is_refused(exact: World, batch) -> None:
    fitted = exact.probe("mms")
    with Watcher(exact.lm, fitted) as watcher:
        watcher.model.generate(**batch, max_new_tokens=5, use_cache=False, logits_processor=[watcher.processor])
        slow = watcher.tokens
    with Watcher(exact.lm, fitted) as watcher:
        watcher.model.generate(**batch, max_new_tokens=5, logits_processor=[watcher.processor])
    for one, other in zip(slow, watcher.tokens, strict=True):
        assert scores_of(one) == pytest.approx(scores_of(other), rel=1e-3, abs=1e-3)
    with Watcher(exact.lm, exact.probe("mms(token=response_mean)")) as watcher, pytest.raises(BadInput, match="cache"):
        watcher.model.generate(**batch, max_new_tokens=5, use_cache=False, logits_processor=[watcher.processor])


def test_a_prompt_that_a_cache_holds_already_is_gone_on_from(exact: World, batch) -> None:
    # The longest, which is not padded.
    one = {"input_ids": batch["input_ids"][:1], "attention_mask": batch["attention_mask"][:1], "do_sample": False}
    fitted = exact.probe("mms")
    with Watcher(exact.lm, fitted) as watcher:
        out = watcher.model.generate(
            **one, max_new_tokens=6, logits_processor=[watcher.processor], return_dict_in_generate=True
        )
        first = watcher.tokens[0]
        more = {"input_ids": out.sequences, "past_key_values": out.past_key_values, "do_sample": False}
        watcher.reset()
        mask = torch.ones_like(out.sequences)
        watcher.model.generate(**more, attention_mask=mask, max_new_tokens=4, logits_processor=[watcher.processor])
        second = watcher.tokens[0]
    # The last token of the first was not read by it; the second begins there.
    assert second[0].token_id == out.sequences[0, -1]
    with Watcher(exact.lm, fitted) as watcher:
        watcher.model.generate(**one, max_new_tokens=10, logits_processor=[watcher.processor])
    assert scores_of(first) + scores_of(second) == pytest.approx(scores_of(watcher.tokens[0]), rel=1e-3, abs=1e-3)


def test_hooks_come_off_whatever_happens(exact: World, batch) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in exact.lm.model.modules())

    before = hooks()
    with pytest.raises(ZeroDivisionError), Watcher(exact.lm, exact.probe("mms")):
        assert hooks() > before
        raise ZeroDivisionError
    watcher = Watcher(exact.lm, exact.probe("mms"))
    with watcher, pytest.raises(BadInput, match="one context at a time"):
        watcher.__enter__()
    assert hooks() == before
    with watcher:
        watcher.model.generate(**batch, max_new_tokens=3, logits_processor=[watcher.processor])
    assert len(watcher.tokens) == 3 and hooks() == before


def test_a_processor_of_another_model_or_out_of_its_context_says_so(exact: World, batch) -> None:
    watcher = Watcher(exact.lm, exact.probe("mms"))
    with pytest.raises(BadInput, match="has read nothing"):
        exact.lm.model.generate(**batch, max_new_tokens=3, logits_processor=[watcher.processor])


def test_a_model_of_transformers_alone_is_watched_and_a_warning_says_what_is_not_known(
    exact: World, batch, caplog: pytest.LogCaptureFixture
) -> None:
    fitted = exact.probe("mms")
    with Watcher(exact.lm.model, fitted, tokenizer=exact.lm.tokenizer) as watcher:
        watcher.model.generate(**batch, max_new_tokens=4, logits_processor=[watcher.processor])
    assert "nothing tells that" in caplog.text and "repeng.load_model" in caplog.text
    with Watcher(exact.lm, fitted) as known:
        known.model.generate(**batch, max_new_tokens=4, logits_processor=[known.processor])
    assert watcher.tokens == known.tokens
    with pytest.raises(BadInput, match="has no tokenizer"):
        Watcher(exact.lm.model, fitted)
