"""A store and the captures in it. docs/store.md describes the files."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from repeng.activations.store.files import (
    CAPTURE,
    FORMAT,
    INDEX,
    LOGPROB,
    ActivationKey,
    SplitKey,
    checksum,
    locked,
    original_name,
    read_json,
    split_folder,
    split_key,
)
from repeng.activations.store.stored_activations import StoredActivations, open_activations
from repeng.distributions.schema import Split
from repeng.errors import StoreError, UnknownName
from repeng.models.sites import canonical_site

__all__ = ["CaptureInfo", "Store", "StoredActivations", "StoredCapture"]


@dataclass(frozen=True)
class CaptureInfo:
    """What capture.json says of a capture.

    Attributes:
        id: its folder's name.
        model: what the model was called.
        slug: that, as part of a file name.
        dtype: computed in.
        storage_dtype: stored in.
        n_layers: blocks of the model.
        d_model: width of its residual stream.
        record: the whole of capture.json.
    """

    id: str
    model: str
    slug: str
    dtype: str
    storage_dtype: str
    n_layers: int
    d_model: int
    record: dict[str, Any]


class StoredCapture:
    """One model's activations in a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = read_json(folder / CAPTURE)
        if record["format"] != FORMAT:
            raise StoreError(f"{folder}: format {record['format']}; this version of repeng reads format {FORMAT}")
        model = record["model"]
        self.info = CaptureInfo(
            id=folder.name,
            model=model["model"],
            slug=model["slug"],
            dtype=model["dtype"],
            storage_dtype=record["storage_dtype"],
            n_layers=model["n_layers"],
            d_model=model["d_model"],
            record=record,
        )

    @property
    def id(self) -> str:
        """The capture's id."""
        return self.info.id

    @property
    def n_layers(self) -> int:
        """Blocks of the model."""
        return self.info.n_layers

    @property
    def model_slug(self) -> str:
        """The model's name as part of a file name."""
        return self.info.slug

    def splits(self) -> tuple[SplitKey, ...]:
        """(distribution, split, data hash) of every split of which a part is whole."""
        return tuple(key for key in self._split_keys() if self._part_folders(key))

    def trained_distributions(self) -> tuple[str, ...]:
        """Distributions of which a `train` split is here."""
        return tuple(sorted({distribution for distribution, split, _ in self.splits() if split == "train"}))

    def parts(self) -> tuple[StoredActivations, ...]:
        """Every whole part."""
        return tuple(part for parts in self.parts_by_split().values() for part in parts)

    def parts_by_split(self) -> dict[SplitKey, tuple[StoredActivations, ...]]:
        """Every whole part, by its split."""
        return {key: tuple(open_activations(folder) for folder in self._part_folders(key)) for key in self.splits()}

    def has(self, split: Split | SplitKey, stimulus: str, site: str, token: str = "") -> bool:
        """Whether a part is here and whole. For log-probabilities the site is `logprob`, without a token."""
        return (self._folder(split, ActivationKey(stimulus, canonical_site(site), token)) / INDEX).is_file()

    def part(self, split: Split | SplitKey, stimulus: str, site: str, token: str = "last") -> StoredActivations:
        """One part.

        Raises:
            StoreError: it is not here, or damaged.
        """
        site = canonical_site(site)
        name = ActivationKey(stimulus, site, "" if site == LOGPROB else token)
        folder = self._folder(split, name)
        if not (folder / INDEX).is_file():
            key = split_key(split)
            raise StoreError(
                f"{self.id} holds no {name} of {key.distribution}/{key.split} (data {key.data_hash}); capture it with: "
                f"repeng cache --model {self.info.model} --stimuli {stimulus}"
                + ("" if site == LOGPROB else f" --sites {site} --tokens {token}")
            )
        return open_activations(folder)

    def logprobs(
        self, split: Split | SplitKey, stimulus: str = "plain"
    ) -> tuple[Float[np.ndarray, " response"], Int[np.ndarray, " response"]]:
        """Total log-probability of each response in nats, and over how many tokens.

        A text that was skipped as too long has NaN and 0; an empty response 0 and 0.

        Raises:
            StoreError: they are not here.
        """
        return self.part(split, stimulus, LOGPROB).logprobs()

    def text_lengths(self, split: Split | SplitKey, stimulus: str = "plain") -> Int[np.ndarray, " response"]:
        """Tokens of each whole text whose log-probabilities are kept; 0 for a skipped one.

        Raises:
            StoreError: they are not here.
        """
        return self.part(split, stimulus, LOGPROB).text_lengths()

    def index(self, split: Split | SplitKey) -> dict[str, Any]:
        """The index of any part of a split: what it says of the responses is the same in all.

        Raises:
            StoreError: nothing of the split is here.
        """
        key = split_key(split)
        folders = self._part_folders(key)
        if not folders:
            raise StoreError(
                f"{self.id} holds nothing of {key.distribution}/{key.split}; capture it with: repeng cache"
            )
        return read_json(folders[0] / INDEX)

    def _folder(self, split: Split | SplitKey, name: ActivationKey) -> Path:
        return split_folder(self.folder, split_key(split)) / str(name)

    def _split_keys(self) -> list[SplitKey]:
        keys = []
        for folder in sorted(self.folder.glob("*/*.*/")):
            split, _, data_hash = folder.name.rpartition(".")
            keys.append(SplitKey(original_name(folder.parent.name), original_name(split), data_hash))
        return keys

    def _part_folders(self, key: SplitKey) -> list[Path]:
        return sorted(index.parent for index in split_folder(self.folder, key).glob(f"*/{INDEX}"))


