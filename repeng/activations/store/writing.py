"""Writing activations of a split: what is begun and how, shard by shard, the index last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from repeng.activations.store.files import INDEX, PLAN, ActivationKey, checksum, shard_file, split_key
from repeng.activations.store.records import FORMAT, Index, Plan, ResponseRow, Shard, WrittenLayout
from repeng.activations.store.request import MissingActivations
from repeng.atomic import write_atomically
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import StimulusText
from repeng.errors import StoreError


@dataclass(frozen=True)
class ActivationsWriter:
    """Activations, or more layers of them, that are being written.

    Attributes:
        key: stimulus, site and token.
        folder: that holds them.
        plan: how their texts are laid out, and which layers are being written.
    """

    key: ActivationKey
    folder: Path
    plan: Plan

    def shard(self, block: int) -> Path:
        """The file of a block of examples."""
        return self.folder / shard_file(self.plan.first_file + block)

    def write_shard(self, block: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a block's tensors."""
        write_atomically(self.shard(block), save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    def finish(
        self,
        split: Split,
        *,
        hashes: Sequence[str],
        skipped: Sequence[int],
        blank: Sequence[int],
        blocks: Sequence[tuple[int, int]],
        dtype: str,
    ) -> None:
        """Write the index, when all shards are there: from now on these activations are whole.

        Args:
            split: whose activations they are.
            hashes: `text_hash` of each response's text.
            skipped: rows whose text was too long.
            blank: rows with nothing to take.
            blocks: first row and number of rows of each shard.
            dtype: stored in.
        """
        shards: list[Shard] = []
        layers = set(self.plan.layers)
        if self.plan.first_file:
            before = Index.read(self.folder / INDEX)
            shards, layers = list(before.shards), layers | set(before.layers)
        for number, (first, rows) in enumerate(blocks):
            path = self.shard(number)
            content = path.read_bytes()
            shards.append(
                Shard(
                    file=path.name,
                    first=first,
                    rows=rows,
                    layers=self.plan.layers,
                    bytes=len(content),
                    sha256=checksum(content),
                )
            )
        with safe_open(self.shard(0), framework="pt") as file:
            feature_shape = file.get_slice(sorted(file.keys())[0]).get_shape()[1:]
        Index(
            format=FORMAT,
            **split_key(split)._asdict(),
            stimulus=next(stimulus for stimulus in self.plan.stimuli if stimulus.name == self.key.stimulus),
            site=self.key.site,
            token=self.key.token,
            layers=tuple(sorted(layers)),
            shape=(split.n_responses, *feature_shape),
            dtype=dtype,
            layout=WrittenLayout(
                layout=self.plan.layout,
                batch_tokens=self.plan.batch_tokens,
                stimuli=tuple(stimulus.name for stimulus in self.plan.stimuli),
            ),
            skipped=tuple(skipped),
            blank=tuple(blank),
            shards=tuple(shards),
            responses=tuple(
                ResponseRow(
                    example=int(example),
                    response=row - int(split.offsets[example]),
                    label=float(split.labels[row]),
                    group=int(split.groups[example]),
                    text_hash=hashes[row],
                )
                for row, example in enumerate(split.response_example)
            ),
        ).write(self.folder / INDEX)
        (self.folder / PLAN).unlink(missing_ok=True)


def begin(
    split_folder: Path,
    missing: Sequence[MissingActivations],
    fresh: Callable[[tuple[int, ...], int], Plan],
    usable: Collection[str],
) -> list[ActivationsWriter]:
    """Take up missing activations as they were begun, in a usable layout, or begin them with a fresh plan.

    The caller holds the split's lock.

    Args:
        split_folder: of the split.
        missing: activations of it.
        fresh: gives a plan for some layers, from the shard of some number on.
        usable: layouts that may be gone on with.
    """
    found = []
    for item in missing:
        folder = split_folder / str(item.key)
        first_file = len(Index.read(folder / INDEX).shards) if (folder / INDEX).is_file() else 0
        try:
            plan = Plan.read(folder / PLAN)
            usable_plan = (plan.layers, plan.first_file) == (item.layers, first_file) and plan.layout in usable
        except StoreError:
            # There is none; or whatever another version left there, it is begun anew.
            usable_plan = False
        if not usable_plan:
            # Shards that no index names.
            for file in folder.glob("shard-*.safetensors"):
                if int(file.stem.partition("-")[2]) >= first_file:
                    file.unlink()
            plan = fresh(item.layers, first_file)
            # Lost in a power cut, it costs the shards after it and nothing more.
            plan.write(folder / PLAN, flush=False)
        found.append(ActivationsWriter(item.key, folder, plan))
    return found


def text_hash(text: StimulusText) -> str:
    """Twelve hex digits over a text in its pieces."""
    return hashlib.sha256("\0".join((text.prefix, text.response, text.suffix)).encode()).hexdigest()[:12]
