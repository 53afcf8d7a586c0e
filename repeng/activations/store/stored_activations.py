"""Activations of one stimulus, site and token in a store, read one layer at a time by memory map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from repeng.activations.store.files import INDEX, ActivationKey
from repeng.activations.store.records import Index
from repeng.errors import StoreError
from repeng.models.sites import hook_name


class StoredActivations:
    """Activations of every response of a split, of one stimulus, site and token, at some or all layers.

    Attributes:
        folder: that holds them.
        index: the content of its index.json.
        key: stimulus, site and token.
        layers: the layers that are here, ascending; none of log-probabilities.

    Raises:
        StoreError: the index cannot be read, or is of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder, Index.read(folder / INDEX)
        self.key = ActivationKey(self.index.stimulus.name, self.index.site, self.index.token)
        self.layers = self.index.layers

    def __repr__(self) -> str:
        split = f"{self.index.distribution}/{self.index.split}"
        return f"StoredActivations({self.key}, {split}, {self.n_responses} responses)"

    @property
    def n_responses(self) -> int:
        """Rows of every tensor."""
        return len(self.index.responses)

    @property
    def n_bytes(self) -> int:
        """Size of the shards."""
        return sum(shard.bytes for shard in self.index.shards)

    @cached_property
    def kept(self) -> Bool[np.ndarray, " response"]:
        """False where there is no value and the stored row is zeros.

        That is where the text was skipped as too long (`skipped` in the index), and where there is nothing to take
        (`blank`): the mean of an empty response, the last prompt token of a text without prompt.
        """
        kept = np.ones(self.n_responses, dtype=bool)
        kept[[*self.index.skipped, *self.index.blank]] = False
        return kept

    def layer(self, layer: int) -> Float[Tensor, "response ..."]:
        """One layer's vectors in the stored dtype: [response, d_model], of `hook_z` [response, head, d_head].

        Raises:
            StoreError: that layer is not here, or a shard is missing or damaged.
        """
        if layer not in self.layers:
            raise StoreError(
                f"{self.folder}: no layer {layer} here, only {', '.join(map(str, self.layers)) or 'none'}; "
                "capture it by asking for this layer, or for all"
            )
        return self.tensor(hook_name(self.key.site, layer), layer)

    def read(self, layers: Sequence[int] | None = None) -> Float[Tensor, "layer response ..."]:
        """Some layers, all by default, in the stored dtype, stacked."""
        return torch.stack([self.layer(layer) for layer in (self.layers if layers is None else layers)])

    def numpy(self, layer: int | Sequence[int] | None = None) -> Float[np.ndarray, ...]:
        """Activations in float32; NaN for a response that has none (see `kept`).

        Args:
            layer: one layer, whose axis is left out, or several; None for all that are here.

        Returns:
            [response, d_model] for one layer, [layer, response, d_model] otherwise; the sites that are stored by head,
            such as `hook_z`, have [head, d_head] in place of d_model.

        Raises:
            StoreError: a layer is not here, or a shard is missing or damaged.
        """
        values: Float[np.ndarray, ...]
        values = self.read([layer] if isinstance(layer, int) else layer).float().numpy()
        values[:, ~self.kept] = np.nan
        return values[0] if isinstance(layer, int) else values

    def tensor(self, name: str, layer: int | None = None) -> Tensor:
        """A tensor of every response, by its name in the shards; of log-probabilities without a layer.

        Raises:
            StoreError: a shard is missing or damaged.
        """
        shards = sorted(
            (shard for shard in self.index.shards if layer is None or layer in shard.layers),
            key=lambda shard: shard.first,
        )
        pieces = []
        for shard in shards:
            path = self.folder / shard.file
            try:
                with safe_open(path, framework="pt") as file:
                    pieces.append(file.get_tensor(name))
            except (OSError, SafetensorError) as error:
                raise StoreError(
                    f"{path}: cannot be read ({error}); remove the folder {self.folder} and capture again"
                ) from error
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
