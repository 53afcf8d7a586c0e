"""A store in an object store: the same objects and bytes as on a disk, whatever dies, and the same answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dying_store import Died, client
from made_up import made_up
from object_store import content

from repeng import lease
from repeng.activations.capture import Request, capture
from repeng.activations.store import files as parts
from repeng.activations.store import shard_file, stored_activations
from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import split_key
from repeng.activations.store.records import Shard, read_index
from repeng.activations.store.store import Store
from repeng.activations.store.stored_activations import StoredActivations
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import StoreError
from repeng.models.load import LanguageModel
from repeng.places import Remote, place

REQUEST = Request((get_stimulus("plain"),), tokens=("last", "all"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)
    monkeypatch.setattr(lease, "TERM", 0.2)
    monkeypatch.setattr(lease, "MARGIN", 0.0)
    monkeypatch.setattr(lease, "LOOK", 0.02)


@pytest.fixture
def there(request: pytest.FixtureRequest) -> Store:
    return Store(f"memory://{request.node.name.partition('[')[0]}/store")


@pytest.fixture
def split() -> Split:
    return made_up(9)


def held(store: Store) -> dict[str, bytes]:
    """Every file but what says when a split was captured."""
    return {name: content for name, content in content_of(store).items() if not name.endswith(parts.SPLIT)}


def content_of(store: Store) -> dict[str, bytes]:
    return content(store.root)


def test_a_capture_there_is_what_it_is_on_a_disk(
    llama: LanguageModel, split: Split, there: Store, tmp_path: Path
) -> None:
    here = Store(tmp_path)
    one, other = capture(llama, [split], REQUEST, here), capture(llama, [split], REQUEST, there)
    assert held(here) == held(there) and len(held(here)) > 8
    assert there.captures()[0].contents().keys() == here.captures()[0].contents().keys()
    mine, theirs = here.capture(one.capture_id), there.capture(other.capture_id)
    assert np.array_equal(mine.activations("made_up"), theirs.activations("made_up"), equal_nan=True)
    assert np.array_equal(mine.activations("made_up", layer=1), theirs.activations("made_up", layer=1), equal_nan=True)
    for stimulus_tokens in ([0, 5, 4], None, range(3)):
        a = mine.tokens("made_up", layer=1, responses=stimulus_tokens)
        b = theirs.tokens("made_up", layer=1, responses=stimulus_tokens)
        assert all(map(np.array_equal, a, b))
    assert all(
        np.array_equal(*pair, equal_nan=True) for pair in zip(mine.logprobs(split), theirs.logprobs(split), strict=True)
    )
    assert mine.labels("made_up").labels.tolist() == theirs.labels("made_up").labels.tolist()
    hooks = [("resid_post", layer) for layer in range(llama.n_layers)]
    stacks = [CachedSplit(each, *split_key(split)).stack(["plain"], hooks, "last") for each in (mine, theirs)]
    assert torch.equal(*stacks)
    again = capture(llama, [split], REQUEST, there)
    assert (again.n_texts, again.parts_written) == (0, 0)


def test_rows_of_another_version_are_taken_over_there_too(
    llama: LanguageModel, split: Split, there: Store, tmp_path: Path
) -> None:
    for store in (Store(tmp_path), there):
        capture(llama, [made_up(5)], Request((get_stimulus("plain"),)), store)
        assert capture(llama, [split], Request((get_stimulus("plain"),)), store).n_texts > 0
    assert held(Store(tmp_path)) == held(there)


@pytest.mark.parametrize(
    ("every", "after"),
    [(7, True), pytest.param(1, False, marks=pytest.mark.slow), pytest.param(1, True, marks=pytest.mark.slow)],
)
def test_a_capture_killed_at_any_write_goes_on_to_the_same_bytes(
    every: int, after: bool, llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    request = Request((get_stimulus("plain"),))
    capture(llama, [split], request, Store(tmp_path))
    wanted = held(Store(tmp_path))
    with client() as whole:
        capture(llama, [split], request, Store(f"memory://killed-{every}-{after}/whole"))
    assert len(whole.writes) > 15
    for at in range(every // 2, len(whole.writes), every):
        store = Store(f"memory://killed-{every}-{after}/{at}")
        with pytest.raises(Died), client(at, after=after):
            capture(llama, [split], request, store)
        # The dead one's leases end, so that what it left of whole activations is tidied as on a disk.
        time.sleep(1.5 * lease.TERM)
        capture(llama, [split], request, store)
        assert held(store) == wanted, whole.writes[at]


def test_damage_is_found_and_only_that_is_removed(llama: LanguageModel, split: Split, there: Store) -> None:
    done = capture(llama, [split], REQUEST, there)
    before = held(there)
    stored = there.capture(done.capture_id).open(split, "plain", "resid_post", "last")
    file = stored.folder / stored.index.shards[1].file
    whole = file.read_bytes()
    where = shard_file.read_header(file)["blocks.1.hook_resid_post"]
    file.write_bytes(whole[: where.start] + bytes([whole[where.start] ^ 1]) + whole[where.start + 1 :])
    fresh = StoredActivations(stored.folder)
    with pytest.raises(
        StoreError, match=r"its content has changed since it was written \(blocks.1.*repeng store verify"
    ):
        fresh.layer(1)
    # What was not asked for is not read.
    fresh.layer(0)
    assert torch.equal(StoredActivations(stored.folder, trust=True).layer(0), fresh.layer(0))
    StoredActivations(stored.folder, trust=True).layer(1)
    damages = there.verify(repair=True)
    assert [str(damage) for damage in damages] == [f"{file}: its content has changed since it was written"]
    assert not stored.folder.is_dir() and there.verify() == []
    capture(llama, [split], REQUEST, there)
    assert held(there) == before
    file.unlink()
    with pytest.raises(StoreError, match="is not there"):
        StoredActivations(stored.folder).layer(1)
    file.write_bytes(whole[:-40])
    with pytest.raises(StoreError, match="cannot be read"):
        StoredActivations(stored.folder).layer(llama.n_layers - 1)


def test_removing_a_capture_leaves_nothing(llama: LanguageModel, split: Split, there: Store) -> None:
    done = capture(llama, [split, made_up(4, "other")], REQUEST, there)
    size = sum(len(file) for name, file in content_of(there).items() if "/other/" in name)
    freed = there.remove(done.capture_id, "other")
    assert freed >= size > 0 and {key.distribution for key in there.captures()[0].splits()} == {"made_up"}
    there.remove(done.capture_id)
    assert list(there.root.rglob("*")) == [] and there.captures() == []


def old(folder: Any) -> None:
    """The index as an earlier version wrote it: without the checksums of tensors."""
    index = read_index(folder)
    shards = tuple(Shard(**shard.model_dump(exclude={"tensors"})) for shard in index.shards)
    index.model_copy(update={"shards": shards}).write(folder / parts.INDEX)
    assert b'"tensors"' not in (folder / parts.INDEX).read_bytes()


@pytest.mark.parametrize("remote", [False, True])
def test_an_index_without_checksums_of_tensors_is_read_and_whole_shards_are_checked(
    remote: bool, llama: LanguageModel, split: Split, there: Store, tmp_path: Path
) -> None:
    store = there if remote else Store(tmp_path)
    done = capture(llama, [split], REQUEST, store)
    for token in ("last", "all"):
        stored = store.capture(done.capture_id).open(split, "plain", "resid_post", token)
        read = (lambda held: held.layer(0)) if token == "last" else (lambda held: held.tokens(0)[0])
        wanted = read(stored)
        old(stored.folder)
        assert torch.equal(read(StoredActivations(stored.folder)), wanted)
        file = stored.folder / stored.index.shards[0].file
        # Another layer's bytes: only the checksum of the whole says so.
        file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
        with pytest.raises(StoreError, match="its content has changed"):
            read(StoredActivations(stored.folder))


def test_a_layer_is_read_without_the_others(
    llama: LanguageModel, split: Split, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = capture(llama, [split], Request((get_stimulus("plain"),)), there)
    stored = there.capture(done.capture_id).open(split, "plain", "resid_post", "last")
    ranges: list[int] = []
    read = Remote.read_range

    def noted(self: Remote, start: int, stop: int) -> bytes:
        ranges.append(max(stop - start, 0))
        return read(self, start, stop)

    monkeypatch.setattr(Remote, "read_range", noted)
    layer = stored.layer(0)
    headers = shard_file.FIRST_BYTES * len(stored.index.shards)
    assert sum(ranges) == layer.nbytes + headers
    ranges.clear()
    stored.layer(1)
    assert sum(ranges) == layer.nbytes


def test_checksums_of_tensors_are_those_of_what_is_there(
    llama: LanguageModel, split: Split, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By memory map, streamed from an object store in small pieces, and in the index: one sum."""
    monkeypatch.setattr(shard_file, "BLOCK", 7)
    done = capture(llama, [split], REQUEST, there)
    for part in there.capture(done.capture_id).contents()[split_key(split)]:
        for shard in part.index.shards:
            path = part.folder / shard.file
            header = shard_file.read_header(path)
            assert shard_file.tensor_checksums(path) == dict(shard.tensors)
            for name, where in header.items():
                tensor = shard_file.read_tensor(path, where)
                assert shard_file.tensor_checksum(tensor) == shard.tensors[name]
                # Equal bytes of another shape or dtype are another tensor.
                assert shard_file.tensor_checksum(tensor.flatten()) != shard.tensors[name] or tensor.ndim == 1
                assert torch.equal(shard_file.read_tensor(path, where.rows(1, 3)), tensor[1:3])


