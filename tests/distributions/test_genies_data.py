"""The real GENIES data, against a plain reading of its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repeng.benchmarks.shift_lists import get_benchmark
from repeng.distributions.check import check_data, summarise
from repeng.distributions.load import list_distributions, load_distributions, write_genies
from repeng.distributions.schema import Distribution
from repeng.distributions.shifts import load_shifts


@pytest.fixture(scope="module")
def plain(genies_root: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Every distribution and split, read with nothing but the json module."""
    return {
        folder.name: {split: json.loads((folder / f"{split}.json").read_text()) for split in ("train", "test")}
        for folder in sorted((genies_root / "distributions").iterdir())
        if folder.is_dir()
    }


@pytest.fixture(scope="module")
def loaded(genies_root: Path) -> dict[str, Distribution]:
    return load_distributions(genies_root / "distributions")


def test_all_distributions_load_with_every_text_label_and_metadata_in_file_order(plain, loaded) -> None:
    headline = {name for s in get_benchmark("genies").shifts for name in (s.source, s.target, s.target_reference)}
    assert list(loaded) == list(plain) and len(headline) == 23 and headline <= set(loaded)
    for name, splits in plain.items():
        for split, rows in splits.items():
            examples = loaded[name].split(split).examples
            assert [e.prompt for e in examples] == [row["prompt"] for row in rows]
            assert [list(e.responses) for e in examples] == [list(row["responses"]) for row in rows]
            assert [e.responses[e.best] for e in examples] == [
                next(text for text, score in row["responses"].items() if score == 1.0) for row in rows
            ]
            assert [dict(e.metadata) for e in examples] == [
                {key: value for key, value in row.items() if key not in ("prompt", "responses")} for row in rows
            ]


def test_counts_of_examples_responses_pairs_and_prompts_are_those_of_a_plain_count(plain, loaded) -> None:
    found = {(s.distribution, s.split): (s.examples, s.responses, s.pairs, s.prompts) for s in summarise(loaded)}
    assert found == {
        (name, split): (
            len(rows),
            sum(len(row["responses"]) for row in rows),
            sum(len(row["responses"]) - 1 for row in rows),
            len({row["prompt"] for row in rows}),
        )
        for name, splits in plain.items()
        for split, rows in splits.items()
    }


def test_pairs_and_labels_are_those_of_a_plain_loop(plain, loaded) -> None:
    for name, splits in plain.items():
        for split, rows in splits.items():
            responses = [(text, score) for row in rows for text, score in row["responses"].items()]
            found = loaded[name].split(split)
            assert found.labels.tolist() == [score for _, score in responses]
            expected = [
                (best, worse)
                for row in rows
                for best, one in row["responses"].items()
                for worse, zero in row["responses"].items()
                if one == 1.0 and zero == 0.0
            ]
            assert [(responses[p.best][0], responses[p.worse][0]) for p in found.pairs] == expected


def test_no_problem_is_found(genies_root) -> None:
    assert check_data(genies_root / "distributions") == []


def test_the_root_of_the_benchmark_is_taken_for_its_distributions(genies_root) -> None:
    assert list_distributions(genies_root) == list_distributions(genies_root / "distributions")


def test_everything_comes_back_from_what_is_written(loaded, tmp_path: Path) -> None:
    for distribution in loaded.values():
        write_genies(distribution, tmp_path)
    again = load_distributions(tmp_path)
    assert again == loaded
    for name, distribution in loaded.items():
        for split in ("train", "test"):
            assert again[name].split(split).data_hash == distribution.split(split).data_hash
            assert [e.metadata for e in again[name].split(split).examples] == [
                e.metadata for e in distribution.split(split).examples
            ]


def test_every_shift_file_loads_row_by_row(genies_root) -> None:
    paths = sorted((genies_root / "distribution_shifts").rglob("*.json"))
    assert len(paths) > 5
    for path in paths:
        rows = json.loads(path.read_text())
        shifts = load_shifts(path)
        assert [(s.source, s.target) for s in shifts] == [(row["source"], row["target"]) for row in rows]
        assert [s.target_reference for s in shifts] == [row.get("target_reference", row["target"]) for row in rows]
    folder = genies_root / "distribution_shifts"
    assert len(load_shifts(folder / "GENIES.json")) == 15
    assert len(load_shifts(folder / "all.json")) == 69
    assert {(s.label, s.category) for s in load_shifts(folder / "all.json")} == {("", "")}
    assert {(s.label, s.category) for s in load_shifts(folder / "probing" / "spurious_cues.json")} == {
        ("probing", "spurious_cues")
    }
    assert {(s.label, s.category) for s in load_shifts(folder / "extreme" / "all.json")} == {("extreme", "")}
