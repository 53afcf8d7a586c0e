"""Probes from the store alone."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from pathlib import Path

import pytest
from cli_samples import Repeng
from planted_store import planted, write_store
from rich.console import Console

from repeng.cli.show import sweep_tables
from repeng.report.tables import short_figure
from repeng.results import AUROC, LayerFigure, layer_rows


def test_probes_are_fitted_and_scored_from_the_store_alone(
    repeng: Repeng, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repeng.models.load.load_model", lambda *_a, **_k: pytest.fail("a model was loaded"))
    store = ("--store", place / "planted")
    said = repeng("fit", *store, "--source", "near", "--probe", "mms", "--out", tmp_path / "p", "--json")
    assert said.json["layers"] == [2]
    assert said.json["held_out_accuracy_by_layer"]["2"] == 1.0
    flags = ("score", *store, "--probe", tmp_path / "p", "--target", "near", "--target", "far", "--out", tmp_path / "e")
    scored = repeng(*flags, "--json")
    assert [row["target"] for row in scored.json] == ["near", "far"]
    assert scored.json[0]["accuracy"] > 0.95 > scored.json[1]["accuracy"]
    assert (tmp_path / "e" / "mms" / "toy-near" / "far.json").is_file()
    assert "far" in repeng(*flags).out
    heads = repeng("fit", *store, "--source", "near", "--probe", "mms", "--site", "hook_z", "--out", tmp_path / "h")
    assert "layer(s) 2 head 1" in heads.out
    assert repeng("score", *store, "--probe", tmp_path / "h", "--target", "near", "--json").json[0]["accuracy"] > 0.9
    range_ = repeng(
        "fit", *store, "--source", "near", "--probe", "mms", "--layers", "1-2", "--out", tmp_path / "r", "--json"
    )
    assert range_.json["layers"] == [1, 2]


def test_a_sweep_shows_its_marks_and_writes_a_table_and_a_picture(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    flags = ("sweep", "--store", place / "planted", "--source", "near", "--target", "near,like")
    said = repeng(*flags, "--probe", "mms,logistic", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "s.svg")
    assert said.code == 0
    chosen = [line for line in said.out.splitlines() if line.strip().startswith("2 ")]
    assert len(chosen) == 2 and all(line.count("*") == 2 for line in chosen)
    assert "o the target's own best, an oracle" in said.out
    assert "pair accuracy on like, fitted on near: 60 pairs, 60 prompts" in said.out
    assert "after each figure its 95 % interval over prompts, of one fit" in said.out
    assert (tmp_path / "s.svg").read_text().startswith("<svg")
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    plain = repeng(*flags, "--probe", "mms,logistic", "--json").json
    assert len(rows) == len(plain) == 2 * 2 * 4
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in plain]
    assert sum(row["oracle"] for row in plain) == 4
    shown = re.findall(r"[.\d]{3}[* ][o ] ([.\d]{3})-([.\d]{3})", said.out)
    assert len(shown) == len(plain)
    assert shown[0] == tuple(short_figure(plain[0][name]) for name in ("accuracy_low", "accuracy_high"))
    assert {(row["n_pairs"], row["n_texts"], row["n_prompts"]) for row in plain} == {(60, None, 60)}
    assert {(row["n_pairs"], row["n_texts"], row["n_prompts"]) for row in rows} == {("60", "", "60")}


@pytest.mark.parametrize("command", [("sweep", "--source", "near", "--target", "like"), ("matrix",)])
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_read(repeng: Repeng, command, tmp_path) -> None:
    said = repeng(*command, "--store", tmp_path / "none", "--plot", tmp_path / "s.jpg")
    assert said.code == 2 and "cannot draw 's.jpg'; end the file in .png, .svg, .pdf or .html" in said.err


def test_a_sweep_of_six_probes_fits_80_columns() -> None:
    probes = ("mms", "lat", "logistic(C=0.5)", "logistic", "logistic(C=0.125)", "lda")
    figures = [LayerFigure(layer, None, 0.77, 0.64, 1.0, 0.9, n_pairs=60, n_prompts=60) for layer in range(3)]
    rows = [row for probe in probes for row in layer_rows(figures, model="m", probe=probe, source="a", target="b")]
    stream = StringIO()
    console = Console(file=stream, width=80)
    for shown in sweep_tables(rows):
        console.print(shown)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count(".77 ") for line in lines) == len(rows)
    assert sum(line.count(".64-1.00") for line in lines) == len(rows)


def test_a_sweep_on_texts_counts_texts_and_groups() -> None:
    figures = [LayerFigure(0, None, 0.7, 0.6, 0.8, 0.9, n_texts=1200, n_prompts=30)]
    rows = layer_rows(figures, model="m", probe="mms", source="a", target="b", figure=AUROC)
    shown = sweep_tables(rows)
    assert shown[0] == "AUROC on b, fitted on a: 1,200 texts, 30 groups"
    assert "after each figure its 95 % interval over groups, of one fit" in shown


def test_a_sweep_over_heads_shows_every_head_in_each_form(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    flags = ("sweep", "--store", place / "planted", "--source", "near", "--target", "like", "--site", "hook_z")
    said = repeng(*flags, "--probe", "mms", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "s.svg")
    plain = repeng(*flags, "--probe", "mms", "--json").json
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    units = [(layer, head) for layer in range(4) for head in range(3)]
    assert [(row["layer"], row["head"]) for row in plain] == units
    assert [(int(row["layer"]), int(row["head"])) for row in rows] == units
    grid = [line for line in said.out.splitlines() if re.match(r" *\d  ", line)]
    assert [line.split()[0] for line in grid] == ["0", "1", "2", "3"]
    for layer, line in enumerate(grid):
        accuracies = [short_figure(row["accuracy"]) for row in plain if row["layer"] == layer]
        assert re.findall(r"(?<=  )(1?\.\d\d)[* ][o ]", line) == accuracies
    assert re.search(r"[.\d]{3}\*", grid[2])
    assert "* a head that the source chose" in said.out
    drawn = (tmp_path / "s.svg").read_text()
    assert len(set(re.findall(r"layer: \d; head: \d; accuracy", drawn))) == len(units)


def test_wide_tables_are_not_cut_in_a_pipe(repeng: Repeng, tmp_path: Path) -> None:
    names = [f"a_distribution_with_a_rather_long_name_{number:02}" for number in range(8)]
    signal_ = planted({2: (0, 4.0)}, seed=0, pairs=10)
    parts = {(name, split, "plain", "resid_post"): signal_ for name in names for split in ("train", "test")}
    write_store(tmp_path, parts)
    said = repeng("matrix", "--store", tmp_path)
    assert said.code == 0
    for number, name in enumerate(names, 1):
        line = next(line for line in said.out.splitlines() if line.startswith(f"{number} {name}"))
        assert line.count(".") == len(names) and len(line) > 80
    found = repeng("matrix", "--store", tmp_path, "--json").json
    assert found["names"] == names
    assert len(found["cosine"]) == len(names)


def test_a_matrix_of_all_distributions_is_of_the_data_that_is_meant(repeng: Repeng, tmp_path: Path) -> None:
    for folder, names in (("meant", "ab"), ("other", "c")):
        for number, name in enumerate(names):
            place = tmp_path / folder / name
            place.mkdir(parents=True)
            for split in ("train", "test"):
                texts = [f"{folder} {number} {split} {pair}" for pair in range(12)]
                pairs = [{"prompt": text, "responses": {"yes": 1.0, "no": 0.0}} for text in texts]
                (place / f"{split}.json").write_text(json.dumps(pairs))
        repeng("cache", "--data", tmp_path / folder, "--store", tmp_path / "store", "--stimuli", "plain")
    said = repeng("matrix", "--store", tmp_path / "store", "--data", tmp_path / "meant", "--json")
    assert said.json["names"] == ["a", "b"]
    some = ("--store", tmp_path / "store", "--data", tmp_path / "meant", "--train-limit", "8")
    small = repeng("matrix", *some, "--distributions", "a,b+a", "--plot", tmp_path / "m.svg")
    assert re.search(r"2 a\+b +\S+ +\d\.\d{3} \[\d\.\d{3}, 1\.000\]", small.out) and "tested on alone: 3 b" in small.out
    fitted = repeng("fit", *some, "--source", "b,a", "--probe", "mms", "--out", tmp_path / "union", "--json").json
    assert fitted["source"] == "a+b"
    scored = repeng("score", *some[:4], "--probe", tmp_path / "union", "--target", "a,b", "--json").json
    assert [row["accuracy"] for row in scored] == repeng("matrix", *some, "--distributions", "a,b,a+b", "--json").json[
        "accuracy"
    ][2]
    swept = repeng("sweep", *some, "--source", "a,a+b", "--source", "b", "--target", "b", "--probe", "mms").out
    assert all(f"on b, fitted on {source}" in swept for source in ("a", "b", "a+b"))
    assert repeng("matrix", "--store", tmp_path / "store", "--json").json["names"] == ["a", "b", "c"]


def test_a_probe_of_ones_own_is_named_by_its_file(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from repeng.probes import MMS\n\n\nclass Mine(MMS):\n    name = 'of-mine'\n")
    flags = ("--store", place / "planted", "--probe", f"{mine}:Mine")
    fitted = repeng("fit", *flags, "--source", "near", "--out", tmp_path / "p", "--json").json
    assert (fitted["probe"], fitted["layers"]) == ("of-mine", [2])
    swept = repeng("sweep", *flags, "--source", "near", "--target", "near", "--json").json
    assert {row["probe"] for row in swept} == {"of-mine"}
    assert repeng("matrix", *flags, "--json").json["probe"] == "of-mine"
    scored = repeng("score", "--store", place / "planted", "--probe", tmp_path / "p", "--target", "near", "--json")
    assert scored.json[0]["accuracy"] > 0.95
    said = repeng(
        "fit", "--store", place / "planted", "--probe", f"{mine}:Yours", "--source", "near", "--out", tmp_path
    )
    assert said.code == 2
    assert "has no class Yours" in said.err


def test_a_probe_of_ones_own_is_a_method_of_a_study(
    repeng: Repeng, study_flags: tuple[object, ...], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from repeng.probes import MMS\n\n\nclass Mine(MMS):\n    name = 'of-mine'\n")
    flags = ("run", *study_flags, "--store", tmp_path / "s", "--out", tmp_path / "o", "--methods", f"mms,{mine}:Mine")
    assert repeng(*flags, "--quiet").code == 0
    with (tmp_path / "o" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracies = {name: [row["accuracy"] for row in rows if row["method"] == name] for name in ("mms", "of-mine")}
    assert accuracies["mms"] == accuracies["of-mine"] != []
    assert {row["kind"] for row in rows if row["method"] == "of-mine"} == {"probe"}
    plan = repeng(*flags, "--dry-run", "--json").json
    assert plan["evaluations_done"] == plan["evaluations"]
    # An edited file is another method: its old answers are not believed.
    mine.write_text(
        mine.read_text() + "\n    def features(self, activations):\n        return -activations[..., 0, :, :]\n"
    )
    plan = repeng(*flags, "--dry-run", "--json").json
    assert plan["evaluations_done"] < plan["evaluations"]


def test_several_captures_in_a_store_make_a_question(repeng: Repeng, tmp_path: Path) -> None:
    parts = {("near", "train", "plain", "resid_post"): planted({2: (0, 4.0)}, seed=0)}
    for name in ("toy-aaaa", "toy-bbbb"):
        write_store(tmp_path, parts, capture=name)
    flags = ("fit", "--store", tmp_path, "--source", "near", "--probe", "mms", "--out", tmp_path / "p")
    said = repeng(*flags)
    assert said.code == 2
    assert "toy-aaaa" in said.err and "choose one with --model" in said.err
    assert repeng(*flags, "--model", "toy-bbbb").code == 0
