"""Writing a split's parts: what is begun and how, shard by shard, the index last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from repeng.activations.store.files import (
    FORMAT,
    INDEX,
    PLAN,
    ActivationKey,
    checksum,
    read_json,
    shard_file,
    split_key,
    to_json,
)
from repeng.activations.store.request import MissingActivations
from repeng.atomic import write_atomically
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import StoreError


@dataclass(frozen=True)
class LayoutPlan:
    """How the texts of a part are laid out in rows: all that its bytes depend on beside the model and the split.

    Attributes:
        stimuli: whose texts are laid out together, by name.
        layout: `padded`, `trees`, `flex` or `masks`.
        batch_tokens: the token budget of a batch.
    """

    stimuli: tuple[Stimulus, ...]
    layout: str
    batch_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "layout": self.layout,
            "batch_tokens": self.batch_tokens,
            "stimuli": [asdict(stimulus) for stimulus in self.stimuli],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LayoutPlan:
        """From plain values.

        Raises:
            KeyError, TypeError: they are not such a plan's.
        """
        stimuli = tuple(Stimulus(**stimulus) for stimulus in values["stimuli"])
        return cls(stimuli, values["layout"], values["batch_tokens"])


@dataclass(frozen=True)
class ActivationsWriter:
    """A part, or more layers of it, that is being written.

    Attributes:
        name: of the part.
        folder: of the part.
        layers: that are being written.
        first_file: number of the first shard; earlier ones hold other layers.
        plan: how it is laid out.
    """

    name: ActivationKey
    folder: Path
    layers: tuple[int, ...]
    first_file: int
    plan: LayoutPlan

    def shard(self, block: int) -> Path:
        """The file of a block of examples."""
        return self.folder / shard_file(self.first_file + block)

    def write_shard(self, block: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a block's tensors."""
        write_atomically(self.shard(block), save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def begin(
    split_folder: Path, missing: Sequence[MissingActivations], fresh: Callable[[], LayoutPlan], usable: Collection[str]
) -> list[ActivationsWriter]:
    """Take up each missing part as it was begun, in a usable layout, or begin it with a fresh plan.

    Only for who holds the split's lock.
    """
    found = []
    for item in missing:
        folder = split_folder / str(item.part)
        first_file = len(read_json(folder / INDEX)["shards"]) if (folder / INDEX).is_file() else 0
        plan = _begun(folder, item, first_file)
        if plan is None or plan.layout not in usable:
            _forget_begun(folder, first_file)
            plan = fresh()
            record = {**plan.as_dict(), "layers": list(item.layers), "first_file": first_file}
            # Lost in a power cut, it costs the shards after it and nothing more.
            write_atomically(folder / PLAN, to_json(record), flush=False)
        found.append(ActivationsWriter(item.part, folder, item.layers, first_file, plan))
    return found


def _begun(folder: Path, item: MissingActivations, first_file: int) -> LayoutPlan | None:
    """How a stopped run was writing just these layers; None where it was not."""
    if not (folder / PLAN).is_file():
        return None
    try:
        record = read_json(folder / PLAN)
        if tuple(record["layers"]) == item.layers and record["first_file"] == first_file:
            return LayoutPlan.from_dict(record)
    except (StoreError, KeyError, TypeError):
        # Whatever another version left there, it is begun anew.
        return None
    return None


def _forget_begun(folder: Path, first_file: int) -> None:
    """Remove shards that no index names."""
    for file in folder.glob("shard-*.safetensors"):
        if int(file.stem.partition("-")[2]) >= first_file:
            file.unlink()


def finish(
    part: ActivationsWriter,
    split: Split,
    *,
    hashes: Sequence[str],
    skipped: Sequence[int],
    blank: Sequence[int],
    blocks: Sequence[tuple[int, int]],
    dtype: str,
) -> None:
    """Write a part's index: from now on it is whole.

    Args:
        part: all its shards are there.
        split: whose part it is.
        hashes: `text_hash` of each response's text.
        skipped: rows whose text was too long.
        blank: rows with nothing to take.
        blocks: first row and number of rows of each shard.
        dtype: stored in.
    """
    shards, layers = [], set(part.layers)
    if part.first_file:
        before = read_json(part.folder / INDEX)
        shards, layers = before["shards"], layers | set(before["layers"])
    for number, (first, rows) in enumerate(blocks):
        content = part.shard(number).read_bytes()
        shards.append(
            {
                "file": part.shard(number).name,
                "first": first,
                "rows": rows,
                "layers": list(part.layers),
                "bytes": len(content),
                "sha256": checksum(content),
            }
        )
    distribution, split_name, data_hash = split_key(split)
    index = {
        "format": FORMAT,
        "distribution": distribution,
        "split": split_name,
        "data_hash": data_hash,
        "stimulus": asdict(next(one for one in part.plan.stimuli if one.name == part.name.stimulus)),
        "site": part.name.site,
        "token": part.name.token,
        "layers": sorted(layers),
        "shape": [split.n_responses, *_feature_shape(part)],
        "dtype": dtype,
        "layout": {
            "layout": part.plan.layout,
            "batch_tokens": part.plan.batch_tokens,
            "stimuli": [stimulus.name for stimulus in part.plan.stimuli],
        },
        "skipped": list(skipped),
        "blank": list(blank),
        "shards": shards,
        "responses": _responses(split, hashes),
    }
    write_atomically(part.folder / INDEX, to_json(index))
    (part.folder / PLAN).unlink(missing_ok=True)


def _responses(split: Split, hashes: Sequence[str]) -> list[dict[str, Any]]:
    """What the index says of each response."""
    return [
        {
            "example": int(example),
            "response": row - int(split.offsets[example]),
            "label": float(split.labels[row]),
            "group": int(split.groups[example]),
            "text_hash": hashes[row],
        }
        for row, example in enumerate(split.response_example)
    ]


def text_hash(prefix: str, response: str, suffix: str) -> str:
    """Twelve hex digits over a text in its pieces."""
    return hashlib.sha256("\0".join((prefix, response, suffix)).encode()).hexdigest()[:12]


def _feature_shape(part: ActivationsWriter) -> list[int]:
    """The shape of one response's vector, from the first shard."""
    with safe_open(part.shard(0), framework="pt") as file:
        return list(file.get_slice(sorted(file.keys())[0]).get_shape()[1:])
