from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_up import made_up
from tiny_models import ARCHITECTURES

from repeng.activations import capture_run as work
from repeng.activations.budget import budget_of, token_budget, widest
from repeng.activations.capture import Request, capture
from repeng.activations.store.files import CAPTURE, INDEX
from repeng.activations.store.records import CaptureRecord, Index
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel

GB = 10**9
REQUEST = Request((get_stimulus("plain"),))


def test_more_memory_or_a_smaller_model_never_means_fewer_tokens() -> None:
    by_memory = [token_budget(width=11_008, itemsize=2, free_bytes=gb * GB) for gb in (0, 2, 3, 4, 6, 8, 16, 80)]
    assert by_memory == sorted(by_memory) and by_memory[0] == 1024 and by_memory[-1] == 16_384
    assert len(set(by_memory)) >= 4
    by_width = [token_budget(width=width, itemsize=2, free_bytes=6 * GB) for width in (2_048, 11_008, 28_672, 500_000)]
    assert by_width == sorted(by_width, reverse=True) and by_width[0] > by_width[-1] == 1024
    on_a_cpu = [token_budget(width=width, itemsize=4, free_bytes=None) for width in (256, 2_048, 4_096, 28_672)]
    assert on_a_cpu == [2048, 2048, 2048, 1024]


def test_a_little_more_or_less_free_memory_changes_nothing() -> None:
    budgets = {token_budget(width=11_008, itemsize=2, free_bytes=free) for free in range(6 * GB, 6 * GB + 10**8, 10**6)}
    assert len(budgets) == 1
    assert all(size & (size - 1) == 0 for size in budgets)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_widest_tensor(architecture: str, model_of: Callable[[str], LanguageModel]) -> None:
    lm = model_of(architecture)
    assert widest(lm.config) >= lm.d_model
    assert 1024 <= budget_of(lm.config, lm.dtype, lm.device) <= 4096


def test_a_resumed_run_takes_the_budget_that_was_recorded_first(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, first, second = Store(tmp_path), made_up(3, "a"), made_up(4, "b")
    monkeypatch.setattr(work, "budget_of", lambda *_: 2048)
    summary = capture(llama, [first], REQUEST, store)
    monkeypatch.setattr(work, "budget_of", lambda *_: 1024)
    capture(llama, [first, second], REQUEST, store)
    capture(llama, [made_up(5, "c")], REQUEST, store, batch_tokens=300)
    folder = tmp_path / summary.capture_id
    assert CaptureRecord.read(folder / CAPTURE).batch_tokens == 2048
    budgets = {file.parts[-4]: Index.read(file).layout.batch_tokens for file in folder.rglob(INDEX)}
    assert budgets == {"a": 2048, "b": 2048, "c": 300}


def test_what_a_gpu_has_free_is_asked_of_it(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 1)
    free = {gpu: 80 * GB}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 80 * GB))
    assert budget_of(llama.config, torch.bfloat16, gpu) == 16_384
    free[gpu] = GB // 2
    assert budget_of(llama.config, torch.bfloat16, gpu) == 1024
