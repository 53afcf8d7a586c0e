"""What a capture is said to take, against what it then takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_world import silent, split_of

from repeng.activations.store.files import SHARD_RESPONSES, ActivationKey, SplitKey
from repeng.cli.show import estimate_lines
from repeng.distributions.stimuli import get_stimulus
from repeng.methods.base import RequiredActivations
from repeng.study import capture_estimate
from repeng.study.capture_estimate import CaptureEstimate, fit_memory, peak_memory, resident_memory, shard_bytes
from repeng.study.capture_plan import CachePlan, plan_cache
from repeng.study.model_settings import ModelSettings

GIB = 1 << 30


@pytest.fixture
def plan(tiny_model: Path, tmp_path: Path) -> CachePlan:
    needs = frozenset({RequiredActivations(get_stimulus("plain"), "resid_post", "last")})
    splits = [split_of("easy", "train", 12), split_of("hard", "test", 8)]
    return plan_cache(ModelSettings(str(tiny_model), device="cpu"), tmp_path / "store", dict.fromkeys(splits, needs))


def test_bytes_are_those_written_and_memory_and_time_are_of_their_order(plan: CachePlan) -> None:
    found = plan.estimated(plan.sizes(), trial=True).estimate
    assert found is not None and not plan.store.exists()
    summary = plan.carry_out(silent)
    assert summary is not None
    assert found.n_bytes == sum(file.stat().st_size for file in plan.store.rglob("*.safetensors"))
    assert found.free_bytes is not None and found.free_bytes > 0
    assert found.seconds_low is not None and found.seconds is not None and found.seconds_high is not None
    assert 0 < found.seconds_low <= found.seconds <= found.seconds_high
    if (peak := peak_memory()) is not None and found.memory_bytes is not None:
        assert 0.8 * peak < found.memory_bytes < 1.25 * peak


def test_without_a_trial_no_weights_are_read(plan: CachePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repeng.models.load.load_model", lambda *_a, **_k: pytest.fail("the model was loaded"))
    found = plan.estimated(plan.sizes(), trial=False).estimate
    assert found is not None and found.n_tokens > 0 and found.n_bytes > 0
    assert (found.seconds, found.memory_bytes, found.no_trial) == (None, None, "")


def test_weights_that_do_not_fit_are_not_loaded_and_it_is_said(
    plan: CachePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_estimate, "available_memory", lambda: 1000)
    monkeypatch.setattr("repeng.models.load.load_model", lambda *_a, **_k: pytest.fail("the model was loaded"))
    planned = plan.estimated(plan.sizes(), trial=True)
    assert planned.estimate is not None and planned.estimate.seconds is None
    assert "no trial, so neither time nor memory: the weights take" in " ".join(estimate_lines(planned))


@pytest.mark.parametrize(
    ("n_bytes", "memory", "words"),
    [
        (2 * GIB, GIB, []),
        (5 * GIB, GIB, ["the capture takes 5.0 GiB of disk and 4.0 GiB is free"]),
        (2 * GIB, 9 * GIB, ["the capture takes 9.0 GiB of memory and 8.0 GiB is free"]),
    ],
)
def test_what_does_not_fit_is_cautioned_of(plan: CachePlan, n_bytes: int, memory: int, words: list[str]) -> None:
    found = CaptureEstimate(1, n_bytes, 4 * GIB, memory_bytes=memory, available_bytes=8 * GIB)
    assert found.lacking == words
    cautions = [line for line in estimate_lines(replace(plan, estimate=found)) if line.startswith("caution: ")]
    assert cautions == [f"caution: {sentence}" for sentence in words]


def test_the_largest_shard_is_of_the_split_whose_responses_take_most() -> None:
    from repeng.activations.sizes import ActivationsSize

    def size(name: str, texts: int, n_bytes: int) -> ActivationsSize:
        key = ActivationKey("plain", "resid_post", "last")
        return ActivationsSize(SplitKey(name, "train", "0"), key, (0,), texts, 1, texts, n_bytes, 0)

    long = size("long", 4 * SHARD_RESPONSES, 4000)
    assert shard_bytes([long, long, size("short", 10, 1500)]) == 2000
    assert shard_bytes([]) == 0


def test_fits_take_more_where_a_layer_is_larger_than_a_block() -> None:
    small, large = split_of("easy", "train", 4), split_of("easy", "train", 40)
    assert fit_memory([small], 16, 1) == fit_memory([], 16, 1)
    wide = 1 << 20
    assert fit_memory([large], wide, 2) > fit_memory([large], wide, 1) > fit_memory([small], 16, 1)


def test_memory_is_read_where_the_system_says_it() -> None:
    resident, peak = resident_memory(), peak_memory()
    if resident is not None and peak is not None:
        assert 0 < resident <= peak
