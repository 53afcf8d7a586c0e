"""A capture that is stopped, repeated, extended, or run twice at once."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_up import made_up
from store_files import store_files

from repeng import locks
from repeng.activations import shards
from repeng.activations.capture import Request, capture
from repeng.activations.layouts.batch import Chunk, Layout, Run
from repeng.activations.store import files as parts
from repeng.activations.store import records, writing
from repeng.activations.store.request import capture_record
from repeng.activations.store.store import Store
from repeng.atomic import write_atomically
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput
from repeng.models.fingerprint import identify
from repeng.models.load import LanguageModel, load_model

REQUEST = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), tokens=("last", "response_mean"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


class Stop(Exception):
    """A run that is stopped."""


def never() -> LanguageModel:
    raise AssertionError("the model was loaded")


@pytest.mark.parametrize(("method", "every"), [("packed", 6), ("batched", 1)])
def test_a_run_stopped_before_any_write_goes_on_to_the_same_bytes(
    method: str, every: int, llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In float32 another layout of the same texts would show in the last digits.
    def run(store: Store) -> None:
        capture(llama, [made_up(6)], Request(REQUEST.stimuli), store, method=method, storage_dtype="float32")

    whole = Store(tmp_path / "whole")
    run(whole)
    expected = store_files(whole.root)
    shards = [name for name in expected if name.endswith(".safetensors")]
    assert len(shards) == 4 * 3

    n_writes = 0
    write = write_atomically

    def failing(stop_at: int) -> Callable[..., None]:
        def write_or_stop(path: Path, data: bytes | str, *, flush: bool = True) -> None:
            nonlocal n_writes
            if n_writes == stop_at:
                # What a killed process leaves of a file.
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.99.tmp").write_bytes(bytes(len(data) // 2))
                raise Stop
            n_writes += 1
            write(path, data, flush=flush)

        return write_or_stop

    stopped = 0
    for stop_at in range(0, 100, every):
        n_writes = 0
        store = Store(tmp_path / f"stopped-{stop_at}")
        with monkeypatch.context() as patched:
            for module in (records, writing):
                patched.setattr(module, "write_atomically", failing(stop_at))
            try:
                run(store)
            except Stop:
                stopped += 1
            else:
                break
        run(store)
        assert store_files(store.root) == expected
        assert store.verify() == []
    assert stopped == -(-n_writes // every) > 3


def test_a_second_capture_of_the_same_request_loads_and_runs_no_model(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    store, identity = Store(tmp_path), llama.identity
    first = capture(llama, [split], REQUEST, store)
    before = store_files(tmp_path)
    again = capture(never, [split], REQUEST, store, identity=identity)
    assert (again.n_texts, again.n_tokens, again.parts_written, again.method) == (0, 0, 0, "none")
    assert (first.parts_written, first.parts_reused) == (6, 0) == (again.parts_reused, again.parts_written)
    assert store_files(tmp_path) == before


def test_a_store_that_may_not_be_written_to_is_read(
    llama: LanguageModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    capture(llama, [split], REQUEST, store)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    assert capture(never, [split], REQUEST, store, identity=llama.identity).parts_reused == 6
    with pytest.raises(PermissionError):
        capture(llama, [split, made_up(4, "other")], REQUEST, store)


def test_another_stimulus_site_or_token_adds_parts_and_recomputes_none(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    plain = Request((get_stimulus("plain"),))
    first = capture(llama, [split], plain, store)
    kept = store_files(tmp_path)
    more = capture(llama, [split], Request((get_stimulus("plain"), get_stimulus("lat2"))), store)
    assert (more.parts_written, more.parts_reused) == (2, 2)
    # Only the new stimulus' texts are read, each response having one of its own.
    assert more.n_texts == first.n_texts == split.n_responses
    other = capture(llama, [split], Request((get_stimulus("plain"),), ("hook_z",), ("last", "prompt_last")), store)
    assert (other.parts_written, other.parts_reused) == (2, 1)
    assert {name: data for name, data in store_files(tmp_path).items() if name in kept} == kept


def test_more_layers_of_a_part_are_added_to_it(llama: LanguageModel, split: Split, tmp_path: Path) -> None:
    stimuli, store, whole = (get_stimulus("plain"),), Store(tmp_path / "a"), Store(tmp_path / "b")
    for layers in ((1,), (1, 2), None):
        summary = capture(llama, [split], Request(stimuli, layers=layers, logprob=False), store)
        assert summary.parts_written == 1
    capture(llama, [split], Request(stimuli, logprob=False), whole)
    ours = store.capture(summary.capture_id).open(split, "plain", "resid_post")
    theirs = whole.capture(summary.capture_id).open(split, "plain", "resid_post")
    assert ours.layers == theirs.layers == (0, 1, 2)
    assert (ours.read() == theirs.read()).all()
    assert store.verify() == []
    reused = capture(never, [split], Request(stimuli, logprob=False), store, identity=llama.identity)
    assert reused.parts_reused == 1


def test_layers_begun_for_one_wish_are_begun_anew_for_another(
    llama: LanguageModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stimuli = Store(tmp_path), (get_stimulus("plain"),)

    def stop(*_: object, **__: object) -> None:
        raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(writing.ActivationsWriter, "finish", stop)
        capture(llama, [split], Request(stimuli, layers=(0,), logprob=False), store)
    summary = capture(llama, [split], Request(stimuli, layers=(1, 2), logprob=False), store)
    assert store.capture(summary.capture_id).open(split, "plain", "resid_post").layers == (1, 2)
    assert store.verify() == []


def test_progress_counts_responses_up_to_all_of_them_also_where_some_are_there(
    llama: LanguageModel, tmp_path: Path
) -> None:
    store, splits = Store(tmp_path), [made_up(5, "a"), made_up(6, "b")]
    seen: list[tuple[int, int]] = []
    capture(llama, splits, REQUEST, store, progress=lambda done, total: seen.append((done, total)))
    everything = 2 * sum(split.n_responses for split in splits)
    assert seen == sorted(seen) and seen[-1] == (everything, everything) and len(seen) >= 4
    seen.clear()
    lat = Request((get_stimulus("plain"), get_stimulus("lat2")), tokens=("last",))
    capture(llama, splits, lat, store, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (everything // 2, everything // 2)


def test_summaries_of_several_captures_add_up(llama: LanguageModel, tmp_path: Path) -> None:
    store, first, second = Store(tmp_path), made_up(3, "a"), made_up(4, "b")
    one = capture(llama, [first], REQUEST, store)
    both = one + capture(llama, [first, second], REQUEST, store)
    assert (both.parts_written, both.parts_reused) == (12, 6)
    assert both.n_texts == 2 * (first.n_responses + second.n_responses)
    assert (both.capture_id, both.method) == (one.capture_id, "packed")
    assert both.seconds > one.seconds and both.n_tokens > one.n_tokens


def test_the_budget_of_tokens_and_the_method_change_no_number(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    stored = []
    for name, options in {"a": {"batch_tokens": 60}, "b": {"batch_tokens": 5000}, "c": {"method": "batched"}}.items():
        store = Store(tmp_path / name)
        summary = capture(llama, [split], REQUEST, store, storage_dtype="float32", **options)
        stored.append(store.capture(summary.capture_id).open(split, "plain", "resid_post").read())
    assert stored[0].allclose(stored[1], atol=1e-5) and stored[0].allclose(stored[2], atol=1e-5)


def test_other_data_has_another_place_and_never_mixes(llama: LanguageModel, tmp_path: Path) -> None:
    store, request = Store(tmp_path), Request((get_stimulus("plain"),))
    whole, some = made_up(12), made_up(12).first(5)
    for split in (whole, some):
        capture_id = capture(llama, [split], request, store).capture_id
    stored = store.capture(capture_id)
    assert len(stored.splits()) == 2
    assert stored.open(whole, "plain", "resid_post").layer(0).shape == (whole.n_responses, 32)
    assert stored.open(some, "plain", "resid_post").layer(0).shape == (some.n_responses, 32)


def test_a_stimulus_that_means_another_text_under_the_same_name_is_refused(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    capture(llama, [split], Request((Stimulus("mine", after_response="?"),)), store)
    with pytest.raises(BadInput, match="'mine' meant another text"):
        capture(llama, [split], Request((Stimulus("mine", after_response="!"),)), store)
    with pytest.raises(BadInput, match="two different stimuli have one name"):
        Request((Stimulus("mine", after_response="?"), Stimulus("mine", after_response="!")))


def test_two_runs_at_once_share_the_work_and_harm_nothing(
    folder_of: Callable[[str], Path], llama: LanguageModel, tmp_path: Path
) -> None:
    splits = [made_up(10, f"distribution_{number}") for number in range(3)]
    expected = Store(tmp_path / "expected")
    capture(llama, splits, REQUEST, expected)
    store, summaries, failures = Store(tmp_path / "shared"), [], []

    def one() -> None:
        try:
            # A model of its own: hooks of two runs on one model would meet.
            summaries.append(capture(load_model(str(folder_of("llama")), device="cpu"), splits, REQUEST, store))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(summary.parts_written for summary in summaries) == 6 * len(splits)
    assert store_files(store.root) == store_files(expected.root)


RUN = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from made_up import made_up
from store_files import store_files
from repeng.activations.store import files as parts
from repeng.activations.capture import Request, capture
from repeng.models.load import load_model
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
parts.SHARD_RESPONSES = 8
calls = []
def progress(done, total):
    calls.append(done)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
request = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), tokens=("last", "response_mean"))
capture(load_model({model!r}, device="cpu"), [made_up(12)], request, Store(sys.argv[1]), progress=progress)
"""


