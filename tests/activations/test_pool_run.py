"""A capture whose blocks others read: the same store as one process makes, whatever befalls the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from made_up import made_up
from store_files import store_files

from repeng.activations.block import read_block
from repeng.activations.budget import budget_of
from repeng.activations.capture import CaptureSummary, Request, capture, capture_by_pool
from repeng.activations.dispatch import Dispatch
from repeng.activations.layouts.batch import Run
from repeng.activations.layouts.choice import Choice
from repeng.activations.pool_run import ModelFacts, Piece, PieceRead
from repeng.activations.store import files as parts
from repeng.activations.store.files import CAPTURE, locked, split_folder
from repeng.activations.store.records import CaptureRecord
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, NonFinite
from repeng.models.load import LanguageModel

PLAIN = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), tokens=("last", "response_mean"))
OTHER = Request((get_stimulus("plain"),), ("hook_z",), ("last",), logprob=False)
WANTED = (((made_up(9), made_up(4, split="test")), PLAIN), ((made_up(7, "other"),), OTHER))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


class Stop(Exception):
    """The process that plans is killed."""


class OneByOne:
    """A pool of one model, with workers that are lost when they are told to be."""

    def __init__(self, lm: LanguageModel, before: Callable[[int, Piece], Exception | str | None] | None = None) -> None:
        self.lm, self.before, self.read_pieces = lm, before or (lambda *_: None), list[str]()

    def facts(self, *, logprob: bool) -> ModelFacts:
        return ModelFacts(self.lm.class_name, budget_of(self.lm.config, self.lm.dtype, self.lm.device))

    def layout(self, record: CaptureRecord, sample: Callable[[], Run]) -> str:
        return Choice(self.lm, "auto", record.max_length).layout(sample)

    def read(self, dispatch: Dispatch[Piece]) -> Iterator[tuple[Piece, PieceRead | Exception]]:
        n = 0
        while not dispatch.is_done:
            dispatch.join(f"worker {n}")
            piece = dispatch.give(f"worker {n}")
            assert piece is not None
            befallen = self.before(n, piece)
            n += 1
            if befallen == "lost":
                dispatch.lost(f"worker {n - 1}")
                continue
            if isinstance(befallen, Stop):
                raise befallen
            dispatch.done(f"worker {n - 1}", piece)
            if isinstance(befallen, Exception):
                yield piece, befallen
                continue
            self.read_pieces.append(str(piece))
            read = read_block(self.lm, piece.group, piece.number, piece.todo)
            yield piece, PieceRead(read.write(), read.facts, read.n_texts, 0)


def by_pool(pool: OneByOne, store: Store) -> CaptureSummary:
    return capture_by_pool(pool, lambda: pool.lm, WANTED, store, identity=pool.lm.identity, storage_dtype="float32")


@pytest.fixture(scope="module")
def alone(llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store that one process makes."""
    store = Store(tmp_path_factory.mktemp("alone"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "SHARD_RESPONSES", 8)
        for splits, request in WANTED:
            capture(llama, splits, request, store, storage_dtype="float32")
    return store_files(store.root)


def test_the_store_is_that_of_one_process_to_the_byte(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    store, pool = Store(tmp_path), OneByOne(llama)
    summary = by_pool(pool, store)
    assert store_files(tmp_path) == alone
    assert (summary.parts_written, summary.parts_reused, summary.method) == (2 * 6 + 1, 0, "packed")
    assert len(pool.read_pieces) == len(set(pool.read_pieces)) > 6
    again = by_pool(pool, store)
    assert (again.parts_written, again.parts_reused, again.n_texts) == (0, 13, 0)


def test_lost_workers_cost_what_they_had_in_hand_and_no_more(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    pool = OneByOne(llama, lambda n, _: "lost" if n in (1, 4) else None)
    by_pool(pool, Store(tmp_path))
    assert store_files(tmp_path) == alone
    assert len(pool.read_pieces) == len(set(pool.read_pieces))


def test_a_run_that_is_killed_goes_on_with_what_is_not_done(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    first = OneByOne(llama, lambda n, _: Stop() if n == 4 else None)
    with pytest.raises(Stop):
        by_pool(first, Store(tmp_path))
    second = OneByOne(llama)
    by_pool(second, Store(tmp_path))
    assert store_files(tmp_path) == alone
    assert not set(first.read_pieces) & set(second.read_pieces)


def test_batches_that_do_not_fit_are_halved_for_the_split_alone(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    tight = WANTED[0][0][0]

    def before(_: int, piece: Piece) -> Exception | None:
        fits = piece.group.split != tight or piece.group.plan.batch_tokens <= 512
        return None if fits else torch.OutOfMemoryError("no room")

    by_pool(OneByOne(llama, before), Store(tmp_path / "pool"))
    assert "going on with 512" in caplog.text
    expected = Store(tmp_path / "expected")
    capture(llama, [tight], PLAIN, expected, storage_dtype="float32", batch_tokens=512)
    found = store_files(tmp_path / "pool")
    mine = {name: held for name, held in store_files(expected.root).items() if not name.endswith(CAPTURE)}
    assert {name: found[name] for name in mine} == mine
    others = {name for name in alone if "/made_up/train" not in name}
    assert {name for name in others if "/other/" in name} and Store(tmp_path / "pool").verify() == []


def test_an_error_comes_when_what_is_in_hand_is_written(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    bad = OneByOne(llama, lambda n, _: NonFinite("not a number at made_up/train") if n == 3 else None)
    with pytest.raises(NonFinite, match="made_up/train"):
        by_pool(bad, Store(tmp_path))
    good = OneByOne(llama)
    by_pool(good, Store(tmp_path))
    assert store_files(tmp_path) == alone
    assert not set(bad.read_pieces) & set(good.read_pieces)


def test_a_split_that_another_process_holds_is_waited_for_last(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    store, seen = Store(tmp_path), list[str]()
    held = locked(split_folder(tmp_path / capture_id(alone), WANTED[0][0][0]), wait=False)
    held.__enter__()

    def before(n: int, piece: Piece) -> None:
        seen.append(str(piece.group.split.name) + piece.group.split.distribution)
        if n == 2:
            held.__exit__(None, None, None)

    by_pool(OneByOne(llama, before), store)
    assert "trainmade_up" not in seen[:3] and "trainmade_up" in seen
    assert store_files(tmp_path) == alone


def test_an_unknown_layer_is_refused_before_anything_is_read(llama: LanguageModel, tmp_path: Path) -> None:
    pool = OneByOne(llama)
    wanted = [((made_up(3),), Request((get_stimulus("plain"),), layers=(7,)))]
    with pytest.raises(BadInput, match="layer"):
        capture_by_pool(pool, lambda: llama, wanted, Store(tmp_path), identity=llama.identity)
    assert not pool.read_pieces


def capture_id(files: dict[str, bytes]) -> str:
    return next(iter(files)).partition("/")[0]
