"""Shifts that are asked for without a shift file: `SOURCE:TARGET`, and leaving each distribution out in turn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from repeng.distributions.schema import Shift
from repeng.distributions.unions import ALL_BUT
from repeng.errors import BadInput, UnknownName

BETWEEN = ":"
ALONE, TOGETHER = "one other source", "all other sources"
"""The categories of shifts that leave one distribution out."""


def asked_shifts(asked: Iterable[str], names: Collection[str], known: Sequence[Shift]) -> tuple[Shift, ...]:
    """The shifts that `SOURCE:TARGET` each name. A source may be a union of distributions, as `a+b`.

    Args:
        asked: as a user writes them.
        names: the distributions that there are; the target is one of them.
        known: the benchmark's own shifts, of which the target's reference is taken where they agree on one.

    Raises:
        BadInput: one is not of that form, or is asked twice.
        UnknownName: no such target.
    """
    found = []
    for text in asked:
        parts = text.split(BETWEEN)
        ways = [(BETWEEN.join(parts[:cut]), BETWEEN.join(parts[cut:])) for cut in range(1, len(parts))]
        if not ways or not all(map(all, ways)):
            raise BadInput(f"the shift {text!r} is not SOURCE:TARGET, as facts:myths or facts+science:myths")
        source, target = next((way for way in ways if way[1] in names), ways[0])
        if target not in names:
            raise UnknownName("distribution to test on", target, names)
        references = {shift.target_reference for shift in known if shift.target == target}
        found.append(Shift(source, target, references.pop() if len(references) == 1 else ""))
    if len(set(found)) < len(found):
        raise BadInput(f"a shift is asked for twice: {', '.join(asked)}")
    return tuple(found)


def leave_one_out(sources: Sequence[str], targets: Sequence[str]) -> tuple[Shift, ...]:
    """For each target the union of all other distributions as the source, and each of them alone.

    The two are categories of their own, so that a study has a mean of each.

    Raises:
        BadInput: there are no two other distributions to unite.
    """
    if len(sources) < 3:
        raise BadInput(
            f"leaving one out needs 3 distributions with a train split or more, and there are {len(sources)}: "
            f"{', '.join(sources) or 'none'}"
        )
    alone = [Shift(source, target, category=ALONE) for target in targets for source in sources if source != target]
    return (*(Shift(f"{ALL_BUT}{target}", target, category=TOGETHER) for target in targets), *alone)