class Store:
    """A folder of captures.

    Attributes:
        root: the folder; it need not be there yet.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def captures(self) -> list[CaptureInfo]:
        """Every capture, sorted by id.

        Raises:
            StoreError: a capture.json cannot be read.
        """
        return [StoredCapture(file.parent).info for file in sorted(self.root.glob(f"*/{CAPTURE}"))]

    def capture(self, capture_id: str) -> StoredCapture:
        """One capture.

        Raises:
            UnknownName: there is none of this id.
        """
        if not (self.root / capture_id / CAPTURE).is_file():
            raise UnknownName("capture", capture_id, [file.parent.name for file in self.root.glob(f"*/{CAPTURE}")])
        return StoredCapture(self.root / capture_id)

    def verify(self) -> list[str]:
        """Every damage to a whole part, in words: files that are missing, of another size, or of other content.

        Parts that a stopped run has yet to finish are none.
        """
        problems = []
        for index_file in sorted(self.root.glob(f"*/*/*/*/{INDEX}")):
            try:
                index = read_json(index_file)
                shards = [(index_file.parent / row["file"], row["bytes"], row["sha256"]) for row in index["shards"]]
            except (StoreError, KeyError, TypeError) as error:
                problems.append(f"{index_file}: {error}")
                continue
            for path, size, expected in shards:
                if not path.is_file():
                    problems.append(f"{path}: is not there")
                elif path.stat().st_size != size:
                    problems.append(f"{path}: has {path.stat().st_size} bytes instead of {size}")
                elif checksum(path.read_bytes()) != expected:
                    problems.append(f"{path}: its content has changed since it was written")
        return problems

    def remove(self, capture_id: str, distribution: str | None = None) -> int:
        """Remove a capture, or of it one distribution; gives the bytes freed.

        Raises:
            UnknownName: there is no such capture, or it holds nothing of that distribution.
            StoreError: a run is writing there.
        """
        capture = self.capture(capture_id)
        keys = [key for key in capture._split_keys() if distribution in (None, key[0])]
        if distribution is not None and not keys:
            raise UnknownName(f"distribution in {capture_id}", distribution, {key[0] for key in capture._split_keys()})
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
