"""What a study was made of is written next to its results, and read as it was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repeng.errors import BadInput
from repeng.study.provenance import asks_genies, from_home, read_provenance_of, write_provenance
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome


def test_a_study_notes_its_model_and_every_split_that_it_used(finished: StudyOutcome, small_world: Path) -> None:
    found = read_provenance_of(finished.out)
    assert found is not None
    settings = finished.plan.cache.settings
    assert (found.capture, found.model.weights) == (settings.capture_id, settings.identity.weights)
    assert found.benchmark == "shifts" and "torch" in found.versions
    of = finished.plan.world.distributions
    used = {(task.source.distribution, "train") for task in finished.plan.tasks}
    used |= {(task.target.distribution, "test") for task in finished.plan.tasks}
    assert [(one.distribution, one.split) for one in found.splits] == sorted(
        used, key=lambda names: (names[0], names[1] != "train")
    )
    for one in found.splits:
        split = of[one.distribution].splits[one.split]
        prompts = {example.prompt for example in split.examples}
        assert (one.examples, one.prompts, one.pairs) == (len(split.examples), len(prompts), len(split.pairs))
        assert one.data_hash == split.data_hash
        assert one.place == from_home(str((small_world / "data" / one.distribution).resolve()))


def test_the_home_folder_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert from_home("/home/ada/data and /home/ada/more") == "~/data and ~/more"
    assert from_home("/home/adam/data") == "/home/adam/data"
    monkeypatch.setenv("HOME", "/")
    assert from_home("/data") == "/data"


def test_it_is_read_as_written_and_a_damaged_file_is_named(finished: StudyOutcome, tmp_path: Path) -> None:
    assert read_provenance_of(tmp_path) is None
    known = read_provenance_of(finished.out)
    assert known is not None
    write_provenance(replace(known, benchmark="ünder"), tmp_path)
    assert read_provenance_of(tmp_path) == replace(known, benchmark="ünder")
    (tmp_path / "provenance.json").write_text('{"splits": 3}')
    with pytest.raises(BadInput, match=r"provenance\.json: not a study's provenance"):
        read_provenance_of(tmp_path)


def test_a_file_named_as_a_list_of_genies_is_none_of_them() -> None:
    assert asks_genies(Study(benchmark="genies")) and asks_genies(Study(benchmark="difficulty"))
    assert not any(asks_genies(Study(benchmark=one)) for one in ("mini", "mine/genies.json", None))
