"""Shift files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repeng.distributions.schema import Shift
from repeng.distributions.shifts import load_shifts
from repeng.errors import BadData


def save(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path


def test_rows_are_kept_in_order_with_repeats(tmp_path: Path) -> None:
    rows = [
        {"source": "b", "target": "c"},
        {"source": "a", "target": "b", "target_reference": "d", "label": "extreme", "category": "skill"},
        {"source": "b", "target": "c", "target_reference": None},
    ]
    assert load_shifts(save(tmp_path / "shifts.json", rows)) == (
        Shift("b", "c", "c"),
        Shift("a", "b", "d", "extreme", "skill"),
        Shift("b", "c", "c"),
    )


def test_a_file_under_extreme_or_probing_lends_its_place_where_a_row_has_none(tmp_path: Path) -> None:
    rows = [{"source": "a", "target": "b"}, {"source": "a", "target": "c", "label": "other", "category": "mine"}]
    first, second = load_shifts(save(tmp_path / "probing" / "spurious_cues.json", rows))
    assert (first.label, first.category) == ("probing", "spurious_cues")
    assert (second.label, second.category) == ("other", "mine")
    assert load_shifts(save(tmp_path / "extreme" / "all.json", rows))[0] == Shift("a", "b", label="extreme")
    assert load_shifts(save(tmp_path / "elsewhere" / "skill.json", rows))[0] == Shift("a", "b")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("[", "broken JSON"),
        ({"source": "a", "target": "b"}, "expected a list of shifts, found an object"),
        ([], "an empty list: there are no shifts"),
        ([["a", "b"]], "shift 0: a shift is an object with a source and a target, not a list"),
        ([{"source": "a", "target": "b"}, {"source": "a"}], "shift 1: no target"),
        ([{"source": "", "target": "b"}], "shift 0: no source"),
        ([{"source": 1, "target": "b"}], "shift 0: source is a number, not text"),
        ([{"source": None, "target": "b"}], "shift 0: source is nothing, not text"),
        ([{"source": "a", "target": "b", "label": ["x"]}], "shift 0: label is a list, not text"),
        ([{"source": "a", "target": "b", "target_refrence": "c"}], "shift 0: unknown key 'target_refrence'"),
        ('[{"source": "a", "target": "b", "target": "c"}]', "shift 0: the key 'target' is given twice"),
    ],
)
def test_a_bad_shift_file_is_refused_with_the_shift_and_the_reason(tmp_path: Path, rows, reason) -> None:
    path = save(tmp_path / "shifts.json", rows)
    with pytest.raises(BadData) as caught:
        load_shifts(path)
    assert str(path) in str(caught.value) and reason in str(caught.value)


def test_a_shift_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="none.json: cannot be read"):
        load_shifts(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(b'[{"source": "\xe9"}]')
    with pytest.raises(BadData, match="latin.json: not UTF-8 text"):
        load_shifts(tmp_path / "latin.json")
