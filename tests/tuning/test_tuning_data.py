"""What a reward model reads, and the settings of a run."""

from __future__ import annotations

import numpy as np
import pytest

from repeng.distributions.schema import Example, Split
from repeng.errors import BadInput, UnknownName
from repeng.models.pretrained import load_tokenizer
from repeng.tuning.batches import length_batches
from repeng.tuning.data import PairStream, encode_split, example_rows, hold_out
from repeng.tuning.settings import TuneSettings, preset_settings


def test_a_text_has_no_bos_and_ends_with_eos(base: str) -> None:
    tokenizer = load_tokenizer(base)
    split = Split("one", "train", (Example("Question: ", ("Yes", ""), 0),))
    ids = encode_split(split, tokenizer, 100).ids
    assert tokenizer("Question: ")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[0]) == "Question: Yes</s>"
    assert tokenizer.decode(ids[1]) == "Question: </s>"


def epoch_of(stream: PairStream, epoch: int) -> list[tuple[int, int]]:
    stream.set_epoch(epoch)
    return [stream[number] for number in range(len(stream))]


def test_an_epoch_takes_each_example_once_and_the_next_in_another_order() -> None:
    rows = tuple((10 * n, (10 * n + 1, 10 * n + 2)) for n in range(10))
    stream = PairStream(rows, seed=0, redraw=True)
    epochs = [epoch_of(stream, number) for number in range(2)]
    for epoch in epochs:
        assert sorted(best for best, _ in epoch) == [10 * n for n in range(10)]
        assert all(worse - best in (1, 2) for best, worse in epoch)
    assert [best for best, _ in epochs[0]] != [best for best, _ in epochs[1]]
    assert dict(epochs[0]) != dict(epochs[1])


def test_without_redrawing_a_prompt_keeps_its_worse_response() -> None:
    rows = tuple((10 * n, tuple(range(10 * n + 1, 10 * n + 4))) for n in range(10))
    stream = PairStream(rows, seed=0, redraw=False)
    assert dict(epoch_of(stream, 0)) == dict(epoch_of(stream, 1))


def test_held_out_prompts_share_no_text_with_those_trained_on() -> None:
    examples = tuple(Example(f"prompt {n % 40}", ("a", "b"), 0) for n in range(100))
    split = Split("s", "train", examples)
    training, held_out = hold_out(split, 0.2, seed=1)
    assert sorted(training + held_out) == list(range(100))
    assert not {examples[n].prompt for n in training} & {examples[n].prompt for n in held_out}
    assert len({examples[n].prompt for n in held_out}) == 8


def test_where_prompts_are_few_examples_are_held_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    split = Split("s", "train", tuple(Example("one prompt", (f"a{n}", "b"), 0) for n in range(10)))
    training, held_out = hold_out(split, 0.2, seed=1)
    assert (len(training), len(held_out)) == (8, 2)
    assert "examples are held out instead" in caplog.text


def test_an_example_with_a_response_that_is_too_long_is_left_out_with_a_warning(
    base: str, caplog: pytest.LogCaptureFixture
) -> None:
    split = Split("s", "train", (Example("p", ("a", "b " * 50), 0), Example("q", ("c", "a", "b"), 1)))
    rows = example_rows(encode_split(split, load_tokenizer(base), 20), [0, 1])
    assert rows == ((3, (2, 4)),)
    assert "1 of 2 examples are left out" in caplog.text


def test_batches_hold_every_text_once_and_stay_under_the_budget() -> None:
    ids = [[0] * length for length in np.random.default_rng(0).integers(1, 50, size=60)]
    batches = length_batches(ids, 100)
    assert sorted(place for batch in batches for place in batch) == list(range(60))
    assert all(len(batch) * max(len(ids[place]) for place in batch) <= 100 for batch in batches)


def test_the_learning_rate_rises_through_the_warmup_and_falls_to_zero() -> None:
    settings = TuneSettings("lora", learning_rate=1.0, steps=20, schedule="linear", warmup=0.2)
    rates = [settings.learning_rate_at(step) for step in range(20)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *[(20 - step) / 16 for step in range(4, 20)]])
    assert {preset_settings("lora", "genies").learning_rate_at(step) for step in range(100)} == {2e-4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"held_out": 0.0}, "patience is 3"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_a_setting_out_of_range_is_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        preset_settings("lora", **change)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown tuning setting 'rnak'"):
        preset_settings("lora", rnak=4)


def test_the_data_of_an_epoch_do_not_depend_on_what_was_drawn_before() -> None:
    rows = tuple((2 * n, (2 * n + 1,)) for n in range(7))
    stream = PairStream(rows, seed=4, redraw=True)
    later = epoch_of(stream, 5)
    for epoch in range(5):
        stream.set_epoch(epoch)
    assert epoch_of(stream, 5) == later == epoch_of(PairStream(rows, seed=4, redraw=True), 5)
