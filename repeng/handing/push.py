"""Pushing a probe, or activations of a store, to a repository of the hub or to a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from repeng.activations.store.files import CAPTURE, INDEX
from repeng.activations.store.records import CaptureRecord, read_capture
from repeng.atomic import write_atomically
from repeng.errors import BadInput
from repeng.handing.cards import CARD, is_ours, probe_card, store_card
from repeng.handing.hub import HubName, HubRepository, is_hub
from repeng.handing.probe_files import WEIGHTS_SUFFIX, ProbeFiles, copy_probe
from repeng.handing.store_folders import (
    OtherContent,
    Selection,
    folder_files,
    head_files,
    held,
    is_index,
    merge,
    verify_folders,
    whole_folders,
)
from repeng.places import Place, is_remote, place
from repeng.probes.io import DESCRIPTION

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Handed:
    """What was handed on, or taken in.

    Attributes:
        kind: "probe" or "store".
        place: where it is now.
        commit: of the hub's repository that it went to or came from; empty of a folder, and where nothing was new.
        new: folders of activations, or files of a probe, that were written.
        there: those that were there already, with the same content.
        own_code: FILE.py:NAME that a probe names as its class; it is not handed on and was not run. Else empty.
    """

    kind: str
    place: str
    commit: str
    new: tuple[str, ...]
    there: tuple[str, ...] = ()
    own_code: str = ""


def push(
    folder: str | Place,
    to: str | Place,
    *,
    capture: str | None = None,
    distributions: Sequence[str] = (),
    replace: bool = False,
    public: bool = False,
    api: HfApi | None = None,
) -> Handed:
    """Push a saved probe, or a store, to a repository of the hub or to a folder.

    Everything is read and held against its checksums first. The hub gets it in one commit. What is there already, with
    the same content, is left; where something else is there under a same name, nothing is pushed. A README.md that says
    what it is comes with it, unless one is there.

        repeng.push("probes/mms", "hf://USER/mms-facts")
        repeng.push("store", "hf://USER/activations", distributions=["facts"])

    Args:
        folder: that `repeng fit` or `repeng cache` wrote.
        to: `hf://USER/NAME`, also with `@BRANCH`, or a folder. A probe goes to a model's repository, a store to a
            dataset's.
        capture: of a store, this capture alone.
        distributions: of a store, these alone.
        replace: a probe takes the place of another one; the hub keeps what was there in earlier commits.
        public: whether anybody may see a repository that is made for it; one that is there keeps what it has.
        api: how the hub is asked; None for huggingface_hub's own settings and login.

    Raises:
        BadInput: there is nothing to push, or something else is there; or one may not.
        UnknownName: the store has no such capture or distribution.
        StoreError: something of it is damaged.
        RepengError: the hub does not answer.
    """
    source, selection = place(folder), Selection(capture, tuple(distributions))
    if (source / DESCRIPTION).is_file():
        if capture is not None or distributions:
            raise BadInput(f"{source}: is a probe; a capture and distributions are chosen of a store")
        return _push_probe(ProbeFiles.read(source), to, replace=replace, public=public, api=api)
    if replace:
        raise BadInput(
            f"{source}: is no probe; activations are not replaced: remove them where they are, and push again"
        )
    folders = whole_folders(source, selection)
    if is_hub(to):
        return _store_to_hub(source, folders, _named(str(to), "dataset"), public=public, api=api)
    target = place(to)
    merged = merge(source, target, folders)
    every = whole_folders(target, Selection())
    records = [read_capture(target / capture) for capture in sorted({path.split("/")[0] for path in every})]
    _write_card(target, store_card(records, every, str(to)))
    return Handed("store", str(target), "", merged.taken, merged.there)


def _push_probe(probe: ProbeFiles, to: str | Place, *, replace: bool, public: bool, api: HfApi | None) -> Handed:
    files = (probe.weights, DESCRIPTION)
    if not is_hub(to):
        target = place(to)
        new = copy_probe(probe, target, replace=replace)
        _write_card(target, probe_card(probe, str(to)))
        return Handed("probe", str(target), "", files if new else (), () if new else files, probe.own_code)
    repository = HubRepository(_named(str(to), "model"), api)
    repository.create(public=public)
    there = repository.files()
    if DESCRIPTION in there:
        with TemporaryDirectory() as scratch:
            same = repository.fetch(DESCRIPTION, Path(scratch)).read_bytes() == probe.content
        if same and probe.weights in there:
            return Handed("probe", str(repository.name), "", (), files, probe.own_code)
        if not replace:
            raise BadInput(
                f"{to}: another probe is there; nothing was pushed: give --replace, or choose another repository"
            )
    old = [path for path in there if fnmatchcase(path, f"weights-*{WEIGHTS_SUFFIX}") and path != probe.weights]
    content: dict[str, Path | bytes] = {
        probe.weights: (probe.folder / probe.weights).read_bytes(),
        DESCRIPTION: probe.content,
    }
    content |= _card_of(repository, there, probe_card(probe, str(repository.name)))
    commit = repository.commit_files(content, f"Probe {probe.described['probe']}", without=old)
    return Handed("probe", str(repository.name), commit, files, own_code=probe.own_code)


def _store_to_hub(store: Place, folders: Sequence[str], name: HubName, *, public: bool, api: HfApi | None) -> Handed:
    if is_remote(store):
        raise BadInput(
            f"{store}: is in an object store; the hub is given files of a disk: `repeng pull` it to one first"
        )
    verify_folders(store, folders)
    repository = HubRepository(name, api)
    repository.create(public=public)
    there = repository.files()
    known = _known(repository, store, there, folders)
    new = tuple(path for path in folders if path not in known)
    if not new:
        return Handed("store", str(name), "", (), known)
    paths = [path for path in head_files(store, new) if path not in there]
    paths += [file for path in new for file in folder_files(store, path)]
    content: dict[str, Path | bytes] = {path: Path(store / path) for path in paths}
    every = sorted({*new, *(path.removesuffix(f"/{INDEX}") for path in there if is_index(path))})
    content |= _card_of(repository, there, store_card(_records(repository, store, there, every), every, str(name)))
    commit = repository.commit_files(content, f"Activations of {', '.join(sorted({p.split('/')[0] for p in new}))}")
    return Handed("store", str(name), commit, new, known)


def _records(
    repository: HubRepository, store: Place, there: Mapping[str, int], folders: Sequence[str]
) -> list[CaptureRecord]:
    """The captures of some folders of activations, those of the hub as it has them."""
    with TemporaryDirectory() as scratch:
        found = []
        for capture in sorted({path.split("/")[0] for path in folders}):
            if f"{capture}/{CAPTURE}" in there:
                repository.fetch(f"{capture}/{CAPTURE}", Path(scratch))
            found.append(read_capture((Path(scratch) if f"{capture}/{CAPTURE}" in there else store) / capture))
    return found


def _card_of(repository: HubRepository, there: Mapping[str, int], card: str) -> dict[str, Path | bytes]:
    """The card to commit; none where one is there that somebody wrote."""
    if CARD in there:
        with TemporaryDirectory() as scratch:
            if not is_ours(repository.fetch(CARD, Path(scratch)).read_text(encoding="utf-8", errors="replace")):
                return {}
    return {CARD: card.encode()}


def _known(
    repository: HubRepository, store: Place, there: Mapping[str, int], folders: Sequence[str]
) -> tuple[str, ...]:
    """Those of some folders of activations that the hub holds with the same content.

    Raises:
        OtherContent: it holds something else under a same name.
    """
    files = [*head_files(store, folders), *(f"{path}/{INDEX}" for path in folders)]
    with TemporaryDirectory() as scratch:
        repository.fetch_all([path for path in files if path in there], Path(scratch))
        try:
            return tuple(path for path in folders if held(store, Path(scratch), path))
        except OtherContent as error:
            raise OtherContent(str(repository.name), error.path, error.how) from error


def _named(to: str, kind: str) -> HubName:
    """Where something of a kind goes.

    Raises:
        BadInput: the name is of the other kind.
    """
    name = HubName.parse(to)
    if name.kind not in (None, kind):
        what = "a probe goes to a model" if kind == "model" else "a store goes to a dataset"
        raise BadInput(f"{to}: {what}; give hf://{name.repository}")
    return dataclasses.replace(name, kind=kind)


def _write_card(target: Place, text: str) -> None:
    """Write a card into a folder, unless one is there that somebody wrote."""
    path = target / CARD
    if not path.is_file() or is_ours(path.read_text(encoding="utf-8", errors="replace")):
        write_atomically(path, text)
