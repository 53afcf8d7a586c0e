"""Which files of a store are handed on, and how a store takes them in: verified, and nothing written over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import unquote

from repeng.activations.store.files import CAPTURE, INDEX, SPLIT
from repeng.activations.store.records import Index, read_capture, read_index, read_split
from repeng.activations.store.stored_activations import shard_fault
from repeng.atomic import copy_atomically
from repeng.errors import BadInput, StoreError, UnknownName
from repeng.locks import locked
from repeng.places import Place, remove_tree

DEPTH = 4
"""Names in the path of a folder of activations: capture, distribution, split, stimulus with site and token."""


class OtherContent(BadInput):
    """Something else is where activations were to be put.

    Attributes:
        path: of a capture, a split or a folder of activations, in the store.
        how: it differs, as `is of another model`.
    """

    def __init__(self, where: str, path: str, how: str) -> None:
        self.path, self.how = path, how
        super().__init__(
            f"{where}: {path} {how} than what was to be put there; nothing was written: choose another place, or "
            "remove what is there first"
        )


@dataclass(frozen=True)
class Selection:
    """What of a store is meant.

    Attributes:
        capture: its id; None for every one.
        distributions: their names; none for every one.
    """

    capture: str | None = None
    distributions: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether a file or folder, by its path in the store, is meant."""
        capture, *below = path.split("/")
        meant = self.capture in (None, capture)
        return meant and (not self.distributions or len(below) < 2 or unquote(below[0]) in self.distributions)


@dataclass(frozen=True)
class Merged:
    """What a store was given.

    Attributes:
        taken: folders of activations that were written, by their path in the store.
        there: those that were there already, with the same content.
    """

    taken: tuple[str, ...]
    there: tuple[str, ...]


def whole_folders(store: Place, selection: Selection) -> tuple[str, ...]:
    """The folders of activations that are whole, by their path in the store, sorted.

    Raises:
        UnknownName: no such capture, or no such distribution in it.
        BadInput: there are none.
    """
    found = sorted("/".join(file.parts[-DEPTH - 1 : -1]) for file in store.glob(f"{'*/' * DEPTH}{INDEX}"))
    check_selection(str(store), found, selection)
    return tuple(path for path in found if selection.takes(path))


def is_index(path: str) -> bool:
    """Whether a file of a repository is the index of a folder of activations, as stores name them."""
    names = path.split("/")
    return len(names) == DEPTH + 1 and names[-1] == INDEX and not any(name.startswith(".") for name in names)


def check_selection(where: str, found: Sequence[str], selection: Selection) -> None:
    """See that what is meant is among the folders of activations that are there.

    Raises:
        UnknownName: no such capture, or no such distribution in it.
        BadInput: there are none.
    """
    if not found:
        raise BadInput(f"{where}: holds no activations that are whole; give a store that `repeng cache` wrote")
    captures = {path.split("/")[0] for path in found}
    if selection.capture not in (None, *captures):
        raise UnknownName(f"capture in {where}", str(selection.capture), captures)
    names = {unquote(path.split("/")[1]) for path in found if Selection(selection.capture).takes(path)}
    for name in selection.distributions:
        if name not in names:
            raise UnknownName(f"distribution in {where}", name, names)


def folder_files(store: Place, path: str) -> Iterator[str]:
    """The files of a folder of activations, by their paths in the store: its shards, and its index last."""
    for shard in read_index(store / path).shards:
        yield f"{path}/{shard.file}"
    yield f"{path}/{INDEX}"


def head_files(store: Place, folders: Sequence[str]) -> Iterator[str]:
    """What belongs to folders of activations besides: capture.json of each capture, split.json of each split."""
    for capture in sorted({path.split("/")[0] for path in folders}):
        yield f"{capture}/{CAPTURE}"
    for split in sorted({path.rpartition("/")[0] for path in folders}):
        if (store / split / SPLIT).is_file():
            yield f"{split}/{SPLIT}"


def verify_folders(store: Place, folders: Sequence[str]) -> None:
    """Read all that some folders of activations are made of, and hold it against its checksums.

    Raises:
        StoreError: something is missing, damaged, or belongs elsewhere.
    """
    for head in head_files(store, folders):
        folder = (store / head).parent
        _ = read_capture(folder) if head.endswith(CAPTURE) else read_split(folder)
    for path in folders:
        index, split = read_index(store / path), (store / path).parent
        if (split / SPLIT).is_file() and read_split(split).rows != index.rows:
            raise StoreError(f"{store / path / INDEX}: its responses are others than {SPLIT} says")
        for shard in index.shards:
            if fault := shard_fault(store / path, shard):
                raise StoreError(fault)


def merge(source: Place, target: Place, folders: Sequence[str], *, move: bool = False) -> Merged:
    """Copy folders of activations from one store to another, the index of each last. They are verified first.

    What the other store holds already, with the same content, is left. Where it holds something else under a same
    name, nothing at all is written.

    Args:
        source: a store.
        target: another, which need not be there yet.
        folders: folders of activations, by their path in a store.
        move: the source may lose what is copied.

    Raises:
        StoreError: something is damaged, or a run is writing there.
        OtherContent: the other store holds something else under a same name.
    """
    verify_folders(source, folders)
    there = tuple(path for path in folders if held(source, target, path))
    taken = tuple(path for path in folders if path not in there)
    splits = sorted({path.rpartition("/")[0] for path in taken})
    with ExitStack() as locks:
        for split in splits:
            if not locks.enter_context(locked(target / split, wait=False)):
                raise StoreError(f"{target / split}: a run is writing here; wait until it is done, or stop it")
        for head in head_files(source, taken):
            if not (target / head).is_file():
                copy_atomically(source / head, target / head, move=move)
        for path in taken:
            # Without an index it is what a stopped run left behind.
            if (target / path).is_dir():
                remove_tree(target / path)
            for file in list(folder_files(source, path)):
                copy_atomically(source / file, target / file, move=move)
    return Merged(taken, there)


def held(source: Place, target: Place, path: str) -> bool:
    """Whether a store holds a folder of activations of another, with the same content.

    Raises:
        StoreError: a file cannot be read.
        OtherContent: it holds something else under the same name.
    """
    capture, split = path.split("/")[0], path.rpartition("/")[0]
    if (target / capture / CAPTURE).is_file():
        ours, theirs = read_capture(target / capture), read_capture(source / capture)
        if (ours.model.content, ours.storage_dtype) != (theirs.model.content, theirs.storage_dtype):
            raise OtherContent(str(target), capture, "is of another model")
    noted = (target / split / SPLIT).is_file() and (source / split / SPLIT).is_file()
    if noted and read_split(target / split).rows != read_split(source / split).rows:
        raise OtherContent(str(target), split, "is of other data")
    if not (target / path / INDEX).is_file():
        return False
    if same_content(read_index(target / path), read_index(source / path)):
        return True
    raise OtherContent(str(target), path, "has other activations")


def same_content(one: Index, other: Index) -> bool:
    """Whether whoever reads either of two folders of activations is given the same."""
    return (one.layers, one.shape, one.dtype) == (other.layers, other.shape, other.dtype) and (
        one.content() == other.content()
    )
