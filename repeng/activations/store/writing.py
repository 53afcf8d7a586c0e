"""Writing activations of a split: what is begun and how, shard by shard, the index last.

Each finished shard is noted with its checksum in a journal. A run that goes on believes the shards that stand there and
have that content, and no other file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

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
from repeng.errors import BadInput, RepengError, StoreError
from repeng.places import Place

log = logging.getLogger(__name__)

JOURNALS = "written*.jsonl"
"""The journals of a folder of activations: one, or one of each run that has a share in it."""


class ShardFacts(NamedTuple):
    """What an index says of a shard's file.

    Attributes:
        n_bytes: its size.
        sha256: of its content.
        tensors: the checksum of each tensor, by name; empty where it was written by another run.
    """

    n_bytes: int
    sha256: str
    tensors: Mapping[str, str] = {}


@dataclass(frozen=True)
class Share:
    """Which part of a capture a run does, of several that run without knowing of one another: `3/8`.

    Attributes:
        number: from 0.
        of: how many there are.

    Raises:
        BadInput: there is no such share.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            raise BadInput(f"share {self.number}/{self.of}: of {self.of} there are 0 to {self.of - 1}")

    @classmethod
    def parse(cls, text: str) -> Share:
        """A share as it is written, the first being 0.

        Raises:
            BadInput: it is not written so.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not found:
            raise BadInput(f"--shard {text!r} is no share; write it as 0/8, the first of eight, up to 7/8, the last")
        return cls(int(found[1]), int(found[2]))

    @property
    def journal(self) -> str:
        """The name of the file that notes what this run has written."""
        return f"written.{self.number}-of-{self.of}.jsonl"


@dataclass(frozen=True)
class ActivationsWriter:
    """Activations, or more layers of them, that are being written.

    Attributes:
        key: stimulus, site and token.
        folder: that holds them.
        plan: how their texts are laid out, and which layers are being written.
        written: the facts of each shard that is there, by its file's name.
        journal: name of the file that notes what this writer has written.
    """

    key: ActivationKey
    folder: Place
    plan: Plan
    written: dict[str, ShardFacts] = field(default_factory=dict)
    journal: str = WRITTEN

    def shard(self, block: int) -> Place:
        """The file of a block of examples."""
        return self.folder / shard_file(self.plan.first_file + block)

    def has(self, block: int) -> bool:
        """Whether a block's shard is there."""
        return self.shard(block).name in self.written

    def write_shard(self, block: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a block's tensors, and note it."""
        self.note(block, self.put_shard(block, tensors))

    def put_shard(self, block: int, tensors: Mapping[str, Tensor]) -> ShardFacts:
        """Write a block's tensors. Until `note` has noted it, the shard is not believed to be there."""
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        write_atomically(self.shard(block), content)
        checksums = {name: tensor_checksum(tensors[name]) for name in sorted(tensors)}
        return ShardFacts(len(content), checksum(content), checksums)

    def note(self, block: int, facts: ShardFacts) -> None:
        """Note in the journal that a block's shard is there."""
        name = self.shard(block).name
        append_line(self.folder / self.journal, json.dumps([name, facts.n_bytes, facts.sha256]))
        self.written[name] = facts

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
            facts = self.written[name]
            of_tensors = dict(facts.tensors) or tensor_checksums(self.shard(number))
            at = {"file": name, "first": first, "rows": rows, "layers": self.plan.layers}
            content = {"bytes": facts.n_bytes, "sha256": facts.sha256, "tensors": of_tensors}
            shards.append(Shard.model_validate({**at, **content}))
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
    *,
    share: Share | None = None,
) -> list[ActivationsWriter]:
    """Take up missing activations as they were begun, in a usable layout, or begin them with a fresh plan.

    The caller holds the split's lock.

    Args:
        split_folder: of the split.
        missing: activations of it.
        fresh: gives a plan for some layers, from the shard of some number on.
        usable: layouts that may be gone on with.
        share: where other runs write the same activations, which part of them is ours. Nothing of theirs is removed.

    Raises:
        RepengError: others write what cannot be gone on with here.
    """
    found = []
    for item in missing:
        folder = split_folder / item.key.folder
        named = {shard.file for shard in read_index(folder).shards} if (folder / INDEX).is_file() else set()
        first_file = max((_number(name) + 1 for name in named), default=0)
        try:
            plan = Plan.read(folder / PLAN)
            usable_plan = (plan.layers, plan.first_file) == (item.layers, first_file) and plan.layout in usable
            if share is not None and not usable_plan:
                raise RepengError(
                    f"{folder} was begun with the layout {plan.layout} and layers {list(plan.layers)}, which this run "
                    "cannot go on with; give every job the same command and version of repeng, or finish it without "
                    "--shard"
                )
        except StoreError:
            # There is none; or whatever another version left there, it is begun anew.
            usable_plan = False
        written = believed(folder) if usable_plan else {}
        if share is None or not usable_plan:
            remove_unnamed(folder, named | written.keys())
        if not usable_plan:
            forget_plan(folder)
            plan = fresh(item.layers, first_file)
            # Lost in a power cut, it costs the shards after it and nothing more.
            plan.write(folder / PLAN, flush=False)
        found.append(ActivationsWriter(item.key, folder, plan, written, WRITTEN if share is None else share.journal))
    return found


def remove_unnamed(folder: Place, named: Collection[str]) -> None:
    """Remove the shards that are not among some names. The caller holds the split's lock."""
    for file in folder.glob("shard-*.safetensors"):
        if file.name not in named:
            file.unlink()


def believed(folder: Place) -> dict[str, ShardFacts]:
    """Size and sha256 of every shard that a journal names and whose content is what was noted."""
    found = {}
    for journal in sorted(folder.glob(JOURNALS)):
        for line in read_lines(journal):
            try:
                name, size, digest = json.loads(line)
                content = (folder / Path(name).name).read_bytes()
            except (ValueError, TypeError, OSError):
                continue
            if (len(content), checksum(content)) == (size, digest):
                found[name] = ShardFacts(size, digest)
    return found


def noted(folder: Place) -> set[str]:
    """The names of the shards that any journal names, without a look at their content."""
    names = set()
    for journal in folder.glob(JOURNALS):
        for line in read_lines(journal):
            with contextlib.suppress(ValueError, TypeError):
                names.add(json.loads(line)[0])
    return names


def is_current(writer: ActivationsWriter) -> bool:
    """Whether what a writer writes is still wanted by its plan: nobody has begun it anew, or made it whole."""
    try:
        plan = Plan.read(writer.folder / PLAN)
    except StoreError:
        return False
    return (plan.rows, plan.layers, plan.first_file) == (writer.plan.rows, writer.plan.layers, writer.plan.first_file)


def forget_plan(folder: Place) -> None:
    """Remove what only a run in progress needs. The caller holds the split's lock."""
    for file in (folder / PLAN, *folder.glob(JOURNALS)):
        file.unlink(missing_ok=True)


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
    for place in {path.parent for name in (PLAN, JOURNALS) for path in folder.glob(f"*/{name}")}:
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
