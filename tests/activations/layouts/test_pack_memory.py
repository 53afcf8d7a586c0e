"""A device that is too small for the token budget, and texts longer than those of the check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_up import made_up

from repeng.activations import shards
from repeng.activations.capture import Request, capture
from repeng.activations.layouts import choice
from repeng.activations.layouts.batch import Chunk, Layout, Run
from repeng.activations.store import files as parts
from repeng.activations.store.records import Index
from repeng.activations.store.store import Store
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import RepengError
from repeng.models.load import LanguageModel

REQUEST = Request((get_stimulus("plain"),))


def device_of(tokens: int, monkeypatch: pytest.MonkeyPatch, *, after: int = 0) -> None:
    """Let a batch of a greater budget run out of memory, once `after` batches have passed."""
    run, passed = shards.run, 0

    def small(lm: LanguageModel, plan: Run, layout: Layout) -> Iterator[Chunk]:
        nonlocal passed
        for chunk in run(lm, plan, layout):
            if plan.batch_tokens > tokens and passed >= after:
                raise torch.OutOfMemoryError("no room")
            passed += 1
            yield chunk

    monkeypatch.setattr(shards, "run", small)


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("method", ["packed", "batched"])
def test_a_budget_that_does_not_fit_is_halved_and_the_one_that_does_is_recorded(
    method: str,
    after: int,
    llama: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)
    split = made_up(8)

    def captured(name: str, budget: int) -> Store:
        store = Store(tmp_path / name)
        capture(llama, [split], REQUEST, store, method=method, batch_tokens=budget, storage_dtype="float32")
        return store

    expected = captured("roomy", 100)
    device_of(100, monkeypatch, after=after)
    store = captured("tight", 400)
    assert [record.message for record in caplog.records] == [
        "out of memory with batches of 400 tokens; going on with 200",
        "out of memory with batches of 200 tokens; going on with 100",
    ]
    files = sorted(file.relative_to(store.root) for file in store.root.rglob("*") if file.is_file())
    files = [file for file in files if file.name not in (".lock", "split.json")]
    assert len(files) == 1 + 2 * (1 + 4)
    for file in files:
        assert (store.root / file).read_bytes() == (expected.root / file).read_bytes()
        if file.name == "index.json":
            assert Index.read(store.root / file).layout.batch_tokens == 100


def test_a_model_that_fits_no_batch_is_an_error_that_says_so(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_of(0, monkeypatch)
    with pytest.raises(RepengError, match="out of memory even with batches of"):
        capture(llama, [made_up(3)], REQUEST, Store(tmp_path), method="packed", batch_tokens=400)


def test_the_check_is_made_anew_for_texts_past_a_limit_that_earlier_ones_did_not_reach(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    check = choice.packed_layout

    def counted(lm: LanguageModel, plan: Run) -> object:
        checked.append(max(len(text.ids) for text in plan.texts))
        return check(lm, plan)

    def split(name: str, words: int) -> Split:
        return Split(name, "test", (Example("one two three" + " and" * words, (" yes", " no"), 0),))

    monkeypatch.setattr(choice, "packed_layout", counted)
    splits = [split("short", 1), split("also_short", 2), split("long", 200), split("also_long", 210)]
    monkeypatch.setattr(llama.config, "original_max_position_embeddings", 100, raising=False)
    capture(llama, splits, REQUEST, Store(tmp_path))
    assert [size > 100 for size in checked] == [False, True]
