"""One part of a store: tensors of one stimulus, site and token, read one layer at a time by memory map."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from repeng.activations.store.files import FORMAT, INDEX, ActivationKey, read_json
from repeng.errors import StoreError
from repeng.models.sites import hook_name


class StoredActivations:
    """One part: a stimulus at a site and token, every response of a split, some or all layers."""

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder, self.index = folder, index
        self.stimulus, self.site, self.token = index["stimulus"]["name"], index["site"], index["token"]

    def __repr__(self) -> str:
        return f"Part({self.name!r}, {self.index['distribution']}/{self.index['split']}, {self.n_responses} responses)"

    @property
    def name(self) -> str:
        """As its folder is called."""
        return str(ActivationKey(self.stimulus, self.site, self.token))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are here; none of log-probabilities."""
        return tuple(self.index["layers"])

    @property
    def n_responses(self) -> int:
        """Rows of every tensor."""
        return len(self.index["responses"])

    @property
    def n_bytes(self) -> int:
        """Size of the shards."""
        return sum(shard["bytes"] for shard in self.index["shards"])

    @cached_property
    def kept(self) -> Bool[np.ndarray, " response"]:
        """False where there is no value and the row is zeros.

        That is where the text was skipped as too long (`index["skipped"]`), and where there is nothing to take
        (`index["blank"]`): the mean of an empty response, the last prompt token of a text without prompt.
        """
        kept = np.ones(self.n_responses, dtype=bool)
        kept[[*self.index["skipped"], *self.index["blank"]]] = False
        return kept

    def layer(self, layer: int) -> Float[Tensor, "response ..."]:
        """One layer's vectors in the stored dtype: [response, d_model], of `hook_z` [response, head, d_head].

        Raises:
            StoreError: the part does not hold that layer, or a shard is missing or damaged.
        """
        if layer not in self.layers:
            raise StoreError(
                f"{self.folder}: no layer {layer} here, only {', '.join(map(str, self.layers)) or 'none'}; "
                "capture it by asking for this layer, or for all"
            )
        return self._tensor(hook_name(self.site, layer), layer)

    def read(self, layers: Iterable[int] | None = None) -> Float[Tensor, "layer response ..."]:
        """Some layers, all by default, one above the other."""
        return torch.stack([self.layer(layer) for layer in (self.layers if layers is None else layers)])

    def logprobs(self) -> tuple[Float[np.ndarray, " response"], Int[np.ndarray, " response"]]:
        """Total log-probability of each response and how many tokens it is over; NaN and 0 for a skipped text."""
        total = self._tensor("logprob", None).numpy().astype(np.float64)
        return np.where(self.kept, total, np.nan), self._tensor("token_count", None).numpy().astype(np.int64)

    def text_lengths(self) -> Int[np.ndarray, " response"]:
        """Of log-probabilities: how many tokens each whole text has; 0 for a skipped one."""
        lengths: Int[np.ndarray, " response"] = self._tensor("text_length", None).numpy().astype(np.int64)
        return lengths

    def _tensor(self, name: str, layer: int | None) -> Tensor:
        shards = sorted(
            (shard for shard in self.index["shards"] if layer is None or layer in shard["layers"]),
            key=lambda shard: shard["first"],
        )
        pieces = []
        for shard in shards:
            path = self.folder / shard["file"]
            try:
                with safe_open(path, framework="pt") as file:
                    pieces.append(file.get_tensor(name))
            except (OSError, SafetensorError) as error:
                raise StoreError(
                    f"{path}: cannot be read ({error}); remove the folder {self.folder} and capture again"
                ) from error
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def open_activations(folder: Path) -> StoredActivations:
    """A part in its folder.

    Raises:
        StoreError: its index cannot be read, or is of another format.
    """
    index = read_json(folder / INDEX)
    if index.get("format") != FORMAT:
        raise StoreError(f"{folder}: format {index.get('format')}; this version of repeng reads format {FORMAT}")
    return StoredActivations(folder, index)
