"""What is damaged in a capture, and removing that and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from repeng.activations.store.files import CAPTURE, INDEX, SPLIT
from repeng.activations.store.records import DROP, read_capture, read_index, read_split
from repeng.activations.store.stored_activations import shard_fault
from repeng.errors import StoreError, UnreadableFile
from repeng.locks import locked
from repeng.places import Place, remove_tree


@dataclass(frozen=True)
class Damage:
    """A file that is missing, damaged, or in the wrong place.

    Attributes:
        text: which file, and what is wrong.
        bad: what a repair removes: a file, or the folder of one stimulus, site and token of a split. None where it may
            be whole: a file of a later format, or one that the system lets nobody read now.
    """

    text: str
    bad: Place | None

    @classmethod
    def of(cls, error: StoreError, bad: Place) -> Damage:
        """What an error says, without the way out, which is this."""
        return cls(str(error).partition(f"; {DROP}")[0], None if isinstance(error, UnreadableFile) else bad)

    def __str__(self) -> str:
        return self.text


def capture_damages(capture: Place) -> Iterator[Damage]:
    """Every damage of a capture, by its folder."""
    try:
        read_capture(capture)
    except StoreError as error:
        yield Damage.of(error, capture / CAPTURE)
    for split in sorted({file.parents[1] for file in capture.glob(f"*/*/*/{INDEX}")}):
        rows = None
        if (split / SPLIT).is_file():
            try:
                rows = read_split(split).rows
            except StoreError as error:
                yield Damage.of(error, split / SPLIT)
        folders = sorted(file.parent for file in split.glob(f"*/{INDEX}"))
        for folder in folders:
            yield from _faults(folder, rows)
        if rows is None and len({rows for folder in folders if (rows := _rows(folder))}) > 1:
            for folder in folders:
                yield Damage(f"{folder / INDEX}: the indexes of this split do not agree on its responses", folder)


def remove_damage(damage: Damage) -> None:
    """Remove what is bad.

    Raises:
        StoreError: a run is writing there.
    """
    if damage.bad is None:
        return
    if damage.bad.is_dir():
        with locked(damage.bad.parent, wait=False) as held:
            if not held:
                raise StoreError(f"{damage.bad.parent}: a run is writing here; wait until it is done, or stop it")
            # Without an index nothing of it is believed, wherever this stops.
            (damage.bad / INDEX).unlink(missing_ok=True)
            remove_tree(damage.bad)
    else:
        damage.bad.unlink(missing_ok=True)


def _rows(folder: Place) -> str:
    try:
        return read_index(folder).rows
    except StoreError:
        return ""


def _faults(folder: Place, rows: str | None) -> Iterator[Damage]:
    try:
        index = read_index(folder)
    except StoreError as error:
        yield Damage.of(error, folder)
        return
    if rows is not None and index.rows != rows:
        yield Damage(f"{folder / INDEX}: its responses are others than {SPLIT} says", folder)
    for shard in index.shards:
        try:
            if fault := shard_fault(folder, shard, again=True):
                yield Damage(fault, folder)
        except StoreError as error:
            yield Damage.of(error, folder)
