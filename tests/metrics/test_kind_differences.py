"""Two kinds of sources over targets: differences by hand, what cancels, and how often the interval holds the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from repeng.errors import BadInput
from repeng.metrics import difference_of_kinds


def crossed(first: int, second: int, targets: int) -> tuple[list[str], list[str], np.ndarray]:
    cells = list(itertools.product(range(first + second), range(targets)))
    return [f"s{s}" for s, _ in cells], [f"t{t}" for _, t in cells], np.array([s < first for s, _ in cells])


def test_over_sources_of_their_own_targets_it_is_the_difference_of_means() -> None:
    values = np.array([0.5, 0.7, 0.6, 0.9, 0.8, 0.95, 0.7])
    names = [str(number) for number in range(7)]
    is_first = np.arange(7) < 3
    found = difference_of_kinds(values, names, names, is_first, paired=False)
    assert found is not None
    one, other = values[:3], values[3:]
    assert found.difference.value == pytest.approx(one.mean() - other.mean())
    assert (found.first, found.second) == pytest.approx((one.mean(), other.mean()))
    assert (found.n_first, found.n_second, found.n_targets) == (3, 4, 7)
    by_kind = one.var(ddof=1) / 3, other.var(ddof=1) / 4
    # A target that one source alone reaches tells nothing that the source does not: but for one part in six.
    beyond = (2 / 3 * by_kind[0] + 3 / 4 * by_kind[1]) / 6
    square = sum(stats.t.ppf(0.975, df) ** 2 * part for df, part in ((2, by_kind[0]), (3, by_kind[1]), (6, beyond)))
    assert found.difference.high - found.difference.value == pytest.approx(np.sqrt(square))


def test_on_shared_targets_what_makes_a_target_hard_cancels() -> None:
    generator = np.random.default_rng(0)
    sources, targets, is_first = crossed(3, 4, 5)
    values = generator.normal(size=35)
    hard = dict(zip(dict.fromkeys(targets), (5.0, -3.0, 0.0, 1.0, 9.0), strict=True))
    shifted = values + np.array([hard[target] for target in targets])
    plain = difference_of_kinds(values, sources, targets, is_first, paired=True)
    other = difference_of_kinds(shifted, sources, targets, is_first, paired=True)
    assert plain is not None and other is not None
    assert (other.difference.value, other.difference.low) == pytest.approx(
        (plain.difference.value, plain.difference.low)
    )
    table = values.reshape(7, 5)
    assert plain.difference.value == pytest.approx((table[:3].mean(axis=0) - table[3:].mean(axis=0)).mean())
    unpaired = difference_of_kinds(shifted, sources, targets, is_first, paired=False)
    assert unpaired is not None and unpaired.difference.value == pytest.approx(plain.difference.value)


def test_targets_that_one_kind_alone_reaches_are_left_out_where_it_is_paired() -> None:
    values = np.array([0.2, 0.3, 0.6, 0.7, 0.0, 1.0])
    sources, targets = ["a", "b", "c", "d", "a", "c"], ["t", "u", "t", "u", "own", "other"]
    is_first = np.array([True, True, False, False, True, False])
    found = difference_of_kinds(values, sources, targets, is_first, paired=True)
    assert found is not None and found.difference.value == pytest.approx(-0.4)
    assert found.n_targets == 2


def test_few_sources_or_targets_leave_no_interval_and_nothing_shared_no_difference() -> None:
    is_first = np.array([True, False, False])
    one = difference_of_kinds(np.array([0.5, 0.7, 0.9]), ["a", "b", "c"], ["t", "u", "v"], is_first, paired=False)
    assert one is not None and one.difference.value == pytest.approx(-0.3) and one.difference.low is None
    on_one = difference_of_kinds(
        np.array([0.5, 0.6, 0.7, 0.8]), ["a", "b", "c", "d"], ["t"] * 4, np.arange(4) < 2, paired=True
    )
    assert on_one is not None and on_one.difference.low is None
    alike = difference_of_kinds(
        np.array([0.1, 0.1, 0.3, 0.3]), list("abcd"), list("tutu"), np.arange(4) < 2, paired=True
    )
    assert alike is not None and alike.difference.value == pytest.approx(-0.2) and alike.difference.low is None
    assert difference_of_kinds(np.ones(3), ["a", "b", "c"], ["t", "u", "v"], is_first, paired=True) is None
    assert difference_of_kinds(np.ones(2), ["a", "b"], ["t", "t"], np.array([True, True]), paired=False) is None
    assert difference_of_kinds(np.array([]), [], [], np.array([], dtype=bool), paired=False) is None
    with pytest.raises(BadInput, match="2 values, 1 sources"):
        difference_of_kinds(np.ones(2), ["a"], ["t", "t"], np.array([True, False]), paired=False)


@pytest.mark.parametrize(
    ("first", "second", "targets", "paired"), [(2, 8, 6, True), (3, 3, 3, True), (2, 9, 0, False), (5, 8, 0, False)]
)
@pytest.mark.parametrize("spread", [(1.0, 0.0, 0.0, 0.1), (0.0, 1.0, 0.0, 0.3), (1.0, 1.0, 1.0, 0.5)])
def test_the_interval_holds_no_difference_where_there_is_none(
    first: int, second: int, targets: int, paired: bool, spread: tuple[float, ...]
) -> None:
    """Sources, targets, and targets by kind vary as draws; without shared targets each source has one of its own."""
    generator = np.random.default_rng(0)
    count = first + second
    sources, at, is_first = crossed(first, second, targets) if targets else crossed(first, second, 1)
    at = at if targets else [name.replace("s", "t") for name in sources]
    s, t = (np.unique(names, return_inverse=True)[1] for names in (sources, at))
    held = []
    for _ in range(200):
        values = spread[0] * generator.normal(size=count)[s] + spread[1] * generator.normal(size=count)[t]
        values += spread[2] * generator.normal(size=(2, count))[is_first.astype(int), t]
        values += spread[3] * generator.normal(size=len(s))
        found = difference_of_kinds(values, sources, at, is_first, paired=paired)
        assert found is not None and found.difference.low is not None and found.difference.high is not None
        held.append(found.difference.low <= 0 <= found.difference.high)
    assert np.mean(held) >= 0.92
