"""Causal figures: against plain loops over a steered model, and what a study keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_world import silent

import repeng
from repeng.errors import BadInput
from repeng.methods.probes import CachedSource, ProbeMethod
from repeng.metrics import draw_p
from repeng.models.load import LanguageModel, load_model
from repeng.probes.directions import fit_directions
from repeng.probes.fitted import NO_HEAD
from repeng.probes.repeats import fit_repeatedly
from repeng.results import ADD, LEACE, PREFERENCE, REMOVE, VERDICT, CausalRow, read_causal
from repeng.steering.vector import SteeringVector
from repeng.study.causal_edits import DOSES, FEWEST_CONTROLS, OWN, RANDOM, SHUFFLED, causal_edits, random_directions
from repeng.study.causal_figures import conclusion
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

EXAMPLES = 6


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, small_world: Path, study_of: Callable[..., Study]) -> StudyOutcome:
    study = study_of(
        small_world,
        tmp_path_factory.mktemp("tried"),
        methods=("mms", "lat", "mlp", "zero-shot"),
        fits=2,
        shift=("easy:hard",),
        causal=True,
        causal_examples=EXAMPLES,
        capability=False,
    )
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


@pytest.fixture(scope="module")
def lm(tried: StudyOutcome) -> LanguageModel:
    return load_model(tried.plan.study.model, device="cpu")


def source_of(tried: StudyOutcome, method: str) -> tuple[ProbeMethod, CachedSource]:
    probe = next(one for one in tried.plan.methods if one.name == method)
    assert isinstance(probe, ProbeMethod)
    source = tried.plan.runner.source(tried.plan.world.distributions["easy"].train)
    return probe, CachedSource.of(probe.spec, 3, source.activations, source.labels)


def margins(lm: LanguageModel, tried: StudyOutcome, target: str) -> list[float]:
    """Of each pair, text by text."""

    def logprob(prompt: str, response: str) -> float:
        ids = lm.tokenizer(prompt + response)["input_ids"]
        start = len(lm.tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(1)
        return float(sum(logits[place - 1, ids[place]] for place in range(start, len(ids))))

    found = []
    for example in tried.plan.world.distributions[target].test.examples[:EXAMPLES]:
        scores = [logprob(str(example.prompt), response) for response in example.responses]
        assert isinstance(example.best, int)
        found += [scores[example.best] - score for place, score in enumerate(scores) if place != example.best]
    return found


def row_of(rows: tuple[CausalRow, ...], **names: str) -> CausalRow:
    (found,) = (row for row in rows if all(getattr(row, name) == value for name, value in names.items()))
    return found


@pytest.mark.parametrize("target", ["easy", "hard"])
def test_changes_are_those_of_a_steered_model(target: str, tried: StudyOutcome, lm: LanguageModel) -> None:
    """Each fit steered along its own direction at the first layer that it chose, its spread that of the source."""
    method, source = source_of(tried, "mms")
    fits = fit_repeatedly(method.spec, source, fits=2).fits
    before = np.mean(margins(lm, tried, target))
    changes: dict[str, list[float]] = {ADD: [], REMOVE: []}
    for fitted in fits:
        layer = fitted.units[0][0]
        vector = SteeringVector.of(fitted, [layer])
        rows = source.read([one for one in source.readings if one.layer == layer])[0, 0]
        along = (rows @ vector.directions[0]).double()
        vector = replace(vector, spread=np.array([along.std(correction=0)]), centre=np.array([along.mean()]))
        for edit, how in ((ADD, {"alpha": 1.0}), (REMOVE, {"project_out": True})):
            with repeng.steer(lm, vector, **how):
                changes[edit].append(float(np.mean(margins(lm, tried, target)) - before))
    for edit, values in changes.items():
        row = row_of(tried.causal, method="mms", target=target, edit=edit, measure=PREFERENCE)
        assert row.before == pytest.approx(before, abs=1e-2)
        assert row.change == pytest.approx(np.mean(values), abs=1e-2)
        assert row.n_fits == 2 and row.source == "easy"


def test_controls_are_of_the_length_of_the_direction(tried: StudyOutcome) -> None:
    method, source = source_of(tried, "mms")
    found = causal_edits(method.spec, source, fits=2, draws=3)
    assert found is not None

    def lengths(of: str) -> list[float]:
        edits = [found.conditions[place].edits for place in found.places(ADD, of, 1.0)]
        return [float(add.vector.norm()) for own in edits for (add,) in own.values()]  # type: ignore[attr-defined]

    assert len(lengths(RANDOM)) == len(lengths(SHUFFLED)) == FEWEST_CONTROLS
    np.testing.assert_allclose(lengths(RANDOM), np.tile(lengths(OWN), FEWEST_CONTROLS)[:FEWEST_CONTROLS], rtol=1e-5)
    assert set(np.round(lengths(SHUFFLED), 4)) <= set(np.round(lengths(OWN), 4))
    units = {unit for one in found.conditions for unit in one.edits}
    assert all(head == NO_HEAD for _, head in units)
    strengths = [one.strength for one in found.conditions if (one.edit, one.of, one.draw) == (ADD, OWN, 0)]
    assert tuple(strengths) == DOSES


def test_shuffled_labels_are_no_control_where_they_set_the_sign_alone(tried: StudyOutcome) -> None:
    of_lat = row_of(tried.causal, method="lat", target="hard", edit=REMOVE, measure=PREFERENCE)
    of_mms = row_of(tried.causal, method="mms", target="hard", edit=REMOVE, measure=PREFERENCE)
    assert of_lat.n_shuffled == 0 and of_lat.shuffled_p is None
    assert of_mms.n_shuffled == of_mms.n_random == FEWEST_CONTROLS and of_mms.shuffled_p is not None


def test_leace_leaves_no_linear_trace_of_the_labels_at_its_layer(tried: StudyOutcome) -> None:
    method, source = source_of(tried, "mms")
    found = causal_edits(method.spec, source, fits=2, draws=3)
    assert found is not None
    ((layer, _), (eraser,)) = next(iter(found.conditions[found.places(LEACE, OWN)[0]].edits.items()))
    rows = source.read([one for one in source.readings if one.layer == layer])[0, 0].float()
    erased = eraser(rows)
    gap = erased[source.labels == 1].mean(0) - erased[source.labels == 0].mean(0)
    assert gap.norm() < 1e-3 * (rows[source.labels == 1].mean(0) - rows[source.labels == 0].mean(0)).norm()


def test_the_tables_hold_every_edit_measure_and_dose(tried: StudyOutcome) -> None:
    rows, doses = read_causal(tried.out)
    assert tuple(rows) == tried.causal
    names = {(row.method, row.source, row.target) for row in rows}
    assert names == {(method, "easy", target) for method in ("mms", "lat") for target in ("easy", "hard")}
    assert len(rows) == len(names) * 3 * 4 and len(doses) == len(names) * (len(DOSES) + 1) * 4
    unchanged = [row for row in doses if row.strength == 0]
    befores = {(row.method, row.target, row.measure): row.before for row in rows}
    for row in unchanged:
        assert row.value == pytest.approx(befores[row.method, row.target, row.measure]) and row.perplexity == 1.0
    for row in rows:
        assert row.change_low is not None and row.change_high is not None
        assert row.change_low <= row.change <= row.change_high
        assert row.perplexity is not None and row.perplexity > 0


def test_what_a_conclusion_rests_on_is_corrected_for_all_its_tests(tried: StudyOutcome) -> None:
    own = [row for row in tried.causal if (row.method, row.target) == ("mms", "hard")]
    tested = [row for row in own if row.p is not None]
    assert {(row.edit, row.measure) for row in tested} >= {(ADD, PREFERENCE), (ADD, VERDICT), (REMOVE, PREFERENCE)}
    assert len(tested) == 4
    for row in tested:
        alone = max(p for p in (row.change_p, row.random_p) if p is not None)
        assert row.p is not None and alone <= row.p <= min(1.0, 4 * alone) + 1e-12
    assert len({row.conclusion for row in own}) == 1


def test_a_probe_without_a_direction_is_left_out_and_named(tried: StudyOutcome) -> None:
    assert tried.plan.causal is not None and tried.plan.causal.directionless == ("mlp",)
    assert not tried.failures


def test_a_study_run_again_reads_its_causal_figures_back(tried: StudyOutcome) -> None:
    before = (tried.out / "causal.csv").read_bytes()
    plan = plan_study(replace(tried.plan.study, causal=False, causal_examples=40, methods=("mms",)))
    assert plan.causal is not None and plan.causal.done == plan.causal.count == 4

    def refuse(_title: str) -> object:
        return silent(_title)

    again = run_study(plan, progress=refuse, note=lambda _line: None)  # type: ignore[arg-type]
    assert again.causal == tried.causal and (tried.out / "causal.csv").read_bytes() == before


def test_a_damaged_file_of_rows_is_made_anew(tried: StudyOutcome) -> None:
    path = next((tried.out / "causal").glob("mms/*/hard.json"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    plan = plan_study(tried.plan.study)
    assert plan.causal is not None and plan.causal.done == plan.causal.count - 1
    again = run_study(plan, progress=silent, note=lambda _line: None)
    assert again.causal == tried.causal and path.read_bytes() == content


def test_rows_follow_from_the_source_prompts_that_tell_what_an_edit_costs(tried: StudyOutcome) -> None:
    plan = tried.plan.causal
    assert plan is not None
    key, (own, other) = next((key, targets) for key, targets in plan.asked.items() if key[0].name == "mms")
    assert plan.runner._known(key, own, other) is not None
    assert plan.runner._known(key, own.first(2), other) is None


def test_rows_of_checked_activations_are_read_back_where_these_need_not_be_checked(tried: StudyOutcome) -> None:
    plan = plan_study(replace(tried.plan.study, trust_store=True))
    assert plan.causal is not None and plan.causal.done == plan.causal.count


def test_a_model_held_elsewhere_is_refused_before_anything_runs(
    small_world: Path, tmp_path: Path, study_of: Callable[..., Study]
) -> None:
    with pytest.raises(BadInput, match="--causal edits the model in this process, and --cluster holds it elsewhere"):
        plan_study(study_of(small_world, tmp_path, methods=("mms",), causal=True, cluster="local:2"))


def test_a_draw_is_as_far_off_as_students_t_says() -> None:
    """Against scipy's two-sample form: one value against n."""
    from scipy.stats import ttest_ind

    null = np.random.default_rng(0).normal(1.0, 2.0, 12)
    expected = ttest_ind(np.array([4.5]), null, equal_var=True).pvalue
    assert draw_p(4.5, null) == pytest.approx(expected)
    assert draw_p(0.5, np.zeros(20)) == pytest.approx(1 / 21) and draw_p(0.0, np.zeros(20)) == 1.0


