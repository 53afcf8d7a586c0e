"""P-values of a cell against its own null."""

from __future__ import annotations

import math

import numpy as np
import pytest

from repeng.metrics import Evaluation, cell_p, chance_p, figure_inputs, figures_of, null_p


def evaluation(accuracy: float, shuffled: list[float] | None, random: list[float] | None = None) -> Evaluation:
    number = np.arange(200)
    wins = np.where(number < round(200 * accuracy), 0.9, 0.1)
    return Evaluation(
        wins,
        number,
        number,
        shuffled=None if shuffled is None else np.array(shuffled),
        random=None if random is None else np.array(random),
    )


def test_the_null_p_is_students_t_about_a_half() -> None:
    from scipy.stats import t

    shuffled = [0.4, 0.62, 0.55, 0.35, 0.48]
    spread = math.sqrt(sum((one - 0.5) ** 2 for one in shuffled) / 5)
    assert null_p(evaluation(0.8, shuffled)) == pytest.approx(2 * t.sf(0.3 / spread, 5))
    assert null_p(evaluation(0.2, shuffled)) == pytest.approx(null_p(evaluation(0.8, shuffled)))
    assert null_p(evaluation(0.8, None)) is None
    assert null_p(evaluation(0.8, [0.5] * 4)) == 0 and null_p(evaluation(0.5, [0.5] * 4)) == 1


def test_a_cell_must_beat_both_a_half_and_its_null() -> None:
    wide, narrow = [0.05, 0.95, 0.9, 0.1, 0.5], [0.49, 0.51, 0.5, 0.52, 0.48]
    assert cell_p(evaluation(0.95, wide)) == null_p(evaluation(0.95, wide)) > 0.1
    assert chance_p(evaluation(0.95, wide)) < 1e-10
    assert cell_p(evaluation(0.55, narrow)) == chance_p(evaluation(0.55, narrow)) > 0.05
    assert cell_p(evaluation(0.8, None)) == chance_p(evaluation(0.8, None))
    assert cell_p(Evaluation(reported_accuracy=0.9)) is None


def test_a_row_holds_the_null_the_random_directions_and_the_fits() -> None:
    found = figures_of(figure_inputs(evaluation(0.8, [0.4, 0.6, 0.55], [0.5, 0.7])))
    assert found["null_sd"] == pytest.approx(math.sqrt((0.01 + 0.01 + 0.0025) / 3))
    assert found["selectivity"] == pytest.approx(0.8 - 1.55 / 3)
    assert (found["random_mean"], found["random_sd"]) == pytest.approx((0.6, np.std([0.5, 0.7], ddof=1)))
    assert found["p"] == pytest.approx(cell_p(evaluation(0.8, [0.4, 0.6, 0.55])))
    assert found["fit_sd"] is found["fit_lowest"] is found["fit_highest"] is None
    several = Evaluation.of_fits(np.array([[0.9, 0.9, 0.9, 0.1], [0.9, 0.1, 0.1, 0.1]]), group=np.arange(4))
    found = figures_of(figure_inputs(several))
    assert (found["accuracy"], found["fit_lowest"], found["fit_highest"]) == (0.5, 0.25, 0.75)
    assert found["fit_sd"] == pytest.approx(math.sqrt(0.125))
    assert found["brier"] == pytest.approx(np.mean((1 - several.fit_probabilities) ** 2))
    assert found["null_sd"] is found["selectivity"] is found["random_mean"] is None