def test_the_index_of_a_capture_that_went_on_has_every_checksum(
    llama: LanguageModel, split: Split, there: Store, tmp_path: Path
) -> None:
    capture(llama, [split], Request((get_stimulus("plain"),), layers=(0,)), there)
    capture(llama, [split], Request((get_stimulus("plain"),)), there)
    for stored in there.captures()[0].contents()[split_key(split)]:
        assert all(shard.tensors for shard in stored.index.shards)
        assert json.loads((stored.folder / parts.INDEX).read_bytes())["shards"][0]["tensors"]


def test_several_shards_are_read_side_by_side(
    llama: LanguageModel, split: Split, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = capture(llama, [split], Request((get_stimulus("plain"),)), there)
    stored = there.capture(done.capture_id).open(split, "plain", "resid_post", "last")
    wanted = [stored.layer(layer) for layer in range(llama.n_layers)]
    monkeypatch.setattr(stored_activations, "AT_ONCE", 2)
    assert all(torch.equal(stored.layer(layer), wanted[layer]) for layer in range(llama.n_layers))


def test_a_place_goes_into_messages_and_commands(there: Store) -> None:
    assert repr(there) == f"Store('{there.root}')" and place(there.root) == there.root
    with pytest.raises(StoreError, match="memory://.*is no store"):
        there.verify()
