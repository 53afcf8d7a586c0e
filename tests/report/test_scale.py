"""The question about scale: figures against scipy, sizes and presets, and made-up models whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_models import MadeUp, right_on
from made_up_study import write_study
from scipy import stats

from repeng.errors import BadInput
from repeng.metrics import Evaluation
from repeng.models.load import load_model
from repeng.report.answer import Answer
from repeng.report.compared_studies import compared_methods
from repeng.report.questions import answer_question
from repeng.report.scale import scale_answer
from repeng.report.scale_tables import billions_of, family_of, mean_absolute_difference, reliability

SHIFTS = [(f"s{number}", f"t{number}") for number in range(12)]
LARGE = np.linspace(0.2, 0.95, 12)


def answered(*made: MadeUp) -> Answer:
    studies = [one.study for one in made]
    return scale_answer(studies, compared_methods(studies), [Path("made-up")])


def rows_of(answer: Answer, table: str, **wanted: object) -> list[dict[str, Any]]:
    rows = next(one.rows for one in answer.tables if one.name == table)
    return [dict(row) for row in rows if all(row[name] == value for name, value in wanted.items())]


def evaluations(shares: np.ndarray) -> dict[tuple[str, str], Evaluation]:
    return {
        shift: right_on(float(share), seed=number)
        for number, (shift, share) in enumerate(zip(SHIFTS, shares, strict=True))
    }


@pytest.fixture(scope="module")
def made() -> MadeUp:
    """On 30B what LARGE says; 7B follows it, 135M does nothing of the kind, and `mini` is a coin."""
    generator = np.random.default_rng(4)
    made = MadeUp()
    made.add("mms", evaluations(LARGE), model="llama-30b")
    made.add("mms", evaluations(0.5 + 0.6 * (LARGE - 0.5)), model="llama-7b")
    made.add("mms", evaluations(generator.permutation(LARGE)), model="smollm2-135m")
    made.add("mms", evaluations(0.5 + 0.01 * np.arange(12)), model="mini")
    return made


def test_the_figures_are_those_of_scipy(made: MadeUp) -> None:
    row = rows_of(answered(made), "correlations", small="mms · smollm2-135m", large="mms · llama-30b")[0]
    x, y = (
        [made.predictions[model, "mms", *shift].evaluation.accuracy for shift in SHIFTS]
        for model in ("smollm2-135m", "llama-30b")
    )
    pearson = stats.pearsonr(x, y)
    assert row["pearson"] == pytest.approx(pearson.statistic)
    assert (row["pearson_low"], row["pearson_high"]) == pytest.approx(tuple(pearson.confidence_interval(0.95)))
    assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
    off = np.abs(np.array(x) - y)
    ends = stats.t.interval(0.95, 11, off.mean(), stats.sem(off))
    found = [row[f"mean_absolute_difference{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx([off.mean(), *ends])
    assert (row["small_billions"], row["large_billions"], row["shifts"]) == (0.135, 30.0, 12)


def test_the_smallest_model_that_foretells_the_largest_is_named(made: MadeUp) -> None:
    first = MadeUp()
    first.predictions.update({key: one for key, one in made.predictions.items() if key[0] != "mini"})
    said = answered(first).sentences[0]
    assert said.startswith(
        "mms: the smallest model that foretells llama-30b (30B) is of 7B: mms · llama-7b, Pearson 1.00"
    )
    assert "Smaller, with an interval that is not above 0: mms · smollm2-135m" in said
    without = MadeUp()
    without.predictions.update({key: one for key, one in first.predictions.items() if key[0] != "llama-7b"})
    assert (
        "no smaller model's correlation with llama-30b (30B) has an interval above 0" in answered(without).sentences[0]
    )


def test_models_stand_by_size_shift_by_shift(made: MadeUp) -> None:
    rows = rows_of(answered(made), "accuracies")
    assert len(rows) == 12
    columns = [name for name in rows[0] if not name.endswith(("_low", "_high"))]
    assert columns == ["method", "source", "target", "label", "mini", "smollm2-135m", "llama-7b", "llama-30b"]
    for number, row in enumerate(rows):
        own = made.predictions["llama-7b", "mms", *SHIFTS[number]].evaluation
        assert row["llama-7b"] == own.accuracy and row["llama-7b_low"] < own.accuracy < row["llama-7b_high"]


def test_two_draws_of_the_prompts_correlate_as_the_ceiling_says() -> None:
    """True accuracies with a spread of their own, 40 prompts each: their draws' correlation against `reliability`."""
    generator = np.random.default_rng(0)
    truth = generator.uniform(0.4, 0.7, 30)
    drawn = generator.binomial(40, truth, size=(4000, 2, 30)) / 40
    correlations = [np.corrcoef(one, other)[0, 1] for one, other in drawn]
    found = [reliability(one, one * (1 - one) / 39) for one, _ in drawn]
    values = [one.value for one in found if one is not None]
    assert np.mean(values) == pytest.approx(np.mean(correlations), abs=0.03)
    whole = truth.var(ddof=1) / (truth.var(ddof=1) + np.mean(truth * (1 - truth)) / 40)
    held = [one.low <= whole <= one.high for one in found if one is not None and one.low is not None]
    assert np.mean(held) > 0.9


