"""What a probe is fitted on in a store: a train split, the first examples of it, or the union of several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repeng.activations.store.cached_split import Activations, CachedSplit, Kept, MixedSplit
from repeng.activations.store.files import SplitKey
from repeng.activations.store.store import StoredCapture
from repeng.distributions.mixture import even_shares
from repeng.distributions.schema import ResponseLabels
from repeng.distributions.unions import ALL_BUT, PLUS, union_members
from repeng.errors import BadInput
from repeng.study.cached_data import CachedData, siblings


@dataclass(frozen=True, eq=False)
class CachedTrain:
    """The train examples of a source in a store, with their labels.

    Attributes:
        source: its name, of a union its members' names in order.
        capture: the store's.
        members: the splits that hold them, and how many examples of each count, from the first; None for all.
        prompts: the hash of each prompt group, by its number; None of splits that an earlier version captured.
    """

    source: str
    capture: StoredCapture
    activations: Activations
    labels: ResponseLabels
    members: tuple[tuple[SplitKey, int | None], ...]
    prompts: tuple[str, ...] | None

    @property
    def whole(self) -> bool:
        """Whether it is one split, and all of it."""
        return len(self.members) == 1 and self.members[0][1] is None

    @property
    def data_hash(self) -> str:
        """Twelve hex digits over the data: the split's own, or of several one over theirs and how much is taken."""
        if self.whole:
            return self.members[0][0].data_hash
        facts = [[key.distribution, key.data_hash, count] for key, count in self.members]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def provenance(self, data: CachedData) -> dict[str, Any]:
        """What a fitted probe notes of it."""
        found: dict[str, Any] = {"source": self.source, "data_hash": self.data_hash}
        if self.whole:
            found |= _place(data, self.members[0][0])
        else:
            found["members"] = [
                {"source": key.distribution, "data_hash": key.data_hash, "examples": count, **_place(data, key)}
                for key, count in self.members
            ]
        return found | ({} if self.prompts is None else {"prompts": list(self.prompts)})


def train_of(data: CachedData, source: str | Sequence[str], limit: int | None = None) -> CachedTrain:
    """The train examples that a source's name means: a distribution's, or the union of several.

    Args:
        data: the store's.
        source: a distribution; `a+b`, or several names, for their union; `all-but-a` for that of all others.
        limit: at most so many examples, of a union evenly of its members; None for all.

    Raises:
        UnknownName: no such distribution is here.
        BadInput: several versions of one are here; a union that cannot be; or prompts that were not noted.
    """
    members = members_of_source(data, source)
    listed = _listed(source)
    alone = listed[0] if len(listed) == 1 and listed[0].startswith(ALL_BUT) else PLUS.join(members)
    keys = [data.find(member, "train") for member in members]
    sizes = [len(set(data.index(key).numbers("example"))) for key in keys]
    shares = even_shares(sizes, limit, alone)
    counts: list[int | None] = [None] if shares == sizes and len(keys) == 1 else list(shares)
    return joined_train(data, alone, list(zip(keys, counts, strict=True)))


def members_of_source(data: CachedData, source: str | Sequence[str]) -> list[str]:
    """The distributions that a source's name means, sorted.

    Raises:
        BadInput: none is named, or one twice.
    """
    known, listed = data.trained(), _listed(source)
    members = sorted(member for each in listed for member in union_members(each, known))
    if not members:
        raise BadInput("no source is named; give a distribution, or several for their union")
    if len(set(members)) < len(members):
        raise BadInput(f"the source {', '.join(listed)} names a distribution twice; name each once")
    return members


def _listed(source: str | Sequence[str]) -> tuple[str, ...]:
    return (source,) if isinstance(source, str) else tuple(source)


def joined_train(capture: StoredCapture, source: str, members: Sequence[tuple[SplitKey, int | None]]) -> CachedTrain:
    """The first examples of one or several splits, one split after the other, as one.

    Args:
        capture: the store's.
        source: what they are called together.
        members: the splits, and how many examples of each; None for all.

    Raises:
        BadInput: an earlier version captured one of several, and did not note its prompts.
    """
    kept = Kept()
    cached = [CachedSplit(capture, *key, kept) for key, _ in members]
    notes = [capture.data_of(key) for key, _ in members]
    if len(members) == 1 and members[0][1] is None:
        labels = capture.labels(*members[0][0][:2], data_hash=members[0][0].data_hash)
        prompts = None if notes[0] is None else notes[0].prompts
        return CachedTrain(source, capture, cached[0], labels, tuple(members), prompts)
    seen: dict[str, int] = {}
    columns: dict[str, list[Any]] = {"row": [], "label": [], "example": [], "unit": [], "group": []}
    row = example = 0
    for (key, count), note in zip(members, notes, strict=True):
        if note is None and len(members) > 1:
            raise BadInput(
                f"{capture.id}: an earlier version of repeng captured {key.distribution}/{key.split} and did not note "
                "its prompts, so that one which another member of the union has too cannot be told; capture it again "
                "with: repeng cache"
            )
        index = capture.index(key)
        own = np.array(index.numbers("example"), dtype=np.int64)
        taken = np.flatnonzero(own < (np.inf if count is None else count))
        groups = np.array(index.numbers("group"), dtype=np.int64)[taken].tolist()
        hashes = [str(group) if note is None else note.prompts[group] for group in groups]
        columns["row"].append(row + taken)
        columns["label"].append(np.array(index.numbers("label"), dtype=np.float64)[taken])
        columns["example"].append(example + own[taken])
        columns["unit"].append(example + index.units[taken])
        columns["group"].append(np.array([seen.setdefault(each, len(seen)) for each in hashes], dtype=np.int64))
        row, example = row + len(own), example + int(own[taken].max()) + 1
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    known = {"examples": joined["example"], "units": joined["unit"], "groups": joined["group"]}
    labels = ResponseLabels.of_rows(f"{source}/train", joined["label"], **known)
    mixed = MixedSplit(labels.name, tuple(cached), joined["row"])
    return CachedTrain(source, capture, mixed, labels, tuple(members), None if None in notes else tuple(seen))


def _place(data: CachedData, key: SplitKey) -> dict[str, Any]:
    record = data.data_of(key)
    return {} if record is None else {"place": record.place, "siblings": siblings(data, key)}
