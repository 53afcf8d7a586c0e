"""Elicitation and its intervals."""

from __future__ import annotations

import numpy as np
import pytest
from metric_samples import clustered

from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    accuracy_interval,
    differential_elicitation,
    differential_elicitation_interval,
    elicitation,
    elicitation_capped,
    elicitation_interval,
    figure_inputs,
    figures_of,
    mean_paired_difference,
)


def slow_ratios(evaluation: Evaluation, capability: Evaluation) -> tuple[float, float]:
    """Every ratio at which the MOVER interval of (accuracy - ratio * capability) holds 0, looked for on a grid."""
    (low, high), (lowest, highest) = accuracy_interval(evaluation), accuracy_interval(capability)
    a, c = evaluation.accuracy, capability.accuracy
    held = []
    for ratio in np.linspace(0, 3, 30_001):
        gap = a - ratio * c
        below = np.hypot(a - low, ratio * (highest - c))
        above = np.hypot(high - a, ratio * (c - lowest))
        if gap - below <= 0 <= gap + above:
            held.append(ratio)
    return min(held), max(held)


def test_elicitation_and_differential_elicitation_follow_their_formulas() -> None:
    assert elicitation(0.6, 0.8) == pytest.approx(0.75) == elicitation_capped(0.6, 0.8)
    assert elicitation(0.9, 0.8) == pytest.approx(1.125) and elicitation_capped(0.9, 0.8) == 1
    assert differential_elicitation(0.6, 0.4, 0.8) == pytest.approx(0.25)
    for attempt in (
        lambda: elicitation(0.6, 0.0),
        lambda: elicitation_capped(0.6, 0.0),
        lambda: differential_elicitation(0.6, 0.4, 0.0),
    ):
        with pytest.raises(BadInput, match=r"capability is 0\.0"):
            attempt()


@pytest.mark.parametrize(("rate", "capability"), [(0.7, 0.9), (0.9, 0.5), (0.1, 0.95)])
def test_the_interval_holds_every_ratio_that_the_two_intervals_allow(rate: float, capability: float) -> None:
    generator = np.random.default_rng(1)
    a, c = clustered(generator, rate=rate), clustered(generator, rate=capability, n_groups=80)
    assert elicitation_interval(a, c, same_target=False) == pytest.approx(slow_ratios(a, c), abs=2e-4)


def test_a_capability_without_doubt_leaves_the_accuracys_interval_and_a_doubtful_one_widens_it() -> None:
    generator = np.random.default_rng(2)
    a, few = clustered(generator), clustered(generator, n_groups=30, rate=0.9)
    sure = Evaluation(np.full(300_000, 0.9), np.arange(300_000), np.arange(300_000))
    assert elicitation_interval(a, sure, same_target=False) == pytest.approx(accuracy_interval(a), abs=1e-4)
    low, high = elicitation_interval(a, few, same_target=False)
    assert high - low > (accuracy_interval(a)[1] - accuracy_interval(a)[0]) / few.accuracy


def test_prompts_that_both_answer_make_the_ratio_surer() -> None:
    generator = np.random.default_rng(3)
    c = clustered(generator, n_groups=200)
    flipped = generator.random(600) < 0.05
    a = Evaluation(np.where(flipped, 1 - c.probabilities, c.probabilities), c.example, c.group)
    together, apart = (elicitation_interval(a, c, same_target=same) for same in (True, False))
    assert together[1] - together[0] < 0.6 * (apart[1] - apart[0])
    assert together[0] < a.accuracy / c.accuracy < together[1]
    assert elicitation_interval(c, c, same_target=True) == (1, 1)


def test_differential_elicitation_of_a_sure_capability_is_the_difference() -> None:
    generator = np.random.default_rng(4)
    a, b = clustered(generator, rate=0.6), clustered(generator, rate=0.75)
    sure = Evaluation(np.full(300_000, 0.9), np.arange(300_000), np.arange(300_000))
    gap = mean_paired_difference([a], [b], ["t"])
    for one, other, ends in ((a, b, (gap.low, gap.high)), (b, a, (-gap.high, -gap.low))):
        found = differential_elicitation_interval(one, other, sure, same_target=False)
        assert found == pytest.approx(ends, abs=1e-4)
    assert differential_elicitation_interval(a, a, sure, same_target=False) == (0, 0)
    doubtful = differential_elicitation_interval(a, b, clustered(generator, n_groups=30), same_target=False)
    assert doubtful[1] - doubtful[0] > gap.high - gap.low


def test_an_interval_is_blank_where_one_is_unknown_or_the_capability_may_be_nothing() -> None:
    a, bare = clustered(np.random.default_rng(5)), Evaluation(reported_accuracy=0.8)
    nothing = Evaluation(np.full(40, 0.1), np.arange(40), np.arange(40))
    assert elicitation_interval(a, bare, same_target=False) is None
    assert elicitation_interval(bare, a, same_target=False) is None
    assert elicitation_interval(a, nothing, same_target=False) is None
    assert elicitation_interval(nothing, nothing, same_target=True) is None
    assert differential_elicitation_interval(a, bare, a, same_target=False) is None
    assert elicitation_interval(nothing, a, same_target=False)[0] == 0


def test_a_row_has_the_intervals_where_the_capability_is_an_evaluation() -> None:
    generator = np.random.default_rng(6)
    a, b, c = (clustered(generator, rate=rate) for rate in (0.95, 0.6, 0.7))
    found = figures_of(figure_inputs(a, baseline=b, capability=c))
    assert (found["elicitation_low"], found["elicitation_high"]) == elicitation_interval(a, c, same_target=False)
    assert found["elicitation_low"] < found["elicitation"] < found["elicitation_high"]
    assert found["elicitation"] > 1 == found["elicitation_capped"]
    names = ("differential_elicitation_low", "differential_elicitation_high")
    assert tuple(map(found.get, names)) == differential_elicitation_interval(a, b, c, same_target=False)
    stated = figures_of(figure_inputs(a, baseline=b, capability=c.accuracy))
    assert stated["elicitation"] == found["elicitation"] and stated["elicitation_low"] is None
    others = Evaluation(np.full(7, 0.9), np.arange(7), np.arange(7))
    assert figures_of(figure_inputs(a, baseline=others, capability=c))["differential_elicitation_low"] is None
    same = figures_of(figure_inputs(a, baseline=b, capability=c, same_target=True))
    assert same["elicitation_low"] != found["elicitation_low"]
