"""Unions of distributions, written `a+b`, and of all but one, written `all-but-a`: which they are, and their splits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from repeng.distributions.mixture import mixed
from repeng.distributions.schema import Distribution
from repeng.errors import BadInput, UnknownName

PLUS = "+"
ALL_BUT = "all-but-"


def union_members(name: str, known: Collection[str]) -> tuple[str, ...]:
    """The distributions that a name means, sorted: itself; of `a+b` its members; of `all-but-a` all the others.

    A distribution of this very name goes before a union, and so does a member whose own name holds a `+`. That members
    are there is for the caller to see.

    Args:
        name: as a user writes it.
        known: the distributions that there are.

    Raises:
        BadInput: a member is named twice or left empty, or all but one are none.
    """
    if name in known:
        return (name,)
    if name.startswith(ALL_BUT):
        others = tuple(sorted(set(known) - {name.removeprefix(ALL_BUT)}))
        if not others:
            raise BadInput(f"{name}: there is no other distribution")
        return others
    if PLUS not in name:
        return (name,)
    members = _split(name, known)
    if not all(members):
        raise BadInput(f"the union {name!r} lacks a name beside a +; write it as a+b")
    if len(set(members)) < len(members):
        raise BadInput(f"the union {name} names a distribution twice; name each once")
    return tuple(sorted(members))


def union_name(name: str, known: Collection[str]) -> str:
    """The one name of a union, however its members were ordered; a distribution's own name as it is.

    Raises:
        BadInput: as of `union_members`.
    """
    return name if name.startswith(ALL_BUT) else PLUS.join(union_members(name, known))


def unite(name: str, members: Sequence[Distribution]) -> Distribution:
    """A distribution whose splits hold the examples of its members, one member after the other."""
    names = dict.fromkeys(split for member in members for split in member.splits)
    splits = {
        split: mixed(
            name,
            split,
            [
                (member.splits[split], number)
                for member in members
                if split in member.splits
                for number in range(len(member.splits[split].examples))
            ],
        )
        for split in names
    }
    return Distribution(name, splits)


def with_unions(
    distributions: Mapping[str, Distribution], sources: Iterable[str], *, apart: str = ""
) -> dict[str, Distribution]:
    """Distributions, and after them the unions of them that are among some sources; `apart` is in no union.

    Raises:
        BadInput: as of `union_members`.
        UnknownName: a member is not there, or has no train split.
    """
    found = dict(distributions)
    known = tuple(name for name in trained(distributions) if name != apart)
    for source in sources:
        members = union_members(source, known)
        if source in found or members == (source,):
            continue
        for member in members:
            if member not in known:
                raise UnknownName(f"distribution with a train split, of the union {source}", member, known)
        found[source] = unite(source, [distributions[member] for member in members])
    return found


def trained(distributions: Mapping[str, Distribution]) -> tuple[str, ...]:
    """The names of those with a train split."""
    return tuple(name for name, one in distributions.items() if "train" in one.splits)


def _split(name: str, known: Collection[str]) -> list[str]:
    """The members that a name lists; of several that may begin at one place the longest that is known."""
    pieces = [piece.strip() for piece in name.split(PLUS)]
    members = []
    while pieces:
        counts = (count for count in range(len(pieces), 0, -1) if PLUS.join(pieces[:count]) in known)
        count = next(counts, 1)
        members.append(PLUS.join(pieces[:count]))
        pieces = pieces[count:]
    return members
