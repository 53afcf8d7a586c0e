"""Several runs that each do a share of one capture and know nothing of one another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from made_up import made_up
from store_files import store_files

from repeng.activations import capture_run, shards
from repeng.activations.block import ReadBlock
from repeng.activations.capture import CaptureSummary, Request, capture
from repeng.activations.capture_run import dealt_out
from repeng.activations.layouts.batch import Chunk, Layout, Run
from repeng.activations.store import files as parts
from repeng.activations.store.records import CaptureRecord, Plan
from repeng.activations.store.store import Store
from repeng.activations.store.writing import Share
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, RepengError
from repeng.models.load import LanguageModel, load_model

REQUEST = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), tokens=("last", "response_mean"))
SPLITS = (made_up(14), made_up(5, split="test"), made_up(3, "other"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


def run(lm: LanguageModel, root: Path, share: Share | None = None, budget: int | None = None) -> CaptureSummary:
    return capture(lm, SPLITS, REQUEST, Store(root), storage_dtype="float32", share=share, batch_tokens=budget)


@pytest.fixture(scope="module")
def alone(llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store that one run makes."""
    root = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "SHARD_RESPONSES", 8)
        run(llama, root)
    return store_files(root)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every block that is read, in order."""
    found: list[tuple[str, int]] = []

    def counted(lm: object, group: object, number: int, *rest: object) -> ReadBlock:
        split = group.split  # type: ignore[attr-defined]
        found.append((f"{split.distribution}/{split.name}", number))
        return plain(lm, group, number, *rest)  # type: ignore[arg-type]

    plain = capture_run.read_block
    monkeypatch.setattr(capture_run, "read_block", counted)
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shares_one_after_the_other_make_the_store_of_one_run_and_no_block_is_read_twice(
    order: tuple[int, ...], llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes], read: list[tuple[str, int]]
) -> None:
    first, second, last = (run(llama, tmp_path, Share(number, 3)) for number in order)
    assert store_files(tmp_path) == alone
    assert len(read) == len(set(read)) == sum(len(parts.blocks(split)) for split in SPLITS)
    assert {name for name, _ in read if sum(n == name for n, _ in read) > 1} >= {"made_up/train"}
    assert first.parts_left > 0 == last.parts_left and last.parts_written > 0
    assert first.parts_written + second.parts_written + last.parts_written == 3 * 6
    assert Store(tmp_path).verify() == []


def test_shares_at_the_same_time_make_the_store_of_one_run(
    folder_of: Callable[[str], Path], tmp_path: Path, alone: dict[str, bytes], read: list[tuple[str, int]]
) -> None:
    failed: list[BaseException] = []
    models = [load_model(str(folder_of("llama")), device="cpu") for _ in range(3)]

    def share(number: int) -> None:
        try:
            run(models[number], tmp_path, Share(number, 3))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=share, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert store_files(tmp_path) == alone
    assert len(read) == len(set(read))


def test_a_share_that_is_killed_and_started_again_does_what_is_left(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    done: list[int] = []
    plain = capture_run.read_block

    def stopping(lm: object, group: object, number: int, *rest: object) -> ReadBlock:
        if len(done) == 2:
            raise Stop
        done.append(number)
        return plain(lm, group, number, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(capture_run, "read_block", stopping)
        with pytest.raises(Stop):
            run(llama, tmp_path, Share(0, 2))
    # What it was writing when it was killed.
    folder = next(tmp_path.glob("*/*/*/*"))
    (folder / ".shard-00001.safetensors.99.tmp").write_bytes(b"half")
    (folder / "shard-00077.safetensors").write_bytes(b"of another plan")
    n_before = sum(len(parts.blocks(split)) for split in SPLITS)
    counted: list[int] = []
    monkeypatch.setattr(capture_run, "read_block", lambda *all_: counted.append(1) or plain(*all_))
    run(llama, tmp_path, Share(0, 2))
    run(llama, tmp_path, Share(1, 2))
    assert len(counted) == n_before - 2
    (folder / ".shard-00001.safetensors.99.tmp").unlink(missing_ok=True)
    assert store_files(tmp_path) == alone


def test_a_run_without_a_share_finishes_what_shares_began(
    llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes], read: list[tuple[str, int]]
) -> None:
    run(llama, tmp_path, Share(1, 4))
    summary = run(llama, tmp_path)
    assert store_files(tmp_path) == alone
    assert len(read) == len(set(read)) and summary.parts_left == 0


def test_where_memory_is_too_small_for_one_share_all_go_on_with_smaller_batches(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tmp_path / "expected"
    run(llama, expected, budget=100)
    plain = shards.run

    def tight(lm: LanguageModel, plan: Run, layout: Layout) -> Iterator[Chunk]:
        for chunk in plain(lm, plan, layout):
            if plan.batch_tokens > 100:
                raise torch.OutOfMemoryError("no room")
            yield chunk

    store = tmp_path / "store"
    run(llama, store, Share(0, 2), budget=200)
    with monkeypatch.context() as patched:
        patched.setattr(shards, "run", tight)
        run(llama, store, Share(1, 2), budget=200)
    run(llama, store, Share(0, 2), budget=200)
    # What the first share had made whole by itself stays as it was.
    for name, held in store_files(store).items():
        if name.endswith("index.json") and "/made_up/train" in name:
            assert b'"batch_tokens": 100' in held
        if name.endswith(".safetensors") and "/made_up/train" in name:
            assert held == store_files(expected)[name]
    assert Store(store).verify() == []


def test_a_share_that_cannot_go_on_with_what_others_began_says_so(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(llama, tmp_path, Share(0, 2))
    (plan,) = tmp_path.glob(f"*/made_up/train*/plain.resid_post.last/{parts.PLAN}")
    Plan.read(plan).model_copy(update={"layout": "flex"}).write(plan)
    with pytest.raises(RepengError, match="was begun with the layout flex .* give every job the same command"):
        run(llama, tmp_path, Share(1, 2))


def test_blocks_are_dealt_out_evenly_and_alike_in_every_run() -> None:
    splits = [made_up(n, f"d{n}") for n in range(3, 40, 3)]
    dealt = dealt_out(splits, 4)
    assert dealt == dealt_out(splits[::-1], 4)
    loads = [0] * 4
    for split in splits:
        for number, examples in enumerate(parts.blocks(split)):
            loads[dealt[parts.split_key(split), number]] += parts.n_characters(split, examples)
    assert max(loads) < 1.1 * min(loads)


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "a/b", "1/0", "1 of 8"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="share|0/8"):
        Share.parse(text)


def test_a_capture_notes_no_share(llama: LanguageModel, tmp_path: Path, alone: dict[str, bytes]) -> None:
    summary = run(llama, tmp_path, Share(0, 1))
    assert store_files(tmp_path) == alone and summary.parts_left == 0
    assert CaptureRecord.read(tmp_path / summary.capture_id / parts.CAPTURE).id == summary.capture_id
