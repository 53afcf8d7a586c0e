"""Unions of distributions: their names, and splits that are made of examples of others."""

from __future__ import annotations

import numpy as np
import pytest

from repeng.benchmarks.asked_shifts import asked_shifts, leave_one_out
from repeng.distributions.mixture import even_shares, first_of_each, mixed
from repeng.distributions.overlap import find_overlaps
from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.distributions.unions import union_members, union_name, unite, with_unions
from repeng.errors import BadInput, UnknownName

KNOWN = ("a", "b", "c", "a+b")


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("b", ("b",)),
        ("c+a", ("a", "c")),
        ("a + c", ("a", "c")),
        ("a+b", ("a+b",)),
        ("a+b+c", ("a+b", "c")),
        ("b+a", ("a", "b")),
        ("all-but-a+b", ("a", "b", "c")),
        ("new", ("new",)),
    ],
)
def test_a_union_names_its_members_in_any_order_and_a_distributions_own_name_goes_first(
    name: str, members: tuple[str, ...]
) -> None:
    assert union_members(name, KNOWN) == members


def test_a_union_has_one_name_however_its_members_are_ordered() -> None:
    assert union_name("c+a", KNOWN) == union_name("a+c", KNOWN) == "a+c"
    assert union_name("all-but-c", KNOWN) == "all-but-c"


@pytest.mark.parametrize(("name", "message"), [("a+a", "names a distribution twice"), ("a++c", "lacks a name")])
def test_a_union_that_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        union_members(name, KNOWN)


def test_a_union_of_what_is_not_there_says_what_is() -> None:
    one = Distribution("a", {"train": split("a", 3)})
    with pytest.raises(UnknownName, match="of the union a.z 'z'; choose from a, c"):
        with_unions({"a": one, "c": Distribution("c", one.splits)}, ["a+z"])


def split(name: str, count: int, *, groups: bool = False, kind: str = "train") -> Split:
    """Examples of which every third prompt is the same in all distributions, and three share a group."""
    examples = [
        Example(
            f"shared {n}" if n % 3 == 0 else f"{name} {n}",
            tuple(f"{name} {n} {i}" for i in range(2 + n % 2)),
            n % 2,
            group=f"g{n // 3}" if groups else None,
        )
        for n in range(count)
    ]
    return Split(name, kind, tuple(examples))


def test_a_union_is_the_concatenation_of_its_members() -> None:
    one, other = split("a", 9), split("b", 7)
    union = unite("a+b", [Distribution("a", {"train": one}), Distribution("b", {"train": other})]).train
    whole = Split("a+b", "train", (*one.examples, *other.examples))
    assert union.pairs == whole.pairs and union.data_hash == whole.data_hash
    for field in ("labels", "groups", "units", "rivals"):
        np.testing.assert_array_equal(getattr(union, field), getattr(whole, field))
    assert union.prompt_hashes == whole.prompt_hashes
    assert len(set(union.groups)) == 16 - 3


def test_a_named_group_stays_its_distributions_own() -> None:
    one, other = split("a", 9, groups=True), split("b", 9, groups=True)
    union = mixed("a+b", "train", [(each, number) for each in (one, other) for number in range(9)])
    assert len(set(union.units)) == len(set(union.groups)) == 6
    assert {(pair.best < one.n_responses) == (pair.worse < one.n_responses) for pair in union.pairs} == {True}
    assert union.prompt_hashes == (*one.prompt_hashes, *other.prompt_hashes)
    test = split("b", 9, groups=True, kind="test")
    fresh = Split(
        "b", "test", tuple(Example(f"new {n}", ("x", "y"), 0, group=e.group) for n, e in enumerate(test.examples))
    )
    (found,) = find_overlaps([(union, fresh)])
    assert {match.kind for match in found.matches} == {"group"} and min(match.train for match in found.matches) >= 9


@pytest.mark.parametrize(
    ("sizes", "limit", "shares"),
    [((9, 9), 6, [3, 3]), ((9, 9), 7, [4, 3]), ((2, 9, 9), 12, [2, 5, 5]), ((2, 3), 9, [2, 3]), ((4, 4), None, [4, 4])],
)
def test_a_limit_is_shared_evenly_as_far_as_members_reach(
    sizes: tuple[int, ...], limit: int | None, shares: list[int]
) -> None:
    assert even_shares(sizes, limit, "u") == shares


def test_a_limit_takes_the_first_examples_of_each_member() -> None:
    one, other = split("a", 9), split("b", 7)
    union = unite("a+b", [Distribution("a", {"train": one}), Distribution("b", {"train": other})]).train
    cut = first_of_each(union, 6)
    assert cut.examples == (*one.examples[:3], *other.examples[:3])
    assert first_of_each(one, 4).examples == one.first(4).examples
    assert first_of_each(one, 9) is one
    with pytest.raises(BadInput, match=r"a\+b is a union of 2, and at most 1 train example"):
        first_of_each(union, 1)


def test_shifts_are_asked_for_by_their_names_and_take_the_targets_one_reference() -> None:
    known = [Shift("a", "b", "c"), Shift("c", "a", "b"), Shift("b", "a", "c")]
    found = asked_shifts(["a+c:b", "x:y:a"], {*KNOWN, "x:y"}, known)
    assert found == (Shift("a+c", "b", "c"), Shift("x:y", "a"))
    for asked, message in ((["ab"], "is not SOURCE:TARGET"), ([":b"], "is not"), (["a:b", "a:b"], "twice")):
        with pytest.raises(BadInput, match=message):
            asked_shifts(asked, KNOWN, known)
    with pytest.raises(UnknownName, match="to test on 'z'"):
        asked_shifts(["a:z"], KNOWN, known)


def test_leaving_one_out_sets_the_union_of_the_others_beside_each_alone() -> None:
    found = leave_one_out(("a", "b", "c"), ("a", "t"))
    assert [(shift.source, shift.target) for shift in found] == [
        *(("all-but-a", "a"), ("all-but-t", "t")),
        *(("b", "a"), ("c", "a"), ("a", "t"), ("b", "t"), ("c", "t")),
    ]
    with pytest.raises(BadInput, match="needs 3 distributions"):
        leave_one_out(("a", "b"), ("a",))
