"""What a study or `repeng cache` needs in the store: what is missing, what it will cost, and capturing it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.activations.capture import CaptureSummary, capture, capture_by_pool, keep_house
from repeng.activations.store.files import LOGPROB, ActivationKey, MissingActivations, SplitKey, split_key
from repeng.activations.store.request import Request, capture_record, needed
from repeng.activations.store.store import Store
from repeng.activations.store.writing import Share
from repeng.cluster.ray_cluster import connected
from repeng.distributions.chat import require_chat_template
from repeng.distributions.chat_form import ChatFormCounts
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import CHAT, Stimulus
from repeng.errors import BadInput
from repeng.methods.base import RequiredActivations
from repeng.models.fingerprint import resolve_device
from repeng.models.sites import named_site
from repeng.places import Place
from repeng.progress import ProgressBar
from repeng.study.capture_estimate import CaptureEstimate, Trial, estimate_capture, weight_bytes
from repeng.study.model_settings import ModelSettings
from repeng.threads import SMALL_MODEL, n_beside

if TYPE_CHECKING:
    from repeng.activations.pool_run import Pool
    from repeng.activations.sizes import ActivationsSize
    from repeng.models.load import LanguageModel

log = logging.getLogger(__name__)

TEXTS_WORTH_A_PROCESS = 10_000
"""To be captured by a small model, about ten seconds' work; a process takes as long to begin."""


@dataclass(frozen=True)
class Job:
    """Splits of which the same parts are wanted."""

    splits: tuple[Split, ...]
    request: Request

    def pieces(self) -> Iterator[Job]:
        """One job a split and site, log-probabilities by themselves, so that one that fails takes no other with it."""
        parts = self.request.only or frozenset()
        for split in self.splits:
            for site in sorted({part.site for part in parts}):
                yield self.only(split, {part for part in parts if part.site == site})

    def only(self, split: Split, parts: Set[ActivationKey]) -> Job:
        """Of one split these parts alone."""
        names = {part.stimulus for part in parts}
        stimuli = tuple(stimulus for stimulus in self.request.stimuli if stimulus.name in names)
        return Job((split,), replace(self.request, stimuli=stimuli, only=frozenset(parts)))


