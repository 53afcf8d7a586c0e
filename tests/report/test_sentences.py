"""What is said of made-up studies is what a careful author would say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from made_up_study import make_row

from repeng.distributions.schema import Shift
from repeng.metrics import Evaluation
from repeng.report.predictions import Key
from repeng.report.sentences import summary_sentences
from repeng.results import ResultRow, row_from, with_verdicts

EXTREME = [(f"s{number}", f"t{number}", "extreme") for number in range(4)]
PROBING = [(f"s{number}", f"c{number}", "probing") for number in range(4)]


def answers(accuracy: float | Sequence[float], *, prompts: int = 150, seed: int = 0, null: bool = True) -> Evaluation:
    """Wins with so high a share of the prompts: of one fit, or of several that differ."""
    fits = np.atleast_1d(accuracy)
    # The same prompts are hard for every method.
    difficulty = np.random.default_rng(seed).permutation(prompts) / prompts
    probabilities = np.where(difficulty[None] < fits[:, None], 0.8, 0.2)
    null_accuracies = 0.5 + 0.04 * np.tile([-1.0, 1.0], 10) if null else None
    return Evaluation.of_fits(probabilities, group=np.arange(prompts), shuffled=null_accuracies)


def study(
    methods: dict[str, Sequence[float | Sequence[float]]],
    shifts: Sequence[tuple[str, str, str]] = EXTREME,
    **settings: object,
) -> tuple[list[ResultRow], dict[Key, Evaluation]]:
    """Rows and evaluations of methods whose accuracies on each shift are given."""
    rows, known = [], {}
    for method, accuracies in methods.items():
        for place, (accuracy, (source, target, label)) in enumerate(zip(accuracies, shifts, strict=True)):
            one = answers(accuracy, seed=place, **settings)  # type: ignore[arg-type]
            known["tiny", method, source, target] = one
            shift = Shift(source, target, target, label, "")
            rows.append(row_from(one, model="tiny", method=method, layers="", shift=shift))
    return with_verdicts(rows), known


CASES: list[tuple[str, tuple[list[ResultRow], dict[Key, Evaluation]], str]] = [
    (
        "one method that is far above the others",
        study({"mms": [0.95] * 4, "lat": [0.7] * 4, "ccs": [0.6] * 4}),
        "On the 4 extreme shifts mms has the highest mean accuracy, 0.95 (0.93 to 0.97), by paired tests against each "
        "of 2 others (0.60 to 0.70); mms is above chance on all of them.",
    ),
    (
        "three methods that no test tells apart",
        study({"mms": [0.90] * 4, "lat": [0.905] * 4, "ccs": [0.895] * 4}),
        "On the 4 extreme shifts paired tests do not tell 3 methods apart, whose mean accuracies go from 0.90 to 0.91; "
        "lat is above chance on all of them.",
    ),
    (
        "two that lead together, one behind",
        study({"mms": [0.90] * 4, "lat": [0.905] * 4, "ccs": [0.6] * 4}),
        "On the 4 extreme shifts lat and mms lead together with mean accuracies of 0.90 to 0.91, which paired tests do "
        "not tell apart; 1 other is lower (from 0.60); lat is above chance on all of them.",
    ),
    (
        "a mean of shifts that lie on both sides of chance",
        study({"mms": [0.0, 0.95, 0.05, 0.9]}, PROBING),
        "On the 4 probing shifts mms has a mean accuracy of 0.48 (0.46 to 0.49); it is above chance on 2 and below on "
        "2 (0.00 to 0.95), which no mean describes. Of 4 results 2 are below chance: something else was learned there.",
    ),
    (
        "nothing told from the null",
        study({"mms": [0.52, 0.48, 0.5, 0.53]}),
        "On the 4 extreme shifts mms has a mean accuracy of 0.51 (0.47 to 0.55); none of its 4 results is told from "
        "its null or from chance.",
    ),
    (
        "fits that disagree",
        study({"cra": [(0.95, 0.0, 0.95, 0.0, 0.95)]}, PROBING[:1]),
        "On the one probing shift cra has an accuracy of 0.57 (0.03 to 0.99); it is no better than its null. Fits with "
        "other seeds disagree by more than prompts explain in 1 of 1 results (most: cra from s0 to c0, 0.00 to 0.95).",
    ),
    (
        "four pairs, all right",
        study({"mms": [1.0], "lat": [0.75]}, EXTREME[:1], prompts=4),
        "On the one extreme shift paired tests do not tell 2 methods apart, whose mean accuracies go from 0.75 to "
        "1.00; mms is no better than its null; 4 test prompts a shift are too few to tell methods apart.",
    ),
]


@pytest.mark.parametrize(("made", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_sentence_is_a_careful_authors(made: tuple[list[ResultRow], dict[Key, Evaluation]], expected: str) -> None:
    assert summary_sentences(*made) == expected


def test_each_label_has_a_sentence_and_zero_shot_stands_beside() -> None:
    rows, known = study({"mms": [0.95] * 4 + [0.1] * 4}, [*EXTREME, *PROBING])
    said = summary_sentences([replace(row, baseline_accuracy=0.6) for row in rows], known)
    assert said.startswith("On the 4 extreme shifts mms has a mean accuracy of 0.95")
    assert "; zero-shot has 0.60. On the 4 probing shifts mms has a mean accuracy of 0.10" in said
    assert "it is below chance on all of them; zero-shot has 0.60. Of 8 results 4 are below chance" in said


def test_zero_shot_in_chat_form_is_called_so_and_does_not_stand_beside_itself() -> None:
    mms, zero_shot = "mms(stimulus='chat')", "zero-shot(stimulus='chat')"
    rows, known = study({mms: [0.95] * 4, zero_shot: [0.6] * 4})
    kinds = {mms: "probe", zero_shot: "prompted"}
    rows = [replace(row, baseline_accuracy=0.6, kind=kinds[row.method]) for row in rows]
    assert f"; {zero_shot} has 0.60" in summary_sentences(rows, known)
    assert "has 0.60" not in summary_sentences([row for row in rows if row.method == zero_shot], known)


def test_without_evaluations_nothing_is_called_higher() -> None:
    rows, _ = study({"mms": [0.95] * 4, "lat": [0.6] * 4})
    said = summary_sentences(rows)
    assert "mean accuracies of 2 methods go from 0.60 to 0.95 (mms), untested" in said


def test_what_has_no_prompts_to_test_over_is_called_untested() -> None:
    rows, known = study({"mms": [0.95] * 4, "lat": [0.6] * 4})
    without = {key: Evaluation(one.probabilities) for key, one in known.items()}
    assert "go from 0.60 to 0.95 (mms), untested" in summary_sentences(rows, without)


def test_no_sentence_says_best_or_generalises() -> None:
    for _, made, expected in CASES:
        assert not {"best", "generalises", "winner", "at chance"} & set(expected.replace(",", " ").split())
        assert "best" not in summary_sentences(*made)


def test_a_method_competes_by_its_kind_and_not_by_its_name() -> None:
    mms = make_row(accuracy=0.6)
    plugin = make_row(method="zero-shot-calibrated", accuracy=0.7, kind="plugin")
    asked = make_row(method="asked-kindly", accuracy=0.9, kind="prompted")
    assert "accuracies of 2 methods go from 0.60 to 0.70 (zero-shot-calibrated)" in summary_sentences(
        [mms, plugin, asked]
    )
    assert "mms has an accuracy of 0.60" in summary_sentences([mms, asked])
    assert "zero-shot has an accuracy of 0.80" in summary_sentences([make_row(method="zero-shot", accuracy=0.8)])


def test_what_was_not_measured_has_its_own_sentence() -> None:
    assert summary_sentences([make_row(accuracy=None)]) == summary_sentences([]) == "No accuracy was measured."
    assert "no interval can be had, so nothing is told from chance" in summary_sentences([make_row(accuracy=0.3)])
