"""Stores of earlier versions of repeng in which a GPU attended to a whole row in one kernel: the layout `flex`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_up import made_up
from store_files import store_files

from repeng.activations import shards
from repeng.activations.capture import CaptureSummary, Request, capture
from repeng.activations.layouts.batch import Chunk, Layout, Run
from repeng.activations.store import files as parts
from repeng.activations.store.files import CAPTURE, INDEX, PLAN
from repeng.activations.store.records import CaptureRecord, Index, Plan
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel

SPLIT = made_up(12)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


def run(lm: LanguageModel, root: Path, layers: tuple[int, ...] | None = None) -> CaptureSummary:
    request = Request((get_stimulus("plain"),), layers=layers)
    return capture(lm, [SPLIT], request, Store(root), storage_dtype="float32")


def make_old(root: Path) -> None:
    """Have the files of a store say what a GPU of that time wrote."""
    for path in root.rglob(CAPTURE):
        CaptureRecord.read(path).model_copy(update={"attention": "flex"}).write(path)
    for path in root.rglob(PLAN):
        Plan.read(path).model_copy(update={"layout": "flex"}).write(path)
    for path in root.rglob(INDEX):
        index = Index.read(path)
        assert index.layout is not None
        index.model_copy(update={"layout": index.layout.model_copy(update={"layout": "flex"})}).write(path)


def layouts(root: Path) -> set[str]:
    return {index.layout.layout for index in map(Index.read, root.rglob(INDEX)) if index.layout is not None}


def test_what_was_stopped_is_begun_anew(llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(llama, tmp_path / "whole")
    old, plain, n_blocks = tmp_path / "old", shards.run, 0

    def stopping(lm: LanguageModel, plan: Run, layout: Layout) -> Iterator[Chunk]:
        nonlocal n_blocks
        n_blocks += 1
        if n_blocks == 3:
            raise KeyboardInterrupt
        yield from plain(lm, plan, layout)

    with monkeypatch.context() as patched:
        patched.setattr(shards, "run", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(llama, old)
    make_old(old)
    assert len({path.name for path in old.rglob("shard-*")}) == 2
    assert run(llama, old).n_texts == whole.n_texts
    assert layouts(old) == {"trees"}
    expected = store_files(tmp_path / "whole")
    assert {name: held for name, held in store_files(old).items() if not name.endswith(CAPTURE)} == {
        name: held for name, held in expected.items() if not name.endswith(CAPTURE)
    }


def test_what_is_whole_is_read_as_it_is_and_added_to(llama: LanguageModel, tmp_path: Path) -> None:
    first = run(llama, tmp_path, (0,))
    stored = Store(tmp_path).capture(first.capture_id)
    before = stored.open(SPLIT, "plain", "resid_post").read()
    make_old(tmp_path)
    held = store_files(tmp_path)
    again = run(llama, tmp_path, (0,))
    assert (again.n_texts, again.parts_written) == (0, 0)
    assert store_files(tmp_path) == held and layouts(tmp_path) == {"flex"}
    run(llama, tmp_path, (0, 1))
    stored = Store(tmp_path).capture(first.capture_id)
    both = stored.open(SPLIT, "plain", "resid_post")
    assert torch.equal(both.read()[:1], before) and len(both.read()) == 2
    now = store_files(tmp_path)
    assert {name: now[name] for name in held if name.endswith(".safetensors")} == {
        name: content for name, content in held.items() if name.endswith(".safetensors")
    }
    assert Store(tmp_path).verify() == []
