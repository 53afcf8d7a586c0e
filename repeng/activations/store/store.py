"""A store and the captures in it. docs/store.md describes the files."""

from __future__ import annotations

from contextlib import ExitStack

from repeng.activations.store.files import CAPTURE, INDEX, split_folder
from repeng.activations.store.repair import Damage, capture_damages, remove_damage
from repeng.activations.store.stored_capture import StoredCapture
from repeng.errors import StoreError, UnknownName
from repeng.locks import locked
from repeng.places import Place, place, remove_tree, tree_bytes

__all__ = ["Store", "StoredCapture"]


class Store:
    """A folder of captures, each the activations of one model.

        capture = Store("store").capture("mini-c835b685c55d")
        vectors = capture.activations("facts", "train", layer=3)  # float32 numpy, [response, d_model]
        labels = capture.labels("facts", "train").labels          # [response]

    Args:
        root: the folder, or one of an object store (`s3://bucket/store`, `gs://`, `memory://`).
        trust: read shards without checking their content against the checksums in the index.

    Attributes:
        root: the folder; it need not be there yet. `~` is the user's own.
    """

    def __init__(self, root: str | Place, *, trust: bool = False) -> None:
        self.root, self.trust = place(root), trust

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def captures(self) -> list[StoredCapture]:
        """Every capture, sorted by id.

        Raises:
            StoreError: a capture.json cannot be read.
        """
        return [StoredCapture(file.parent, trust=self.trust) for file in sorted(self.root.glob(f"*/{CAPTURE}"))]

    def capture(self, capture_id: str) -> StoredCapture:
        """One capture.

        Raises:
            UnknownName: there is none of this id.
            StoreError: its capture.json cannot be read.
        """
        if not (self.root / capture_id / CAPTURE).is_file():
            raise UnknownName("capture", capture_id, [file.parent.name for file in self.root.glob(f"*/{CAPTURE}")])
        return StoredCapture(self.root / capture_id, trust=self.trust)

    def verify(self, *, repair: bool = False) -> list[Damage]:
        """Read every file again and find every damage. What a stopped run has yet to finish is no damage.

        Args:
            repair: also remove what is damaged and nothing else, so that the command that captured it does so again: of
                a bad shard or index that stimulus, site and token of that split, of another file the file.

        Raises:
            StoreError: the folder is no store; or a run is writing what is to be repaired.
        """
        captures = sorted(
            {file.parents[3] for file in self.root.glob(f"*/*/*/*/{INDEX}")}
            | {file.parent for file in self.root.glob(f"*/{CAPTURE}")}
        )
        if not captures:
            raise StoreError(f"{self.root}: is no store; there is no */{CAPTURE} in it")
        found = [damage for capture in captures for damage in capture_damages(capture)]
        if repair:
            for damage in found:
                remove_damage(damage)
        return found

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
            freed = sum(map(tree_bytes, doomed))
            for each in doomed:
                remove_tree(each)
        return freed
