"""A whole study of labelled texts, on the embedded model: the minimal file of each schema, and what it must give."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from small_world import silent

from repeng.benchmarks.mini import mini_distributions
from repeng.distributions.chat import plain_chat
from repeng.distributions.load import load_distributions
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Message
from repeng.distributions.statements import write_statements
from repeng.errors import BadInput
from repeng.metrics import TextEvaluation
from repeng.probes.io import load, save
from repeng.results import read_evaluation, read_results
from repeng.study.settings import Study
from repeng.study.steps import capture, evaluate, fit
from repeng.study.study import StudyOutcome, plan_study, run_study

PLACES = ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Quito", "Bern", "Riga")


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(place: Path, data: Path, **settings: Any) -> StudyOutcome:
    given = {"methods": ("mms", "zero-shot", "tfidf"), "fits": 2, "nulls": 2, "layers": "top-k:1", **settings}
    study = Study(data=str(data), store=str(place / "store"), out=str(place / "out"), **given)
    return run_study(plan_study(study), progress=silent, note=lambda _: None)


def turns(number: int) -> list[dict[str, str]]:
    said = f"I {'lie' if number % 2 else 'know'} about {PLACES[number % 8]}, number {number}."
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Question {number}?"},
        {"role": "assistant", "content": said},
    ]


def statement(n: int) -> dict[str, Any]:
    return {"statement": f"{PLACES[n % 8]} has {n} {'gates' if n % 2 else 'moons'}.", "label": n % 2}


def request(n: int) -> dict[str, Any]:
    return {"prompt": f"How do I {'break' if n % 2 else 'bake'} {n}?", "label": ["harmless", "harmful"][n % 2]}


def claim(n: int) -> dict[str, Any]:
    return {"claim": f"{n} is {'odd' if n % 2 else 'even'} here", "truth": ["no", "yes"][n % 2], "by": n // 4}


def answer(n: int) -> dict[str, Any]:
    return {"prompt": f"Question {n}?", "response": ["Never.", "Indeed."][n % 2] + str(n), "label": n % 2}


def feeling(n: int) -> dict[str, Any]:
    return {"text": f"I am {['glad', 'sad', 'cross'][n % 3]} {n}", "label": ["joy", "grief", "ire"][n % 3]}


ROWS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "statements": statement,
    "requests": request,
    "claims": claim,
    "rollouts": lambda n: {"messages": turns(n), "deceptive": bool(n % 2)},
    "answers": answer,
    "feelings": feeling,
    "rewards": lambda n: {"prompt": f"Q{n}", "chosen": [f"good {n}", f"fine {n}"], "rejected": [f"bad {n}", f"no {n}"]},
    "names": lambda n: {"prompt": f"Q{n}", "responses": {"truthful": f"yes {n}", "deceptive": f"no {n}"}},
}
OPTIONS: Mapping[str, dict[str, str]] = {
    "claims": {"columns": "text=claim,label=truth,group=by"},
    "rollouts": {"chat": "plain"},
    "feelings": {"positive": "joy"},
    "names": {"positive": "truthful"},
}


@pytest.mark.parametrize("schema", ROWS)
def test_the_minimal_file_of_each_schema_is_run_as_a_whole(schema: str, tmp_path: Path) -> None:
    data = lines(tmp_path / f"{schema}.jsonl", [ROWS[schema](number) for number in range(48)])
    found = run(tmp_path, data, **OPTIONS.get(schema, {}))
    assert not found.failures
    rows = {row.method: row for row in found.rows if row.method in ("mms", "zero-shot", "tfidf")}
    figure = "pair accuracy" if schema in ("rewards", "names") else "auroc"
    assert {row.figure for row in rows.values()} == {figure}
    # What the words give away, words find; with three words for three classes, too.
    assert rows["tfidf"].accuracy > 0.9 and rows["mms"].accuracy > 0.7
    assert (rows["mms"].balanced_accuracy is None) == (figure == "pair accuracy")


def test_statements_in_a_csv_file_are_those_of_a_jsonl_file(tmp_path: Path) -> None:
    rows = [ROWS["statements"](number) for number in range(40)]
    with (tmp_path / "s.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["statement", "label"])
        writer.writeheader()
        writer.writerows(rows)
    one = load_distributions(tmp_path / "s.csv")["s"]
    other = load_distributions(lines(tmp_path / "other" / "s.jsonl", rows))["s"]
    assert [split.data_hash for split in (one.train, one.test)] == [other.train.data_hash, other.test.data_hash]


@pytest.fixture(scope="module")
def statements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the embedded world as statements, each with its prompt as group."""
    folder = tmp_path_factory.mktemp("statements")
    for distribution in mini_distributions(names=["facts", "geography", "arithmetic"], limit=40).values():
        write_statements(distribution, folder)
    return folder


