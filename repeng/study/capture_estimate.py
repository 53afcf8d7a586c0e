"""What a capture will take: tokens, bytes on disk, memory and time, from the tokenized texts and a short trial here."""

from __future__ import annotations

import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.activations.capture import capture
from repeng.activations.store.files import SHARD_RESPONSES, SplitKey
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store
from repeng.distributions.schema import Split
from repeng.places import Place

if TYPE_CHECKING:
    from repeng.activations.sizes import ActivationsSize
    from repeng.models.load import LanguageModel

TRIAL_EXAMPLES = (2, 8, 32, 128)
"""Examples of a split in its trials: the first, and further ones until one takes `ENOUGH_SECONDS`. What the first and
the last spend alike is their fixed cost, the rest is by the token."""
ENOUGH_SECONDS = 2.0
TRIAL_SPLITS = 3
TRIAL_SECONDS = 120.0
"""After so long no further split is tried."""
SHARD_COPIES = 3
"""A shard's values in memory: as gathered, as tensors of the shard, and serialised while the next one is computed."""
FIT_COPIES = 6
"""A block of layers while a probe is fitted on it: itself, the next one, the training rows and what a solver makes."""


@dataclass(frozen=True)
class Trial:
    """What a model took for some texts here.

    Attributes:
        fixed_seconds: of a capture, whatever it is of.
        token_seconds: by the token, one figure for each split that was tried.
        memory_bytes: the most that this process has had, weights and all; None where the system does not say.
        device_bytes: the most that was allocated on the GPU, for a full batch; None without one.
    """

    fixed_seconds: float
    token_seconds: tuple[float, ...]
    memory_bytes: int | None
    device_bytes: int | None


@dataclass(frozen=True)
class CaptureEstimate:
    """What a capture will take.

    Attributes:
        n_tokens: of all texts that the model must read, each counted alone.
        n_bytes: of the shards to be written.
        free_bytes: that the store's disk has; None where that is not known.
        seconds: about; None without a trial.
        seconds_low, seconds_high: by the fastest and the slowest of the splits that were tried.
        memory_bytes: the most that the process will have; None without a trial.
        available_bytes: of memory, that the system has for it; None where it does not say.
        device_bytes: of a GPU's memory.
        no_trial: why there was none.
        workers: of a cluster that there is room for now, among which the time is shared out; None for this process.
    """

    n_tokens: int
    n_bytes: int
    free_bytes: int | None
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    memory_bytes: int | None = None
    available_bytes: int | None = None
    device_bytes: int | None = None
    no_trial: str = ""
    workers: int | None = None

    @property
    def lacking(self) -> list[str]:
        """What is too little here, in words."""
        from repeng.activations.sizes import bytes_text

        needs = {"disk": (self.n_bytes, self.free_bytes), "memory": (self.memory_bytes, self.available_bytes)}
        return [
            f"the capture takes {bytes_text(taken)} of {what} and {bytes_text(there)} is free"
            for what, (taken, there) in needs.items()
            if taken is not None and there is not None and taken > there
        ]

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "lacking": self.lacking}


def estimate_capture(
    load: Callable[[], LanguageModel],
    todo: Sequence[tuple[Split, Request]],
    sizes: Sequence[ActivationsSize],
    store: Place,
    *,
    n_captures: int,
    weight_bytes: int,
    on_cpu: bool,
    too_long: str,
    trial: bool,
    processes: int = 1,
    elsewhere: Callable[[Callable[[], Trial]], tuple[Trial, int]] | None = None,
) -> CaptureEstimate:
    """What it takes to capture what is missing. Nothing is written to the store.

    Args:
        load: loads the model, for the trial.
        todo: splits, and what is to be captured of each.
        sizes: of all parts, from `activation_sizes`.
        store: the store's folder; it need not be there.
        n_captures: how many captures it will be, each with its fixed cost.
        weight_bytes: of the model's weights.
        on_cpu: whether the weights lie in this computer's memory.
        too_long: as of `capture`.
        trial: load the model and time it; not where its weights do not fit.
        processes: of this machine that share the work out.
        elsewhere: makes the trial on a worker of a cluster, and says how many such workers there will be.
    """
    n_tokens = sum({(size.split, size.key.stimulus): size.n_tokens for size in sizes if size.n_tokens}.values())
    free, available = free_disk(store), available_memory()
    found = CaptureEstimate(n_tokens, sum(size.n_bytes for size in sizes), free, available_bytes=available)
    if not trial or not todo:
        return found
    if elsewhere is not None:
        tried, workers = elsewhere(partial(_loaded_trial, load, todo, too_long))
        shared = _timed(found, tried, n_tokens / workers, n_captures, SHARD_COPIES * shard_bytes(sizes))
        return replace(shared, available_bytes=None, workers=workers)
    if on_cpu and available is not None and weight_bytes > available:
        from repeng.activations.sizes import bytes_text

        reason = f"the weights take {bytes_text(weight_bytes)} and {bytes_text(available)} of memory is there"
        return CaptureEstimate(**{**asdict(found), "no_trial": reason})
    lm = load()
    # Asked anew, for what the weights took is no longer there for anybody else.
    here = available_memory()
    had = resident_memory() or 0
    tried = run_trial(lm, todo, too_long)
    timed = _timed(found, tried, n_tokens / processes, n_captures, SHARD_COPIES * shard_bytes(sizes))
    return replace(timed, available_bytes=None if here is None else here + had)


