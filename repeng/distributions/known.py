"""Data by the name of a public set: `known:NAME` on the hub, `known:NAME=FOLDER` a copy of it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from repeng.distributions.hub import HubSource
from repeng.distributions.known_sets import KNOWN_SETS, KnownSet
from repeng.distributions.reading import Reading
from repeng.distributions.rows import Rows
from repeng.distributions.sources import FileSource, find_sources
from repeng.errors import BadData, BadInput, UnknownName

PREFIX = "known:"


@dataclass(frozen=True)
class KnownSource:
    """One distribution of a known set: its rows as ours, under our names of splits.

    Attributes:
        parts: where it comes from; of several the rows are taken in turn, as many of each.
    """

    name: str
    known: KnownSet
    parts: tuple[FileSource | HubSource, ...]

    @cached_property
    def named(self) -> Mapping[str, str]:
        """For each of our splits the set's own, where it has those that are known; else each of its own."""
        own, known = self.parts[0].splits(), self.known.splits
        return known if known and set(known.values()) <= set(own) else {name: name for name in own}

    @property
    def place(self) -> str:
        """Where its parts are."""
        return " and ".join(part.place for part in self.parts)

    @property
    def origin(self) -> str:
        """As the hub names it, or its absolute path."""
        return " and ".join(part.origin for part in self.parts)

    def splits(self) -> Sequence[str]:
        """The names of `named`."""
        return tuple(self.named)

    def split_place(self, split: str) -> str:
        """The set's own split."""
        return " and ".join(part.split_place(self.named[split]) for part in self.parts)

    def rows(self, split: str) -> Rows:
        """The rows of a split, each as one of ours; a row that cannot be one is the error that says why."""
        read = [part.rows(self.named[split]) for part in self.parts]
        fewest = min(map(len, read))
        if not self.known.labels:
            taken = [row for rows in read for row in rows]
        else:
            cut = zip(*(rows[:fewest] for rows in read), strict=True)
            taken = [
                {**row, "label": label} if isinstance(row, dict) else row
                for rows in cut
                for row, label in zip(rows, self.known.labels, strict=True)
            ]
        return [made for row in taken if (made := self._converted(row)) is not None]

    def _converted(self, row: object) -> object:
        if self.known.convert is None or not isinstance(row, dict):
            return row
        try:
            return self.known.convert(row)
        except BadData as error:
            return error


Source = FileSource | HubSource | KnownSource
"""One distribution before it is read."""


def find_data(data: str | Path, reading: Reading | None = None) -> tuple[dict[str, Source], Reading]:
    """Every distribution of some data by name, sorted, and how its rows are to be read.

    Args:
        data: as of `find_sources`; or `known:NAME`, `known:NAME=FOLDER`.
        reading: what the user says of it, which goes before what is known of a set.

    Raises:
        BadInput: there is no such data, or nothing in it.
        UnknownName: no set of that name is known.
    """
    reading = reading or Reading()
    name, is_copy, folder = str(data).removeprefix(PREFIX).partition("=")
    if not str(data).startswith(PREFIX):
        return dict(find_sources(data)), reading
    if name not in KNOWN_SETS:
        raise UnknownName("public set", name, KNOWN_SETS)
    known = KNOWN_SETS[name]
    if not is_copy and not known.hub:
        raise BadInput(f"{data}: no hub has it; copy it from {known.home} and give the folder as {data}=FOLDER")
    sources = _in_parts(known, folder) if known.labels else _alone(known, folder or known.hub[0])
    return sources, reading.over(known.reading)


def data_name(data: str) -> str:
    """A short name of some data, for a results folder or a benchmark: the known set's, or the last of its path."""
    if data.startswith(PREFIX):
        return data.removeprefix(PREFIX).partition("=")[0]
    return Path(data).stem


def _alone(known: KnownSet, place: str) -> dict[str, Source]:
    found = find_sources(place)
    chosen = {name: source for name, source in found.items() if name in known.configurations} or found
    if known.configurations and chosen is found and len(found) > 1:
        raise BadInput(f"{place}: none of {', '.join(known.configurations)} is here; found {', '.join(found)}")
    if len(chosen) == 1 and len(known.configurations) == 1:
        chosen = {known.name: next(iter(chosen.values()))}
    return {name: KnownSource(name, known, (source,)) for name, source in chosen.items()}


def _in_parts(known: KnownSet, folder: str) -> dict[str, Source]:
    """A set that comes from several: on the hub, or in folders of their names within one."""
    places = [str(Path(folder).expanduser() / Path(hub).name) if folder else hub for hub in known.hub]
    parts = tuple(next(iter(find_sources(place).values())) for place in places)
    return {known.name: KnownSource(known.name, known, parts)}
