"""What rings, and what is said of a text at its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from watched_samples import World

from repeng.errors import BadInput
from repeng.probes.calibration import TextCalibration
from repeng.probes.fitted import FittedProbe
from repeng.watching.token_score import TokenScore, alarm_of, summary_of


@pytest.fixture(scope="module")
def fitted(exact: World) -> FittedProbe:
    return replace(exact.probe("mms"), texts=TextCalibration(2.0, -1.0, threshold_at_1=3.0, threshold_at_5=2.5))


@pytest.mark.parametrize(
    ("asked", "level", "below"),
    [
        (None, 3.0, False),
        ("1%", 3.0, False),
        ("5%", 2.5, False),
        ("score=-0.25", -0.25, False),
        ("below-score=1e-1", 0.1, True),
        ("p=0.5", 0.5, False),
        ("below-p=0.5", 0.5, True),
    ],
)
def test_each_form_means_a_score(fitted: FittedProbe, asked: str | None, level: float, below: bool) -> None:
    alarm = alarm_of(fitted, asked)
    assert (alarm.level, alarm.below) == (pytest.approx(level), below)
    assert alarm.rings(level - 0.01) == below and alarm.rings(level + 0.01) != below
    assert not alarm.rings(None)


def test_a_probability_is_that_of_the_sources_calibration(fitted: FittedProbe) -> None:
    level = alarm_of(fitted, "p=0.9").level
    assert fitted.texts is not None
    assert float(fitted.texts(np.array([level]))[0]) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("0.5", "is it a probability or a score"),
        ("2%", "write 1%, 5%"),
        ("p=2", "between 0 and 1"),
        ("score=x", "'x' is no number"),
        ("score=nan", "no number"),
        ("", "write 1%"),
    ],
)
def test_what_means_nothing_is_asked_about(fitted: FittedProbe, asked: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        alarm_of(fitted, asked)


def test_a_probe_without_thresholds_rings_at_a_score_alone(exact: World) -> None:
    preset = exact.probe("mms-genies(k=2)")
    assert preset.texts is None
    assert alarm_of(preset, None).level is None and "has no threshold" in alarm_of(preset, None).sentence
    assert alarm_of(preset, "score=2").level == 2.0
    for asked in ("1%", "p=0.5"):
        with pytest.raises(BadInput, match="give a score"):
            alarm_of(preset, asked)


def token(position: int, score: float | None, part: str = "response", alarm: bool = False) -> TokenScore:
    return TokenScore(position, "", score, None, alarm, position, part)  # type: ignore[arg-type]


def test_a_summary_is_of_the_responses_scores_but_for_a_texts_first_token(fitted: FittedProbe) -> None:
    tokens = [token(0, 500.0), token(1, 1.0), token(2, 4.0, alarm=True), token(3, 2.0), token(4, 9.0, "after")]
    found = summary_of(tokens, 3, alarm_of(fitted, None))
    assert (found.mean, found.max, found.alarms, found.first_alarm) == (pytest.approx(7 / 3), 4.0, 1, 2)
    assert (found.score, found.alarm) == (2.0, False)
    alone = summary_of([token(0, 500.0)], 0, alarm_of(fitted, None))
    assert (alone.mean, alone.max, alone.score, alone.alarm) == (500.0, 500.0, 500.0, True)
    nothing = summary_of([token(0, 1.0, "prompt")], None, alarm_of(fitted, None))
    assert (nothing.tokens, nothing.mean, nothing.max, nothing.score) == (0, None, None, None)