def test_statements_of_the_embedded_world_give_the_directions_of_its_pairs(statements: Path, tmp_path: Path) -> None:
    pairs = mini_distributions(names=["facts"], limit=40)["facts"]
    grouped = load_distributions(statements, ["facts"])["facts"]
    alone = replace(grouped, splits={name: _without_groups(split) for name, split in grouped.splits.items()})
    directions = []
    for name, data in (("pairs", pairs), ("grouped", grouped), ("alone", alone)):
        cached = capture("mini", data, store=tmp_path / name, stimuli=("plain",))
        made = fit(cached, "facts", "mms").probe.state()["direction_"].double()
        directions.append((made / made.norm(dim=-1, keepdim=True)).numpy())
    of_pairs, of_groups, of_texts = directions
    assert ((of_pairs * of_groups).sum(axis=-1) > 0.999).all()
    # Without groups the texts share no prompt, which the first layers, of words alone, are full of.
    assert ((of_pairs * of_texts).sum(axis=-1)[2:] > 0.9).all()


def _without_groups(split):
    return replace(split, examples=tuple(replace(example, group=None) for example in split.examples))


@pytest.fixture(scope="module")
def shifts(statements: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyOutcome:
    place = tmp_path_factory.mktemp("shifts")
    listed = [{"source": "facts", "target": name} for name in ("facts", "arithmetic")]
    (place / "shifts.json").write_text(json.dumps(listed))
    methods = ("mms", "logistic", "attention", "mms(token=response_mean)", "mms(stimulus=is_accurate)", "lora")
    others = ("mms-genies", "zero-shot", "truthfulness", "ask:is_accurate", "tfidf")
    return run(
        place,
        statements,
        benchmark=str(place / "shifts.json"),
        methods=(*methods, *others),
        benign="geography",
    )


def test_methods_of_pairs_fail_by_name_and_cost_their_own_rows_alone(shifts: StudyOutcome) -> None:
    assert {failure.method for failure in shifts.failures} == {"lora", "mms-genies"}
    assert all("goes by pairs of responses" in failure.reason for failure in shifts.failures)
    scored = {row.method for row in shifts.rows if row.accuracy is not None and not row.method.startswith("target")}
    assert len(scored) == 9


def test_figures_are_those_of_the_scores_in_the_files(shifts: StudyOutcome) -> None:
    row = next(row for row in read_results(shifts.out / "results.csv") if row.method == "mms" and row.target != "facts")
    found = read_evaluation(shifts.out / "predictions" / "mms" / "mini-facts" / "arithmetic.json")
    assert isinstance(found, TextEvaluation) and found.pairs is not None
    split = load_distributions(Path(str(shifts.plan.study.data)))["arithmetic"].test
    assert np.array_equal(found.labels, split.labels == 1) and found.n_texts == row.n_texts == split.n_responses
    areas = [roc_auc_score(found.labels, own) for own in found.text_scores]
    assert row.accuracy == row.auroc == pytest.approx(np.mean(areas))
    at_1 = [
        (own[found.labels] > limit).mean() for own, limit in zip(found.text_scores, found.thresholds[:, 0], strict=True)
    ]
    assert row.recall_at_1 == pytest.approx(np.mean(at_1))
    gaps = [[own[pair.best] - own[pair.worse] for pair in split.pairs] for own in found.text_scores]
    assert row.pair_accuracy == pytest.approx(np.mean(np.array(gaps) > 0))


def test_thresholds_are_set_on_the_benign_distribution(shifts: StudyOutcome) -> None:
    found = {
        name: read_evaluation(shifts.out / "predictions" / "logistic" / "mini-facts" / f"{name}.json")
        for name in ("facts", "arithmetic")
    }
    assert all(one.benign == "geography" for one in found.values())
    assert np.array_equal(found["facts"].thresholds, found["arithmetic"].thresholds)


def test_a_second_run_makes_nothing_anew(shifts: StudyOutcome) -> None:
    again = run_study(plan_study(shifts.plan.study), progress=silent, note=lambda _: None)
    assert again.evaluations_made == 0 and again.captured is None and again.rows == shifts.rows


def test_the_benign_distribution_is_none_that_is_asked_about(shifts: StudyOutcome, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="thresholds must not be set on what is asked about"):
        plan_study(replace(shifts.plan.study, benign="arithmetic", out=str(tmp_path / "other")))


def test_a_token_probe_is_saved_and_scores_as_before(statements: Path, tmp_path: Path) -> None:
    data = load_distributions(statements, ["facts"])
    cached = capture("mini", list(data.values()), store=tmp_path / "store", stimuli=("plain",), tokens=("all",))
    fitted = fit(cached, "facts", "attention(heads=2)", layers="top-k:1")
    save(fitted, tmp_path / "probe")
    one, again = (evaluate(each, cached, "facts") for each in (fitted, load(tmp_path / "probe")))
    assert isinstance(one, TextEvaluation) and isinstance(again, TextEvaluation)
    assert np.array_equal(one.text_scores, again.text_scores) and one.accuracy > 0.7
    assert np.array_equal(one.thresholds, again.thresholds)


def test_a_token_probe_reads_a_site_that_has_heads(statements: Path, tmp_path: Path) -> None:
    data = load_distributions(statements, ["facts"])
    where = {"sites": ("hook_z",), "tokens": ("all",), "stimuli": ("plain",), "layers": (2, 3)}
    cached = capture("mini", list(data.values()), store=tmp_path / "store", **where)
    fitted = fit(cached, "facts", "mean-of-scores", site="hook_z", layers=(2, 3))
    assert fitted.has_heads and evaluate(fitted, cached, "facts").accuracy > 0.6


def test_a_pair_source_answers_about_texts_and_a_text_source_about_pairs(statements: Path, tmp_path: Path) -> None:
    pairs = mini_distributions(names=["geography"], limit=40)["geography"]
    texts = load_distributions(statements, ["facts"])["facts"]
    cached = capture("mini", [pairs, texts], store=tmp_path / "store", stimuli=("plain",))
    of_texts = evaluate(fit(cached, "geography", "mms"), cached, "facts")
    of_pairs = evaluate(fit(cached, "facts", "mms"), cached, "geography")
    assert of_texts.figure == "auroc" and of_texts.accuracy > 0.75 and of_texts.thresholds is not None
    assert of_pairs.figure == "pair accuracy" and of_pairs.accuracy > 0.8


def test_chats_as_plain_text_have_a_heading_a_turn(tmp_path: Path) -> None:
    data = lines(tmp_path / "r.jsonl", [ROWS["rollouts"](number) for number in range(20)])
    example = load_distributions(data, reading=Reading(chat="plain"))["r"].train.examples[0]
    number = int(str(example.prompt).split("Question ")[1].split("?")[0])
    shown = [Message(**turn) for turn in turns(number)]
    assert example.prompt == f"### System:\nBe brief.\n\n### User:\nQuestion {number}?\n\n### Assistant:\n"
    assert example.responses == (shown[2].content,)
    whole = load_distributions(data, reading=Reading(chat="plain", turn="all"))["r"].train.examples
    texts = {one.responses[0] for one in whole}
    assert plain_chat(tuple(shown), opens=False) in texts and all(one.prompt == "" for one in whole)
