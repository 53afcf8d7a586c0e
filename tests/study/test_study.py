"""Whole studies on a small world with a tiny model."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from small_world import SHIFTS, flip, silent, with_split, world, write_world
from tiny_models import make_model

from repeng.activations.capture import Request, capture
from repeng.activations.store.cached_split import CachedSplit, MixedSplit
from repeng.activations.store.files import split_key
from repeng.activations.store.store import Store
from repeng.distributions.schema import Example, Shift
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, StoreError
from repeng.methods.base import Source
from repeng.methods.probes import CachedSource
from repeng.models.load import load_model
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.registry import get_probe
from repeng.results import read_results
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

MakeStudy = Callable[..., Study]


def run(study: Study) -> StudyOutcome:
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


def rows_of(out: str | Path) -> list[dict[str, str]]:
    with (Path(out) / "results.csv").open() as file:
        return list(csv.DictReader(file))


def prediction(study: Study, method: str, source: str, target: str) -> dict[str, Any]:
    folder = Path(study.out) / "predictions" / method / f"{Path(study.model).name}-{source}"
    found: dict[str, Any] = json.loads((folder / f"{target}.json").read_text())
    return found


@pytest.fixture
def again(finished: StudyOutcome, tmp_path: Path) -> Study:
    """The finished study's settings on a copy of its store and results."""
    place = tmp_path / "copy"
    study = finished.plan.study
    shutil.copytree(study.store, place / "store")
    shutil.copytree(study.out, place / "out")
    return replace(study, store=str(place / "store"), out=str(place / "out"))


def no_model(*_args: Any, **_keywords: Any) -> None:
    raise AssertionError("the model was loaded")


def test_a_study_ends_with_a_row_a_method_and_shift_and_one_a_reference(finished: StudyOutcome) -> None:
    study = finished.plan.study
    rows = rows_of(study.out)
    assert not finished.failures
    counts = Counter(row["method"].partition(":")[0] for row in rows)
    assert counts == {**dict.fromkeys(study.methods, len(SHIFTS)), "target-tuned": 2}
    for row in rows[:-2]:
        assert row["n_pairs"] == "48"
        assert row["baseline_accuracy"] != ""
        assert row["target_tuned_capability"] != ""
    assert {row["method"].partition(":")[2] for row in rows[-2:]} <= {"mms", "cra"}
    assert [row["target"] for row in rows[-2:]] == ["hard", "polite"]


def test_differential_elicitation_follows_from_the_columns_beside_it(finished: StudyOutcome) -> None:
    by_shift = {(row["method"], row["source"], row["target"]): row for row in rows_of(finished.plan.study.out)}
    for (_, source, target), row in by_shift.items():
        if row["method"].startswith("target-tuned"):
            continue
        capability = float(row["target_tuned_capability"])
        baseline = float(by_shift["zero-shot", source, target]["accuracy"])
        assert float(row["baseline_accuracy"]) == baseline
        wanted = (float(row["accuracy"]) - baseline) / capability
        assert float(row["differential_elicitation"]) == pytest.approx(wanted)
    winner = next(
        row for row in by_shift.values() if row["method"].startswith("target-tuned") and row["target"] == "hard"
    )
    assert float(by_shift["mms", "polite", "terse"]["target_tuned_capability"]) == float(winner["accuracy"])


def test_source_id_accuracy_is_of_the_sources_own_test_split(finished: StudyOutcome) -> None:
    study = finished.plan.study
    differ = 0
    for row in rows_of(study.out):
        if not row["method"].startswith("target-tuned"):
            own = prediction(study, row["method"], row["source"], row["source"])
            assert float(row["source_id_accuracy"]) == own["eval_accuracy"]
            differ += row["source_id_accuracy"] != row["accuracy"]
    assert differ > len(SHIFTS)


def test_the_study_file_brings_back_the_settings(finished: StudyOutcome) -> None:
    assert Study.read(finished.out / "study.toml", {}) == finished.plan.study


