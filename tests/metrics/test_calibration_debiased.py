"""The calibration error without what noise adds, against a slow twin and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from repeng.errors import BadInput
from repeng.metrics import Evaluation, debiased_calibration_error, figure_inputs, figures_of, rms_calibration_error


def made_up(generator: np.random.Generator, n_pairs: int, off: float = 0.0, fits: int = 1) -> Evaluation:
    """A method whose confidence, spread over .5 to 1, is `off` above the truth."""
    confidence = generator.uniform(0.5, 1, n_pairs)
    right = generator.random((fits, n_pairs)) < confidence - off
    number = np.arange(n_pairs)
    return Evaluation.of_fits(np.where(right, confidence, 1 - confidence), example=number, group=number)


def slow_square(evaluation: Evaluation, bins: int = 10) -> float:
    """Bins of ten equal shares, pair by pair; the square of each gap less its variance over prompts."""
    rows = sorted(
        (max(p, 1 - p), float(p > 0.5) - max(p, 1 - p), int(group))
        for p, group in zip(evaluation.probabilities, evaluation.group, strict=True)
    )
    total = 0.0
    for number in range(bins):
        inside = [row for place, row in enumerate(rows) if int((place + 0.5) / len(rows) * bins) == number]
        gap = sum(off for _, off, _ in inside) / len(inside)
        prompts = sorted({group for _, _, group in inside})
        sums = [sum(off - gap for _, off, own in inside if own == group) / len(inside) for group in prompts]
        noise = len(prompts) / (len(prompts) - 1) * sum(one**2 for one in sums)
        total += len(inside) / len(rows) * (gap**2 - noise)
    return total


@pytest.mark.parametrize("per_prompt", [1, 3])
def test_the_debiased_error_equals_its_slow_twin(per_prompt: int) -> None:
    evaluation = made_up(np.random.default_rng(0), 301, off=0.2)
    grouped = Evaluation(evaluation.probabilities, evaluation.example, evaluation.group // per_prompt)
    assert debiased_calibration_error(grouped).value == pytest.approx(math.sqrt(slow_square(grouped)))


def test_noise_is_no_error_and_a_true_one_is_found() -> None:
    generator = np.random.default_rng(1)
    for off in (0.0, 0.15):
        made = [made_up(generator, 150, off=off) for _ in range(150)]
        found = [debiased_calibration_error(one) for one in made]
        assert np.mean([one.low <= off <= one.high for one in found]) > 0.92
        raw = np.mean([rms_calibration_error(one.probabilities) for one in made])
        assert abs(np.mean([one.value for one in found]) - off) < abs(raw - off)


def test_several_fits_are_averaged_and_surer_than_one() -> None:
    generator = np.random.default_rng(2)
    five = made_up(generator, 300, off=0.1, fits=5)
    found = debiased_calibration_error(five)
    squares = [slow_square(one) for one in five.fits]
    assert found.value == pytest.approx(math.sqrt(np.mean(squares)))
    alike = Evaluation.of_fits(np.tile(five.fit_probabilities[:1], (5, 1)), example=five.example, group=five.group)
    one, again = debiased_calibration_error(five.fits[0]), debiased_calibration_error(alike)
    assert (one.value, one.low, one.high) == pytest.approx((again.value, again.low, again.high))
    assert found.high - found.low < one.high - one.low


def test_the_order_of_pairs_never_matters_even_with_equal_confidence() -> None:
    generator = np.random.default_rng(3)
    p, order = generator.choice([0.1, 0.2, 0.8, 0.9, 0.6], 200), generator.permutation(200)
    one = debiased_calibration_error(Evaluation(p, np.arange(200), np.arange(200)))
    other = debiased_calibration_error(Evaluation(p[order], np.arange(200), np.arange(200)))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_it_is_blank_where_it_says_little() -> None:
    generator = np.random.default_rng(4)
    assert debiased_calibration_error(made_up(generator, 99)) is None
    enough = made_up(generator, 100)
    assert debiased_calibration_error(enough) is not None
    assert debiased_calibration_error(Evaluation(enough.probabilities)) is None
    few_prompts = Evaluation(enough.probabilities, enough.example // 5, enough.example // 5)
    assert debiased_calibration_error(few_prompts) is None
    assert debiased_calibration_error(Evaluation(reported_accuracy=0.5)) is None
    with pytest.raises(BadInput, match="bins is 0"):
        debiased_calibration_error(enough, bins=0)


def test_certainty_that_is_right_has_no_error_and_certainty_that_is_wrong_has_all() -> None:
    number = np.arange(120)
    right = debiased_calibration_error(Evaluation(np.ones(120), number, number))
    wrong = debiased_calibration_error(Evaluation(np.zeros(120), number, number))
    reach = 1 - 0.025 ** (1 / 120)
    assert (right.value, right.low, right.high) == pytest.approx((0, 0, reach))
    assert (wrong.value, wrong.low, wrong.high) == pytest.approx((1, 1 - reach, 1))


def test_a_row_has_it_beside_the_raw_one() -> None:
    evaluation = made_up(np.random.default_rng(5), 200, off=0.1)
    found, expected = figures_of(figure_inputs(evaluation)), debiased_calibration_error(evaluation)
    names = [f"rms_calibration_error_debiased{end}" for end in ("", "_low", "_high")]
    assert [found[name] for name in names] == [expected.value, expected.low, expected.high]
    assert found["rms_calibration_error"] == rms_calibration_error(evaluation.probabilities)