@dataclass(frozen=True)
class CachePlan:
    """What is wanted of a store, and what of it is missing.

    Attributes:
        jobs: everything wanted.
        missing: parts that are not there.
        n_parts: parts wanted.
        n_texts: texts (responses under a stimulus) of the missing parts.
        estimate: tokens, bytes, memory and time; None where none was asked for.
    """

    settings: ModelSettings
    store: Place
    jobs: tuple[Job, ...]
    missing: tuple[MissingActivations, ...]
    n_parts: int
    n_texts: int
    estimate: CaptureEstimate | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "capture_id": self.settings.capture_id,
            "dtype": self.settings.identity.dtype,
            "quantization": self.settings.identity.quantization,
            "parts": self.n_parts,
            "parts_missing": len(self.missing),
            "texts_to_capture": self.n_texts,
            "tokens_to_capture": None if self.estimate is None else self.estimate.n_tokens,
            "capture_seconds_estimate": None if self.estimate is None else self.estimate.seconds,
            "capture_estimate": None if self.estimate is None else self.estimate.as_dict(),
            "chat_form": None if (counts := self.chat_form) is None else asdict(counts),
        }

    @property
    def chat_form(self) -> ChatFormCounts | None:
        """What the chat form makes of the prompts; None where no text is wanted in it."""
        splits = {
            split: None
            for job in self.jobs
            if any(stimulus.form == "chat" for stimulus in job.request.stimuli)
            for split in job.splits
        }
        return ChatFormCounts.of(splits) if splits else None

    def carry_out(
        self,
        progress: ProgressBar,
        *,
        refused: Callable[[Job, Exception], None] | None = None,
        max_bytes: int | None = None,
        share: Share | None = None,
    ) -> CaptureSummary | None:
        """Capture what is missing. The model is loaded once, and only if there is something to do.

        Args:
            progress: shows a bar of some title.
            max_bytes: what every token's activations may take; None for the usual limit.
            refused: told of a split and site that cannot be captured, and why, whereupon the others go on; None lets
                the first error end everything.
            share: which part of it to do, where other runs do the others; None for all.

        Returns:
            What was done; None where nothing could be.
        """
        if share is None and self._n_beside_if_small:
            from repeng.cluster.local_processes import begin

            # They import while the model's outline is read, which says whether they are needed.
            begin(self._n_beside_if_small)
        if self.settings.cluster is not None or (share is None and self.n_beside):
            return self._carry_out_by_pool(progress, refused, max_bytes)
        load = cache(self.settings.load)
        summaries = []
        for number, job in enumerate(self.jobs, 1):
            with progress(f"capturing ({number} of {len(self.jobs)})") as advance:
                try:
                    summaries.append(self._capture(load, job, advance, max_bytes, share))
                except Exception as error:
                    # A user who wants long texts refused wants to hear of it at once; and a disk serves no split.
                    if refused is None or self.settings.too_long == "refuse" or isinstance(error, OSError):
                        raise
                    log.warning("capturing split by split and site by site, since all at once failed: %s", error)
                    log.debug("where capturing failed", exc_info=error)
                    for piece in job.pieces():
                        try:
                            summaries.append(self._capture(load, piece, advance, max_bytes, share))
                        except Exception as own:
                            refused(piece, own)
        return reduce(add, summaries) if summaries else None

    @cached_property
    def _n_beside_if_small(self) -> int:
        """`n_beside` if the model turns out to be small."""
        settings = self.settings
        if settings.cluster is not None or settings.tensor_parallel or not isinstance(self.store, Path):
            return 0
        n = n_beside(self.n_texts, TEXTS_WORTH_A_PROCESS)
        if not n or settings.device_map is not None or resolve_device(settings.device) != "cpu":
            return 0
        return n

    @cached_property
    def n_beside(self) -> int:
        """Processes of this machine that capture along with this one: where threads are of no use to the model."""
        n = self._n_beside_if_small
        return n if n and weight_bytes(self._outline()) <= SMALL_MODEL else 0

    def _carry_out_by_pool(
        self,
        progress: ProgressBar,
        refused: Callable[[Job, Exception], None] | None,
        max_bytes: int | None,
    ) -> CaptureSummary | None:
        """Have the workers of a cluster, or processes beside this one, capture what is missing, all jobs together."""
        address = self.settings.cluster
        with self._pool_here() if address is None else self._pool(address) as pool, progress("capturing") as advance:
            try:
                return self._capture_by_pool(pool, self.jobs, advance, max_bytes)
            except Exception as error:
                if refused is None or self.settings.too_long == "refuse" or isinstance(error, OSError):
                    raise
                log.warning("capturing split by split and site by site, since all at once failed: %s", error)
                log.debug("where capturing failed", exc_info=error)
            summaries = []
            for piece in (piece for job in self.jobs for piece in job.pieces()):
                try:
                    summaries.append(self._capture_by_pool(pool, [piece], advance, max_bytes))
                except Exception as own:
                    refused(piece, own)
        return reduce(add, summaries) if summaries else None

    def sizes(self) -> list[ActivationsSize]:
        """What every part takes on disk, from the tokenized texts. No weights are loaded and nothing is written."""
        from repeng.activations.sizes import activation_sizes

        settings = self.settings
        outline = settings.outline()
        record = capture_record(settings.identity, storage_dtype=settings.storage_dtype, too_long=settings.too_long)
        return [
            size
            for job in self.jobs
            for size in activation_sizes(outline, job.splits, job.request, Store(self.store), record)
        ]

    def estimated(self, sizes: Sequence[ActivationsSize], *, trial: bool) -> CachePlan:
        """The plan with what its capture will take.

        Args:
            sizes: of `sizes`.
            trial: load the model and time it on a few of the missing texts, for memory and time as well.
        """
        if not self.missing:
            return self
        lacking: dict[SplitKey, set[str]] = {}
        for lack in self.missing:
            lacking.setdefault(lack.split, set()).add(lack.key.stimulus)
        todo = [
            job.only(split, {part for part in job.request.only or () if part.stimulus in lacking[key]})
            for job in self.jobs
            for split in job.splits
            if (key := split_key(split)) in lacking
        ]
        settings = self.settings
        here = settings.cluster is None
        found = estimate_capture(
            settings.load if here else settings.elsewhere().load,
            [(job.splits[0], job.request) for job in todo],
            sizes,
            self.store,
            n_captures=len(self.jobs),
            weight_bytes=weight_bytes(settings.outline()),
            on_cpu=here and settings.device_map is None and resolve_device(settings.device) == "cpu",
            too_long=settings.too_long,
            trial=trial,
            processes=1 + self.n_beside,
            elsewhere=None if here else self._tried_elsewhere,
        )
        return replace(self, estimate=found)

    def _tried_elsewhere(self, trial: Callable[[], Trial]) -> tuple[Trial, int]:
        """A trial on a worker of the cluster, and how many workers there is room for."""
        from repeng.cluster.ray_tasks import call_elsewhere

        assert self.settings.cluster is not None
        with connected(self.settings.cluster) as cluster:
            needs = self.settings.needs(cluster)
            ((_, outcome),) = call_elsewhere(cluster, needs, [trial])
            workers = max(1, cluster.n_workers(needs))
        if isinstance(outcome, Exception):
            raise outcome
        found: Trial = outcome
        return found, workers

    @cached_property
    def _loaded_outline(self) -> LanguageModel:
        return self.settings.outline()

    def _outline(self) -> LanguageModel:
        """The model without its weights, read once."""
        return self._loaded_outline

    def keep_house(self) -> None:
        """Note in the store where the data of each split was read, and remove what killed runs left there."""
        keep_house(
            Store(self.store).root / self.settings.capture_id, [split for job in self.jobs for split in job.splits]
        )

    @contextmanager
    def _pool(self, address: str) -> Iterator[Pool]:
        """Workers of a cluster that hold the model, while the context is open."""
        from repeng.cluster.ray_pool import RayPool

        settings = self.settings
        root = self.store.expanduser().absolute()
        if str(root).startswith("memory:"):
            raise BadInput(f"{root} is in the memory of this process, and workers write to the store; give another")
        root.mkdir(parents=True, exist_ok=True)
        with connected(address) as cluster:
            load = partial(settings.elsewhere().load_as, settings.identity)
            pool = RayPool(cluster, settings.needs(cluster), load, settings.identity, Store(root), log.warning)
            with closing(pool):
                yield pool

    @contextmanager
    def _pool_here(self) -> Iterator[Pool]:
        """This process and some beside it, each with the model."""
        from repeng.cluster import local_processes

        settings, n = self.settings, self.n_beside
        load = partial(settings.load_as, settings.identity)
        yield local_processes.LocalPool(local_processes.begin(n), n, load, settings.identity)

    def _capture_by_pool(
        self, pool: Pool, jobs: Sequence[Job], advance: Callable[[int, int], None], max_bytes: int | None
    ) -> CaptureSummary:
        return capture_by_pool(
            pool,
            self._outline,
            [(job.splits, job.request) for job in jobs],
            Store(self.store.expanduser().absolute()),
            too_long=self.settings.too_long,
            storage_dtype=self.settings.storage_dtype,
            progress=advance,
            identity=self.settings.identity,
            max_bytes=max_bytes,
        )

    def _capture(
        self,
        load: Callable[[], LanguageModel],
        job: Job,
        advance: Callable[[int, int], None],
        max_bytes: int | None,
        share: Share | None,
    ) -> CaptureSummary:
        return capture(
            load,
            job.splits,
            job.request,
            Store(self.store),
            too_long=self.settings.too_long,
            storage_dtype=self.settings.storage_dtype,
            progress=advance,
            identity=self.settings.identity,
            max_bytes=max_bytes,
            share=share,
        )