@pytest.mark.parametrize(
    ("moved", "by_labels", "broken", "expected"),
    [
        ({ADD}, {ADD}, set(), "moves the answer"),
        ({ADD, REMOVE}, {ADD}, {ADD}, "moves it as shuffled labels do"),
        ({ADD}, set(), set(), "moves it as shuffled labels do"),
        ({ADD}, {ADD}, {ADD}, "breaks the model"),
        (set(), set(), {REMOVE}, "breaks the model"),
        (set(), set(), {LEACE}, "bystander"),
        (set(), set(), set(), "bystander"),
    ],
)
def test_a_conclusion_follows_from_what_moved_and_what_broke(
    moved: set[str], by_labels: set[str], broken: set[str], expected: str
) -> None:
    assert conclusion(moved=moved, by_labels=by_labels, broken=broken) == expected


def test_a_direction_that_labels_give_only_its_sign_is_not_owed_to_them(tried: StudyOutcome) -> None:
    assert {row.conclusion for row in tried.causal if row.method == "lat"} <= {
        "bystander",
        "moves it as shuffled labels do",
        "breaks the model",
    }


def test_a_probe_over_tokens_has_random_directions_too(tried: StudyOutcome) -> None:
    """What the null of a probe over tokens lacks is drawn."""
    method, source = source_of(tried, "mms")
    found = fit_directions(method.spec, source, fits=2, draws=20)
    assert found is not None
    assert random_directions(found, 25, 0) is found.random
    drawn = random_directions(replace(found, random=found.random[:0], spread=found.spread[:0]), 25, 0)
    assert drawn.shape == (25, *found.fits.shape[1:])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=-1), 1.0)
