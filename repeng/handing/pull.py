"""Pulling a probe, or activations, from a repository of the hub or from a folder: verified before it is taken in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from repeng.activations.store.files import CAPTURE, INDEX, SPLIT
from repeng.activations.store.records import DROP, SHARD_SUFFIX, read_index
from repeng.errors import BadInput, RepengError, StoreError
from repeng.handing.hub import HubName, HubRepository, is_hub
from repeng.handing.probe_files import ProbeFiles, copy_probe, parse_description
from repeng.handing.push import Handed
from repeng.handing.store_folders import (
    Selection,
    check_selection,
    held,
    is_index,
    merge,
    verify_folders,
    whole_folders,
)
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.locks import LOCK, locked
from repeng.places import Place, is_remote, place, remove_tree
from repeng.probes.io import DESCRIPTION
from repeng.progress import Advance

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def pull(
    source: str | Place,
    out: str | Place,
    *,
    capture: str | None = None,
    distributions: Sequence[str] = (),
    progress: Advance | None = None,
    api: HfApi | None = None,
) -> Handed:
    """Pull a probe, or a store, from a repository of the hub or from a folder.

    It is brought into a temporary folder next to `out`, held against its checksums there, and only then moved in. A
    download that was stopped goes on with the same call. Of activations, what `out` holds with the same content is
    neither brought nor written again; where it holds something else under a same name, nothing is written. Only a
    probe's two files and a store's own files are brought: never code, never a pickle.

        repeng.pull("hf://USER/mms-facts", "probes/mms")

    Args:
        source: `hf://USER/NAME`, also with `@REVISION`, or `hf://datasets/USER/NAME` where a model and a dataset have
            the name; or a folder.
        out: the probe's folder, or the store's.
        capture: of a store, this capture alone.
        distributions: of a store, these alone.
        progress: told of shards that came, and of shards in all.
        api: how the hub is asked; None for huggingface_hub's own settings and login.

    Raises:
        BadInput: there is nothing of repeng's, or one may not read it; or `out` holds something else.
        UnknownName: the store has no such capture or distribution.
        StoreError: something of it is damaged, or a run is writing in `out`.
        RepengError: the hub does not answer, or another pull is at work.
    """
    target, selection = place(out), Selection(capture, tuple(distributions))
    if not is_hub(source):
        return _pull_folder(place(source), target, selection)
    repository = HubRepository.found(HubName.parse(str(source)), api)
    listed = repository.files()
    if DESCRIPTION in listed:
        _refuse_selection(str(source), selection)
        with _scratch(target, repository.commit) as scratch:
            with _cleared_if_bad(scratch, repository):
                probe = _fetch_probe(repository, listed, scratch)
            return _took(probe, target, repository.commit)
    folders = sorted(path.removesuffix(f"/{INDEX}") for path in listed if is_index(path))
    if not folders:
        raise BadInput(f"{source}: holds neither a probe nor a store of repeng ({len(listed)} other files)")
    check_selection(str(source), folders, selection)
    with _scratch(target, repository.commit) as scratch:
        chosen = tuple(path for path in folders if selection.takes(path))
        with _cleared_if_bad(scratch, repository):
            wanted = _fetch_store(repository, listed, chosen, scratch, target, progress)
            verify_folders(scratch, wanted)
        merged = merge(scratch, target, wanted, move=True)
    there = tuple(path for path in chosen if path not in merged.taken)
    return Handed("store", str(target), repository.commit, merged.taken, there)


def _pull_folder(source: Place, target: Place, selection: Selection) -> Handed:
    if (source / DESCRIPTION).is_file():
        _refuse_selection(str(source), selection)
        return _took(ProbeFiles.read(source), target, "")
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; give the folder of a probe or a store, or hf://USER/NAME")
    merged = merge(source, target, whole_folders(source, selection))
    return Handed("store", str(target), "", merged.taken, merged.there)


def _took(probe: ProbeFiles, target: Place, commit: str) -> Handed:
    files, new = (probe.weights, DESCRIPTION), copy_probe(probe, target)
    return Handed("probe", str(target), commit, files if new else (), () if new else files, probe.own_code)


def _refuse_selection(where: str, selection: Selection) -> None:
    if selection != Selection():
        raise BadInput(f"{where}: is a probe; a capture and distributions are chosen of a store")


def _fetch_probe(repository: HubRepository, listed: Mapping[str, int], scratch: Path) -> ProbeFiles:
    """Bring a probe's two files, whatever else is there."""
    if listed[DESCRIPTION] > RECORD_BYTES:
        raise BadInput(
            f"{repository.name}: its {DESCRIPTION} has {listed[DESCRIPTION]:,} bytes; no probe's is so large"
        )
    path = repository.fetch(DESCRIPTION, scratch)
    described = parse_description(read_bounded(path, RECORD_BYTES), path)
    if described["weights"] not in listed:
        raise BadInput(f"{repository.name}: lacks {described['weights']}, the weights that its {DESCRIPTION} names")
    repository.fetch(described["weights"], scratch)
    return ProbeFiles.read(scratch)