def plan_cache(
    settings: ModelSettings,
    store: Place,
    wanted: Mapping[Split, frozenset[RequiredActivations]],
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

    Raises:
        BadInput: something is missing, and the device is not here, or what quantised weights need; or texts that the
            model's chat template is to write, and it has none.
    """
    jobs = _jobs(wanted, layers)
    n_layers = settings.identity.n_layers
    opened = Store(store)
    missing = [lack for job in jobs for lack in needed(settings.capture_id, n_layers, job.splits, job.request, opened)]
    if missing:
        settings.check()
    _check_template(settings.model, jobs, missing)
    of = {split_key(split): split for split in wanted}
    texts = {(lack.split, lack.key.stimulus) for lack in missing}
    plan = CachePlan(
        settings,
        store,
        jobs,
        tuple(missing),
        n_parts=sum(len(job.splits) * len(job.request.layers_by_key(n_layers)) for job in jobs),
        n_texts=sum(of[key].n_responses for key, _ in texts),
    )
    return plan.estimated(plan.sizes(), trial=True) if trial and missing else plan


def _check_template(model: str, jobs: Sequence[Job], missing: Sequence[MissingActivations]) -> None:
    """Say before the model runs that it has no chat template, where texts are to be written with one."""
    lacking = {lack.key.stimulus for lack in missing}
    forms = {stimulus.name: stimulus.form for job in jobs for stimulus in job.request.stimuli}
    if any(forms[name] == "chat" for name in lacking):
        from repeng.models.pretrained import load_tokenizer

        require_chat_template(load_tokenizer(model))


def _jobs(wanted: Mapping[Split, frozenset[RequiredActivations]], layers: tuple[int, ...] | None) -> tuple[Job, ...]:
    """Splits of equal needs together."""
    by_needs: dict[frozenset[RequiredActivations], list[Split]] = {}
    for split, needs in wanted.items():
        by_needs.setdefault(needs, []).append(split)
    return tuple(Job(tuple(splits), request_of(needs, layers)) for needs, splits in by_needs.items())


def request_of(needs: frozenset[RequiredActivations], layers: tuple[int, ...] | None = None) -> Request:
    """One request that asks for these parts and no other; of each site the layers that any of them reads."""
    stimuli: dict[str, Stimulus] = {need.stimulus.name: need.stimulus for need in needs}
    sites = sorted({need.site for need in needs if need.site})
    by_site: dict[str, tuple[int, ...]] = {}
    for site in sites:
        asked = [need.layers for need in needs if need.site == site]
        known = [blocks for blocks in asked if blocks is not None]
        if len(known) == len(asked):
            by_site[site] = tuple(sorted(set().union(*known)))
    return Request(
        stimuli=tuple(stimuli[name] for name in sorted(stimuli)),
        sites=tuple(sites),
        tokens=tuple(sorted({need.token for need in needs if need.token})),
        layers=by_site if layers is None else layers,
        only=frozenset(ActivationKey(need.stimulus.name, need.site or LOGPROB, need.token) for need in needs),
    )


def cache_needs(
    stimuli: Sequence[Stimulus], sites: Sequence[str], tokens: Sequence[str], *, logprob: bool
) -> frozenset[RequiredActivations]:
    """Every stimulus at every site and token, and where they are wanted log-probabilities.

    These are of the first stimulus, and of the plain text in chat form: zero-shot reads them in either form.

    Raises:
        BadInput: no stimulus.
        UnknownName: no model has such a site.
    """
    if not stimuli:
        raise BadInput("no stimulus to capture; name one or more, as plain")
    sites = list(map(named_site, sites))
    needs = {RequiredActivations(stimulus, site, token) for stimulus in stimuli for site in sites for token in tokens}
    scored = [each for each in stimuli if each == stimuli[0] or each.name == CHAT] if logprob else []
    return frozenset(needs | set(map(RequiredActivations, scored)))
