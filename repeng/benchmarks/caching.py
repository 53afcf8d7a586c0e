"""What a study or `repeng cache` needs in the store: what is missing, what it will cost, and capturing it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.activations.capture import CaptureSummary, capture
from repeng.activations.fingerprint import Identity, identify
from repeng.activations.parts import LOGPROB, PartName
from repeng.activations.request import Missing, Request, capture_id, needed
from repeng.activations.store import Store
from repeng.benchmarks.interventions import PartNeed
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus

if TYPE_CHECKING:
    from repeng.activations.model import LanguageModel

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
TRIAL_EXAMPLES = 4
TRIAL_SPLITS = 6


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how it computes and stores: everything that a capture's id follows from."""

    model: str
    device: str = "auto"
    dtype: str = "auto"
    too_long: str = "skip"

    @property
    def storage_dtype(self) -> str:
        """What vectors are stored in: bfloat16, unless a dtype was asked for."""
        return "bfloat16" if self.dtype == "auto" else self.dtype

    @cached_property
    def identity(self) -> Identity:
        """The model by its files."""
        return identify(self.model, dtype=self.dtype, device=self.device)

    @cached_property
    def capture_id(self) -> str:
        """Where its activations go in a store."""
        return capture_id(
            self.model,
            dtype=self.dtype,
            storage_dtype=self.storage_dtype,
            too_long=self.too_long,
            device=self.device,
        )

    def load(self) -> LanguageModel:
        """The model, with its weights."""
        from repeng.activations.model import load_model

        return load_model(self.model, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Job:
    """Splits of which the same parts are wanted."""

    splits: tuple[Split, ...]
    request: Request


@dataclass(frozen=True)
class CachePlan:
    """What is wanted of a store, and what of it is missing.

    Attributes:
        jobs: everything wanted.
        missing: parts that are not there.
        n_parts: parts wanted.
        n_texts: texts (responses under a stimulus) of the missing parts.
        n_tokens: tokens of these, each text counted alone; None before a trial.
        seconds: estimate of the capture; None before a trial.
    """

    settings: ModelSettings
    store: Path
    jobs: tuple[Job, ...]
    missing: tuple[Missing, ...]
    n_parts: int
    n_texts: int
    n_tokens: int | None = None
    seconds: float | None = None

    @property
    def capture_id(self) -> str:
        """Where the activations are in the store."""
        return self.settings.capture_id

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "capture_id": self.capture_id,
            "parts": self.n_parts,
            "parts_missing": len(self.missing),
            "texts_to_capture": self.n_texts,
            "tokens_to_capture": self.n_tokens,
            "capture_seconds_estimate": self.seconds,
        }

    def carry_out(self, progress: ProgressBar) -> CaptureSummary:
        """Capture what is missing. The model is loaded once, and only if there is something to do."""
        store = Store(self.store)
        load = cache(self.settings.load)
        summaries = []
        for number, job in enumerate(self.jobs, 1):
            with progress(f"capturing ({number} of {len(self.jobs)})") as advance:
                summaries.append(
                    capture(
                        load,
                        job.splits,
                        job.request,
                        store,
                        too_long=self.settings.too_long,
                        storage_dtype=self.settings.storage_dtype,
                        progress=advance,
                        identity=self.settings.identity,
                    )
                )
        return reduce(add, summaries)


def plan_cache(
    settings: ModelSettings,
    store: Path,
    wanted: Mapping[Split, frozenset[PartNeed]],
    *,
    layers: tuple[int, ...] | None = None,
    trial: bool = False,
) -> CachePlan:
    """What of the wanted parts is missing from a store.

    Args:
        settings: the model.
        store: folder of the store.
        wanted: for each split the parts that somebody reads.
        layers: of every site; None for all.
        trial: load the model and time it on a few of the missing texts.
    """
    by_needs: dict[frozenset[PartNeed], list[Split]] = {}
    for split, needs in wanted.items():
        by_needs.setdefault(needs, []).append(split)
    jobs = tuple(Job(tuple(splits), request_of(needs, layers)) for needs, splits in by_needs.items())
    n_layers = settings.identity.n_layers
    opened = Store(store)
    missing = [lack for job in jobs for lack in needed(settings.capture_id, n_layers, job.splits, job.request, opened)]
    of = {(split.distribution, split.name, split.data_hash): split for split in wanted}
    texts = {(lack.split, lack.part.stimulus) for lack in missing}
    plan = CachePlan(
        settings,
        store,
        jobs,
        tuple(missing),
        n_parts=sum(len(job.splits) * len(job.request.parts(n_layers)) for job in jobs),
        n_texts=sum(of[key].n_responses for key, _ in texts),
    )
    return _with_trial(plan) if trial and missing else plan


def request_of(needs: frozenset[PartNeed], layers: tuple[int, ...] | None = None) -> Request:
    """One request that asks for exactly these parts."""
    stimuli: dict[str, Stimulus] = {need.stimulus.name: need.stimulus for need in needs}
    return Request(
        stimuli=tuple(stimuli[name] for name in sorted(stimuli)),
        sites=tuple(sorted({need.site for need in needs if need.site})),
        tokens=tuple(sorted({need.token for need in needs if need.token})),
        layers=layers,
        only=frozenset(PartName(need.stimulus.name, need.site or LOGPROB, need.token) for need in needs),
    )


def cache_needs(
    stimuli: Sequence[Stimulus], sites: Sequence[str], tokens: Sequence[str], *, logprob: bool
) -> frozenset[PartNeed]:
    """Every stimulus at every site and token, and the log-probabilities of the first stimulus where they are wanted."""
    needs = {PartNeed(stimulus, site, token) for stimulus in stimuli for site in sites for token in tokens}
    return frozenset(needs | ({PartNeed(stimuli[0])} if logprob else set()))


def _with_trial(plan: CachePlan) -> CachePlan:
    """The plan with its tokens counted and its time estimated from a few texts of a few splits."""
    from repeng.activations.tokens import tokenize

    lm = plan.settings.load()
    lacking = {lack.split for lack in plan.missing}
    tokens = trial_tokens = 0
    seconds = 0.0
    trials = 0
    with tempfile.TemporaryDirectory() as folder:
        for job in plan.jobs:
            for split in job.splits:
                if (split.distribution, split.name, split.data_hash) not in lacking:
                    continue
                count = _count(tokenize, split, job, lm)
                tokens += count
                if trials < TRIAL_SPLITS:
                    few = split.first(TRIAL_EXAMPLES)
                    start = time.perf_counter()
                    capture(lm, [few], job.request, Store(Path(folder)), too_long=plan.settings.too_long)
                    # The first capture warms the machine up; what it took says little.
                    if trials:
                        seconds += time.perf_counter() - start
                        trial_tokens += _count(tokenize, few, job, lm)
                    trials += 1
    estimate = seconds / trial_tokens * tokens if trial_tokens else None
    return replace(plan, n_tokens=tokens, seconds=estimate)


def _count(tokenize: Callable[..., Any], split: Split, job: Job, lm: LanguageModel) -> int:
    return sum(
        len(text.ids)
        for stimulus in job.request.stimuli
        for text in tokenize(split, stimulus, lm, lm.max_length, "skip")
        if text is not None
    )
