"""The table of layers that a study writes: every layer alone, at no fit of its own, and no leak."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_world import NAMES, SHIFTS, flip, silent, with_split, world, write_world

from repeng.methods.probes import CachedSource, FittedOnCache
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.registry import get_probe
from repeng.results import LayerRow, read_layers, read_results
from repeng.study.cached_sweep import sweep
from repeng.study.evaluations import Task
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

LAYERS = 3


def run(study: Study) -> StudyOutcome:
    return run_study(plan_study(study), progress=silent, note=lambda _line: None)


def layers_in(out: Path | str) -> list[LayerRow]:
    return read_layers(Path(out) / "layers.csv")


@pytest.fixture
def again(finished: StudyOutcome, tmp_path: Path) -> Study:
    """The finished study's settings on a copy of its store and results."""
    study = finished.plan.study
    shutil.copytree(study.store, tmp_path / "store")
    shutil.copytree(study.out, tmp_path / "out")
    return replace(study, store=str(tmp_path / "store"), out=str(tmp_path / "out"))


def test_every_probe_has_every_layer_on_every_shift_and_in_distribution(finished: StudyOutcome) -> None:
    rows = layers_in(finished.out)
    asked = {(row.source, row.target) for row in rows}
    assert asked >= {(shift.source, shift.target) for shift in SHIFTS} | {(s.source, s.source) for s in SHIFTS}
    assert {row.probe for row in rows} == {"mms", "cra"}
    for source, target in asked:
        for probe in ("mms", "cra"):
            own = [row for row in rows if (row.probe, row.source, row.target) == (probe, source, target)]
            assert [row.layer for row in own] == list(range(LAYERS))
            assert sum(row.chosen for row in own) >= sum(row.oracle for row in own) == 1
            assert max(row.accuracy for row in own) == next(row.accuracy for row in own if row.oracle)


def test_the_chosen_layers_figures_are_those_of_the_results(finished_alone: StudyOutcome) -> None:
    results = {(row.method, row.source, row.target): row for row in read_results(finished_alone.out / "results.csv")}
    compared = 0
    for row in layers_in(finished_alone.out):
        result = results.get((row.probe, row.source, row.target))
        if row.chosen and result is not None:
            assert (str(row.layer), row.accuracy) == (result.layers, result.accuracy)
            assert (row.accuracy_low, row.accuracy_high) == pytest.approx((result.accuracy_low, result.accuracy_high))
            compared += 1
    assert compared == 2 * len(SHIFTS)


def test_the_table_is_what_a_sweep_of_the_store_finds(finished: StudyOutcome) -> None:
    swept = sweep(finished.plan.study.store, "easy", ["easy", "hard", "polite"], ["mms", "cra"])
    written = {(row.probe, row.target, row.layer): row for row in layers_in(finished.out) if row.source == "easy"}
    assert len(swept) == 3 * 2 * LAYERS
    for row in swept:
        own = written[row.probe, row.target, row.layer]
        assert (own.accuracy, own.chosen, own.oracle) == (row.accuracy, row.chosen, row.oracle)
        assert own.held_out_accuracy == row.held_out_accuracy
        assert (own.accuracy_low, own.accuracy_high) == pytest.approx((row.accuracy_low, row.accuracy_high))


def test_a_large_source_is_swept_by_the_fits_that_chose_its_layer(finished: StudyOutcome) -> None:
    runner = finished.plan.runner
    source, target = world()["easy"].train, world()["hard"].test
    spec, own = ProbeSpec(get_probe("mms")), runner.source(source)
    fitted = fit_probe(spec, CachedSource.of(spec, LAYERS, own.activations, own.labels), block_bytes=1)
    curve = runner.by_layer(FittedOnCache.alone(fitted, LAYERS), Task("mms", source, target)).figures
    written = [row for row in layers_in(finished.out) if (row.probe, row.source, row.target) == ("mms", "easy", "hard")]
    assert [figure.accuracy for figure in curve] == [row.accuracy for row in written]


def test_a_second_run_reads_the_table_back_to_the_byte(again: Study) -> None:
    table = Path(again.out) / "layers.csv"
    before = table.read_bytes()
    table.unlink()
    assert run(again).evaluations_made == 0
    assert table.read_bytes() == before


def test_flipped_target_labels_change_neither_choice_nor_held_out_figure(again: Study, tmp_path: Path) -> None:
    folder = write_world(tmp_path / "flipped", with_split(world(), "hard", "test", flip))
    methods = ("mms", "cra")
    out = str(tmp_path / "flipped-out")
    data = {"benchmark": str(folder / "shifts.json"), "data": str(folder / "data")}
    run(replace(again, **data, methods=methods, out=out))
    old, new = ({(r.probe, r.source, r.target, r.layer): r for r in layers_in(o)} for o in (again.out, out))
    assert old.keys() == new.keys()
    assert {key: (row.chosen, row.held_out_accuracy) for key, row in old.items()} == {
        key: (row.chosen, row.held_out_accuracy) for key, row in new.items()
    }
    assert any(old[key].accuracy != new[key].accuracy for key in old if key[2] == "hard")
    assert all(old[key] == new[key] for key in old if key[2] in NAMES and key[2] != "hard")


def test_where_no_layer_was_to_choose_there_is_no_table(again: Study) -> None:
    assert (Path(again.out) / "layers.csv").is_file()
    (Path(again.out) / "study.toml").unlink()
    run(replace(again, layers="1", methods=("mms", "zero-shot")))
    assert not (Path(again.out) / "layers.csv").exists()
