"""Attention by blocks or in one kernel for a row: how a capture chooses, remembers and falls back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import made_up

from repeng.activations.capture import Request, capture
from repeng.activations.layouts import choice, timing
from repeng.activations.layouts import flex_attention as flex
from repeng.activations.layouts.batch import Run, TextRequest
from repeng.activations.layouts.packed import FLEX, TREES, PackedLayout
from repeng.activations.layouts.packing import pack
from repeng.activations.layouts.timing import faster_layout, fullest_row
from repeng.activations.store.files import CAPTURE, PLAN
from repeng.activations.store.records import CaptureRecord, Index, Plan
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel

REQUEST = Request((get_stimulus("plain"),))
PROMPT = (1, 30, 31, 32, 33)
IDS = ((*PROMPT, 40), (*PROMPT, 50, 51), (1, 60, 61), (1, 60, 62, 63, 64), (1, *range(70, 82)))
MANY = 10**12


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with the plain kernel."""
    monkeypatch.setattr(choice, "on_gpu", lambda lm: True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """FLEX always wins; how many tokens there were to do, each time that somebody asked."""
    found: list[int] = []

    def faster(lm: LanguageModel, plan: Run, n_tokens: int) -> PackedLayout:
        found.append(n_tokens)
        return FLEX

    monkeypatch.setattr(choice, "faster_layout", faster)
    return found


def plan(lm: LanguageModel, budget: int = 20) -> Run:
    texts = tuple(TextRequest(ids, (len(ids) - 1,)) for ids in IDS)
    return Run(texts, tuple(("resid_post", layer) for layer in range(lm.n_layers)), budget, torch.float32)


def clock(monkeypatch: pytest.MonkeyPatch, blocks: float, kernel: float | Exception) -> list[tuple[str, int]]:
    """Make the timing say what is given; which layouts were timed, and on how many texts."""
    timed: list[tuple[str, int]] = []

    def seconds(lm: LanguageModel, row: Run, layout: PackedLayout) -> float:
        timed.append((layout.kind, len(row.texts)))
        if layout == TREES:
            return blocks
        if isinstance(kernel, Exception):
            raise kernel
        return kernel

    monkeypatch.setattr(timing, "seconds", seconds)
    return timed


def layouts(store: Path) -> set[str]:
    return {Index.read(file).layout.layout for file in store.rglob("index.json")}


@pytest.mark.parametrize(("kernel", "winner"), [(0.5, FLEX), (0.95, TREES), (2.0, TREES)])
def test_one_kernel_must_be_clearly_faster_for_the_fullest_row(
    kernel: float, winner: PackedLayout, llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = clock(monkeypatch, 1.0, kernel)
    assert faster_layout(llama, plan(llama), MANY) == winner
    n_texts = len(fullest_row(plan(llama), pack(IDS, 20)).texts)
    assert 1 < n_texts < len(IDS)
    assert timed == [("trees", n_texts), ("flex", n_texts)]


def test_with_little_to_do_nothing_is_compiled(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = clock(monkeypatch, 1.0, 0.1)
    assert faster_layout(llama, plan(llama), 1000) is None
    assert [kind for kind, _ in timed] == ["trees"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("no compiler")])
def test_a_kernel_that_fails_while_timed_is_not_taken(
    error: Exception, llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 1.0, error)
    assert faster_layout(llama, plan(llama), MANY) == TREES


def test_a_row_that_does_not_fit_is_left_to_the_capture(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(lm: LanguageModel, row: Run, layout: PackedLayout) -> float:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(timing, "seconds", full)
    assert faster_layout(llama, plan(llama), MANY) is None


def test_a_kernel_that_is_wrong_on_a_full_row_is_not_taken(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 1.0, 0.1)
    right = flex.attend_by_flex

    def wrong_when_long(module: Any, query: torch.Tensor, *rest: Any, **options: Any) -> tuple[torch.Tensor, None]:
        out, _ = right(module, query, *rest, **options)
        return (out * 1.1 if query.shape[2] > 15 else out), None

    monkeypatch.setattr(timing.Check, "fault", lambda self, layout: "")
    monkeypatch.setattr(flex, "attend_by_flex", wrong_when_long)
    assert faster_layout(llama, plan(llama), MANY) == TREES


def test_the_time_of_a_row_is_measured(llama: LanguageModel) -> None:
    assert 0 < timing.seconds(llama, plan(llama), FLEX) < 60


def test_a_cpu_never_asks(llama: LanguageModel, tmp_path: Path, asked: list[int]) -> None:
    capture(llama, [made_up(12)], REQUEST, Store(tmp_path))
    assert not asked and layouts(tmp_path) == {"trees"}


@pytest.mark.usefixtures("gpu")
def test_the_choice_is_recorded_and_later_runs_keep_to_it(
    llama: LanguageModel, tmp_path: Path, asked: list[int]
) -> None:
    split, store = made_up(12), Store(tmp_path / "a")
    first = capture(llama, [split], REQUEST, store)
    assert layouts(tmp_path) == {"flex"} and len(asked) == 1
    assert asked[0] > split.n_responses
    capture(llama, [made_up(5, "more")], REQUEST, store)
    assert layouts(tmp_path) == {"flex"} and len(asked) == 1
    assert CaptureRecord.read(store.root / first.capture_id / CAPTURE).attention == "flex"
    padded = Store(tmp_path / "b")
    assert capture(llama, [split], REQUEST, padded, method="batched").method == "batched"
    ours, theirs = (
        one.capture(first.capture_id).open(split, "plain", "resid_post").read().float() for one in (store, padded)
    )
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


@pytest.mark.usefixtures("gpu", "asked")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("compiling failed")])
def test_a_kernel_that_fails_in_a_capture_gives_way_to_blocks_of_the_same_budget(
    error: Exception,
    llama: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(flex, "attend_by_flex", broken)
    done = capture(llama, [made_up(12)], REQUEST, Store(tmp_path), batch_tokens=300)
    (index,) = tmp_path.rglob("plain.resid_post.last/index.json")
    layout = Index.read(index).layout
    assert (layout.layout, layout.batch_tokens) == ("trees", 300)
    assert "attention by blocks" in caplog.text
    assert CaptureRecord.read(tmp_path / done.capture_id / CAPTURE).attention == "trees"


@pytest.mark.usefixtures("asked")
def test_what_a_gpu_began_a_cpu_begins_anew(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as there:
        there.setattr(choice, "on_gpu", lambda lm: True)
        there.setattr(flex, "attend_by_flex", stop)
        with pytest.raises(KeyboardInterrupt):
            capture(llama, [made_up(12)], REQUEST, Store(tmp_path))
    assert {Plan.read(file).layout for file in tmp_path.rglob(PLAN)} == {"flex"}
    capture(llama, [made_up(12)], REQUEST, Store(tmp_path))
    assert layouts(tmp_path) == {"trees"}
