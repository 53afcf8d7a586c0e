"""`repeng compare --question elicited` on studies whose directions and mistakes are planted."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_store import LAYERS, PAIRS, WIDTH, write_store
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from repeng.distributions.schema import Shift
from repeng.errors import BadInput, StoreError
from repeng.metrics import Evaluation
from repeng.report.answer import Answer
from repeng.report.questions import answer_question
from repeng.report.shared_failures import kappas
from repeng.results import evaluation_path, row_from, write_evaluation, write_results
from repeng.study.finished_study import FinishedStudy

SOURCES = ("one", "two", "three", "four")
TRUTH = "mms(stimulus='truthfulness')"
FITS, TESTED = 3, 200


def activations(seed: int, axis: int, *, shared: float = 0.0, signal: float = 3.0) -> Tensor:
    """Pairs that differ along an axis at every layer; and, of a stimulus as of any other, by a lot along the last one.

    What they differ by along the last axis is the same for seeds of one ten, and has nothing to do with labels.
    """
    values = torch.randn(LAYERS, 2 * PAIRS, WIDTH, generator=torch.Generator().manual_seed(seed))
    values[:, 0::2, axis] += signal
    values[:, 0::2, -1] += shared * torch.randn(PAIRS, generator=torch.Generator().manual_seed(99 + seed // 10))
    return values


def evaluation(seed: int, base: np.ndarray, *, noise: float) -> Evaluation:
    """Fits that are right about what `base` is right about, but for a share of the pairs, drawn anew by each."""
    rng = np.random.default_rng(seed)
    right = np.where(rng.random((FITS, len(base))) < noise, rng.random((FITS, len(base))) < 0.5, base)
    return Evaluation.of_fits(
        np.where(right, 0.8, 0.3), group=np.arange(len(base)) // 2, example=np.arange(len(base)) // 2
    )


def write_planted(folder: Path, axis: int, *, shared: float = 0.0, alike: bool = True, capture: str = "") -> Path:
    """A study of mms under two stimuli, whose truth lies along an axis; plainly the signal lies along axis 0.

    Args:
        folder: for `store` and `results`.
        axis: of the signal under the truthfulness stimulus.
        shared: as in `activations`.
        alike: whether both are wrong on the same pairs, or on others.
        capture: of the evaluations, where that is not the store's.
    """
    parts = {}
    for number, source in enumerate(SOURCES):
        for place, (stimulus, own) in enumerate((("plain", 0), ("truthfulness", axis))):
            parts[source, "train", stimulus, "resid_post"] = activations(10 * number + place, own, shared=shared)
    write_store(folder / "store", parts)
    results = folder / "results"
    rows = []
    for number, source in enumerate(SOURCES):
        base = np.random.default_rng(number).random(TESTED) < 0.7
        other = base if alike else np.random.default_rng(50 + number).random(TESTED) < 0.7
        shift = Shift(source, "target")
        for method, right, seed in (("mms", base, number), (TRUTH, other, 70 + number)):
            made = evaluation(seed, right, noise=0.2)
            names = {"model": "toy", "method": method, "source": source, "target": "target", "kind": "probe"}
            known = {"capture": capture or "toy-000000000000", "source_data_hash": "0123456789ab"}
            path = evaluation_path(results / "predictions", method, "toy", source, "target")
            write_evaluation(path, made, {**names, **known, "target_data_hash": "aaaa"})
            rows.append(row_from(made, model="toy", method=method, layers="2", shift=shift, kind="probe"))
    write_results(rows, results / "results.csv")
    settings = (
        f'model = "toy"\nout = "{results}"\nstore = "{folder / "store"}"\nmethods = ["mms", "{TRUTH}"]\nfits = {FITS}\n'
    )
    (results / "study.toml").write_text(settings)
    return results


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("same"), 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("other"), 1, alike=False)


def rows_of(answer: Answer, table: str) -> Sequence[dict]:
    return next(one.rows for one in answer.tables if one.name == table)  # type: ignore[return-value]


def test_one_direction_under_both_stimuli_stands_out_from_shuffled_labels(same: Path) -> None:
    answer = answer_question("elicited", [same])
    for row in rows_of(answer, "directions"):
        assert row["cosine"] > 0.85 and row["against_shuffled"] == "higher"
        assert row["shuffled_high"] < row["cosine"]
    (mean,) = rows_of(answer, "means")
    assert (mean["sources"], mean["higher"], mean["lower"]) == (4, 4, 0)
    assert "over 4 sources they share more than shuffled labels explain" in answer.sentences[1]
    assert "higher on 4, lower on 0, and cannot be told on 0" in answer.sentences[1]


def test_two_directions_at_a_right_angle_do_not_stand_out(other: Path) -> None:
    answer = answer_question("elicited", [other])
    for row in rows_of(answer, "directions"):
        assert abs(row["cosine"]) < 0.4 and row["against_shuffled"] == "cannot be told"
        assert row["fits_alike"] > 0.85 and row["other_fits_alike"] > 0.85


def test_what_labels_have_nothing_to_do_with_makes_a_cosine_that_shuffled_ones_make_too(tmp_path: Path) -> None:
    answer = answer_question("elicited", [write_planted(tmp_path, 1, shared=100.0)])
    rows = rows_of(answer, "directions")
    # Apart from the signals, which are at a right angle, pairs differ along one axis under both stimuli.
    assert max(abs(row["cosine"]) for row in rows) > 0.5
    assert all(row["shuffled"] > 0.5 and row["p_holm"] > 0.05 for row in rows)
    assert {row["against_shuffled"] for row in rows} == {"cannot be told"}


def test_mistakes_on_the_same_pairs_agree_as_much_as_those_of_two_fits(same: Path) -> None:
    answer = answer_question("elicited", [same])
    (row,) = rows_of(answer, "failures")
    assert row["kappa_low"] > 0.4 and row["kappa_high"] > min(row["fits_kappa_low"], row["other_fits_kappa_low"])
    assert "fail on the same pairs oftener than by chance; whether less often" in answer.sentences[2]


def test_mistakes_on_other_pairs_agree_by_chance_alone(other: Path) -> None:
    answer = answer_question("elicited", [other])
    (row,) = rows_of(answer, "failures")
    assert row["kappa_low"] < 0 < row["kappa_high"] < row["fits_kappa_low"]
    assert "whether the two fail on the same pairs cannot be told" in answer.sentences[2]
    by_shift = rows_of(answer, "shifts")
    assert row["within_shifts"] == pytest.approx(np.mean([one["kappa"] for one in by_shift]))


def test_kappa_is_that_of_every_two_fits_of_different_seeds() -> None:
    base = np.random.default_rng(0).random(TESTED) < 0.6
    a, b = evaluation(1, base, noise=0.3), evaluation(2, base, noise=0.5)
    found = kappas([("source", "target", a, b)])

    def slow(one: Evaluation, two: Evaluation) -> float:
        chosen = [(j, k) for j in range(FITS) for k in range(FITS) if j != k]
        stacked = [
            np.concatenate([each.fit_wins[pair[side]] for pair in chosen]) for side, each in enumerate((one, two))
        ]
        return float(cohen_kappa_score(*stacked))

    assert found["kappa"] == pytest.approx(slow(a, b))
    assert found["fits_kappa"] == pytest.approx(slow(a, a))
    assert found["other_fits_kappa"] == pytest.approx(slow(b, b))
    assert found["kappa_low"] < found["kappa"] < found["kappa_high"]


def test_the_kappa_that_is_possible_is_reached_where_one_fails_wherever_the_other_does() -> None:
    first, second = np.arange(TESTED) < 160, np.arange(TESTED) < 120
    a, b = (Evaluation(np.where(right, 0.9, 0.1), group=np.arange(TESTED)) for right in (first, second))
    found = kappas([("source", "target", a, b)])
    assert found["kappa"] == pytest.approx(found["kappa_possible"])
    assert found["kappa_possible"] == pytest.approx(cohen_kappa_score(first, second))
    assert found["fits_kappa"] is None


def test_the_page_the_tables_and_a_picture_are_written(same: Path, tmp_path: Path) -> None:
    answer_question("elicited", [same], tmp_path)
    page = (tmp_path / "elicited.html").read_text()
    assert "they share more than shuffled labels explain" in page
    assert (tmp_path / "elicited-mms-plain-truthfulness.png").stat().st_size > 10_000
    with (tmp_path / "elicited-layers.csv").open() as file:
        layers = list(csv.DictReader(file))
    assert len(layers) == len(SOURCES) * LAYERS
    held = json.loads((tmp_path / "elicited.json").read_text())
    assert set(held["tables"]) == {"means", "failures", "directions", "layers", "shifts"}


def test_another_answer_about_the_same_study_is_the_same(same: Path) -> None:
    assert answer_question("elicited", [same]).as_dict() == answer_question("elicited", [same]).as_dict()


def test_two_studies_are_told_apart(same: Path, other: Path) -> None:
    answer = answer_question("elicited", [same, other])
    assert [row["higher"] for row in rows_of(answer, "means")] == [4, 0]
    assert len({row["study"] for row in rows_of(answer, "means")}) == len({one.id for one in answer.pictures}) == 2


def test_a_folder_without_a_study_is_refused(same: Path, tmp_path: Path) -> None:
    shutil.copytree(same, tmp_path / "results")
    (tmp_path / "results" / "study.toml").unlink()
    with pytest.raises(BadInput, match=r"no study\.toml, which names the store .* results folder of a `repeng run`"):
        answer_question("elicited", [tmp_path / "results"])


def test_a_study_of_one_stimulus_is_told_what_adds_the_other(same: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(same, results)
    shutil.rmtree(results / "predictions" / TRUTH)
    lines = (results / "results.csv").read_text().splitlines(keepends=True)
    (results / "results.csv").write_text("".join(line for line in lines if "truthfulness" not in line))
    with pytest.raises(BadInput) as error:
        answer_question("elicited", [results])
    assert "no probe is there under two stimuli" in str(error.value)
    assert str(error.value).endswith(f'repeng run {results}/study.toml --methods "{TRUTH}" --out {results}')


def test_a_command_that_is_shown_can_be_pasted_into_a_shell(same: Path, tmp_path: Path) -> None:
    results = tmp_path / "my results; $HOME"
    shutil.copytree(same, results)
    methods = ("mms", TRUTH, "logistic(C=0.1)", "a$b.py:Mine(word='\"')")
    words = shlex.split(FinishedStudy(results).command(*methods))
    assert words == [
        *("repeng", "run", f"{results}/study.toml"),
        *("--methods", ",".join(methods), "--out", str(results)),
    ]


def test_a_model_that_was_a_folder_where_the_study_ran_is_found_from_any_folder(same: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(same, results)
    settings = (results / "study.toml").read_text()
    (results / "study.toml").write_text(settings.replace('model = "toy"', 'model = "models/toy"'))
    assert [row["higher"] for row in rows_of(answer_question("elicited", [results]), "means")] == [4]


def test_where_no_evaluation_says_what_it_was_fitted_on_that_is_said(same: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(same, results)
    for path in (results / "predictions" / TRUTH).glob("*/*.json"):
        path.write_text(path.read_text().replace('"capture"', '"captured"'))
    answer = answer_question("elicited", [results])
    said = "nothing can be said (no source has evaluations of both that say what they were fitted on)"
    assert any(said in sentence for sentence in answer.sentences)


def test_a_store_that_lacks_a_stimulus_is_told_what_captures_it(tmp_path: Path) -> None:
    results = write_planted(tmp_path, 0)
    shutil.rmtree(
        tmp_path / "store" / "toy-000000000000" / "one" / "train.0123456789ab" / "truthfulness.resid_post.last"
    )
    with pytest.raises(StoreError) as error:
        answer_question("elicited", [results])
    assert "does not hold truthfulness at resid_post (last) of one/train" in str(error.value)
    assert str(error.value).endswith(f"repeng run {results}/study.toml")


def test_a_store_that_is_gone_is_missed_by_name(tmp_path: Path) -> None:
    results = write_planted(tmp_path, 0)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreError, match=r"store does not hold one/train \(0123456789ab\) of toy-000000000000"):
        answer_question("elicited", [results])
