"""One model's activations in a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float, Int

from repeng.activations.store.capture_command import missing_message
from repeng.activations.store.files import (
    INDEX,
    LOGPROB,
    SPLIT,
    ActivationKey,
    MissingActivations,
    SplitKey,
    split_folder,
    split_key,
)
from repeng.activations.store.records import Index, SplitRecord, read_capture, read_index, read_split, way_out
from repeng.activations.store.stored_activations import StoredActivations
from repeng.distributions.schema import ResponseLabels, Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput, StoreError, UnknownName
from repeng.models.sites import canonical_site
from repeng.places import Place

PLAIN = ActivationKey("plain", "resid_post", "last")
"""What most probes read: captured where nobody says what else is wanted."""


class StoredCapture:
    """One model's activations in a store.

    Args:
        folder: that holds them.
        trust: read shards without checking their content against the checksums in the index.

    What a method reads is named by a loaded `Split` or by a `SplitKey`; `find` makes one of names.

    Attributes:
        folder: that holds them.
        id: the folder's name.
        record: the content of capture.json.
        model: what the model was called: a hub id, a folder, a GGUF file, `mini` or `smollm2`.
        model_slug: that, as part of a file name.
        dtype: that the model computed in.
        storage_dtype: that activations are stored in.
        n_layers: blocks of the model.
        d_model: width of its residual stream.

    Raises:
        StoreError: capture.json cannot be read, is of another format, or that of another folder.
    """

    def __init__(self, folder: Place, *, trust: bool = False) -> None:
        self.folder, self.id, self.trust = folder, folder.name, trust
        self.record = read_capture(folder)
        model = self.record.model
        self.model, self.model_slug, self.dtype = model.model, model.slug, model.dtype
        self.n_layers, self.d_model = model.n_layers, model.d_model
        self.storage_dtype = self.record.storage_dtype

    def __repr__(self) -> str:
        return f"StoredCapture({self.id!r}, {self.model!r}, {self.n_layers} layers, {self.dtype})"

    def splits(self) -> tuple[SplitKey, ...]:
        """Every split of which any activations are whole."""
        return tuple(key for key in self.begun() if self._folders(key))

    def begun(self) -> tuple[SplitKey, ...]:
        """Every split that has a folder, also one of which nothing is whole yet."""
        keys = []
        for folder in sorted(self.folder.glob("*/*.*/")):
            split, _, data_hash = folder.name.rpartition(".")
            keys.append(SplitKey(unquote(folder.parent.name), unquote(split), data_hash))
        return tuple(keys)

    def trained_distributions(self) -> tuple[str, ...]:
        """Distributions of which a `train` split is here."""
        return tuple(sorted({key.distribution for key in self.splits() if key.split == "train"}))

    def contents(self) -> dict[SplitKey, tuple[StoredActivations, ...]]:
        """All activations that are whole, by split."""
        return {key: tuple(map(self._stored, self._folders(key))) for key in self.splits()}

    def find(self, distribution: str, split: str = "train", *, data_hash: str | None = None) -> SplitKey:
        """The key of a split by its names.

        Args:
            distribution: its name.
            split: `train`, `test`, or another split of it.
            data_hash: of which version of its data; needed where several were captured, as with `--limit` and without.

        Raises:
            UnknownName: nothing of that name, or of that version, is here.
            BadInput: several versions are here, and none was chosen; the message lists them.
            StoreError: it was begun, and nothing of it is whole.
        """
        splits = self.splits()
        named = [key for key in splits if key[:2] == (distribution, split)]
        if not named:
            if key := self.unfinished(distribution, split):
                way_out = self.way_out([MissingActivations(key, PLAIN, ())])
                raise StoreError(f"{self.id} holds nothing of {distribution}/{split} that is whole; {way_out}")
            of_it = {"/".join(key[:2]) for key in splits if key.distribution == distribution}
            if not of_it:
                raise UnknownName(f"distribution in {self.id}", distribution, {key.distribution for key in splits})
            raise UnknownName(f"split in {self.id}", f"{distribution}/{split}", of_it)
        found = [key for key in named if data_hash in (None, key.data_hash)]
        if not found:
            raise UnknownName(f"version of {distribution}/{split}", str(data_hash), {key.data_hash for key in named})
        if len(found) > 1:
            versions = "; ".join(map(self.described, found))
            raise BadInput(
                f"{self.id} holds {len(found)} versions of {distribution}/{split}: {versions}; say which is meant: "
                "with --data, --benchmark or --limit as it was captured, or by its hash (--data-hash; in Python "
                "data_hash)"
            )
        return found[0]

    def unfinished(self, distribution: str, split: str) -> SplitKey | None:
        """The split of these names, where nothing of it is whole, as after a repair; None of several versions."""
        begun = [key for key in self.begun() if key[:2] == (distribution, split)]
        return begun[0] if len(begun) == 1 and not self._folders(begun[0]) else None

    def described(self, split: Split | SplitKey) -> str:
        """A version of a split's data in words: its hash, its size, where and when it was read."""
        key, record = split_key(split), self.data_of(split)
        where = f", {record.place}, {record.sources[-1].when}" if record is not None else ""
        return f"{key.data_hash} ({len(self.index(key).responses)} responses{where})"

    def activations(
        self,
        distribution: str,
        split: str = "train",
        *,
        layer: int | Sequence[int] | None = None,
        site: str = "resid_post",
        token: str = "last",
        stimulus: str = "plain",
        data_hash: str | None = None,
    ) -> Float[np.ndarray, ...]:
        """Activations of every response of a split, in file order, as float32 numpy.

            facts = capture.activations("facts", "train", layer=3)  # [response, d_model]

        Args:
            distribution: name of a distribution.
            split: `train` or `test`.
            layer: a 0-based block, whose axis is left out, or several; None for every layer that is here.
            site: `resid_post`, `hook_z`, `mlp_out`, or any hook site that was captured, by TransformerLens' name.
            token: "last" of the whole text, "response_mean", "prompt_last", or another that was captured and has one
                vector a response (docs/store.md lists them); for `all` see `tokens`.
            stimulus: name of the stimulus.
            data_hash: of which version of the split's data; needed where several were captured.

        Returns:
            [response, d_model] for one layer, [layer, response, d_model] otherwise; the sites that are stored by head,
            such as `hook_z`, have [head, d_head] in place of d_model. Rows are NaN where a text was skipped as too
            long, or had nothing to take, such as the mean of an empty response.

        Raises:
            UnknownName: no such split is here.
            BadInput: several versions of its data are here; the message lists them.
            StoreError: this site, token, stimulus or layer was not captured, or a file is damaged.
        """
        key = self.find(distribution, split, data_hash=data_hash)
        return self.open(key, stimulus, site, token).numpy(layer)

    def tokens(
        self,
        distribution: str,
        split: str = "train",
        *,
        layer: int,
        site: str = "resid_post",
        token: str = "all",
        stimulus: str = "plain",
        data_hash: str | None = None,
        responses: Sequence[int] | None = None,
    ) -> tuple[Float[np.ndarray, "token ..."], Int[np.ndarray, " response_1"]]:
        """The vectors of every token of some responses at one layer, as float32 numpy.

            values, offsets = capture.tokens("facts", "train", layer=3, responses=range(100))
            values[offsets[7] : offsets[8]]  # the tokens of response 7: [token, d_model]

        Args:
            distribution: name of a distribution.
            split: `train` or `test`.
            layer: a 0-based block.
            site: as of `activations`.
            token: "all", or of some roles, as "all:user+assistant".
            stimulus: name of the stimulus.
            data_hash: of which version of the split's data; needed where several were captured.
            responses: by their row in file order; None for all. Only theirs are read into memory.

        Returns:
            Values [token, d_model], the responses' tokens one after the other, and offsets [response + 1] into them. A
            response that was skipped or is empty has none.

        Raises:
            UnknownName, BadInput, StoreError: as of `activations`.
        """
        key = self.find(distribution, split, data_hash=data_hash)
        values, offsets = self.open(key, stimulus, site, token).tokens(layer, responses)
        return values.float().numpy(), offsets

    def labels(self, distribution: str, split: str = "train", *, data_hash: str | None = None) -> ResponseLabels:
        """What is known of every response of a split, in the order of `activations`.

        Returns:
            `labels`, 1.0 for a right response and 0.0 for the others; `units`, what is never parted, and
            `rivals`, what competes: its example unless a group is given; `groups`, the group (of prompts of equal text)
            that each belongs to; each a numpy array [response].

        Raises:
            UnknownName: no such split is here.
            BadInput: several versions of its data are here; the message lists them.
        """
        index = self.index(self.find(distribution, split, data_hash=data_hash))
        return ResponseLabels.of_rows(
            f"{distribution}/{split}",
            np.array(index.numbers("label"), dtype=np.float64),
            examples=np.array(index.numbers("example"), dtype=np.int64),
            units=index.units,
            groups=np.array(index.numbers("group"), dtype=np.int64),
        )

    def open(self, split: Split | SplitKey, stimulus: str, site: str, token: str = "last") -> StoredActivations:
        """Activations of one stimulus, site and token; for log-probabilities the site is `logprob`.

        Raises:
            StoreError: they are not here, or their index is damaged.
        """
        site = canonical_site(site)
        name = ActivationKey(stimulus, site, "" if site == LOGPROB else token)
        folder = split_folder(self.folder, split) / name.folder
        if not (folder / INDEX).is_file():
            key = split_key(split)
            way_out = self.way_out([MissingActivations(key, name, ())])
            raise StoreError(
                f"{self.id} holds no {name} of {key.distribution}/{key.split} (data {key.data_hash}); {way_out}"
            )
        return self._checked(split, folder)

    def way_out(
        self,
        missing: Sequence[MissingActivations],
        *,
        data: Mapping[str, Mapping[str, str]] | None = None,
        stimuli: Iterable[Stimulus] = (),
    ) -> str:
        """What to do about what is missing here: a message that ends with the command that captures it.

        Args:
            missing: of which splits which activations.
            data: for some distributions the options that name their data; of others the store's notes tell.
            stimuli: whose texts are known, besides those of what is here.
        """
        keys = {split_key(lack.split) for lack in missing}
        noted = {key.distribution: self.data_of(key) for key in keys if split_folder(self.folder, key).is_dir()}
        known = {one.name: one for one in stimuli}
        for name in {lack.key.stimulus for lack in missing} - known.keys():
            index = next(self.folder.glob(f"*/*/{name}.*/{INDEX}"), None)
            known |= {} if index is None else {name: read_index(index.parent).stimulus}
        told = {name: dict(options) for name, options in (data or {}).items()}
        return missing_message(self.folder.parent, self.record, missing, {**noted, **told}, known.values())

    def data_of(self, split: Split | SplitKey) -> SplitRecord | None:
        """Which data a split is of; None where an earlier version of repeng captured it, and did not note it.

        Raises:
            StoreError: the note cannot be read, or is that of another split.
        """
        folder = split_folder(self.folder, split)
        return read_split(folder) if (folder / SPLIT).is_file() else None

    def _checked(self, split: Split | SplitKey, folder: Place) -> StoredActivations:
        """Activations whose responses are those of the split's data."""
        stored, record = self._stored(folder), self.data_of(split)
        rows = record.rows if record is not None else read_index(self._folders(split)[0]).rows
        if stored.index.rows != rows:
            known = SPLIT if record is not None else f"that of {self._folders(split)[0].name}"
            raise StoreError(f"{folder / INDEX}: its responses are others than {known} says; {way_out(folder)}")
        return stored

    def _stored(self, folder: Place) -> StoredActivations:
        return StoredActivations(folder, trust=self.trust)

    def logprobs(
        self, split: Split | SplitKey, stimulus: str = "plain"
    ) -> tuple[Float[np.ndarray, " response"], Int[np.ndarray, " response"]]:
        """Total log-probability of each response in nats, and over how many tokens.

        A text that was skipped as too long has NaN and 0; an empty response 0 and 0.

        Raises:
            StoreError: they are not here.
        """
        stored = self.open(split, stimulus, LOGPROB)
        total, count = (stored.tensor(name).numpy() for name in ("logprob", "token_count"))
        return np.where(stored.kept, total, np.nan), count

    def index(self, split: Split | SplitKey) -> Index:
        """The index of any activations of a split: what it says of the responses is the same in all.

        Raises:
            StoreError: nothing of the split is here.
        """
        folders = self._folders(split)
        if not folders:
            key = split_key(split)
            way_out = self.way_out([MissingActivations(key, PLAIN, ())])
            raise StoreError(f"{self.id} holds nothing of {key.distribution}/{key.split}; {way_out}")
        return self._checked(split, folders[0]).index

    def _folders(self, split: Split | SplitKey) -> list[Place]:
        return sorted(index.parent for index in split_folder(self.folder, split).glob(f"*/{INDEX}"))