@pytest.mark.slow
def test_processes_that_are_killed_or_run_side_by_side_leave_the_same_bytes(
    folder_of: Callable[[str], Path], llama: LanguageModel, tmp_path: Path
) -> None:
    capture(llama, [made_up(12)], REQUEST, Store(tmp_path / "expected"))
    script = RUN.format(tests=str(Path(__file__).parents[1]), model=str(folder_of("llama")))

    def start(name: str, stop_at: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", script, str(tmp_path / name), str(stop_at)])

    killed = start("killed", 3)
    assert killed.wait() == -9
    assert Store(tmp_path / "killed").capture(Store(tmp_path / "killed").captures()[0].id).splits() == ()
    assert start("killed", 0).wait() == 0
    side_by_side = [start("shared", 0), start("shared", 0)]
    assert [process.wait() for process in side_by_side] == [0, 0]
    for name in ("killed", "shared"):
        assert store_files(tmp_path / name) == store_files(tmp_path / "expected")


def test_a_capture_id_needs_no_weights_and_is_the_one_that_a_capture_gets(
    folder_of: Callable[[str], Path], llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    folder = str(folder_of("llama"))
    summary = capture(llama, [split], REQUEST, Store(tmp_path))
    assert capture_record(identify(folder, device="cpu")).id == summary.capture_id == Store(tmp_path).captures()[0].id
    assert identify(folder, device="cpu") == llama.identity


def test_a_capture_names_the_class_that_computed_and_refuses_another(
    llama: LanguageModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = capture(llama, [split], REQUEST, Store(tmp_path))
    record = json.loads((tmp_path / summary.capture_id / "capture.json").read_text())
    assert record["model_class"] == "transformers.LlamaForCausalLM"
    monkeypatch.setattr(LanguageModel, "class_name", "transformers_modules.LlamaForCausalLM")
    with pytest.raises(BadInput, match="begun with the class transformers.LlamaForCausalLM, and this model is a trans"):
        capture(llama, [made_up(3, "more")], REQUEST, Store(tmp_path))


def test_the_model_goes_on_while_a_split_is_written_and_the_split_stays_locked_until_it_is(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A shard each.
    first, second = made_up(2, "a"), made_up(2, "b")
    store, expected = Store(tmp_path / "ours"), Store(tmp_path / "expected")
    capture_id = capture(llama, [first, second], REQUEST, expected).capture_id
    folder = parts.split_folder(store.root / capture_id, parts.split_key(first))
    went_on = threading.Event()
    seen: list[tuple[bool, bool]] = []
    run, write = shards.run, write_atomically

    def slow(path: Path, content: bytes | str, *, flush: bool = True) -> None:
        if folder in path.parents and path.suffix == ".safetensors" and not seen:
            passed = went_on.wait(60)
            with parts.locked(folder, wait=False) as free:
                seen.append((passed, free))
        write(path, content, flush=flush)

    def noted(lm: LanguageModel, plan: Run, layout: Layout) -> Iterator[Chunk]:
        if runs.append(plan) or len(runs) == 2:
            went_on.set()
        yield from run(lm, plan, layout)

    runs: list[Run] = []
    monkeypatch.setattr(writing, "write_atomically", slow)
    monkeypatch.setattr(shards, "run", noted)
    capture(llama, [first, second], REQUEST, store)
    assert seen == [(True, False)]
    assert store_files(store.root) == store_files(expected.root)
    with parts.locked(folder, wait=False) as free:
        assert free


def test_a_disk_that_fills_up_is_an_error_and_nothing_half_written_is_taken_for_whole(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = [made_up(10, name) for name in ("a", "b", "c")]
    store, expected = Store(tmp_path / "ours"), Store(tmp_path / "expected")
    capture_id = capture(llama, splits, REQUEST, expected).capture_id
    write, written = write_atomically, []

    def full(path: Path, content: bytes | str, *, flush: bool = True) -> None:
        if path.suffix == ".safetensors" and (written.append(path) or len(written) > 8):
            raise OSError(28, "No space left on device")
        write(path, content, flush=flush)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(writing, "write_atomically", full)
        capture(llama, splits, REQUEST, store)
    assert len(written) == 9
    assert store.capture(capture_id).splits() == () and store.verify() == []
    for split in splits:
        with parts.locked(parts.split_folder(store.root / capture_id, parts.split_key(split)), wait=False) as free:
            assert free
    capture(llama, splits, REQUEST, store)
    assert store_files(store.root) == store_files(expected.root)