def test_the_ceiling_is_of_the_larger_and_of_both(made: MadeUp) -> None:
    row = rows_of(answered(made), "correlations", small="mms · mini", large="mms · llama-30b")[0]
    accuracy = {
        m: np.array([made.predictions[m, "mms", *s].evaluation.wins for s in SHIFTS]) for m in ("mini", "llama-30b")
    }
    noise = {m: np.mean([w.reshape(60, 2).mean(axis=1).var(ddof=1) / 60 for w in wins]) for m, wins in accuracy.items()}
    share = {m: max(0.0, 1 - noise[m] / wins.mean(axis=1).var(ddof=1)) for m, wins in accuracy.items()}
    assert row["ceiling"] == pytest.approx(share["llama-30b"], abs=0.02)
    assert row["ceiling_of_both"] == pytest.approx(np.sqrt(share["llama-30b"] * share["mini"]), abs=0.15)
    assert row["ceiling_of_both"] < 0.5 < row["ceiling"]
    assert row["ceiling_from"] == "prompts"


def test_a_shift_that_is_listed_twice_counts_once(made: MadeUp) -> None:
    study = made.study
    twice = type(study)(study.name, (*study.rows, *study.rows[:7]), study.predictions)
    rows = [scale_answer([one], compared_methods([one]), []).tables[0].rows for one in (study, twice)]
    assert rows[0] == rows[1]


def test_a_preset_is_a_method_of_its_own_and_stands_next_to_the_published_one_too() -> None:
    ours, published = MadeUp("ours"), MadeUp("published")
    for method in ("mms", "mms-genies"):
        ours.add(method, evaluations(LARGE), model="mini")
    published.add("mms", evaluations(LARGE), model="llama-7b")
    answer = answered(ours, published)
    assert {(row["small"], row["large"]) for row in rows_of(answer, "correlations")} == {
        ("mms · mini", "mms · llama-7b"),
        ("mms-genies · mini", "mms · llama-7b"),
    }
    assert {"mini", "mini (genies)", "llama-7b"} <= set(rows_of(answer, "accuracies")[0])
    published.add("mms-genies", evaluations(LARGE), model="llama-7b")
    assert {(row["small"], row["large"]) for row in rows_of(answered(ours, published), "correlations")} == {
        ("mms · mini", "mms · llama-7b"),
        ("mms-genies · mini", "mms-genies · llama-7b"),
    }


def test_a_model_of_unknown_size_stands_last_and_is_asked_for(made: MadeUp) -> None:
    more = MadeUp()
    more.predictions.update(made.predictions)
    more.add("mms", evaluations(LARGE), model="gpt2")
    answer = answered(more)
    assert list(rows_of(answer, "accuracies")[0])[-3] == "gpt2"
    assert "The size of gpt2 is not known" in answer.sentences[-1] and "NAME-1.5b" in answer.sentences[-1]
    assert "foretells llama-30b (30B)" in answer.sentences[0]


