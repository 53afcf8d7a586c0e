"""A store and the captures in it. docs/store.md describes the files."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from repeng.activations.store.files import CAPTURE, INDEX, checksum, locked, split_folder
from repeng.activations.store.records import Index
from repeng.activations.store.stored_capture import StoredCapture
from repeng.errors import StoreError, UnknownName

__all__ = ["Store", "StoredCapture"]


class Store:
    """A folder of captures, each the activations of one model.

        capture = Store("store").capture("mini-c835b685c55d")
        vectors = capture.activations("facts", "train", layer=3)  # float32 numpy, [response, d_model]
        labels = capture.labels("facts", "train").labels          # [response]

    Attributes:
        root: the folder; it need not be there yet. `~` is the user's own.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def captures(self) -> list[StoredCapture]:
        """Every capture, sorted by id.

        Raises:
            StoreError: a capture.json cannot be read.
        """
        return [StoredCapture(file.parent) for file in sorted(self.root.glob(f"*/{CAPTURE}"))]

    def capture(self, capture_id: str) -> StoredCapture:
        """One capture.

        Raises:
            UnknownName: there is none of this id.
            StoreError: its capture.json cannot be read.
        """
        if not (self.root / capture_id / CAPTURE).is_file():
            raise UnknownName("capture", capture_id, [file.parent.name for file in self.root.glob(f"*/{CAPTURE}")])
        return StoredCapture(self.root / capture_id)

    def verify(self) -> list[str]:
        """Every damage, in words: files of whole activations that are missing, of another size, or of other content.

        What a stopped run has yet to finish is no damage.
        """
        problems = []
        for file in sorted(self.root.glob(f"*/*/*/*/{INDEX}")):
            try:
                index = Index.read(file)
            except StoreError as error:
                problems.append(str(error))
                continue
            for shard in index.shards:
                path = file.parent / shard.file
                if not path.is_file():
                    problems.append(f"{path}: is not there")
                elif path.stat().st_size != shard.bytes:
                    problems.append(f"{path}: has {path.stat().st_size} bytes instead of {shard.bytes}")
                elif checksum(path.read_bytes()) != shard.sha256:
                    problems.append(f"{path}: its content has changed since it was written")
        return problems

    def remove(self, capture_id: str, distribution: str | None = None) -> int:
        """Remove a capture, or of it one distribution; returns the bytes freed.

        Raises:
            UnknownName: there is no such capture, or it holds nothing of that distribution.
            StoreError: a run is writing there.
        """
        capture = self.capture(capture_id)
        begun = capture.begun()
        keys = [key for key in begun if distribution in (None, key.distribution)]
        if distribution is not None and not keys:
            raise UnknownName(f"distribution in {capture_id}", distribution, {key.distribution for key in begun})
        folders = [split_folder(capture.folder, key) for key in keys]
        with ExitStack() as locks:
            for folder in folders:
                if not locks.enter_context(locked(folder, wait=False)):
                    raise StoreError(f"{folder}: a run is writing here; wait until it is done, or stop it")
            doomed = {folder.parent for folder in folders} if distribution is not None else {capture.folder}
            freed = sum(file.stat().st_size for place in doomed for file in place.rglob("*") if file.is_file())
            for place in doomed:
                shutil.rmtree(place)
        return freed
