"""Reading files: what is in them comes out, and broken ones say where."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repeng.distributions.rows import READERS, RepeatedKeys, read_rows
from repeng.errors import BadData

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ROWS = st.lists(st.fixed_dictionaries({"prompt": TEXT, "chosen": TEXT, "rejected": TEXT}), min_size=1, max_size=5)
IN_TMP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@IN_TMP
@given(rows=ROWS)
def test_any_text_survives_every_format(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    import pandas

    write(tmp_path / "a.json", json.dumps(rows, indent=1, ensure_ascii=False))
    write(tmp_path / "a.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_csv(tmp_path / "a.csv", rows)
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    for ending in READERS:
        assert read_rows(tmp_path / f"a{ending}") == rows, ending


def test_words_that_pandas_takes_for_missing_stay_text_in_csv(tmp_path: Path) -> None:
    rows = [{"prompt": "NA", "chosen": "null", "rejected": ""}, {"prompt": "1", "chosen": "nan", "rejected": "2.50"}]
    assert read_rows(write_csv(tmp_path / "a.csv", rows)) == rows


def test_a_csv_field_may_be_longer_than_the_csv_module_allows_and_its_limit_is_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows = [{"prompt": "p", "chosen": "long " * 100_000, "rejected": "r"}]
    assert read_rows(write_csv(tmp_path / "a.csv", rows)) == rows
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path, ending: str) -> None:
    content = {".json": '[{"prompt": "p"}]', ".jsonl": '{"prompt": "p"}', ".csv": "prompt\np\n"}[ending]
    assert read_rows(write(tmp_path / f"a{ending}", b"\xef\xbb\xbf" + content.encode())) == [{"prompt": "p"}]


def test_blank_lines_and_windows_line_ends_are_no_rows(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path / "a.jsonl", '{"a": 1}\r\n\r\n{"a": 2}\r\n\n')) == [{"a": 1}, {"a": 2}]
    assert read_rows(write(tmp_path / "a.csv", "a,b\r\n1,2\r\n\r\n3,4\r\n")) == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path / "a.jsonl", '{"a": "x\u2028y\x85z"}\n')) == [{"a": "x\u2028y\x85z"}]


def test_json_lines_named_json_are_read(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path / "a.json", '{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]


def test_a_repeated_key_is_marked_at_any_depth(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.jsonl", '{"a": {"x": 1, "y": 2, "x": 3}}'))
    assert isinstance(rows[0]["a"], RepeatedKeys) and rows[0]["a"].repeated == "x"


def test_each_broken_line_of_json_lines_is_an_error_in_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": \n\n{"a": "\xff"}\n{"a": 2}\n' + b"[" * 100_000 + b"\n")
    rows = read_rows(path)
    assert [isinstance(row, BadData) for row in rows] == [False, True, True, False, True]
    assert "line 2" in rows[1].reason and "broken JSON" in rows[1].reason
    assert "line 4" in rows[2].reason and "not UTF-8" in rows[2].reason


GOOD = '{"prompt": "p", "responses": {"a]": 1, "b": 0}}'
BROKEN: list[tuple[str, Any, int | None, str]] = [
    ("a.json", f"[{GOOD}, {GOOD}, {{]", 2, "broken JSON"),
    ("a.json", f"[{GOOD} {GOOD}]", 1, "line 1, column"),
    ("a.json", f"[{GOOD}, ", 1, "broken JSON"),
    ("a.json", f"[{GOOD}", 1, "broken JSON"),
    ("a.json", f"[{GOOD}] x", None, "Extra data"),
    ("a.json", "", None, "broken JSON"),
    ("a.json", "nothing", None, "broken JSON"),
    ("a.json", '"text"', None, "expected a list"),
    ("a.json", GOOD, None, "put it in a list"),
    ("a.json", '{"prompt": ', None, "one example a line"),
    ("a.json", "[" * 100_000, 0, "broken JSON"),
    ("a.json", "[" + "9" * 5000 + "]", 0, "broken JSON"),
    ("a.json", f"[{GOOD},\n".encode() + b'{"prompt": "\xe9"}]', 1, "byte 0xe9"),
    ("a.json", b"\xef\xbb\xbf[" + b'"\xe9"]', 0, "byte 0xe9 at position 5"),
    ("a.json", GOOD.encode("utf-16"), None, "save the file as UTF-8"),
    ("a.csv", b"prompt,chosen,rejected\na,b,c\nd,\xe9,f\n", 1, "line 3"),
    ("a.csv", b"prompt,chosen,rejected\na,b,c\n\xe9,e,f\n", 1, "line 3"),
    ("a.csv", b"prompt,\xe9\n", None, "not UTF-8"),
    ("a.csv", 'prompt,chosen,rejected\na,b,c\nd,"e"x,f\n', 1, "broken CSV"),
    ("a.csv", 'prompt,chosen,rejected\na,b,"c\n', 0, "broken CSV"),
    ("a.csv", "prompt,prompt\na,b\n", None, "'prompt' is given twice"),
    ("a.parquet", b"PAR1 but no more", None, "not a readable Parquet file"),
    ("a.parquet", b"", None, "not a readable Parquet file"),
]


@pytest.mark.parametrize(
    ("name", "content", "example", "reason"), BROKEN, ids=[f"{number}-{row[0]}" for number, row in enumerate(BROKEN)]
)
def test_a_broken_file_is_refused_with_file_example_and_reason(tmp_path, name, content, example, reason) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(BadData) as caught:
        read_rows(path)
    assert caught.value.path == path
    assert caught.value.example == example
    assert reason in caught.value.reason


def test_a_csv_row_of_another_length_is_an_error_in_its_place(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.csv", "prompt,chosen,rejected\na,b,c\na,b\na,b,c,d\ne,f,g\n"))
    assert [row.reason[:22] if isinstance(row, BadData) else row["prompt"] for row in rows] == [
        "a",
        "2 values for 3 columns",
        "4 values for 3 columns",
        "e",
    ]


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for name in ("none.json", "folder.json"):
        with pytest.raises(BadData, match="cannot be read"):
            read_rows(tmp_path / name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from(sorted(READERS)), place=st.floats(0, 1), new=st.binary(max_size=3), length=st.integers(0, 9)
)
def test_a_damaged_file_gives_rows_or_bad_data_and_nothing_else(tmp_path: Path, ending, place, new, length) -> None:
    import pandas

    rows = [{"prompt": "p é", "chosen": 'c "quoted", x', "rejected": "r\nr"}] * 3
    path = tmp_path / f"a{ending}"
    if ending == ".csv":
        write_csv(path, rows)
    elif ending == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    else:
        write(path, json.dumps(rows) if ending == ".json" else "\n".join(json.dumps(row) for row in rows))
    raw = path.read_bytes()
    start = int(place * len(raw))
    write(path, raw[:start] + new + raw[start + length :])
    try:
        assert isinstance(read_rows(path), list)
    except BadData as error:
        assert error.path == path and error.reason
