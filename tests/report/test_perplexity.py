"""The question about perplexity: every figure against scipy, and made-up studies whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_models import MadeUp, of_scores, right_on
from scipy import stats

from repeng.errors import BadInput
from repeng.metrics import Evaluation, accuracy_interval
from repeng.report.answer import Answer
from repeng.report.perplexity import perplexity_answer
from repeng.report.perplexity_tables import AGAINST
from repeng.report.questions import answer_question
from repeng.report.source_kinds import ABOVE, BELOW, UNTOLD
from repeng.report.zero_shot_baseline import LARGEST_GAP, gap_of, pair_interval

SOURCES = [f"s{number}" for number in range(8)]
SHARES = (0.3, 0.4, 0.55, 0.65)
TARGETS = [f"t{number}" for number in range(4)]


def answered(made: MadeUp) -> Answer:
    return perplexity_answer([made.study], made.methods, [Path("made-up")])


def rows_of(answer: Answer, table: str, **wanted: object) -> list[dict[str, Any]]:
    rows = next(one.rows for one in answer.tables if one.name == table)
    return [dict(row) for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def made() -> MadeUp:
    """Zero-shot is right on the source for four sources and wrong for three; probes from the three do worse by 0.2."""
    generator = np.random.default_rng(0)
    made = MadeUp()
    at_home = dict(zip(SOURCES, (0.9, 0.85, 0.8, 0.95, 0.1, 0.2, 0.3, 0.5), strict=True))
    on_target = {target: right_on(share, seed=n) for n, (target, share) in enumerate(zip(TARGETS, SHARES, strict=True))}
    zero_shot = {(s, t): on_target[t] for s in SOURCES for t in TARGETS}
    made.add("zero-shot", zero_shot | {(s, s): right_on(share, seed=50) for s, share in at_home.items()})
    made.add("mms", zero_shot)
    shares = {(s, t): 0.7 - 0.2 * (at_home[s] < 0.4) + 0.02 * generator.normal() for s in SOURCES for t in TARGETS}
    made.add("lat", {cell: right_on(share, seed=9) for cell, share in shares.items()})
    fits = [right_on(share, seed=seed) for seed, share in enumerate((0.6, 0.7, 0.8))]
    of_fits = Evaluation.of_fits(
        np.array([one.probabilities for one in fits]),
        np.array([one.scores for one in fits]),
        group=fits[0].group,
        example=fits[0].example,
    )
    made.add("ccs", {(s, t): of_fits for s in SOURCES[:2] for t in TARGETS})
    return made


@pytest.fixture(scope="module")
def found(made: MadeUp) -> Answer:
    return answered(made)


def test_a_method_that_is_zero_shot_correlates_with_it_at_one(found: Answer) -> None:
    over_shifts = rows_of(found, "correlations", method="mms", against=AGAINST["zero_shot_of_target"])[0]
    assert (over_shifts["pearson"], over_shifts["spearman"], over_shifts["shifts"]) == (
        pytest.approx(1.0),
        pytest.approx(1.0),
        32,
    )
    for row in rows_of(found, "shifts", method="mms"):
        assert (row["right_together"], row["margin_with_gap"]) == (pytest.approx(1.0), pytest.approx(1.0))
        assert row["blank"] == ""
    assert "Rises with it: mms 1.00 (1.00 to 1.00)" in found.sentences[0]


def test_the_correlations_over_shifts_are_those_of_scipy(found: Answer) -> None:
    shifts = rows_of(found, "shifts", method="lat")
    for column, against in AGAINST.items():
        row = rows_of(found, "correlations", method="lat", against=against)[0]
        x, y = [shift["accuracy"] for shift in shifts], [shift[column] for shift in shifts]
        pearson = stats.pearsonr(x, y)
        assert row["pearson"] == pytest.approx(pearson.statistic)
        assert (row["pearson_low"], row["pearson_high"]) == pytest.approx(tuple(pearson.confidence_interval(0.95)))
        assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_row_of_a_shift_holds_what_its_files_say(found: Answer, made: MadeUp) -> None:
    row = rows_of(found, "shifts", method="lat", source="s5", target="t1")[0]
    own = made.predictions["tiny-1b", "lat", "s5", "t1"].evaluation
    other = made.predictions["tiny-1b", "zero-shot", "s5", "t1"].evaluation
    home = made.predictions["tiny-1b", "zero-shot", "s5", "s5"].evaluation
    assert own.scores is not None and other.scores is not None and home.scores is not None
    gaps = [one.scores[:, 0] - one.scores[:, 1] for one in (own, other, home)]
    assert (row["accuracy"], row["zero_shot_of_target"], row["zero_shot_of_source"]) == pytest.approx(
        (own.accuracy, other.accuracy, home.accuracy)
    )
    assert (row["gap_of_target"], row["gap_of_source"]) == pytest.approx((gaps[1].mean(), gaps[2].mean()))
    assert row["right_together"] == pytest.approx(stats.pearsonr(gaps[0] > 0, gaps[1] > 0).statistic)
    assert row["margin_with_gap"] == pytest.approx(stats.spearmanr(gaps[0], gaps[1]).statistic)
    assert row["margin_with_gap_low"] < row["margin_with_gap"] < row["margin_with_gap_high"]
    by_prompt = gaps[1].reshape(-1, 2).mean(axis=1)
    reach = stats.t.ppf(0.975, 59) * by_prompt.std(ddof=1) / np.sqrt(60)
    assert row["gap_of_target_high"] - row["gap_of_target"] == pytest.approx(reach, rel=0.25)


def test_of_several_fits_each_verdict_counts_and_each_margin_in_its_own_units(found: Answer, made: MadeUp) -> None:
    row = rows_of(found, "shifts", method="ccs", source="s0", target="t2")[0]
    own = made.predictions["tiny-1b", "ccs", "s0", "t2"].evaluation
    other = made.predictions["tiny-1b", "zero-shot", "s0", "t2"].evaluation
    assert own.fit_scores is not None and other.scores is not None
    margins = own.fit_scores[..., 0] - own.fit_scores[..., 1]
    gap = other.scores[:, 0] - other.scores[:, 1]
    assert row["right_together"] == pytest.approx(stats.pearsonr((margins > 0).ravel(), np.tile(gap > 0, 3)).statistic)
    mean = np.mean([one / one.std() for one in margins], axis=0)
    assert row["margin_with_gap"] == pytest.approx(stats.spearmanr(mean, gap).statistic)


def test_a_source_is_of_the_kind_that_its_interval_says(found: Answer) -> None:
    kinds = {row["source"]: row["zero_shot_is"] for row in rows_of(found, "sources")}
    assert [kinds[source] for source in SOURCES] == [ABOVE] * 4 + [BELOW] * 3 + [UNTOLD]
    assert (
        "The better response has the lower perplexity more often than not on 4 of 8 sources, no more often than not on "
        "3 (s4, s5, s6); on 1 (s7) that cannot be told."
    ) in found.sentences
    row = rows_of(found, "sources", source="s4")[0]
    low, high = accuracy_interval(right_on(0.1, seed=50)) or (None, None)
    assert (row["zero_shot_low"], row["zero_shot_high"]) == (low, high)


@pytest.mark.parametrize("compared", ["on the targets that both reach", "over all shifts"])
@pytest.mark.parametrize(("figure", "scale"), [("accuracy", 1.0), ("elicitation", 0.9)])
def test_probes_of_the_two_kinds_are_held_against_each_other(
    found: Answer, made: MadeUp, compared: str, figure: str, scale: float
) -> None:
    row = rows_of(found, "kinds", method="lat", figure=figure, compared=compared)[0]
    table = np.array(
        [[made.predictions["tiny-1b", "lat", s, t].evaluation.accuracy / scale for t in TARGETS] for s in SOURCES]
    )
    assert (row["zero_shot_below"], row["zero_shot_above"]) == pytest.approx((table[4:7].mean(), table[:4].mean()))
    assert row["difference_low"] < row["difference"] == pytest.approx(row["zero_shot_below"] - row["zero_shot_above"])
    assert row["difference_high"] < 0
    assert (row["sources_below"], row["sources_above"], row["targets"]) == (3, 4, 4)
    said = f"{figure} less that of the others, {compared}. Lower: lat"
    assert any(said in sentence and "cannot be told: mms" in sentence for sentence in found.sentences)


def test_where_no_source_is_of_one_kind_nothing_is_claimed(made: MadeUp) -> None:
    few = MadeUp()
    kept = {key: one for key, one in made.predictions.items() if key[2] in SOURCES[:4]}
    few.predictions.update(kept)
    answer = answered(few)
    row = rows_of(answer, "kinds", method="lat", figure="accuracy", compared="over all shifts")[0]
    assert (row["difference"], row["blank"]) == (None, "zero-shot is below chance on no source of its shifts")
    said = "cannot be told: zero-shot is below chance on no source of its shifts."
    assert [one.endswith(said) for one in answer.sentences].count(True) == 1


def test_one_source_of_a_kind_has_a_difference_and_no_interval(made: MadeUp) -> None:
    few = MadeUp()
    few.predictions.update({key: one for key, one in made.predictions.items() if key[2] in SOURCES[:5]})
    row = rows_of(answered(few), "kinds", method="lat", figure="accuracy", compared="over all shifts")[0]
    assert row["difference"] < -0.1 and row["difference_low"] is None
    assert "two sources of either kind" in row["blank"]


def test_what_cannot_be_correlated_is_blank_with_a_reason() -> None:
    made = MadeUp()
    sure = of_scores(np.linspace(1, 2, 120))
    nearly = of_scores(np.where(np.arange(120) == 7, -1.0, np.linspace(1, 2, 120)))
    other = of_scores(np.linspace(-1, 2, 120)[:120])
    bare = Evaluation(reported_accuracy=0.7)
    made.add("zero-shot", {("a", "b"): sure, ("a", "c"): nearly, ("a", "d"): nearly, ("a", "e"): nearly})
    made.add("mms", {("a", "b"): other, ("a", "c"): nearly, ("a", "d"): bare, ("a", "e"): Evaluation(np.full(9, 0.7))})
    rows = {row["target"]: row for row in rows_of(answered(made), "shifts")}
    assert rows["b"]["right_together"] is None and "zero-shot is right on all pairs" in rows["b"]["blank"]
    assert rows["b"]["margin_with_gap"] is not None
    assert rows["c"]["right_together"] == pytest.approx(1.0) and rows["c"]["right_together_low"] is None
    assert "too few prompts" in rows["c"]["blank"]
    assert rows["d"]["blank"] == "no predictions of pairs"
    assert rows["e"]["blank"] == "zero-shot is of other pairs; the gap is of other pairs"


def test_a_gap_comes_from_scores_else_from_probabilities_that_say_it() -> None:
    p = np.full(40, 0.8)
    p[0] = 0.2
    odds = gap_of(Evaluation(p))
    assert odds.values is not None and odds.origin == "probabilities"
    assert odds.values == pytest.approx(np.log(p / (1 - p)))
    p[1], p[2] = 1.0, 0.0
    clipped = gap_of(Evaluation(p))
    assert clipped.values is not None and clipped.values[[1, 2]].tolist() == [LARGEST_GAP, -LARGEST_GAP]
    assert clipped.origin == "probabilities, 2 of 40 exactly 0 or 1"
    p[3] = 1.0
    hidden = gap_of(Evaluation(p))
    assert (hidden.values, hidden.origin) == (None, "3 of 40 probabilities are exactly 0 or 1")
    assert gap_of(Evaluation(reported_accuracy=0.4)).values is None


def test_a_gap_that_the_nearest_file_hides_is_taken_from_another_run() -> None:
    made = MadeUp()
    hidden = Evaluation((np.arange(120) % 3 > 0).astype(float))
    told = right_on(0.7)
    made.add("zero-shot", {("a", "b"): hidden, ("", "b"): Evaluation(told.probabilities)})
    made.add("mms", {("a", "b"): right_on(0.6)})
    row = rows_of(answered(made), "shifts")[0]
    assert told.scores is not None
    assert row["gap_of_target"] == pytest.approx((told.scores[:, 0] - told.scores[:, 1]).mean())
    assert row["gap_from"] == "probabilities, of another run of zero-shot"
    assert row["zero_shot_of_target"] == hidden.accuracy


def test_where_prompts_are_unknown_three_pairs_count_as_one() -> None:
    low, high = pair_interval(Evaluation(np.where(np.arange(90) < 30, 0.9, 0.1))) or (0.0, 0.0)
    exact = stats.binomtest(10, 30).proportion_ci(0.95)
    assert (low, high) == pytest.approx((exact.low, exact.high))
    assert pair_interval(Evaluation(np.full(30, 0.9))) == pytest.approx((0.025 ** (1 / 10), 1.0))
    assert pair_interval(Evaluation(reported_accuracy=0.3)) is None


CHAT, CHAT_MMS = "zero-shot(stimulus='chat')", "mms(stimulus='chat')"


def test_zero_shot_in_chat_form_is_the_baseline_of_a_study_in_chat_form(found: Answer, made: MadeUp) -> None:
    chat = MadeUp()
    names = {"zero-shot": CHAT, "lat": CHAT_MMS}
    for (_, method, source, target), one in made.predictions.items():
        if method in names:
            chat.add(names[method], {(source, target): one.evaluation})
    answer = answered(chat)
    assert {row["method"] for row in rows_of(answer, "shifts")} == {CHAT_MMS}
    for table in ("shifts", "correlations", "sources", "kinds"):
        plain = [row for row in rows_of(found, table) if row.get("method", "lat") == "lat"]
        changed = {"method": CHAT_MMS, "baseline": CHAT}
        assert rows_of(answer, table) == [row | {k: v for k, v in changed.items() if k in row} for row in plain]
    assert f"Held against {CHAT}: {CHAT_MMS}." in answer.sentences
    assert any(f"that cannot be told. By {CHAT}." in sentence for sentence in answer.sentences)
    assert not any("no study has zero-shot" in sentence for sentence in answer.sentences)


def test_each_method_is_held_against_zero_shot_of_its_own_form_else_plain() -> None:
    shares = {"zero-shot": 0.3, "zero-shot-mean": 0.35, CHAT: 0.9, "mms": 0.6, CHAT_MMS: 0.7, "length": 0.5}
    made = MadeUp()
    for seed, (method, share) in enumerate(shares.items()):
        made.add(method, {(s, t): right_on(share, seed=seed) for s, t in (("a", "b"), ("b", "a"), ("a", "a"))})
    answer = answered(made)
    held = {row["method"]: (row["baseline"], row["zero_shot_of_target"]) for row in rows_of(answer, "shifts")}
    # The table's own baseline accuracy is that of plain zero-shot in every row.
    assert held == {"mms": ("zero-shot", 0.3), "length": ("zero-shot", 0.3), CHAT_MMS: (CHAT, 0.9)}
    sources = {(row["baseline"], row["source"]): row["zero_shot_is"] for row in rows_of(answer, "sources")}
    assert (sources["zero-shot", "a"], sources[CHAT, "a"]) == (BELOW, ABOVE)
    kinds = {row["method"]: row for row in rows_of(answer, "kinds", figure="accuracy", compared="over all shifts")}
    assert (kinds["mms"]["sources_below"], kinds["mms"]["sources_above"]) == (2, 0)
    assert (kinds[CHAT_MMS]["sources_below"], kinds[CHAT_MMS]["sources_above"]) == (0, 2)
    del made.predictions["tiny-1b", "zero-shot", "a", "b"], made.predictions["tiny-1b", "zero-shot", "b", "a"]
    alone = {row["method"]: row["baseline"] for row in rows_of(answered(made), "shifts")}
    assert alone == {"mms": CHAT, "length": CHAT, CHAT_MMS: CHAT}


def test_without_zero_shot_the_error_says_what_to_run() -> None:
    made = MadeUp()
    made.add("mms", {("a", "b"): right_on(0.6)})
    with pytest.raises(BadInput, match="made-up: no method of pairs with zero-shot accuracies next to it; run"):
        answered(made)


def test_the_answer_is_written(found: Answer, tmp_path: Path) -> None:
    found.write(tmp_path)
    held = json.loads((tmp_path / "perplexity.json").read_text())
    assert len(held["tables"]["shifts"]) == len(rows_of(found, "shifts"))
    assert (tmp_path / "perplexity-gap.svg").read_text().startswith("<svg")
    assert "<figure>" in (tmp_path / "perplexity.html").read_text()


def test_the_published_files_give_the_published_correlation(genies_root: Path) -> None:
    answer = answer_question("perplexity", [genies_root / "results" / "evaluations"])
    row = rows_of(answer, "correlations", method="mms · llama-30b", against=AGAINST["zero_shot_of_target"])[0]
    x, y = [], []
    for path in (genies_root / "results" / "evaluations" / "mms").glob("llama-30b-*/*.json"):
        if path.parent.name != f"llama-30b-{path.stem}":
            other = path.parents[2] / "zero_shot" / path.parent.name / path.name
            x.append(json.loads(path.read_text())["eval_accuracy"])
            y.append(json.loads(other.read_text())["eval_accuracy"])
    assert (row["shifts"], row["pearson"]) == (len(x), pytest.approx(stats.pearsonr(x, y).statistic))
    kinds = {(row["model"], row["source"]): row for row in rows_of(answer, "sources")}
    assert kinds["llama-30b", "change_my_view"]["zero_shot_is"] == BELOW
    assert kinds["llama-30b", "alpaca_easy"]["zero_shot_is"] == ABOVE
    assert "exactly 0 or 1" in kinds["llama-30b", "alpaca_easy"]["gap_from"]