def test_one_model_alone_is_an_error_that_says_what_to_give() -> None:
    made = MadeUp()
    made.add("mms", evaluations(LARGE), model="llama-7b")
    with pytest.raises(BadInput, match=r"made-up: no method on two models \(there is llama-7b\); give results of two"):
        answered(made)


def test_models_without_a_shift_in_common_are_an_error_that_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "ours", {"mms": (0.9, 0.8, 0.5, 0.4)})
    other = tmp_path / "evaluations" / "mms" / "llama-7b-code" / "math.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"eval_accuracy": 0.5}')
    with pytest.raises(BadInput, match="llama-7b and tiny have no shift in common; run a study on shifts that both"):
        answer_question("scale", [tmp_path / "ours", tmp_path / "evaluations"])


def test_what_is_too_little_or_constant_is_blank_with_a_reason() -> None:
    made = MadeUp()
    made.add("mms", evaluations(LARGE), model="llama-7b")
    made.add("mms", {shift: Evaluation(reported_accuracy=0.5) for shift in SHIFTS}, model="llama-13b")
    made.add("mms", {("x", "y"): right_on(0.6)}, model="llama-30b")
    rows = {(row["small"], row["large"]): row for row in rows_of(answered(made), "correlations")}
    constant = rows["mms · llama-7b", "mms · llama-13b"]
    assert (constant["pearson"], constant["blank"]) == (None, "the large one's accuracy is the same on all shifts")
    assert (constant["ceiling"], constant["ceiling_from"]) == (None, "no predictions of pairs")
    assert rows["mms · llama-7b", "mms · llama-30b"]["blank"] == "0 shared shifts"


def test_the_mean_difference_is_never_said_to_be_below_nothing() -> None:
    assert mean_absolute_difference(np.array([]), np.array([])) is None
    found = mean_absolute_difference(np.array([0.5, 0.5]), np.array([0.5, 0.7]))
    assert found is not None and (found.value, found.low) == (pytest.approx(0.1), 0.0)


@pytest.mark.parametrize(
    ("method", "family"),
    [("mms-genies", "mms"), ("mms-genies(order=both)", "mms(order=both)"), ("lat(k=2)", "lat(k=2)"), ("lora", "lora")],
)
def test_a_preset_belongs_to_its_method(method: str, family: str) -> None:
    assert family_of(method) == family


def test_the_embedded_models_size_is_what_it_has() -> None:
    weights = load_model("mini", device="cpu").model.parameters()
    assert billions_of("mini") == pytest.approx(sum(one.numel() for one in weights) / 1e9, rel=0.02)
    named = ("smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", "gpt2")
    assert [billions_of(name) for name in named] == [0.135, 0.135, None]


def test_published_models_of_7b_and_30b_agree_as_their_files_do(genies_root: Path) -> None:
    evaluations = genies_root / "results" / "evaluations"
    answer = answer_question("scale", [evaluations])
    for method, folder in (("mms", "mms"), ("lora", "lora_fine_tuning"), ("zero-shot", "zero_shot")):
        row = rows_of(answer, "correlations", method=method)[0]
        x, y = [], []
        for path in sorted((evaluations / folder).glob("llama-7b-*/*.json")):
            source = path.parent.name.removeprefix("llama-7b-")
            other = path.parents[1] / f"llama-30b-{source}" / path.name
            if source != path.stem and other.is_file():
                x.append(json.loads(path.read_text())["eval_accuracy"])
                y.append(json.loads(other.read_text())["eval_accuracy"])
        assert (row["shifts"], row["pearson"]) == (len(x), pytest.approx(stats.pearsonr(x, y).statistic))
        assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert row["ceiling_from"] == "pairs, as prompts are unknown"
