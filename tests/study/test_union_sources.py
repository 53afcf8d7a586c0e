"""Sources that are unions of distributions, from a store and in a study, against the concatenated file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_world import silent, split_of, with_split, world, write_world

from repeng.benchmarks.loaded import load_benchmark
from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.errors import BadInput, UnknownName
from repeng.probes.io import load, save
from repeng.study.cached_data import CachedData, open_data, open_store
from repeng.study.cached_sweep import sweep, transfer_matrix
from repeng.study.cached_train import train_of
from repeng.study.settings import Study
from repeng.study.steps import capture, evaluate, fit, fitted_on
from repeng.study.study import plan_study, run_study

MakeStudy = Callable[..., Study]


def texts(name: str, split: str, count: int = 24) -> Split:
    """Labelled texts, some of which are the same in every distribution of one split."""
    names = ["same" if number % 6 == 0 else name for number in range(count)]
    examples = [
        Example("", (f"The {one} planet {number} of {split} is {('red', 'blue')[number % 2]}.",), (0,) * (number % 2))
        for number, one in enumerate(names)
    ]
    return Split(name, split, tuple(examples))


def concatenated(name: str, *members: Distribution) -> Distribution:
    splits = ("train", "test")
    return Distribution(
        name, {s: Split(name, s, tuple(e for m in members for e in m.splits[s].examples)) for s in splits}
    )


@pytest.fixture(scope="module")
def distributions() -> dict[str, Distribution]:
    """A small world in which two train splits share a prompt; two sets of texts; and each two as one file."""
    made = world(24)
    shared = made["easy"].train.examples[3]
    made = with_split(
        made, "hard", "train", lambda e: replace(e, prompt=shared.prompt) if "number 5" in str(e.prompt) else e
    )
    made |= {name: Distribution(name, {s: texts(name, s) for s in ("train", "test")}) for name in ("said", "told")}
    both = concatenated("both", made["easy"], made["hard"]), concatenated("texts", made["said"], made["told"])
    return made | {one.name: one for one in both}


@pytest.fixture(scope="module")
def cached(
    distributions: dict[str, Distribution], tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> CachedData:
    store = tmp_path_factory.mktemp("unions") / "store"
    how = {"storage_dtype": "float32", "device": "cpu", "logprob": False}
    return capture(str(tiny_model), list(distributions.values()), store=store, **how)


@pytest.mark.parametrize("probe", ["mms", "logistic", "ccs"])
@pytest.mark.parametrize(("members", "file"), [(("hard", "easy"), "both"), (("told", "said"), "texts")])
def test_a_fit_on_a_union_is_a_fit_on_the_concatenated_file(
    cached: CachedData, members: tuple[str, str], file: str, probe: str
) -> None:
    union, whole = fit(cached, members, probe), fit(cached, file, probe)
    assert union.units == whole.units
    np.testing.assert_allclose(union.held_out_accuracy, whole.held_out_accuracy)
    for target in (*members, "polite"):
        one, other = (evaluate(fitted, cached, target) for fitted in (union, whole))
        assert one.accuracy == pytest.approx(other.accuracy, abs=1e-6)
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.01)


def test_a_union_knows_the_groups_of_the_concatenated_file(cached: CachedData) -> None:
    for members, file in ((["easy", "hard"], "both"), ("said+told", "texts")):
        union, whole = train_of(cached, members), train_of(cached, file)
        for field in ("labels", "units", "rivals", "groups", "as_texts"):
            np.testing.assert_array_equal(getattr(union.labels, field), getattr(whole.labels, field))
        assert union.prompts == whole.prompts
    assert len(train_of(cached, "easy+hard").prompts or ()) == 47


def test_the_order_of_members_does_not_matter_and_the_limit_is_even(cached: CachedData) -> None:
    one, other = fit(cached, "hard+easy", "mms"), fit(cached, ["easy", "hard"], "mms")
    assert one.provenance == other.provenance and one.provenance["source"] == "easy+hard"
    np.testing.assert_array_equal(one.probe.state()["direction_"], other.probe.state()["direction_"])
    few = fit(cached, "easy+hard", "mms", train_limit=21)
    assert [(member["source"], member["examples"]) for member in fitted_on(few)] == [("easy", 11), ("hard", 10)]
    assert len(few.provenance["prompts"]) == 20
    everything = fit(cached, "all-but-easy", "mms", train_limit=12).provenance["members"]
    assert [member["source"] for member in everything] == ["both", "hard", "polite", "said", "terse", "texts", "told"]
    with pytest.raises(UnknownName, match="'none'"):
        fit(cached, "easy+none", "mms")
    with pytest.raises(BadInput, match="names a distribution twice"):
        fit(cached, ["easy", "easy+hard"], "mms")


def test_a_saved_probe_knows_its_members_and_is_not_scored_on_what_any_of_them_holds(
    cached: CachedData, tmp_path: Path
) -> None:
    save(fit(cached, "easy+hard", "mms"), tmp_path / "probe")
    fitted = load(tmp_path / "probe")
    assert {member["source"]: member["data_hash"] for member in fitted_on(fitted)} == {
        name: cached.find(name).data_hash for name in ("easy", "hard")
    }
    for name in ("easy", "hard"):
        with pytest.raises(BadInput, match=f"of the (24|23) prompts of {name}/train"):
            evaluate(fitted, cached, name, split="train")
        assert evaluate(fitted, cached, name).n_pairs == 48


def test_several_versions_of_a_member_ask_and_its_test_split_is_that_of_its_own_version(
    distributions: dict[str, Distribution], tmp_path: Path, tiny_model: Path
) -> None:
    easy, hard = (Distribution.read_from("/data/1", name, distributions[name].splits) for name in ("easy", "hard"))
    other = Distribution.read_from(
        "/data/2", "hard", {s: replace(split_of("polite", s), distribution="hard") for s in ("train", "test")}
    )
    how = {"store": tmp_path, "stimuli": ("plain",), "device": "cpu", "logprob": False}
    for each in ([easy, hard], other):
        capture(str(tiny_model), each, **how)
    with pytest.raises(BadInput, match="2 versions of hard/train"):
        fit(open_store(tmp_path), "easy+hard", "mms")
    fitted = fit(open_data(open_store(tmp_path), hashes=[hard.train.data_hash]), "easy+hard", "mms")
    assert evaluate(fitted, open_store(tmp_path), "hard").n_pairs == len(hard.test.pairs)
    with pytest.raises(BadInput, match="another version of it"):
        evaluate(fitted, open_data(open_store(tmp_path), hashes=[other.test.data_hash]), "hard")


def test_every_cell_of_a_transfer_matrix_is_what_fit_and_evaluate_give(cached: CachedData) -> None:
    names = ("easy", "hard", "hard+easy", "said")
    found = transfer_matrix(cached, names, "mms", seed=3)
    assert found.names == ("easy", "hard", "easy+hard", "said") and found.targets == ("easy", "hard", "said")
    for source, layers, row in zip(names, found.layers, found.accuracy, strict=True):
        fitted = fit(cached, source, "mms", seed=3)
        assert fitted.layers == layers
        assert row == [evaluate(fitted, cached, target).accuracy for target in found.targets]
    assert found.n == (48, 48, 24) and np.shape(found.cosine) == (4, 4)
    one = transfer_matrix(cached, names[:2], "mms", layers="1")
    assert one.layers == ((1,), (1,)) and one.cosine_layer == 1 and not one.chosen_layers


def test_a_sweep_takes_several_sources_and_targets(cached: CachedData) -> None:
    rows = sweep(cached, ["easy", "hard+easy"], ["polite", "terse"], "mms", train_limit=20)
    assert {(row.source, row.target) for row in rows} == {
        (source, target) for source in ("easy", "easy+hard") for target in ("polite", "terse")
    }
    own = sweep(cached, "easy", "polite", "mms", train_limit=20)
    assert own == [row for row in rows if (row.source, row.target) == ("easy", "polite")]


SHIFTS = (Shift("hard+easy", "polite", "terse"), Shift("easy", "polite", "terse"), Shift("easy+hard", "hard"))


@pytest.fixture(scope="module")
def united(
    distributions: dict[str, Distribution], study_of: MakeStudy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Study]:
    """A finished study with unions among its sources, next to the world that it is of."""
    place = tmp_path_factory.mktemp("united")
    made = {name: distributions[name] for name in ("easy", "hard", "polite", "terse")}
    folder = write_world(place / "world", made, SHIFTS)
    study = study_of(folder, place, methods=("mms", "zero-shot", "tfidf", "few-shot"))
    result = run_study(plan_study(study), progress=silent, note=lambda _line: None)
    assert not result.failures
    return folder, study


def rows_of(study: Study) -> dict[tuple[str, str, str], dict[str, str]]:
    with (Path(study.out) / "results.csv").open() as file:
        return {(row["method"], row["source"], row["target"]): row for row in csv.DictReader(file)}


def test_a_study_fits_on_the_union_as_on_one_file_of_it(
    united: tuple[Path, Study], distributions: dict[str, Distribution], study_of: MakeStudy, tmp_path: Path
) -> None:
    _, study = united
    made = {name: distributions[name] for name in ("both", "hard", "polite", "terse")}
    shifts = (Shift("both", "polite", "terse"), Shift("both", "hard"))
    twin = study_of(write_world(tmp_path / "world", made, shifts), tmp_path, methods=study.methods)
    assert not run_study(plan_study(twin), progress=silent, note=lambda _line: None).failures
    own, whole = rows_of(study), rows_of(twin)
    for method in study.methods:
        for target in ("polite", "hard"):
            one, other = own[method, "easy+hard", target], whole[method, "both", target]
            for column in ("accuracy", "source_id_accuracy", "target_tuned_capability", "baseline_accuracy"):
                # Texts that share a batch differ in the last bits, and bfloat16 may round a pair the other way.
                assert float(one[column] or 0) == pytest.approx(float(other[column] or 0), abs=0.03), (method, column)
            assert one["n_pairs"] == other["n_pairs"] and one["n_overlap"] == other["n_overlap"]


def test_an_evaluation_of_a_union_names_its_members_and_is_found_again(united: tuple[Path, Study]) -> None:
    _, study = united
    found = json.loads(next(Path(study.out).glob("predictions/mms/*-easy+hard/polite.json")).read_text())
    assert [(name, count) for name, _, count in found["source_members"]] == [("easy", 24), ("hard", 24)]
    plan = plan_study(study)
    assert len(plan.known) == len(plan.tasks) and not plan.cache.missing


def test_a_train_limit_fits_on_fewer_of_what_is_captured_already(united: tuple[Path, Study], tmp_path: Path) -> None:
    _, study = united
    plan = plan_study(replace(study, train_limit=20, methods=("mms", "tfidf"), out=str(tmp_path / "few")))
    assert {len(task.source.examples) for task in plan.tasks} == {20} and not plan.cache.missing
    assert not run_study(plan, progress=silent, note=lambda _line: None).failures
    few = rows_of(plan.study)["mms", "easy+hard", "polite"]
    assert few["n_pairs"] == rows_of(study)["mms", "easy+hard", "polite"]["n_pairs"]


def test_shifts_without_a_file_and_a_distribution_left_out(united: tuple[Path, Study], tmp_path: Path) -> None:
    folder, _ = united
    data, shifts = str(folder / "data"), str(folder / "shifts.json")
    asked = load_benchmark(shifts, data, shifts=["hard+easy:polite"])
    assert asked.benchmark.shifts == (Shift("easy+hard", "polite", "terse"),)
    benign = load_benchmark(None, data, shifts=["all-but-easy:hard"], benign="terse").distributions["all-but-easy"]
    assert set(benign.train.owners) == {"hard", "polite"}
    left = load_benchmark(None, data, leave_out=True, train_limit=9)
    assert len(left.benchmark.shifts) == 4 + 4 * 3
    union = left.distributions["all-but-polite"].train
    assert list(union.owners) == ["easy"] * 3 + ["hard"] * 3 + ["terse"] * 3
    with pytest.raises(BadInput, match="give one of them"):
        load_benchmark(None, data, shifts=["easy:hard"], leave_out=True)
    (tmp_path / "mine.json").write_text(
        '[{"source": "easy+gone", "target": "hard"}, {"source": "easy", "target": "hard"}]'
    )
    with pytest.raises(BadInput, match="are not there: gone; --partial takes the 1 shifts"):
        load_benchmark(str(tmp_path / "mine.json"), data)
    assert load_benchmark(str(tmp_path / "mine.json"), data, partial=True).missing == ("gone",)


def test_the_settings_are_read_back_from_their_file(tmp_path: Path) -> None:
    study = Study(shift=["facts+science:myths"], train_limit=40)  # type: ignore[arg-type]
    assert study.out == "results/mini-mini-train40-shifts"
    (tmp_path / "study.toml").write_text(study.to_toml())
    assert Study.read(tmp_path / "study.toml", {}) == study
    assert Study(leave_one_out=True).out == "results/mini-mini-leave-one-out"
