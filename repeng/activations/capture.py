"""One pass over a model: every wanted site at every wanted token of every stimulus, and log-probabilities."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from repeng.activations.store.files import INDEX, MissingActivations, locked, split_folder
from repeng.activations.store.records import CaptureRecord, read_index
from repeng.activations.store.request import Request, capture_record, needed
from repeng.activations.store.reuse import siblings, take_over
from repeng.activations.store.store import Store
from repeng.activations.store.writing import Share, note_source, tidy
from repeng.activations.token_rules import check_tokens, token_rule
from repeng.distributions.schema import Split
from repeng.errors import BadInput, UnknownName
from repeng.models.fingerprint import Identity
from repeng.places import Place

if TYPE_CHECKING:
    from repeng.activations.capture_run import CaptureRun, Progress
    from repeng.activations.pool_run import Pool, PoolRun
    from repeng.models.load import LanguageModel

__all__ = ["CaptureSummary", "Request", "capture"]

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
METHODS = ("auto", "packed", "batched")


@dataclass(frozen=True)
class CaptureSummary:
    """What a capture did.

    Attributes:
        capture_id: of the store's folder.
        n_texts: distinct texts that the model read.
        n_tokens: tokens that it computed, padding included.
        skipped: texts left out as too long, over all that was asked for.
        parts_written: how many of what was asked for (a stimulus, site and token of a split each) were written, or
            added to.
        parts_reused: how many of them were there.
        parts_left: how many of them still lack what other shares of the capture are to write.
        method: "packed" or "batched"; "none" where the model was not run.
        seconds: spent.
    """

    capture_id: str
    n_texts: int
    n_tokens: int
    skipped: int
    parts_written: int
    parts_reused: int
    method: str
    seconds: float
    parts_left: int = 0

    def __add__(self, other: CaptureSummary) -> CaptureSummary:
        """Both, one after the other."""
        methods = {self.method, other.method} - {"none"}
        return CaptureSummary(
            capture_id=self.capture_id,
            n_texts=self.n_texts + other.n_texts,
            n_tokens=self.n_tokens + other.n_tokens,
            skipped=self.skipped + other.skipped,
            parts_written=self.parts_written + other.parts_written,
            parts_reused=self.parts_reused + other.parts_reused,
            method=" and ".join(sorted(methods)) or "none",
            seconds=self.seconds + other.seconds,
            parts_left=self.parts_left + other.parts_left,
        )


def capture(
    lm: LanguageModel | Callable[[], LanguageModel],
    splits: Sequence[Split],
    request: Request,
    store: Store,
    *,
    batch_tokens: int | None = None,
    too_long: str = "skip",
    max_length: int | None = None,
    method: str = "auto",
    storage_dtype: str = "bfloat16",
    progress: Progress | None = None,
    identity: Identity | None = None,
    max_bytes: int | None = None,
    share: Share | None = None,
) -> CaptureSummary:
    """Run a model once over some splits and keep its activations; what is in the store already is not computed again.

        request = Request((get_stimulus("plain"),), sites=("resid_post",), tokens=("last",))
        summary = capture(load_model("mini"), [split], request, Store("store"))
        vectors = Store("store").capture(summary.capture_id).activations("facts", "train", layer=3)

    A run that was stopped is taken up where it was; what another process is working on at the same time is left to it
    and waited for at the end. Where nothing is missing the model is not run, and not even loaded if `lm` is a function.

    Args:
        lm: the model, or a function that loads it.
        splits: what to read.
        request: what to keep of it.
        store: where to.
        batch_tokens: token budget of a batch; None for the one recorded with the capture, at first chosen by `budget`.
            Halved where it does not fit.
        too_long: "skip", "cut" or "refuse" texts of more tokens than the model takes.
        max_length: longest text in tokens; None for the model's own limit.
        method: "packed" computes shared prefixes once, "batched" pads each text alone, "auto" packs where that is seen
            to give the same for this model.
        storage_dtype: `bfloat16`, `float32` or `float16`.
        progress: called with the number of responses done, and of all, each stimulus counted.
        identity: of the model that the function loads (`fingerprint.identify`); None loads it to know.
        max_bytes: what every token's activations (`all`) that are missing may take; None for `sizes.MOST_BYTES`.
        share: which part of it to do, where other runs over the same store, given the same splits, do the others;
            whoever comes last makes it whole. None for all.

    Returns:
        What was done, and the id under which the store keeps the activations.

    Raises:
        UnknownName: an unknown site, method or option.
        BadInput: a text that cannot be tokenized, or is too long and to be refused; a layer that is not there; a token
            that a prompt cannot have; or every token's activations would take too much.
        NonFinite: a value is infinite or not a number; nothing of its shard is written.
        RepengError: out of memory even with small batches; or the packed method was asked for and is not right here.
    """
    started = time.monotonic()
    if method not in METHODS:
        raise UnknownName("method of capturing", method, METHODS)
    if batch_tokens is not None and batch_tokens < 1:
        raise BadInput(f"a token budget of {batch_tokens} holds nothing; give 1 or more")
    if identity is None:
        lm = lm() if callable(lm) else lm
        identity = lm.identity
    record = capture_record(identity, storage_dtype=storage_dtype, max_length=max_length, too_long=too_long)
    begun = _begin(identity, record, splits, request, store)
    summary = begun.nothing_done()
    if begun.missing:
        # With layouts and a model's code behind it: a study whose activations are all there does without.
        from repeng.activations.capture_run import CaptureRun

        lm = lm() if callable(lm) else lm
        lm.identity.check_announced(identity)
        _check_size(lm, begun, store, record, max_bytes)
        run = CaptureRun(
            lm,
            begun.splits,
            begun.missing,
            request,
            store,
            record,
            method=method,
            batch_tokens=batch_tokens,
            progress=progress,
            share=share,
        )
        run.run_all()
        summary = _after(summary, run, n_left=run.n_left)
    skipped = _skipped(store, record.id, begun.splits, request)
    return replace(summary, skipped=skipped, seconds=time.monotonic() - started)


def capture_by_pool(
    pool: Pool,
    outline: Callable[[], LanguageModel],
    wanted: Sequence[tuple[Sequence[Split], Request]],
    store: Store,
    *,
    too_long: str = "skip",
    storage_dtype: str = "bfloat16",
    progress: Progress | None = None,
    identity: Identity,
    max_bytes: int | None = None,
) -> CaptureSummary:
    """Have models elsewhere read some splits, all at the same time: what `capture` does one after the other here.

    The shards are those that `capture` writes on the same kind of device, to the byte.

    Args:
        pool: the models.
        outline: loads the model without its weights (`load_outline`).
        wanted: splits, and what is wanted of them.
        store: where to; the workers see it under the same name.
        too_long, storage_dtype, progress, identity, max_bytes: as of `capture`.

    Raises:
        As `capture`.
    """
    from repeng.activations.pool_run import PoolRun, Wanted

    started = time.monotonic()
    record = capture_record(identity, storage_dtype=storage_dtype, too_long=too_long)
    begun = [_begin(identity, record, splits, request, store) for splits, request in wanted]
    summary = reduce(add, (one.nothing_done() for one in begun))
    if any(one.missing for one in begun):
        lm = outline()
        for one in begun:
            _check_size(lm, one, store, record, max_bytes)
        lacking = [Wanted(one.splits, one.request, one.missing) for one in begun]
        run = PoolRun(pool, lm, lacking, store, record, progress=progress)
        run.run_all()
        summary = _after(summary, run)
    skipped = sum(_skipped(store, record.id, one.splits, one.request) for one in begun)
    return replace(summary, skipped=skipped, seconds=time.monotonic() - started)


@dataclass(frozen=True)
class _Begun:
    """What is asked for, how much of it was taken over from other versions of the data, and what is missing."""

    capture_id: str
    splits: tuple[Split, ...]
    request: Request
    missing: tuple[MissingActivations, ...]
    n_asked: int
    copied: int

    def nothing_done(self) -> CaptureSummary:
        """The summary before the model is run."""
        return CaptureSummary(self.capture_id, 0, 0, 0, self.copied, self.n_asked - self.copied, "none", 0.0)


def _after(summary: CaptureSummary, run: CaptureRun | PoolRun, *, n_left: int = 0) -> CaptureSummary:
    """The summary when the model was run; `n_left` parts wait for other shares."""
    return replace(
        summary,
        n_texts=run.n_texts,
        n_tokens=run.n_tokens,
        parts_written=summary.parts_written + run.n_written,
        parts_reused=summary.parts_reused - run.n_written - n_left,
        parts_left=n_left,
        method=run.method,
    )


def _begin(
    identity: Identity, record: CaptureRecord, splits: Sequence[Split], request: Request, store: Store
) -> _Begun:
    splits = tuple(dict.fromkeys(splits))
    empty = [split for split in splits if not split.examples]
    if empty:
        raise BadInput(f"{empty[0].distribution}/{empty[0].name} has no examples; there is nothing to capture")
    for split in splits:
        for form, names in request.tokens_by_form(identity.n_layers).items():
            check_tokens(split, names, form)
    copied = sum(_without_model(store.root / record.id, split, identity.n_layers, request, store) for split in splits)
    missing = needed(record.id, identity.n_layers, splits, request, store)
    n_asked = len(splits) * len(request.layers_by_key(identity.n_layers))
    return _Begun(record.id, splits, request, tuple(missing), n_asked, copied)


def _check_size(lm: LanguageModel, begun: _Begun, store: Store, record: CaptureRecord, max_bytes: int | None) -> None:
    """See that every token's activations do not take too much."""
    from repeng.activations.sizes import MOST_BYTES, activation_sizes, check_size

    if ragged := frozenset(item.key for item in begun.missing if token_rule(item.key.token).is_ragged):
        sizes = activation_sizes(lm, begun.splits, replace(begun.request, only=ragged), store, record)
        check_size(sizes, MOST_BYTES if max_bytes is None else max_bytes)


