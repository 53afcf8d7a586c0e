"""Methods in plain and chat form: their names, and a study that asks both in one pass and one table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chat_samples import FAMILIES
from small_world import silent, world, write_world
from transformers import AutoTokenizer

from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.errors import BadInput
from repeng.methods.base import MethodSettings
from repeng.methods.prompted import ZeroShot
from repeng.methods.registry import ALL, PROMPTED, make_method
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study
from repeng.study.text_forms import (
    ZERO_SHOT,
    baseline_method,
    form_pairs,
    in_chat_form,
    methods_in_forms,
    zero_shot_form,
)

METHODS = ("mms", "cra", "zero-shot", "zero-shot-mean", "few-shot(shots=2)", "truthfulness", "ask:is_false", "length")
FIGURES = ("source", "target", "accuracy", "source_id_accuracy", "n_pairs", "layers")
"""Columns of results.csv that neither the other methods of a study take part in nor the last digit of a vector."""
CHATS = (
    "mms(stimulus='chat')",
    "cra(stimulus='chat_contrast_yes+chat_contrast_no')",
    "zero-shot(stimulus='chat')",
    "zero-shot-mean(stimulus='chat')",
    "few-shot(shots=2, stimulus='chat')",
    "truthfulness(stimulus='chat')",
    "ask:is_false(stimulus='chat')",
)


@pytest.mark.parametrize(
    ("name", "chat"),
    [
        *zip(METHODS, (*CHATS, None), strict=True),
        ("mms(stimulus=lat2, token=response_mean)", "mms(stimulus='chat_lat2', token='response_mean')"),
        ("lat-stimulus-2", "lat-stimulus-2(stimulus='chat_lat2')"),
        ("ask:did_you_lie(best=yes)", "ask:did_you_lie(best='yes', stimulus='chat')"),
        ("zero-shot(stimulus=plain)", "zero-shot(stimulus='chat')"),
        *((name, None) for name in CHATS),
        *((name, None) for name in ("mms-genies", "ccs-genies", "zero-shot-genies", "random", "tfidf", "lora", "none")),
    ],
)  # fmt: skip
def test_the_chat_form_of_a_method_stands_in_its_name(name: str, chat: str | None) -> None:
    assert in_chat_form(name) == chat


def test_methods_are_asked_in_the_forms_that_are_wanted() -> None:
    assert methods_in_forms(("all",), ("plain",)) == ("all",)
    both = methods_in_forms(("mms", "length", CHATS[0]), ("plain", "chat"))
    assert both == ("mms", CHATS[0], "length")
    assert methods_in_forms(("mms", "length"), ("chat",)) == (CHATS[0], "length")
    every = methods_in_forms(("all",), ("plain", "chat"))
    assert set(ALL) < set(every) and methods_in_forms(every, ("plain", "chat")) == every
    assert {chat for _, chat in form_pairs(every)} == set(every) - set(ALL)


def test_pairs_of_forms_are_found_by_name_also_of_augmented_sources() -> None:
    names = ("mms", CHATS[0], "mms+1%", f"{CHATS[0]}+1%", "cra", "mms(stimulus='chat_lat2')", "gone.py:Probe")
    assert form_pairs(names) == [("mms", CHATS[0]), ("mms+1%", f"{CHATS[0]}+1%")]


def test_the_baseline_is_plain_zero_shot_unless_nothing_is_plain() -> None:
    assert baseline_method(("mms", CHATS[0], "length")) == "zero-shot"
    assert baseline_method((CHATS[0], "length")) == "zero-shot(stimulus='chat')"
    assert baseline_method(("length", "lora")) == "zero-shot"
    assert baseline_method((CHATS[0], "mms(of_another_version=1)")) == "zero-shot"


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("zero-shot", "plain"),
        ("zero-shot(stimulus='plain')", "plain"),
        ("zero-shot-mean", "plain"),
        ("zero-shot-genies", "plain"),
        ("zero-shot(stimulus='chat')", "chat"),
        ("zero-shot-mean(stimulus=chat)", "chat"),
        ("mms(stimulus='chat')", None),
        ("few-shot", None),
        ("a folder (1)", None),
    ],
)
def test_zero_shot_is_known_in_every_form_and_by_every_rule(method: str, form: str | None) -> None:
    assert zero_shot_form(method) == form


@pytest.fixture(scope="module")
def chat_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model with a chat template."""
    folder = tmp_path_factory.mktemp("chatty") / "tiny-chat"
    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = FAMILIES["llama3"][0]
    tokenizer.save_pretrained(folder)
    for file in tiny_model.iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    return str(folder)


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller one: forms are told apart by their texts, not by how many there are."""
    return write_world(tmp_path_factory.mktemp("smaller-world"), world(10))


StudyOf = Callable[..., Study]


def done(study: Study) -> StudyOutcome:
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


@pytest.fixture(scope="module")
def both(
    chat_model: str, study_of: StudyOf, small_world: Path, tmp_path_factory: pytest.TempPathFactory
) -> StudyOutcome:
    place = tmp_path_factory.mktemp("both")
    return done(study_of(small_world, place, model=chat_model, methods=METHODS, stimuli=("plain", "chat")))


def rows_of(outcome: StudyOutcome) -> dict[str, list[dict[str, str]]]:
    """Rows of results.csv by method, as far as `FIGURES` and the baseline go."""
    found: dict[str, list[dict[str, str]]] = {}
    with (outcome.out / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            own = {name: row[name] for name in (*FIGURES, "baseline_accuracy")}
            found.setdefault(row["method"], []).append(own)
    return found


def test_a_study_of_both_forms_asks_every_method_in_each_and_captures_in_one_pass(both: StudyOutcome) -> None:
    assert not both.failures and both.captured is not None
    names = [name for pair in zip(METHODS, CHATS, strict=False) for name in pair]
    assert list(both.plan.asked) == [*names, "length"]
    jobs = [(split, job) for job in both.plan.cache.jobs for split in job.splits]
    assert len({split for split, _ in jobs}) == len(jobs) > 3
    assert all({"plain", "chat"} <= {each.name for each in job.request.stimuli} for _, job in jobs)
    counts = both.plan.cache.chat_form
    assert counts is not None and counts.unwrapped > 0 and (counts.whole, counts.alone, counts.chats) == (0, 0, 0)
    assert len(both.plan.tasks) == both.evaluations_made


@pytest.mark.slow
def test_each_form_s_figures_are_those_of_a_study_of_that_form_alone(
    both: StudyOutcome, study_of: StudyOf, small_world: Path, tmp_path: Path
) -> None:
    together = rows_of(both)
    settings = {"model": both.plan.study.model, "methods": METHODS}
    for form, own in (("plain", METHODS), ("chat", (*CHATS, "length"))):
        alone = done(study_of(small_world, tmp_path / form, stimuli=(form,), **settings))
        found = rows_of(alone)
        assert [name for name in found if not name.startswith("target")] == list(own)
        for name in own:
            for one, other in zip(together[name], found[name], strict=True):
                different = {key for key in one if one[key] != other[key]}
                # A study of chats alone holds its methods against the chat's own zero-shot.
                assert different <= ({"baseline_accuracy"} if form == "chat" else set())
        assert alone.plan.baseline == ("zero-shot" if form == "plain" else "zero-shot(stimulus='chat')")


def test_a_study_of_chats_alone_captures_no_plain_text(
    chat_model: str, study_of: StudyOf, small_world: Path, tmp_path: Path
) -> None:
    study = study_of(small_world, tmp_path, model=chat_model, methods=METHODS[:-1], stimuli=("chat",))
    stimuli = {each for job in plan_study(study).cache.jobs for each in job.request.stimuli}
    assert {each.form for each in stimuli} == {"chat"}
    assert {"chat", "chat_contrast_yes", "chat_is_false_no"} < {each.name for each in stimuli}


def test_a_plain_study_goes_on_with_the_other_form_and_computes_nothing_of_its_own_again(
    both: StudyOutcome, study_of: StudyOf, small_world: Path, tmp_path: Path
) -> None:
    study = study_of(small_world, tmp_path, model=both.plan.study.model, methods=("mms", "length"))
    first = done(study)
    assert first.plan.cache.chat_form is None
    more = replace(study, stimuli=("plain", "chat"))
    plan = plan_study(more)
    assert {lack.key.stimulus for lack in plan.cache.missing} == {"chat"}
    assert len(plan.known) == len(first.plan.tasks)
    second = done(more)
    assert {key: rows_of(second)[key] for key in rows_of(first)} == rows_of(first)
    # The folder names the methods, so that a study of others in plain form adds to it.
    held = Study.read(second.out / "study.toml", {})
    assert (held.methods, held.stimuli) == (("mms", "length", CHATS[0]), None)
    third = plan_study(replace(study, methods=("tfidf",)))
    assert third.asked == ("mms", "length", CHATS[0], "tfidf") and not third.cache.missing


def test_a_model_without_a_template_is_refused_before_it_runs(
    study_of: StudyOf, small_world: Path, tmp_path: Path
) -> None:
    study = study_of(small_world, tmp_path, methods=("mms",), stimuli=("plain", "chat"))
    with pytest.raises(BadInput, match=r"chats are written with .* has none; take a chat model, or plain text: leave"):
        plan_study(study)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("given", ["cat", "plain,cat", "", ["chat", "lat2"], []])
def test_what_is_no_form_is_refused(given: object) -> None:
    with pytest.raises(BadInput, match=r"--stimuli is .*: the forms of texts are plain and chat; give one of them"):
        Study.read(None, {"stimuli": given})


def test_forms_are_read_from_a_file_and_a_flag(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('stimuli = ["chat", "plain"]\n')
    read = Study.read(tmp_path / "s.toml", {})
    assert read.stimuli == Study.read(None, {"stimuli": "plain, chat"}).stimuli == ("plain", "chat")
    (tmp_path / "t.toml").write_text(read.to_toml())
    assert Study.read(tmp_path / "t.toml", {}) == read


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zero-shot(stimulus=lat2)", "its stimulus is 'lat2'; choose from plain, chat"),
        ("zero-shot-genies(stimulus=chat)", "reads what GENIES' code reads; take zero-shot"),
        ("length(stimulus=chat)", "no parameter 'stimulus'; it has none"),
        ("mms-genies(stimulus=chat)", "reads what GENIES' released code reads"),
    ],
)
def test_a_method_that_has_no_such_form_says_so(
    name: str, message: str, study_of: StudyOf, small_world: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        plan_study(study_of(small_world, tmp_path, methods=(name,)))


def test_every_follow_up_question_has_a_chat_form() -> None:
    assert all(in_chat_form(f"ask:{name}") == f"ask:{name}(stimulus='chat')" for name in FOLLOW_UPS)


@pytest.mark.parametrize("name", PROMPTED)
def test_every_method_that_prompts_has_the_forms_that_its_class_says(name: str, tmp_path: Path) -> None:
    settings = MethodSettings("toy", 3, 256, "toy-0", tmp_path / "plugins", tmp_path / "tuned")
    asked = f"{name}(stimulus=chat)"
    assert (in_chat_form(name) is not None) == PROMPTED[name].has_chat_form(name)
    if not PROMPTED[name].has_chat_form(name):
        with pytest.raises(BadInput, match="reads what GENIES' code reads"):
            make_method(asked, settings)
        return
    made = make_method(asked, settings)
    assert isinstance(made, PROMPTED[name]) and made.form == "chat"
    assert make_method(str(in_chat_form(name)), settings).identity() == made.identity()


def test_the_rules_of_zero_shot_are_those_that_the_method_has() -> None:
    assert set(ZERO_SHOT) == set(ZeroShot.STIMULUS)
