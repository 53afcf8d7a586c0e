"""Every token's vectors in a store: what lies in a shard, reading a part at a time, stopped runs, and damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import made_up
from safetensors.torch import load_file, save_file
from store_files import store_files

from repeng.activations import group_capture
from repeng.activations.capture import Request, capture
from repeng.activations.store import files as parts
from repeng.activations.store import records, writing
from repeng.activations.store.cached_split import CachedSplit, MixedSplit
from repeng.activations.store.records import Index
from repeng.activations.store.store import Store
from repeng.activations.store.stored_activations import StoredActivations, row_blocks
from repeng.atomic import write_atomically
from repeng.distributions.mixture import mixed as mix
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, StoreError
from repeng.models.load import LanguageModel

REQUEST = Request((get_stimulus("plain"),), ("resid_post", "hook_z"), ("last", "all"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


@pytest.fixture
def held(llama: LanguageModel, split: Split, tmp_path: Path) -> StoredActivations:
    store = Store(tmp_path)
    return store.capture(capture(llama, [split], REQUEST, store).capture_id).open(split, "plain", "resid_post", "all")


def slow_tokens(held: StoredActivations, layer: int) -> list[torch.Tensor]:
    """Each response's tokens, from whole files and their own offsets."""
    found = []
    for shard in held.index.shards:
        tensors = load_file(held.folder / shard.file)
        values, offsets = tensors[f"blocks.{layer}.hook_resid_post"], tensors["offsets"].tolist()
        assert (len(offsets), offsets[0], offsets[-1]) == (shard.rows + 1, 0, len(values))
        found += [values[start:stop] for start, stop in zip(offsets, offsets[1:], strict=False)]
    return found


def test_a_shard_holds_tokens_end_to_end_and_the_index_how_many_each_response_has(held: StoredActivations) -> None:
    slow = slow_tokens(held, 1)
    assert len(held.index.shards) > 2 and held.is_ragged
    assert held.index.token_counts == tuple(map(len, slow))
    assert held.index.shape == (sum(map(len, slow)), 32)
    empty = [row for row, values in enumerate(slow) if not len(values)]
    assert empty and tuple(empty) == held.index.blank and not held.kept[empty].any()
    last = StoredActivations(held.folder.with_name("plain.resid_post.last")).layer(1)
    for row, values in enumerate(slow):
        assert not len(values) or torch.equal(values[-1], last[row])


def test_any_responses_are_read_in_any_order(held: StoredActivations) -> None:
    slow = slow_tokens(held, 2)
    n = len(slow)
    for rows in ([0], [n - 1], [], list(range(n)), [5, 6, 7, 8, 9, 2, 2, 1, n - 1, 0], range(3, n - 2)):
        values, offsets = held.tokens(2, rows)
        assert torch.equal(values, torch.cat([slow[row] for row in rows]) if len(rows) else values[:0])
        assert values.shape[1:] == (32,) and values.dtype == torch.bfloat16
        assert np.diff(offsets).tolist() == [len(slow[row]) for row in rows] and offsets[0] == 0
    assert torch.equal(held.tokens(2)[0], torch.cat(slow))
    heads = StoredActivations(held.folder.with_name("plain.hook_z.all"))
    assert heads.tokens(0, [1, 2])[0].shape == (len(slow[1]) + len(slow[2]), 4, 8)
    for rows in ([n], [-1]):
        with pytest.raises(BadInput, match=f"has no response {rows[0]}, only 0 to {n - 1}"):
            held.tokens(2, rows)


@pytest.mark.parametrize("vectors", [1, 7, 40, 10_000])
def test_a_layer_is_read_in_blocks_of_at_most_some_bytes(held: StoredActivations, vectors: int) -> None:
    slow, seen, bound = slow_tokens(held, 0), [], vectors * 32 * 2
    for rows, values, offsets in held.token_blocks(0, max_bytes=bound):
        assert values.nbytes <= bound or len(rows) == 1
        assert torch.equal(values, torch.cat([slow[row] for row in rows])) and len(offsets) == len(rows) + 1
        seen += list(rows)
    assert seen == list(range(len(slow)))


def test_row_blocks_take_as_many_responses_as_fit() -> None:
    assert list(row_blocks([3, 0, 2, 9, 1, 1], 10, 50)) == [range(3), range(3, 4), range(4, 6)]
    assert list(row_blocks([], 10, 50)) == []