def keep_house(capture: Place, splits: Sequence[Split]) -> None:
    """Note of splits that are in a capture which data they are of, and remove what killed runs left of them.

    A split that another process is writing is left to it, a store that may not be written to as it is.

    Args:
        capture: the capture's folder.
        splits: that were read.
    """
    for folder, split in ((split_folder(capture, split), split) for split in splits):
        if not folder.is_dir():
            continue
        try:
            with locked(folder, wait=False) as held:
                if held:
                    note_source(folder, split)
                    tidy(folder)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise


def _without_model(capture: Place, split: Split, n_layers: int, request: Request, store: Store) -> int:
    """Take over what other versions of a split's data hold.

    Returns:
        How many activations were taken over; none of a split that another process is writing.
    """
    folder = split_folder(capture, split)
    keep_house(capture, [split])
    if not siblings(folder) or not needed(capture.name, n_layers, [split], request, store):
        return 0
    with locked(folder, wait=False) as held:
        if not held:
            return 0
        note_source(folder, split)
        missing = needed(capture.name, n_layers, [split], request, store)
        stimuli = {stimulus.name: stimulus for stimulus in request.stimuli}
        names = dict.fromkeys(item.key.stimulus for item in missing)
        return sum(
            take_over(folder, split, stimuli[name], [item for item in missing if item.key.stimulus == name])
            for name in names
        )


def _skipped(store: Store, capture: str, splits: Sequence[Split], request: Request) -> int:
    """Texts that were left out as too long, each stimulus counted."""
    total = 0
    for split in splits:
        folder = split_folder(store.root / capture, split)
        for stimulus in request.stimuli:
            index = next(iter(sorted(folder.glob(f"{stimulus.name}.*/{INDEX}"))), None)
            total += len(read_index(index.parent).skipped) if index is not None else 0
    return total
