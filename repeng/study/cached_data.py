"""Which capture and which version of the data is meant: opening a store by model, data or probe."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import MissingActivations, SplitKey
from repeng.activations.store.store import Store, StoredCapture
from repeng.activations.store.stored_capture import PLAIN
from repeng.benchmarks.loaded import load_benchmark, load_named
from repeng.distributions.mixture import Mixture
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Distribution, Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput, CaptureMismatch, UnknownName, choice_of
from repeng.models.fingerprint import slug
from repeng.places import Place
from repeng.probes.fitted import FittedProbe


class CachedData(StoredCapture):
    """One model's cached activations, and which version of a split's data is meant where there are several.

    Attributes:
        versions: the data hash of some (distribution, split).
        missing: distributions that are asked for of data that lacks them, so that none of their versions is meant.
        meant: the distributions of the data that was named; None where none was, and all that are here are meant.
        named: the options by which that data was named: `data`, `benchmark`, `limit`, `columns` and so on.
    """

    def __init__(
        self,
        folder: Place,
        versions: Mapping[tuple[str, str], str] | None = None,
        *,
        missing: Iterable[str] = (),
        meant: Iterable[str] | None = None,
        named: Mapping[str, str] | None = None,
        trust: bool = False,
    ) -> None:
        super().__init__(folder, trust=trust)
        self.meant = None if meant is None else frozenset(meant)
        self.versions = versions or {}
        self.missing = frozenset(missing)
        self.named = named or {}

    def trained(self) -> tuple[str, ...]:
        """The distributions that are meant and have a `train` split here."""
        return tuple(name for name in self.trained_distributions() if self.meant is None or name in self.meant)

    def find(self, distribution: str, split: str = "train", *, data_hash: str | None = None) -> SplitKey:
        """Which data a distribution's split means.

        Raises:
            UnknownName: nothing of that name is here.
            BadInput: what is here is of other data than is meant; or of several, and none is meant; or the data that
                is meant lacks the distribution.
        """
        meant = data_hash or self.versions.get((distribution, split))
        if meant is None and distribution in self.missing:
            raise BadInput(
                f"the benchmark names {distribution}, and its data (--data) lacks it, so that no version of it in "
                f"{self.id} is the one that is meant; give data that holds it, or say which version is meant by its "
                "hash (--data-hash; in Python data_hash)"
            )
        if meant and self.is_other(distribution, split, meant):
            here = [key for key in self.splits() if key[:2] == (distribution, split)]
            parts = list(dict.fromkeys(part.key for key in here for part in self.contents()[key]))
            key = SplitKey(distribution, split, meant)
            raise self.of_other_data([MissingActivations(key, part, ()) for part in parts or [PLAIN]])
        return super().find(distribution, split, data_hash=meant)

    def is_other(self, distribution: str, split: str, data_hash: str | None = None) -> bool:
        """Whether it is known which data is meant, and the split is not here of it."""
        meant = data_hash or self.versions.get((distribution, split))
        here = {key.data_hash for key in self.splits() if key[:2] == (distribution, split)}
        return meant is not None and meant not in here and bool(here or self.named)

    def of_other_data(self, missing: Sequence[MissingActivations], stimuli: Iterable[Stimulus] = ()) -> BadInput:
        """That a split is not here of the data that is meant, with the command that captures it.

        Args:
            missing: of the split, and then whatever else is missing.
            stimuli: of what is missing, where the store may not know them.
        """
        key = missing[0].split
        here = [one for one in self.splits() if one[:2] == key[:2]]
        name = f"{key.distribution}/{key.split}"
        held = f"{name} of other data than is meant" if here else f"no {name} of the data that is meant"
        listed = f": {'; '.join(map(self.described, here))}" if here else ""
        return BadInput(f"{self.id} holds {held} ({key.data_hash}){listed}; {self.way_out(missing, stimuli=stimuli)}")

    def way_out(
        self,
        missing: Sequence[MissingActivations],
        *,
        data: Mapping[str, Mapping[str, str]] | None = None,
        stimuli: Iterable[Stimulus] = (),
    ) -> str:
        """What to do about what is missing; the data that is meant is named as it was asked for."""
        meant = {key.distribution for key in (lack.split for lack in missing) if self.versions.get(key[:2])}
        asked = dict.fromkeys(meant, self.named) if self.named else {}
        return super().way_out(missing, data={**asked, **(data or {})}, stimuli=stimuli)

    def split(self, distribution: str, split: str = "train", *, data_hash: str | None = None) -> CachedSplit:
        """The cached activations of a split, to be read layer by layer.

        Raises:
            UnknownName, BadInput: as `find`.
        """
        return CachedSplit(self, *self.find(distribution, split, data_hash=data_hash))


Cached = CachedData | StoredCapture | Store | str | Place
"""Cached activations: what `capture` gives, or a store (or its folder) that holds one model's."""


def versions_of(data: Iterable[Distribution | Split]) -> dict[tuple[str, str], str]:
    """The data hash of every split of some data, by distribution and split."""
    splits = [split for each in data for split in (each.splits.values() if isinstance(each, Distribution) else (each,))]
    return {(split.distribution, split.name): split.data_hash for split in splits if not isinstance(split, Mixture)}


