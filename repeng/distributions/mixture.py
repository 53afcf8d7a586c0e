"""Splits made of examples of others: unions, the first of each, a source with some of a target among its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int

from repeng.distributions.schema import Split
from repeng.errors import BadInput


@dataclass(frozen=True, eq=False)
class Mixture(Split):
    """Some examples of one or several splits. A named group stays its distribution's own.

    Attributes:
        members: the splits, none of them a mixture.
        take: for each example the place of its split among `members`, and its number there.
    """

    members: tuple[Split, ...] = field(default=(), repr=False)
    take: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def owners(self) -> tuple[str, ...]:
        """The distribution of each example."""
        return tuple(self.members[place].distribution for place, _ in self.take)

    @cached_property
    def rows(self) -> Int[np.ndarray, " response"]:
        """Of each response its row among all the members' responses, one member after the other."""
        starts = np.cumsum([0, *(member.n_responses for member in self.members)])
        found = [
            starts[place] + self.members[place].offsets[number] + np.arange(len(example.responses))
            for (place, number), example in zip(self.take, self.examples, strict=True)
        ]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    @property
    def sources(self) -> tuple[tuple[str, str, int], ...]:
        """Of each member its distribution, its data hash, and how many of its examples were taken."""
        counts = np.bincount([place for place, _ in self.take], minlength=len(self.members))
        return tuple(
            (member.distribution, member.data_hash, int(count))
            for member, count in zip(self.members, counts, strict=True)
        )

    def first(self, limit: int | None) -> Split:
        """The first `limit` examples; all of them for None."""
        if limit is None or limit >= len(self.examples):
            return self
        return replace(self, examples=self.examples[:limit], take=self.take[:limit])


def mixed(distribution: str, name: str, taken: Iterable[tuple[Split, int]]) -> Mixture:
    """A split of these examples, each the number of one of a split."""
    places = [_origin(split, number) for split, number in taken]
    members = {id(split): split for split, _ in places}
    order = {key: place for place, key in enumerate(members)}
    return Mixture(
        distribution,
        name,
        tuple(split.examples[number] for split, number in places),
        members=tuple(members.values()),
        take=tuple((order[id(split)], number) for split, number in places),
    )


def members_of(split: Split) -> tuple[Split, ...]:
    """The splits that hold a split's examples: those of a mixture, else itself."""
    return split.members if isinstance(split, Mixture) else (split,)


def first_of_each(split: Split, limit: int | None) -> Split:
    """At most `limit` examples, of a union taken evenly from its members, from the first of each; all for None.

    Raises:
        BadInput: fewer than the union has members.
    """
    if limit is None or limit >= len(split.examples):
        return split
    owners = split.owners
    names = tuple(dict.fromkeys(owners))
    left = dict(zip(names, even_shares([owners.count(name) for name in names], limit, split.distribution), strict=True))
    kept = []
    for number, owner in enumerate(owners):
        if left[owner]:
            left[owner] -= 1
            kept.append(number)
    return mixed(split.distribution, split.name, [(split, number) for number in kept])


def even_shares(sizes: Sequence[int], limit: int | None, union: str) -> list[int]:
    """How many of each member to take, at most `limit` in all: alike, but no more than a member has; all for None.

    What cannot be divided goes to the first.

    Raises:
        BadInput: there is not one for each member.
    """
    if limit is None or limit >= sum(sizes):
        return list(sizes)
    if limit < len(sizes):
        raise BadInput(
            f"{union} is a union of {len(sizes)}, and at most {limit} train example(s) are wanted (--train-limit), "
            "which is not one of each: raise the limit, or name fewer members"
        )
    shares = [0] * len(sizes)
    for _ in range(limit):
        open_ones = [place for place, size in enumerate(sizes) if shares[place] < size]
        shares[min(open_ones, key=lambda place: (shares[place], place))] += 1
    return shares


def _origin(split: Split, number: int) -> tuple[Split, int]:
    if not isinstance(split, Mixture):
        return split, number
    place, within = split.take[number]
    return split.members[place], within