def _timed(found: CaptureEstimate, tried: Trial, n_tokens: float, n_captures: int, in_memory: int) -> CaptureEstimate:
    """With what a trial says of the time of so many tokens, and of the memory besides that of some shards."""
    fixed = n_captures * tried.fixed_seconds
    by_token = [n_tokens * each for each in tried.token_seconds]
    return replace(
        found,
        seconds=fixed + statistics.median(by_token),
        seconds_low=fixed + min(by_token),
        seconds_high=fixed + max(by_token),
        memory_bytes=None if tried.memory_bytes is None else tried.memory_bytes + in_memory,
        device_bytes=tried.device_bytes,
    )


def _loaded_trial(load: Callable[[], LanguageModel], todo: Sequence[tuple[Split, Request]], too_long: str) -> Trial:
    return run_trial(load(), todo, too_long)


def run_trial(lm: LanguageModel, todo: Sequence[tuple[Split, Request]], too_long: str) -> Trial:
    """Capture a few examples of a few splits, spread over all of them, in a folder that is then removed.

    A first capture, which pays for whatever is done once, is not counted.
    """
    import torch

    started, on_gpu = time.monotonic(), lm.device.type == "cuda"
    _capture_few(lm, *todo[0], TRIAL_EXAMPLES[0], too_long)
    idle = torch.cuda.memory_allocated(lm.device) if on_gpu else 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(lm.device)
    fixed, rates, most_tokens = [], [], 1
    step = max(1, len(todo) // TRIAL_SPLITS)
    for split, request in todo[::step][:TRIAL_SPLITS]:
        few, short = _capture_few(lm, split, request, TRIAL_EXAMPLES[0], too_long)
        for examples in TRIAL_EXAMPLES[1:]:
            more, long = _capture_few(lm, split, request, examples, too_long)
            if long > ENOUGH_SECONDS or examples >= len(split.examples):
                break
        most_tokens = max(most_tokens, more)
        if more > few and long > short:
            # No token takes more than its share of the whole, whatever two short times say of their difference.
            rates.append(min((long - short) / (more - few), long / more))
            fixed.append(max(0.0, short - few * rates[-1]))
        else:
            rates.append(long / max(1, more))
            fixed.append(0.0)
        if time.monotonic() - started > TRIAL_SECONDS:
            break
    device_bytes = None
    if on_gpu:
        from repeng.activations.budget import budget_of

        took = torch.cuda.max_memory_allocated(lm.device) - idle
        fuller = max(1.0, budget_of(lm.config, lm.dtype, lm.device) / most_tokens)
        device_bytes = idle + int(took * fuller)
    return Trial(statistics.median(fixed), tuple(rates), peak_memory(), device_bytes)


def _capture_few(lm: LanguageModel, split: Split, request: Request, examples: int, too_long: str) -> tuple[int, float]:
    """Tokens of the texts of some examples, each counted alone, and the seconds that their capture took."""
    from repeng.models.tokens import tokenize

    few = split.first(examples)
    tokens = sum(
        len(text.ids)
        for stimulus in request.stimuli
        for text in tokenize(few, stimulus, lm, lm.max_length, "skip")
        if text is not None
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        capture(lm, [few], request, Store(folder), too_long=too_long)
        return tokens, time.perf_counter() - start


def shard_bytes(sizes: Sequence[ActivationsSize]) -> int:
    """Of everything that is written of the examples of one shard, in the split where that is most."""
    of_split: dict[SplitKey, float] = {}
    for size in sizes:
        share = min(1.0, SHARD_RESPONSES / max(1, size.n_texts))
        of_split[size.split] = of_split.get(size.split, 0.0) + size.n_bytes * share
    return int(max(of_split.values(), default=0))


def fit_memory(train: Sequence[Split], d_model: int, stimuli: int) -> int:
    """Bytes that fitting and scoring probes take at the most, besides what the process has when idle.

    Args:
        train: splits that are fitted on.
        d_model: width of a vector.
        stimuli: how many a probe reads together.
    """
    from repeng.activations.store.cached_split import READ_BYTES
    from repeng.probes.source import BLOCK_BYTES

    layer = max((split.n_responses for split in train), default=0) * d_model * stimuli * 4
    return READ_BYTES + FIT_COPIES * max(BLOCK_BYTES, layer)


def weight_bytes(outline: LanguageModel) -> int:
    """Of a model's weights, from its outline."""
    return sum(prod(weight.shape) for weight in outline.model.parameters()) * outline.dtype.itemsize


def free_disk(store: Place) -> int | None:
    """Bytes that are free where a store is, or will be; None of one that is on no disk of this computer."""
    if not isinstance(store, Path):
        return None
    place = store.expanduser().absolute()
    found = next((each for each in (place, *place.parents) if each.is_dir()), None)
    return None if found is None else shutil.disk_usage(found).free


def available_memory() -> int | None:
    """Bytes of memory that a process may still take, in a container no more than is left of its limit."""
    info = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", info.read_text()) if info.is_file() else None
    if found is None:
        return None
    bounds = [int(found[1]) * 1024]
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        bounds.append(max(0, int(most) - int(used.read_text())))
    return min(bounds)


def resident_memory() -> int | None:
    """Bytes of memory that this process has now."""
    return _of_status("VmRSS")


def peak_memory() -> int | None:
    """The most bytes of memory that this process has had."""
    if (found := _of_status("VmHWM")) is not None or sys.platform == "win32":
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) if sys.platform == "darwin" else int(most) * 1024


def _of_status(field: str) -> int | None:
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    return None if found is None else int(found[1]) * 1024