def test_a_second_run_loads_no_model_reads_everything_back_and_says_so(
    again: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (Path(again.out) / "results.csv").read_bytes()
    monkeypatch.setattr("repeng.models.load.load_model", no_model)
    said: list[str] = []
    plan = plan_study(again)
    result = run_study(plan, progress=silent, note=said.append)
    assert (result.evaluations_made, result.evaluations_reused) == (0, len(plan.tasks))
    assert result.captured is None
    assert any("the model is not run" in line for line in said)
    assert (Path(again.out) / "results.csv").read_bytes() == before


def test_evaluations_are_read_back_only_where_nothing_that_they_follow_from_has_changed(
    again: Study, small_world: Path
) -> None:
    def unanswered(**changes: Any) -> dict[str, int]:
        plan = plan_study(replace(again, **changes))
        return dict(Counter(task.method for task in plan.tasks if task not in plan.known))

    assert unanswered() == {}
    # A folder is one study's, but for one that says of none.
    (Path(again.out) / "study.toml").unlink()
    assert set(unanswered(seed=1)) == {"mms", "cra", "few-shot", "length"}
    assert set(unanswered(layers="1")) == {"mms", "cra"}
    assert set(unanswered(limit=20)) == set(again.methods)
    assert set(unanswered(dtype="bfloat16")) == set(again.methods)


def swap_rows(study: Study) -> Path:
    """Swap the rows of a shard that mms reads of a target, so that its size stays."""
    (shard,) = Path(study.store).glob("*/hard/test.*/plain.resid_post.last/shard-00000.safetensors")
    size = shard.stat().st_size
    save_file({name: rows.flip(0).contiguous() for name, rows in load_file(shard).items()}, shard)
    assert shard.stat().st_size == size
    return shard


def test_damaged_activations_are_not_asked_and_what_was_made_from_them_is_not_read_back(again: Study) -> None:
    before = (Path(again.out) / "results.csv").read_bytes()
    rows = read_results(Path(again.out) / "results.csv")
    shutil.rmtree(Path(again.out) / "predictions" / "mms")
    swap_rows(again)
    with pytest.raises(StoreError, match="its content has changed.*repeng store verify .*--repair"):
        run(again)
    assert (Path(again.out) / "results.csv").read_bytes() == before
    # Whoever trusts the store has wrong numbers, and keeps them to himself.
    run(replace(again, trust_store=True))
    assert (Path(again.out) / "results.csv").read_bytes() != before
    assert len(Store(again.store).verify(repair=True)) == 1
    result = run(again)
    mms = sum(task.method == "mms" for task in result.plan.tasks)
    assert result.captured is not None
    # Captured again among fewer texts, an activation may differ in its last bit, and so may a figure.
    for one, other in zip(rows, read_results(Path(again.out) / "results.csv"), strict=True):
        assert one.accuracy == other.accuracy and one.brier == pytest.approx(other.brier, rel=1e-3)
    assert 0 < result.evaluations_made <= mms


def test_activations_of_other_content_are_another_answer(again: Study) -> None:
    shard = swap_rows(again)
    index = shard.with_name("index.json")
    held = json.loads(index.read_text())
    del held["checksum"]
    held["shards"][0]["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
    index.write_text(json.dumps(held | {"format": 1}))
    plan = plan_study(again)
    unknown = {(task.method, task.target.distribution) for task in plan.tasks if task not in plan.known}
    assert ("mms", "hard") in unknown
    assert {target for _, target in unknown} == {"hard"} and ("zero-shot", "hard") not in unknown


def test_labels_that_are_not_the_datas_are_refused(again: Study) -> None:
    (index,) = Path(again.store).glob("*/hard/test.*/plain.resid_post.last/index.json")
    held = json.loads(index.read_text())
    rows = held["responses"]
    rows[0]["label"], rows[1]["label"] = rows[1]["label"], rows[0]["label"]
    del held["checksum"]
    index.write_text(json.dumps(held | {"format": 1}))
    with pytest.raises(StoreError, match="labels, groups or order of the responses are not the data's"):
        run(again)


@pytest.mark.parametrize("damage", ["", "{", '{"key": 3}', '{"eval_accuracy": 0.5'])
def test_a_damaged_prediction_is_made_anew(again: Study, damage: str) -> None:
    before = (Path(again.out) / "results.csv").read_bytes()
    path = Path(again.out) / "predictions" / "mms" / f"{Path(again.model).name}-easy" / "hard.json"
    whole = path.read_bytes()
    path.write_text(damage)
    result = run(again)
    assert result.evaluations_made == 1
    assert path.read_bytes() == whole
    assert (Path(again.out) / "results.csv").read_bytes() == before


def test_a_prediction_with_a_figure_broken_is_made_anew(again: Study) -> None:
    path = Path(again.out) / "predictions" / "cra" / f"{Path(again.model).name}-easy" / "hard.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "eval_probabilities": [2.0] * len(held["eval_probabilities"])}))
    assert run(again).evaluations_made == 1
    assert json.loads(path.read_text()) == held


def test_a_killed_run_goes_on_and_ends_the_same_to_the_byte(finished: StudyOutcome, tmp_path: Path) -> None:
    whole = finished.plan.study
    study = replace(whole, store=str(tmp_path / "store"), out=str(tmp_path / "out"))
    file = tmp_path / "study.toml"
    file.write_text(study.to_toml())
    process = subprocess.Popen(
        [sys.executable, "-c", "from repeng.cli import main; main()", "run", str(file), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(Path(study.store).rglob("index.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = len(list(Path(study.store).rglob("index.json")))
    assert 0 < held < len(list(Path(whole.store).rglob("index.json")))
    result = run(study)
    assert result.captured is not None
    assert result.captured.parts_reused == held

    def files(root: str, pattern: str) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(Path(root).rglob(pattern))}

    for pattern in ("*.safetensors", "index.json"):
        assert files(study.store, pattern) == files(whole.store, pattern)
    assert files(study.out, "*.json") == files(whole.out, "*.json")
    assert files(study.out, "results.csv") == files(whole.out, "results.csv")


def test_flipped_target_labels_change_no_fit_and_turn_every_pair_round(
    again: Study, finished: StudyOutcome, tmp_path: Path
) -> None:
    flipped = with_split(world(), "hard", "test", flip)
    folder = write_world(tmp_path / "flipped", flipped)
    changed = replace(again, benchmark=str(folder / "shifts.json"), data=str(folder / "data"), out=str(tmp_path / "o"))
    run(changed)
    two = [number for number, e in enumerate(flipped["hard"].test.examples) if len(e.responses) == 2]
    assert len(two) == 8
    for method in again.methods:
        if method == "length":
            continue
        old, new = (prediction(study, method, "easy", "hard") for study in (finished.plan.study, changed))
        assert (old["layers"], old["held_out_accuracy"]) == (new["layers"], new["held_out_accuracy"])
        pairs = np.isin(old["eval_example"], two)
        assert np.array(old["eval_probabilities"])[pairs] == pytest.approx(
            1 - np.array(new["eval_probabilities"])[pairs], abs=1e-9
        )
        assert old["eval_probabilities"] != new["eval_probabilities"]
        assert (
            np.array(old["eval_probabilities"])[~pairs].tolist() == np.array(new["eval_probabilities"])[~pairs].tolist()
        )


def test_texts_that_are_too_long_leave_their_pairs_out_and_a_target_of_them_alone_is_one_failure(
    study_of: MakeStudy, tmp_path: Path
) -> None:
    long = "The waves never rest. " * 200

    def lengthen_third(shown: Example) -> Example:
        if "number 2 " not in shown.prompt and "number 6 " not in shown.prompt:
            return shown
        return replace(shown, responses=(shown.responses[0] + long, *shown.responses[1:]))

    def lengthen(shown: Example) -> Example:
        return replace(shown, prompt=long + str(shown.prompt))

    made = with_split(with_split(world(12), "hard", "test", lengthen_third), "polite", "test", lengthen)
    shifts = (Shift("easy", "hard"), Shift("easy", "polite", "easy"))
    folder = write_world(tmp_path / "long", made, shifts)
    study = study_of(folder, tmp_path, methods=("mms", "ccs-genies", "zero-shot", "truthfulness", "length"))
    result = run(study)
    assert result.captured is not None and result.captured.skipped > 0
    # Example 2 has 4 responses with the best one third: its pair with the first goes. Example 6 loses its best.
    whole = {number: len(e.responses) - 1 for number, e in enumerate(world(12)["hard"].test.examples)}
    lost = 0
    for number in (2, 6):
        shown = made["hard"].test.examples[number]
        lost += whole[number] if shown.best == 0 else 1
    for row in rows_of(study.out):
        if row["target"] == "hard" and not row["method"].startswith("target-tuned"):
            assert row["n_pairs"] == str(sum(whole.values()) - lost), row["method"]
        if row["target"] == "polite":
            assert row["n_pairs"] == row["accuracy"] == ""
    reasons = {(failure.method, failure.source, failure.target) for failure in result.failures}
    assert reasons == {(method, "easy", "polite") for method in study.methods}
    assert all("polite/test: no pair is left" in failure.reason for failure in result.failures)


def test_a_source_of_texts_that_are_all_too_long_costs_its_own_rows(study_of: MakeStudy, tmp_path: Path) -> None:
    long = "The waves never rest. " * 200
    made = with_split(world(12), "polite", "train", lambda e: replace(e, prompt=long + str(e.prompt)))
    folder = write_world(tmp_path / "long", made, (Shift("easy", "hard"), Shift("polite", "hard")))
    result = run(study_of(folder, tmp_path, methods=("mms", "few-shot")))
    assert {(failure.method, failure.source) for failure in result.failures} == {
        ("mms", "polite"),
        ("few-shot", "polite"),
    }
    assert all(row["accuracy"] for row in rows_of(result.out) if row["source"] == "easy")


def test_a_mixed_source_fits_as_its_own_capture_does_and_stands_beside_the_unmixed_one(
    again: Study, tiny_model: Path
) -> None:
    study = replace(again, augment=0.1, methods=("mms", "cra", "zero-shot", "length"), out=f"{again.out}-mixed")
    result = run(study)
    assert not result.failures
    counts = Counter(row["method"] for row in rows_of(study.out))
    assert counts["mms"] == counts["mms+10%"] == counts["cra+10%"] == counts["length+10%"] == len(SHIFTS)
    assert "zero-shot+10%" not in counts

    runner = result.plan.runner
    mixture = result.plan.mixed[SHIFTS[0]]
    request = Request((get_stimulus("contrast_yes"), get_stimulus("contrast_no")), logprob=False)
    capture(load_model(str(tiny_model), device="cpu"), [mixture], request, runner.store)
    spec = ProbeSpec(get_probe("cra"))
    mixed, own = runner.source(mixture), Source(mixture, lambda: CachedSplit(runner.capture, *split_key(mixture)))
    assert isinstance(mixed.activations, MixedSplit)
    one, other = (fit_probe(spec, CachedSource.of(spec, 3, s.activations, s.labels)) for s in (mixed, own))
    assert one.layers == other.layers
    # bfloat16 may round a sum of another order in the last bit.
    np.testing.assert_allclose(one.probe.state()["direction_"], other.probe.state()["direction_"], rtol=0.02, atol=0.02)


def test_augmentation_leaves_out_shifts_from_a_distribution_to_itself(study_of: MakeStudy, small_world: Path) -> None:
    study = replace(study_of(small_world, Path("nowhere")), benchmark=None, augment=0.1, methods=("length",))
    plan = plan_study(study)
    assert len(plan.world.benchmark.shifts) == 16
    assert len(plan.mixed) == 12


def test_what_a_model_does_not_have_costs_the_methods_that_read_it(
    small_world: Path, study_of: MakeStudy, tmp_path: Path
) -> None:
    model = make_model("mamba", tmp_path / "mamba")
    study = study_of(small_world, tmp_path, model=str(model), methods=("mms-genies", "zero-shot"), limit=6)
    result = run(study)
    methods = {failure.method for failure in result.failures}
    assert methods == {"mms-genies"}
    assert any("hook_z" in failure.reason for failure in result.failures)
    assert all(row["accuracy"] for row in rows_of(study.out) if row["method"] == "zero-shot")
    assert not any(row["accuracy"] for row in rows_of(study.out) if row["method"] == "mms-genies")


def test_every_preset_runs_and_only_what_it_reads_is_captured(
    small_world: Path, study_of: MakeStudy, tmp_path: Path
) -> None:
    presets = ("mms-genies", "lat-genies", "cra-genies", "ccs-genies", "zero-shot-genies")
    study = study_of(small_world, tmp_path, methods=presets, limit=12)
    result = run(study)
    assert not result.failures
    train = next((tmp_path / "store").glob("*/easy/train.*"))
    test = next((tmp_path / "store").glob("*/easy/test.*"))
    layers = {path.parent.name: json.loads(path.read_text())["layers"] for path in train.glob("*/index.json")}
    assert layers == {
        "plain.hook_z.last": [0, 1, 2],
        "plain.resid_pre.last": [0],
        "plain.resid_post.last": [0, 1],
        "contrast_yes.hook_z.last": [0, 1, 2],
        "contrast_no.hook_z.last": [0, 1, 2],
        "contrast_yes_eos.ln_final.last": [2],
        "contrast_no_genies.ln_final.last": [2],
    }
    assert {path.parent.name for path in test.glob("*.logprob/index.json")} == {
        "plain.logprob",
        "zero_shot_genies.logprob",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("msm",)}, "unknown method 'msm'; did you mean mms"),
        ({"layers": "9"}, "has layers 0 to 2"),
        ({"layers": "few"}, "give auto, all, top-k:N"),
        ({"benchmark": "nothing"}, "nothing"),
        ({"model": "/no/such/folder"}, "/no/such/folder"),
        ({"benchmark": "genies"}, "are not there"),
    ],
)
def test_settings_that_name_what_is_not_there_are_refused_before_anything_runs(
    small_world: Path, study_of: MakeStudy, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        plan_study(study_of(small_world, tmp_path, **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_real_data_has_a_row_a_method_and_shift(
    genies_root: Path, study_of: MakeStudy, tmp_path: Path
) -> None:
    settings = {"benchmark": "genies", "data": str(genies_root / "distributions"), "limit": 8}
    plan = plan_study(replace(study_of(tmp_path, tmp_path), methods=("mms", "zero-shot"), **settings))
    assert len(plan.world.benchmark.shifts) == 15
    assert {task.target.name for task in plan.tasks} == {"test"}
    assert all(len(task.source.examples) <= 8 for task in plan.tasks)