def open_data(
    cached: CachedData,
    *,
    data: str | None = None,
    benchmark: str | None = None,
    limit: int | None = None,
    hashes: Sequence[str] = (),
    reading: Reading | None = None,
) -> CachedData:
    """Cached activations of which it is said which data is meant.

    Args:
        cached: the activations.
        data: where the data is, as it was captured.
        benchmark: whose data it is.
        limit: only the first so many examples of each split.
        hashes: data hashes, each of which also means what was read together with it.
        reading: how the data was read: the columns and labels that were named when it was captured.

    Raises:
        BadInput, BadData: there is no such data, or it is wrong.
        UnknownName: nothing here has such a hash.
    """
    versions: dict[tuple[str, str], str] = {}
    missing: tuple[str, ...] = ()
    asked = {"benchmark": benchmark, "data": data if benchmark or data else "mini" if limit else None}
    options = {option: value for option, value in asked.items() if value is not None}
    options |= {**({} if limit is None else {"limit": str(limit)}), **({} if reading is None else reading.options)}
    if benchmark is not None:
        world = load_benchmark(benchmark, data, limit=limit, reading=reading, partial=True)
        missing = world.missing
        # Of a shift that is left out, one distribution may be there.
        others = load_named(data, world.unused, limit=limit, reading=reading) if world.unused else {}
        versions = versions_of((*world.distributions.values(), *others.values()))
    elif data is not None or limit is not None:
        versions = versions_of(load_named(data, limit=limit, reading=reading).values())
    meant = {name for name, _ in versions} or None
    keys = cached.splits()
    for data_hash in hashes:
        named = [key for key in keys if key.data_hash == data_hash]
        if not named:
            raise UnknownName(f"data hash in {cached.id}", data_hash, {key.data_hash for key in keys})
        for key in named:
            for name, hashes_of in siblings(cached, key).items():
                if len(hashes_of) == 1:
                    versions.setdefault((key.distribution, name), hashes_of[0])
            versions[key.distribution, key.split] = data_hash
    return CachedData(cached.folder, versions, missing=missing, meant=meant, named=options, trust=cached.trust)


def open_store(store: str | Place | Store, model: str | None = None) -> CachedData:
    """A store's activations of a model; of its only one where no model is named.

    Raises:
        BadInput: the store holds none, or several that the name does not tell apart.
    """
    opened = store if isinstance(store, Store) else Store(store)
    held = opened.captures()
    found = [each for each in held if model in (None, each.model, each.id, slug(each.model))]
    if not found:
        names = [each.model for each in held] + [each.id for each in held]
        of_model = f" of {model}" if model else ""
        choice = f"; {choice_of(model, names)}; or" if model and names else ";"
        raise BadInput(
            f"{opened.root}: no capture{of_model} here{choice} make one with: repeng cache --store "
            f"{shlex.quote(str(opened.root))} --model {shlex.quote(model or 'MODEL')} --data DATA"
        )
    if len(found) > 1:
        listing = ", ".join(f"{each.id} ({each.model}, {each.dtype})" for each in found)
        raise BadInput(f"{opened.root} holds several captures: {listing}; choose one with --model, by its id")
    return CachedData(found[0].folder, trust=opened.trust)


def open_for(fitted: FittedProbe, store: str | Place | Store, model: str | None = None) -> CachedData:
    """A store's activations of the capture that a probe was fitted on.

    Raises:
        BadInput: the store holds no capture, or none of the model that was asked for.
        CaptureMismatch: it holds others alone, or another was asked for.
    """
    opened = store if isinstance(store, Store) else Store(store)
    own = fitted.provenance.get("capture_id")
    held = [each.id for each in opened.captures()]
    if model is None and own is not None and held:
        if own in held:
            return CachedData(opened.root / str(own), trust=opened.trust)
        raise CaptureMismatch(
            f"probe {fitted.name!r} was fitted on capture {own!r}, which is not in {opened.root}; "
            f"there are {', '.join(held)}"
        )
    chosen = open_store(opened, model)
    fitted.check_capture(chosen.id)
    return chosen


def opened(cached: Any) -> CachedData:
    """Cached activations, however they were named: any `Cached`.

    Raises:
        BadInput: it is something else, such as activations of texts.
    """
    if isinstance(cached, CachedData):
        return cached
    if not isinstance(cached, Cached):
        raise BadInput(
            f"{type(cached).__name__} is no store; give its folder, or what repeng.capture gives for a data set. A "
            "probe on activations of texts is fitted with them: repeng.probes.MMS().fit(acts[4], y)"
        )
    return CachedData(cached.folder, trust=cached.trust) if isinstance(cached, StoredCapture) else open_store(cached)


def siblings(cached: CachedData, key: SplitKey) -> dict[str, list[str]]:
    """Of every split that was read together with one, itself among them, the data hashes that it had."""
    found: dict[str, list[str]] = {}
    record = cached.data_of(key)
    for source in record.sources if record is not None else ():
        for name, data_hash in source.siblings.items():
            if data_hash not in found.setdefault(name, []):
                found[name].append(data_hash)
    return found