def _fetch_store(
    repository: HubRepository,
    listed: Mapping[str, int],
    folders: Sequence[str],
    scratch: Path,
    target: Place,
    progress: Advance | None,
) -> tuple[str, ...]:
    """Bring folders of activations, but for those that the target holds; returns those that were brought.

    Raises:
        StoreError: an index names a file that is not there, or one that is no shard.
        BadInput: the target holds something else under a same name.
    """
    heads = {f"{path.split('/')[0]}/{CAPTURE}" for path in folders}
    heads |= {split for path in folders if (split := f"{path.rpartition('/')[0]}/{SPLIT}") in listed}
    small = [*sorted(heads), *(f"{path}/{INDEX}" for path in folders)]
    if lacking := [path for path in small if path not in listed]:
        raise StoreError(f"lacks {lacking[0]}")
    repository.fetch_all(small, scratch)
    wanted = tuple(path for path in folders if not held(scratch, target, path))
    shards = [f"{path}/{shard.file}" for path in wanted for shard in read_index(scratch / path).shards]
    if wrong := [path for path in shards if path not in listed or not path.endswith(SHARD_SUFFIX)]:
        raise StoreError(f"an index names {wrong[0]}, which is no shard there")
    repository.fetch_all(shards, scratch, lambda done: progress(done, len(shards)) if progress is not None else None)
    return wanted


@contextmanager
def _scratch(target: Place, commit: str) -> Iterator[Path]:
    """A folder next to the target for what comes of a commit, on the same disk; removed when all was taken in.

    Raises:
        RepengError: another pull of the same is at work in it.
    """
    above = Path(gettempdir()) if is_remote(target) else target.absolute().parent
    mark = f".{re.sub(r'[^A-Za-z0-9_.-]', '_', target.absolute().name)}.pull-"
    folder = above / f"{mark}{commit[:12]}"
    for other in above.glob(f"{mark}*") if above.is_dir() else ():
        # Of a download of an earlier commit that was never finished.
        with locked(other, wait=False) as free:
            left = free and other != folder
        if left:
            remove_tree(other)
    with locked(folder, wait=False) as alone:
        if not alone:
            raise RepengError(f"{folder}: another pull is at work here; wait until it is done")
        yield folder
        _empty(folder)
    remove_tree(folder)


@contextmanager
def _cleared_if_bad(scratch: Path, repository: HubRepository) -> Iterator[None]:
    """What came damaged is not kept: the next call brings it anew. What a lost connection left is."""
    try:
        yield
    except StoreError as error:
        _empty(scratch)
        said = str(error).partition(f"; {DROP}")[0].replace(f"{scratch}/", "")
        raise StoreError(f"{repository.name}: {said}; nothing of it was taken: it must be pushed again") from error
    except BadInput:
        _empty(scratch)
        raise


def _empty(folder: Path) -> None:
    """Remove what is in a folder but for its lock: who waits for that must not find a new one."""
    for entry in list(folder.iterdir()):
        if entry.is_dir():
            remove_tree(entry)
        elif entry.name != LOCK:
            entry.unlink()
