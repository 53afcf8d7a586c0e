"""Writing activations of a split: what is begun and how, shard by shard, the index last.

Each finished shard is noted with its checksum in a journal. A run that goes on believes the shards that stand there and
have that content, and no other file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save
from torch import Tensor

from repeng.activations.store.files import (
    INDEX,
    OFFSETS,
    PLAN,
    SPLIT,
    WRITTEN,
    ActivationKey,
    MissingActivations,
    checksum,
    shard_file,
    split_key,
)
from repeng.activations.store.records import (
    FORMAT,
    DataSource,
    Index,
    Plan,
    ResponseRow,
    Shard,
    SplitRecord,
    WrittenLayout,
    read_index,
    response_rows,
    rows_hash,
)
from repeng.activations.store.shard_file import feature_shape, tensor_checksum, tensor_checksums
from repeng.activations.token_rules import token_rule
from repeng.atomic import append_line, clear_temporaries, read_lines, write_atomically
from repeng.distributions.schema import Origin, Split
from repeng.distributions.stimuli import StimulusText
from repeng.errors import StoreError
from repeng.places import Place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActivationsWriter:
    """Activations, or more layers of them, that are being written.

    Attributes:
        key: stimulus, site and token.
        folder: that holds them.
        plan: how their texts are laid out, and which layers are being written.
        written: size in bytes and sha256 of each shard that is there, by its file's name.
        tensors: of the shards that were written just now, the checksum of each tensor.
    """

    key: ActivationKey
    folder: Place
    plan: Plan
    written: dict[str, tuple[int, str]] = field(default_factory=dict)
    tensors: dict[str, dict[str, str]] = field(default_factory=dict)

    def shard(self, block: int) -> Place:
        """The file of a block of examples."""
        return self.folder / shard_file(self.plan.first_file + block)

    def has(self, block: int) -> bool:
        """Whether a block's shard is there."""
        return self.shard(block).name in self.written

    def write_shard(self, block: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a block's tensors, and note it."""
        path = self.shard(block)
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self.tensors[path.name] = {name: tensor_checksum(tensors[name]) for name in sorted(tensors)}
        write_atomically(path, content)
        facts = len(content), checksum(content)
        append_line(self.folder / WRITTEN, json.dumps([path.name, *facts]))
        self.written[path.name] = facts

    def finish(
        self,
        split: Split,
        *,
        hashes: Sequence[str],
        skipped: Sequence[int],
        blank: Sequence[int],
        blocks: Sequence[tuple[int, int]],
        dtype: str,
        taken_over: Mapping[str, int],
        token_counts: Sequence[int] = (),
    ) -> None:
        """Write the index, when all shards are there: from now on these activations are whole.

        Args:
            split: whose activations they are.
            hashes: `text_hash` of each response's text.
            skipped: rows whose text was too long.
            blank: rows with nothing to take.
            blocks: first row and number of rows of each shard.
            dtype: stored in.
            taken_over: of how many rows the values came from other versions of the data.
            token_counts: of every token's activations, how many each response has.
        """
        shards: list[Shard] = []
        layers = set(self.plan.layers)
        if self.plan.first_file:
            before = read_index(self.folder)
            shards, layers = list(before.shards), layers | set(before.layers)
            taken_over = {**before.taken_over, **taken_over}
        for number, (first, rows) in enumerate(blocks):
            name = self.shard(number).name
            size, digest = self.written[name]
            tensors = self.tensors.get(name) or tensor_checksums(self.shard(number))
            at = {"file": name, "first": first, "rows": rows, "layers": self.plan.layers}
            shards.append(Shard.model_validate({**at, "bytes": size, "sha256": digest, "tensors": tensors}))
        features = feature_shape(self.shard(0), but=OFFSETS)
        ragged = token_rule(self.key.token).is_ragged
        also: dict[str, Any] = {"token_counts": tuple(token_counts)} if ragged else {}
        of_responses = response_rows(split)
        names = (
            "example",
            "response",
            "label",
            "group",
            *(("unit",) if of_responses and len(of_responses[0]) > 4 else ()),
            "text_hash",
        )
        Index(
            format=FORMAT,
            capture=self.folder.absolute().parents[2].name,
            **split_key(split)._asdict(),
            stimulus=next(stimulus for stimulus in self.plan.stimuli if stimulus.name == self.key.stimulus),
            site=self.key.site,
            token=self.key.token,
            layers=tuple(sorted(layers)),
            shape=(sum(token_counts) if ragged else split.n_responses, *features),
            dtype=dtype,
            layout=WrittenLayout(
                layout=self.plan.layout,
                batch_tokens=self.plan.batch_tokens,
                stimuli=tuple(stimulus.name for stimulus in self.plan.stimuli),
                **({"closed": self.plan.closed} if self.plan.closed else {}),
            ),
            taken_over=dict(taken_over),
            skipped=tuple(skipped),
            blank=tuple(blank),
            shards=tuple(shards),
            responses=tuple(
                cast(ResponseRow, dict(zip(names, (*row, digest), strict=True)))
                for row, digest in zip(of_responses, hashes, strict=True)
            ),
            **also,
        ).write(self.folder / INDEX)
        forget_plan(self.folder)


def begin(
    split_folder: Place,
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
        folder = split_folder / item.key.folder
        named = {shard.file for shard in read_index(folder).shards} if (folder / INDEX).is_file() else set()
        first_file = max((_number(name) + 1 for name in named), default=0)
        try:
            plan = Plan.read(folder / PLAN)
            usable_plan = (plan.layers, plan.first_file) == (item.layers, first_file) and plan.layout in usable
        except StoreError:
            # There is none; or whatever another version left there, it is begun anew.
            usable_plan = False
        written = believed(folder) if usable_plan else {}
        for file in folder.glob("shard-*.safetensors"):
            if file.name not in named | written.keys():
                file.unlink()
        if not usable_plan:
            forget_plan(folder)
            plan = fresh(item.layers, first_file)
            # Lost in a power cut, it costs the shards after it and nothing more.
            plan.write(folder / PLAN, flush=False)
        found.append(ActivationsWriter(item.key, folder, plan, written))
    return found


def believed(folder: Place) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every shard that the journal names and whose content is what was noted."""
    found = {}
    for line in read_lines(folder / WRITTEN):
        try:
            name, size, digest = json.loads(line)
            content = (folder / Path(name).name).read_bytes()
        except (ValueError, TypeError, OSError):
            continue
        if (len(content), checksum(content)) == (size, digest):
            found[name] = size, digest
    return found


def forget_plan(folder: Place) -> None:
    """Remove what only a run in progress needs. The caller holds the split's lock."""
    (folder / PLAN).unlink(missing_ok=True)
    (folder / WRITTEN).unlink(missing_ok=True)


def _number(shard: str) -> int:
    return int(Path(shard).stem.partition("-")[2])


def note_source(folder: Place, split: Split) -> None:
    """Note in a split's folder which data it is of, and where that was read. The caller holds the split's lock."""
    path = folder / SPLIT
    held: tuple[DataSource, ...] = ()
    if path.is_file():
        try:
            held = SplitRecord.read(path).sources
        except StoreError as error:
            log.warning("%s; it is written anew", error)
    origin = split.origin or Origin("memory", {})
    if held and split.origin is None:
        return
    known = [source for source in held if (source.place, source.siblings) == (origin.place, origin.siblings)]
    # Noted anew where an earlier version did not say how the data is named.
    if known and (known[0].options is not None or origin.options is None):
        return
    now = known[0].when if known else datetime.now(UTC).isoformat(timespec="seconds")
    named = {} if origin.options is None else {"options": dict(origin.options)}
    source = DataSource(place=origin.place, siblings=dict(origin.siblings), when=now, **named)
    SplitRecord(
        format=FORMAT,
        **split_key(split)._asdict(),
        rows=rows_hash(response_rows(split)),
        prompts=split.prompt_hashes,
        sources=(*(each for each in held if each not in known), source),
    ).write(path)


def tidy(folder: Place) -> None:
    """Remove what a killed run left of activations that are whole. The caller holds the split's lock."""
    clear_temporaries(folder)
    for place in {path.parent for name in (PLAN, WRITTEN) for path in folder.glob(f"*/{name}")}:
        if not _goes_on(place):
            forget_plan(place)


def _goes_on(place: Place) -> bool:
    """Whether there is a plan that can be read, and that the index has not fulfilled."""
    try:
        layers = Plan.read(place / PLAN).layers
    except StoreError:
        return False
    try:
        return not {*layers} <= {*read_index(place).layers}
    except StoreError:
        return True


def text_hash(text: StimulusText) -> str:
    """Twelve hex digits over a text in its pieces."""
    return hashlib.sha256("\0".join((text.prefix, text.response, text.suffix)).encode()).hexdigest()[:12]
