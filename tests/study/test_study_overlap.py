"""What of a target stands in a source's train split: the figures without it, beside the others or in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from small_world import SHIFTS, silent, with_split, world, write_world

from repeng.distributions.overlap import Match, find_overlaps
from repeng.distributions.schema import Example, Split
from repeng.errors import BadInput
from repeng.metrics import Evaluation
from repeng.report.current import is_current
from repeng.report.html import write_report
from repeng.report.predictions import read_predictions
from repeng.results import ResultRow, read_evaluation, read_results
from repeng.study.cautions import read_cautions
from repeng.study.evaluations import MethodEvaluation, StudyEvaluations
from repeng.study.overlap import StoredOverlaps, n_overlap, read_overlaps, with_overlap, without, write_overlaps
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

LEAKED = range(8)
"""Examples of hard's test split that stand in easy's train split: the first half to the letter."""


def planted(folder: Path, leaked: range = LEAKED) -> Path:
    made = world(32)
    known = [example.prompt for example in made["easy"].train.examples]
    numbers = iter(range(32))

    def leak(example: object) -> object:
        number = next(numbers)
        if number not in leaked:
            return example
        prompt = known[number] if number < 4 else f"### instruction: {known[number].split(':')[1].upper()}"
        return replace(example, prompt=prompt)  # type: ignore[type-var]

    return write_world(folder, with_split(made, "hard", "test", leak))  # type: ignore[arg-type]


def run(study: Study) -> StudyOutcome:
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


def rows_of(outcome: StudyOutcome) -> dict[tuple[str, str, str], ResultRow]:
    return {(row.method, row.source, row.target): row for row in read_results(outcome.out / "results.csv")}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, study_of: Callable[..., Study]) -> list[StudyOutcome]:
    """The planted study, and the same without what overlaps."""
    place = tmp_path_factory.mktemp("planted")
    study = study_of(planted(place), place, methods=("mms", "zero-shot", "length"))
    return [run(study), run(replace(study, out=str(place / "dropped"), drop_overlap=True))]


def test_the_figures_after_removal_stand_beside_those_of_all_pairs(studies: list[StudyOutcome]) -> None:
    outcome, _ = studies
    row = rows_of(outcome)["mms", "easy", "hard"]
    evaluation = read_evaluation(next(outcome.out.glob("predictions/mms/*-easy/hard.json")))
    assert evaluation.example is not None
    left = ~np.isin(evaluation.example, list(LEAKED))
    assert row.n_pairs == len(left) and row.n_overlap == np.sum(~left)
    assert row.accuracy == evaluation.accuracy
    assert row.accuracy_without_overlap == pytest.approx(np.mean(evaluation.wins[left]))
    # Whoever is not fitted cannot remember them, and yet is shown on the same pairs.
    assert rows_of(outcome)["zero-shot", "easy", "hard"].n_overlap == row.n_overlap
    clean = rows_of(outcome)["mms", "easy", "polite"]
    assert (clean.n_overlap, clean.accuracy_without_overlap) == (None, None)
    kinds = {caution.kind: caution.text for caution in read_cautions(outcome.out)}
    assert kinds["shared_prompts"].startswith("4 of 32 in easy's train split")
    assert kinds["near_prompts"].startswith("4 of 32 in easy's train split")


def test_dropped_they_are_in_no_figure_and_the_evaluations_keep_all_pairs(studies: list[StudyOutcome]) -> None:
    kept, dropped = studies
    whole, rest = rows_of(kept)["mms", "easy", "hard"], rows_of(dropped)["mms", "easy", "hard"]
    assert whole.n_pairs is not None and whole.n_overlap is not None and whole.n_overlap > 0
    assert rest.n_pairs == whole.n_pairs - whole.n_overlap and rest.n_overlap == whole.n_overlap
    assert rest.accuracy == rest.accuracy_without_overlap == whole.accuracy_without_overlap
    base = rows_of(dropped)["zero-shot", "easy", "hard"]
    assert rest.baseline_accuracy == base.accuracy and base.n_pairs == rest.n_pairs
    for row in (rows_of(dropped)[key] for key in rows_of(kept) if key[2] != "hard"):
        whole_study = {"p_corrected": row.p_corrected, "verdict": row.verdict}
        assert row == replace(rows_of(kept)[row.method, row.source, row.target], **whole_study)
    files = [sorted(one.out.glob("predictions/*/*/*.json")) for one in studies]
    for one, other in zip(*files, strict=True):
        assert read_evaluation(one).n_pairs == read_evaluation(other).n_pairs
    predictions = read_predictions(dropped.out)
    model = rest.model
    assert predictions[model, "mms", "easy", "hard"].evaluation.accuracy == rest.accuracy
    assert read_predictions(kept.out)[model, "mms", "easy", "hard"].evaluation.accuracy == whole.accuracy


def test_the_report_shows_both_and_contradicts_nothing(
    studies: list[StudyOutcome], caplog: pytest.LogCaptureFixture
) -> None:
    for outcome in studies:
        row = rows_of(outcome)["mms", "easy", "hard"]
        page = write_report(outcome.out, distributions=outcome.plan.world.distributions)
        text = page.read_text()
        assert '<h2 id="overlap">' in text and "Contradictions" not in text and not caplog.records
        assert f"<td>{row.n_overlap} of " in text and f"<td>{row.accuracy_without_overlap:.3f}" in text
        assert ("leaves them out" in text) != ("are left out" in text) == outcome.plan.study.drop_overlap
        assert is_current(page, outcome.out)
        held = outcome.out / "overlap.json"
        before = held.read_text()
        held.write_text(before.replace('"exact"', '"near"'))
        assert not is_current(page, outcome.out)
        held.write_text(before)


def test_a_folder_holds_figures_with_them_or_without_them_and_never_both(studies: list[StudyOutcome]) -> None:
    kept, dropped = (outcome.plan.study for outcome in studies)
    with pytest.raises(BadInput, match="drop_overlap is False there and True here"):
        plan_study(replace(dropped, out=kept.out))
    assert replace(kept, out="", drop_overlap=True).out == f"{replace(kept, out='').out}-without-overlap"
    assert run(dropped).evaluations_made == 0


def test_what_overlaps_is_read_as_it_was_written_and_a_damaged_file_is_named(
    studies: list[StudyOutcome], tmp_path: Path
) -> None:
    kept, dropped = (read_overlaps(outcome.out) for outcome in studies)
    (found,) = studies[0].plan.overlaps
    assert [(one.source, one.target, one.matches) for one in kept.overlaps] == [("easy", "hard", found.matches)]
    assert kept.overlaps[0].target_data_hash == found.test.data_hash
    assert kept.left_out() == {} and dropped.left_out() == {("easy", "hard"): frozenset(LEAKED)}
    assert read_overlaps(tmp_path) == StoredOverlaps()
    wrong = {**asdict(Match("exact", 0, 0, 1.0, True)), "kind": "a little"}
    for damaged in (
        "{",
        json.dumps({"overlaps": [{"source": "a", "target": "b", "target_data_hash": "", "matches": [wrong]}]}),
    ):
        (tmp_path / "overlap.json").write_text(damaged)
        with pytest.raises(BadInput, match=r"overlap\.json: not a study's overlaps .*run the study again"):
            read_overlaps(tmp_path)


def test_where_nothing_is_left_there_is_no_figure_and_a_caution_says_so(
    tmp_path: Path, study_of: Callable[..., Study]
) -> None:
    study = study_of(planted(tmp_path, range(32)), tmp_path, methods=("length",), drop_overlap=True)
    outcome = run(study)
    row = rows_of(outcome)["length", "easy", "hard"]
    assert (row.accuracy, row.n_pairs, row.n_overlap) == (None, None, None)
    (caution,) = (caution for caution in read_cautions(outcome.out) if caution.kind == "nothing_left")
    assert (caution.where, caution.text) == ("easy -> hard", "length, zero-shot")
    assert ("length", "easy", "hard") not in {key[1:] for key in read_predictions(outcome.out)}
    assert not outcome.failures and write_report(outcome.out).is_file()
    # Kept, they are scored, and only what is beside is blank.
    kept = rows_of(run(replace(study, out=str(tmp_path / "kept"), drop_overlap=False)))["length", "easy", "hard"]
    assert kept.n_overlap == kept.n_pairs and kept.accuracy is not None and kept.accuracy_without_overlap is None


def test_an_evaluation_that_does_not_know_its_examples_is_not_guessed_at(studies: list[StudyOutcome]) -> None:
    overlaps = studies[0].plan.overlaps
    bare = MethodEvaluation(Evaluation(reported_accuracy=0.7), "", None)
    others = MethodEvaluation(Evaluation(np.full(3, 0.8), np.array([8, 9, 9])), "", None)
    answers = StudyEvaluations({("bare", "easy", "hard"): bare, ("others", "easy", "hard"): others})
    assert n_overlap(bare.evaluation, {0}) is None and without(bare.evaluation, {0}) is None
    assert without(others.evaluation, {0}) is others.evaluation
    kept, none = with_overlap(answers, overlaps, drop=False)
    assert kept.found == answers.found and none == []
    left, (caution,) = with_overlap(answers, overlaps, drop=True)
    assert list(left.found) == [("others", "easy", "hard")] and left.found["others", "easy", "hard"] is others
    assert (caution.kind, caution.text) == ("nothing_left", "bare")
    assert SHIFTS[0].target == "hard"


def test_named_groups_of_the_train_split_are_left_out_as_whole_groups(tmp_path: Path) -> None:
    def split(name: str, *groups: str) -> Split:
        texts = (f"{name} {number}" for number in range(len(groups)))
        return Split(
            "d", name, tuple(Example("", (text,), (0,), group=own) for text, own in zip(texts, groups, strict=True))
        )

    overlaps = find_overlaps([(split("train", "a", "b"), split("test", "c", "b", "d", "b"))])
    write_overlaps(overlaps, tmp_path, dropped=True)
    stored = read_overlaps(tmp_path)
    assert [match.test for match in stored.overlaps[0].matches] == [1, 3]
    assert stored.left_out() == {("d", "d"): frozenset({1})}
    evaluation = Evaluation(np.full(3, 0.8), np.arange(3))
    rest = without(evaluation, stored.left_out()["d", "d"])
    assert rest is not None and rest.example is not None and rest.example.tolist() == [0, 2]