def test_only_what_is_asked_for_is_read(held: StoredActivations, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    check = StoredActivations._check

    def noted(self: StoredActivations, shard: records.Shard, name: str = "") -> None:
        opened.append(shard.file)
        check(self, shard, name)

    monkeypatch.setattr(StoredActivations, "_check", noted)
    held.tokens(0, [held.index.shards[1].first])
    assert opened == [held.index.shards[1].file]


def test_one_vector_and_every_token_are_each_read_in_their_own_way(held: StoredActivations) -> None:
    for read in (held.layer, held.numpy):
        with pytest.raises(BadInput, match="holds every token of each response.*read it with tokens or token_blocks"):
            read(1)
    last = StoredActivations(held.folder.with_name("plain.resid_post.last"))
    with pytest.raises(BadInput, match="holds one vector of each response"):
        last.tokens(1)
    with pytest.raises(StoreError, match="no layer 7 here"):
        held.tokens(7)


def test_a_cached_split_and_a_mixture_give_the_same_tokens(llama: LanguageModel, tmp_path: Path) -> None:
    one, other, store = made_up(5), made_up(4, "other"), Store(tmp_path)
    stored = store.capture(capture(llama, [one, other], REQUEST, store).capture_id)
    cached = [CachedSplit(stored, *parts.split_key(split)) for split in (one, other)]
    mixture = mix("mixed", "train", [(other, 1), (one, 2), (one, 3), (other, 0), (one, 0)])
    mixed = MixedSplit("mixed/train", tuple(cached[::-1]), mixture.rows)
    hook = ("resid_post", 1)
    whole = [slow_tokens(each.stored("plain", "resid_post", "all"), 1) for each in cached]
    both = [*whole[1], *whole[0]]
    values, offsets = mixed.tokens("plain", hook, "all")
    assert torch.equal(values, torch.cat([both[row] for row in mixed.take]))
    assert np.diff(offsets).tolist() == mixed.token_counts("plain", "resid_post", "all").tolist()
    assert torch.equal(mixed.tokens("plain", hook, "all", [3, 1])[0], torch.cat([both[mixed.take[r]] for r in (3, 1)]))
    assert mixed.tokens("plain", hook, "all", [])[0].shape == (0, 32)
    for split in (*cached, mixed):
        blocks = list(split.token_blocks("plain", hook, "all", max_bytes=900))
        assert len(blocks) > 2
        assert torch.equal(torch.cat([block[1] for block in blocks]), split.tokens("plain", hook, "all")[0])


@pytest.mark.parametrize("method", ["packed", "batched"])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    method: str, llama: LanguageModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(store: Store, request: Request = REQUEST) -> None:
        capture(llama, [split], request, store, method=method, storage_dtype="float32")

    whole = Store(tmp_path / "whole")
    run(whole)
    for stop_at in (3, 6, 9, 13):
        store, n_writes = Store(tmp_path / f"stopped-{stop_at}"), 0

        def stopping(path: Path, data: bytes | str, *, flush: bool = True, stop_at: int = stop_at) -> None:
            nonlocal n_writes
            n_writes += 1
            if n_writes > stop_at:
                raise InterruptedError
            write_atomically(path, data, flush=flush)

        with monkeypatch.context() as patched, pytest.raises(InterruptedError):
            for module in (records, writing):
                patched.setattr(module, "write_atomically", stopping)
            run(store)
        # Whatever else is asked for by then.
        run(store, Request(REQUEST.stimuli, REQUEST.sites, ("last", "all", "response_mean")))
        assert {
            name: held for name, held in store_files(store.root).items() if "response_mean" not in name
        } == store_files(whole.root)
        assert store.verify() == []


def test_long_texts_are_in_shards_of_few_responses_and_alone_none_is_smaller(
    llama: LanguageModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, last = Store(tmp_path), Request(REQUEST.stimuli, REQUEST.sites)
    with monkeypatch.context() as patched:
        patched.setattr(group_capture, "SHARD_CHARACTERS", 200)
        stored = store.capture(capture(llama, [split], REQUEST, store).capture_id)
    held = stored.open(split, "plain", "resid_post", "all")
    shards, examples = held.index.shards, held.index.numbers("example")
    alone = Store(tmp_path / "alone")
    usual = alone.capture(capture(llama, [split], last, alone).capture_id).open(split, "plain", "resid_post")
    assert len(shards) > len(usual.index.shards)
    texts = [len(str(e.prompt)) + len(r) for e in split.examples for r in e.responses]
    for shard in shards:
        here = slice(shard.first, shard.first + shard.rows)
        assert sum(texts[here]) <= 200 or len(set(examples[here])) == 1
    assert torch.allclose(stored.open(split, "plain", "resid_post").layer(1).float(), usual.layer(1).float(), atol=2e-2)


def test_another_version_of_the_data_has_its_tokens_computed_anew(llama: LanguageModel, tmp_path: Path) -> None:
    whole, store = made_up(6), Store(tmp_path)
    capture(llama, [whole], REQUEST, store, storage_dtype="float32")
    few = whole.first(3)
    done = capture(llama, [few], REQUEST, store, storage_dtype="float32")
    assert done.n_texts > 0
    ours = store.capture(done.capture_id).open(few, "plain", "resid_post", "all")
    theirs = store.capture(done.capture_id).open(whole, "plain", "resid_post", "all")
    assert torch.allclose(ours.tokens(1)[0], theirs.tokens(1, range(few.n_responses))[0], atol=1e-5)


def test_a_layer_asked_for_later_is_added(llama: LanguageModel, split: Split, tmp_path: Path) -> None:
    store = Store(tmp_path)
    few = Request(REQUEST.stimuli, tokens=("all",), layers=(0, 2), logprob=False)
    capture(llama, [split], few, store, storage_dtype="float32")
    done = capture(llama, [split], Request(few.stimuli, tokens=("all",)), store, storage_dtype="float32")
    held = store.capture(done.capture_id).open(split, "plain", "resid_post", "all")
    assert held.layers == (0, 1, 2) and store.verify() == []
    fresh = Store(tmp_path / "fresh")
    other = fresh.capture(capture(llama, [split], REQUEST, fresh, storage_dtype="float32").capture_id)
    theirs = other.open(split, "plain", "resid_post", "all")
    for layer in range(3):
        assert torch.allclose(held.tokens(layer)[0], theirs.tokens(layer)[0], atol=1e-5)


def test_a_changed_shard_is_found_and_dropped_and_captured_again(
    held: StoredActivations, llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    before, file = store_files(tmp_path), held.folder / held.index.shards[1].file
    file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
    with pytest.raises(StoreError, match="its content has changed"):
        StoredActivations(held.folder).tokens(2)
    store = Store(tmp_path)
    found = [str(damage) for damage in store.verify(repair=True)]
    assert found == [f"{file}: its content has changed since it was written"]
    assert not held.folder.exists()
    capture(llama, [split], REQUEST, store)
    assert store_files(tmp_path).keys() == before.keys() and store.verify() == []


@pytest.mark.parametrize("what", ["offsets", "values"])
def test_a_shard_that_is_not_what_the_index_says_is_refused_without_the_checksum(
    what: str, held: StoredActivations
) -> None:
    file = held.folder / held.index.shards[0].file
    tensors = load_file(file)
    if what == "offsets":
        tensors["offsets"][1] += 1
    else:
        tensors["blocks.0.hook_resid_post"] = tensors["blocks.0.hook_resid_post"][1:]
    save_file(tensors, file)
    with pytest.raises(StoreError, match="blocks.0.hook_resid_post has not the tokens that index.json says"):
        StoredActivations(held.folder, trust=True).tokens(0, [0])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda index: index["token_counts"].pop(), "token_counts are not those of"),
        (lambda index: index["token_counts"].__setitem__(0, -1), "token_counts are not those of"),
        (lambda index: index["shape"].__setitem__(0, 7), "shape \\[7, 32\\] with"),
        (lambda index: index.pop("token_counts"), "token_counts are not those of"),
    ],
)
def test_an_index_whose_counts_do_not_fit_is_refused(
    change: Callable[[dict[str, object]], object], what: str, held: StoredActivations
) -> None:
    index = json.loads((held.folder / "index.json").read_text())
    change(index)
    with pytest.raises(ValueError, match=what):
        Index.model_validate_json(json.dumps(index))
