"""Settings of a study, from TOML and flags, and what data they mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_world import SHIFTS, world, write_world

from repeng.benchmarks.loaded import export, load_benchmark, load_named
from repeng.distributions.load import list_distributions, load_distributions
from repeng.distributions.reading import Reading
from repeng.distributions.shifts import load_shifts
from repeng.errors import BadInput, UnknownName
from repeng.methods.base import MethodSettings
from repeng.methods.registry import ALL, make_method, make_methods, method_names
from repeng.study.settings import Study, parse_share
from repeng.study.study import plan_study


def test_flags_beat_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('model = "org/model"\nmethods = ["mms", "lat"]\nseed = 3\naugment = "1%"\n')
    study = Study.read(file, {"seed": 5, "methods": "ccs, cra"})
    assert (study.model, study.methods, study.seed, study.augment) == ("org/model", ("ccs", "cra"), 5, 0.01)
    assert (study.layers, study.out) == ("auto", "results/mini-org--model")


def test_a_study_written_as_toml_is_read_back(tmp_path: Path) -> None:
    study = Study(model="m", benchmark="genies", data='a "quoted" pläce', methods=("mms",), limit=4, augment=0.25)
    (tmp_path / "s.toml").write_text(study.to_toml(), encoding="utf-8")
    assert Study.read(tmp_path / "s.toml", {}) == study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "not a TOML file"),
        ("sede = 1", "unknown setting 'sede'; did you mean seed"),
        ('seed = "one"', r"s\.toml: seed is 'one': Input should be a valid integer"),
        ("seed = true", "seed is True: Input should be a valid integer"),
        ('limit = "all"', "limit is 'all': Input should be a valid integer"),
        ("limit = 1", "limit is 1: Input should be greater than or equal to 2"),
        ("methods = []", r"methods is .*name one or more"),
        ("methods = [1]", r"methods\.0 is 1: Input should be a valid string"),
        ("augment = 1.0", r"augment is 1\.0: Input should be less than 1"),
        ('augment = "much"', "is no share"),
        ('too_long = "keep"', "Input should be 'skip', 'refuse' or 'cut'"),
    ],
)
def test_a_wrong_study_file_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        Study.read(tmp_path / "s.toml", {})


def test_a_study_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml: cannot read"):
        Study.read(tmp_path / "none.toml", {})
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"b\.toml: not a TOML file"):
        Study.read(tmp_path / "b.toml", {})


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.5%", 0.005), ("0.2", 0.2)])
def test_a_share_is_a_number_or_a_percentage(text: str, value: float) -> None:
    assert parse_share(text) == pytest.approx(value)


def test_results_are_named_after_what_was_asked_of_what(tmp_path: Path) -> None:
    assert Study().out == "results/mini-mini"
    assert Study(benchmark="genies", limit=40).out == "results/genies-mini-first40"
    assert Study(benchmark="a/mine.json", model=str(tmp_path)).out == f"results/mine-{tmp_path.name}"


def test_data_without_a_benchmark_is_every_distribution_against_every_one(tmp_path: Path) -> None:
    found = load_benchmark(None, str(write_world(tmp_path, world(6)) / "data"), limit=4)
    assert len(found.benchmark.shifts) == 16
    assert {len(split.examples) for d in found.distributions.values() for split in d.splits.values()} == {4}


def test_a_shift_file_loads_what_it_names_and_says_what_is_missing(tmp_path: Path) -> None:
    folder = write_world(tmp_path, world(6))
    found = load_benchmark(str(folder / "shifts.json"), str(folder / "data"))
    assert found.benchmark.shifts == SHIFTS
    assert found.distributions["easy"] == load_distributions(folder / "data", ["easy"])["easy"]
    rows = [{"source": "easy", "target": "gone", "target_reference": "lost"}]
    (folder / "shifts.json").write_text(json.dumps(rows))
    with pytest.raises(BadInput, match=r"2 distribution\(s\) of benchmark .* are not there: gone, lost"):
        load_benchmark(str(folder / "shifts.json"), str(folder / "data"))


@pytest.mark.parametrize("data", [None, "mini"])
def test_the_embedded_benchmark_needs_no_data(data: str | None) -> None:
    found = load_benchmark("mini", data, limit=2)
    assert set(found.benchmark.distributions) <= set(found.distributions)


def test_shifts_of_one_s_own_may_name_embedded_distributions(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[{"source": "facts", "target": "quiz"}]')
    found = load_benchmark(str(tmp_path / "mine.json"), "mini", limit=2)
    assert sorted(found.distributions) == ["facts", "quiz"]
    (tmp_path / "mine.json").write_text('[{"source": "facts", "target": "gone"}]')
    with pytest.raises(BadInput, match="mini: 1 distribution.* of benchmark mine are not there: gone"):
        load_benchmark(str(tmp_path / "mine.json"), "mini")


def test_genies_without_its_data_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("repeng.benchmarks.loaded.fetched_folder", lambda _name: None)
    monkeypatch.chdir(tmp_path)
    for arguments in (("genies", None), ("genies", "genies"), (None, "genies")):
        with pytest.raises(BadInput, match="repeng data fetch genies"):
            load_benchmark(*arguments)


def test_fetched_data_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = write_world(tmp_path, world(6)) / "data"
    monkeypatch.setattr("repeng.benchmarks.loaded.fetched_folder", lambda _name: data)
    monkeypatch.chdir(tmp_path)
    assert set(load_named("genies")) == set(load_named(None, ["easy", "hard", "polite", "terse"])) == set(world())
    assert len(load_benchmark(None, "genies").benchmark.shifts) == 16


def test_named_distributions_come_in_the_order_asked_for_and_unknown_ones_are_refused() -> None:
    names = list(load_named("mini", limit=2))[:3][::-1]
    assert list(load_named(None, names, limit=2)) == names
    with pytest.raises(UnknownName, match="'nothing'"):
        load_named("mini", ["nothing"])


@pytest.mark.slow
def test_the_embedded_benchmark_written_out_is_read_back_the_same(tmp_path: Path) -> None:
    count = export("mini", tmp_path / "out")
    found = load_benchmark(str(tmp_path / "out" / "shifts.json"), str(tmp_path / "out"))
    mini = load_benchmark("mini", None)
    assert count == len(list_distributions(tmp_path / "out"))
    assert found.benchmark.shifts == mini.benchmark.shifts == load_shifts(tmp_path / "out" / "shifts.json")
    for name in mini.benchmark.distributions:
        assert found.distributions[name].test.data_hash == mini.distributions[name].test.data_hash
    with pytest.raises(BadInput, match="no file or folder 'nowhere'"):
        export("nowhere", tmp_path)
    with pytest.raises(UnknownName, match="unknown form 'pairs'; choose from genies, statements"):
        export("mini", tmp_path, form="pairs")


def test_how_data_is_read_is_a_setting_in_flags_and_files(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('turn = -1\npositive = "no"\ngroup = "who"\n[columns]\ntext = "claim"\nlabel = "truth"\n')
    study = Study.read(file, {"positive": "yes"})
    assert study.reading == Reading({"text": "claim", "label": "truth", "group": "who"}, "yes", "-1")
    (tmp_path / "again.toml").write_text(study.to_toml())
    assert Study.read(tmp_path / "again.toml", {}) == study
    assert Study().reading.says_nothing
    assert Study(data="known:liars-bench=/x/copy").out == "results/liars-bench-mini"


@pytest.mark.parametrize(
    ("given", "text"), [("1", "1"), ("1.0", "1"), ("0.5", "0.5"), ("true", "true"), ('"yes"', "yes")]
)
def test_the_label_that_counts_as_1_may_be_a_number_or_a_boolean_in_a_file(
    given: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(f"positive = {given}\n")
    assert Study.read(file, {}).reading.positive == text
    (tmp_path / "again.toml").write_text(Study.read(file, {}).to_toml())
    assert Study.read(tmp_path / "again.toml", {}) == Study.read(file, {})


def test_data_is_loaded_as_the_reading_says_and_embedded_data_needs_none(tmp_path: Path) -> None:
    rows = "".join(f"t{number},{'ab'[number % 2]}\n" for number in range(20))
    (tmp_path / "d.csv").write_text("claim,truth\n" + rows)
    reading = Reading({"label": "truth"}, positive="b")
    found = load_benchmark(None, str(tmp_path / "d.csv"), reading=reading).distributions["d"]
    assert found.train.labels.sum() + found.test.labels.sum() == 10
    for load in (load_named, lambda data, reading: load_benchmark(data, None, reading=reading)):
        with pytest.raises(BadInput, match="--columns label=truth --positive b is of data of one's own"):
            load("mini", reading=reading)


def test_what_has_no_train_split_is_a_target_alone(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "t{number}", "label": {number % 2}}}\n' for number in range(20))
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / "test.jsonl").write_text(lines)
    assert load_benchmark(None, str(tmp_path)).benchmark.shifts == ()
    with pytest.raises(BadInput, match="no distribution has a train split"):
        plan_study(Study(data=str(tmp_path), out=str(tmp_path / "out")))
    (tmp_path / "lies.jsonl").write_text(lines)
    found = load_benchmark(None, str(tmp_path)).benchmark.shifts
    assert [(shift.source, shift.target) for shift in found] == [("lies", "benign"), ("lies", "lies")]


SHARED = MethodSettings("toy", 3, 256, "toy-0", Path("plugins"), Path("tuned"))


def test_every_name_that_is_offered_makes_a_method_of_that_name() -> None:
    for name in method_names():
        assert make_method(name, SHARED).name == name


def test_all_means_every_kind_of_method_each_once() -> None:
    found = make_methods(("mms", "all", "mms"), SHARED)
    assert [method.name for method in found] == ["mms", *[name for name in ALL if name != "mms"]]
    assert {"lora", "few-shot", "zero-shot", "tfidf", "random"} <= set(ALL) <= set(method_names())


def test_only_what_fits_a_model_counts_towards_its_capability() -> None:
    tuned = {name for name in ALL if make_method(name, SHARED).counts_towards_capability}
    assert tuned == {"mms", "lat", "ccs", "cra", "logistic", "lda", "lora", "prompt-tuning"}


def test_a_folder_without_scripts_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no train\.py and no eval\.py here"):
        make_method(str(tmp_path), SHARED)
    with pytest.raises(UnknownName, match="unknown method 'msm'; did you mean mms"):
        make_method("msm", SHARED)


def test_a_results_folder_of_the_users_own_is_where_a_shell_would_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert Study(out="~/o").out == "/home/someone/o"
