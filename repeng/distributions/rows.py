"""Reading a data file into rows: JSON, JSON lines, CSV or Parquet. What a row means is not known here."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from repeng.errors import BadData
from repeng.limits import DATA_BYTES, DATA_ROWS, read_bounded, size

Rows = list[Any]
"""One entry per example, in file order. A row that cannot be read is the `BadData` that says why, in its place."""

CSV_LIMIT_LOCK = threading.Lock()
PARQUET_BATCH = 256
JSON_FOLLOWS = re.compile(r"\s*([,\]])\s*")


class RepeatedKeys(dict[str, Any]):
    """A JSON object that gave a key more than once: JSON readers keep the last value and say nothing."""

    repeated: str


def read_rows(path: Path) -> Rows:
    """Every row of one file, by its ending: `.json`, `.jsonl`, `.csv` or `.parquet`.

    Raises:
        BadData: the file as a whole cannot be read; the message names it, and the example where that is known.
    """
    try:
        raw = read_bounded(path, DATA_BYTES)
    except OSError as error:
        raise BadData(f"cannot be read: {error.strerror}", path=path) from error
    try:
        return READERS[path.suffix.lower()](raw)
    except BadData as error:
        raise BadData(error.reason, path=path, example=error.example) from error


def parse_json(text: str) -> Any:
    """JSON as Python values; an object that repeats a key is a `RepeatedKeys`.

    Raises:
        BadData: it is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise BadData(f"broken JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise BadData(f"broken JSON: {error}") from error


def read_text(raw: bytes) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        BadData: it is not UTF-8.
    """
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte, line = raw[error.start], raw.count(b"\n", 0, error.start) + 1
        raise BadData(
            f"not UTF-8 text (byte 0x{byte:02x} at position {error.start}, line {line}); save the file as UTF-8"
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    again = RepeatedKeys(found)
    again.repeated = _first_repeated(key for key, _ in pairs)
    return again


def _first_repeated(names: Iterable[str]) -> str:
    """The first name that stood earlier; there is one."""
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _read_json(raw: bytes) -> Rows:
    try:
        text = read_text(raw)
        if text.lstrip().startswith("{"):
            return _read_json_lines_or_object(raw, text)
        rows = parse_json(text)
    except BadData as error:
        raise BadData(error.reason, example=_elements_read(_readable_start(raw))) from error
    if not isinstance(rows, list):
        raise BadData("expected a list of examples: [{...}, {...}]")
    return rows


def _read_json_lines_or_object(raw: bytes, text: str) -> Rows:
    """A `.json` file that starts with an object: JSON lines under another name, or not a list at all."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        rows = _read_json_lines(raw)
        if isinstance(rows[0], dict):
            return rows
        raise BadData("expected a list of examples, [{...}, {...}], or one example a line") from None
    raise BadData("expected a list of examples, [{...}, {...}], and found one object; put it in a list")


def _read_json_lines(raw: bytes) -> Rows:
    rows: Rows = []
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line.decode(), object_pairs_hook=_object))
        except UnicodeDecodeError as error:
            byte = line[error.start]
            rows.append(BadData(f"not UTF-8 text (line {number}, byte 0x{byte:02x}); save the file as UTF-8"))
        except json.JSONDecodeError as error:
            rows.append(BadData(f"broken JSON: {error.msg} (line {number}, column {error.colno})"))
        except (ValueError, RecursionError) as error:
            rows.append(BadData(f"broken JSON: {error} (line {number})"))
    return rows


def _read_csv(raw: bytes) -> Rows:
    try:
        text = read_text(raw)
    except BadData as error:
        # Anything but a line's end after the readable start counts the record that holds the bad byte, too.
        with _long_csv_fields():
            records = sum(1 for record in csv.reader(io.StringIO(_readable_start(raw) + "?", newline="")) if record)
        raise BadData(error.reason, example=records - 2 if records > 1 else None) from error
    rows: Rows = []
    with _long_csv_fields():
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise BadData(f"the column {_first_repeated(header)!r} is given twice")
            for record in reader:
                if len(record) == len(header):
                    rows.append(dict(zip(header, record, strict=True)))
                elif record:
                    counts = f"{len(record)} values for {len(header)} columns (line {reader.line_num})"
                    rows.append(BadData(f"{counts}; quote values that hold a comma"))
        except csv.Error as error:
            raise BadData(f"broken CSV: {error} (line {reader.line_num})", example=len(rows)) from error
    return rows


@contextmanager
def _long_csv_fields() -> Iterator[None]:
    """Long responses are legal: while reading, the process-wide limit of 128 KiB per field is lifted."""
    with CSV_LIMIT_LOCK:
        limit = csv.field_size_limit(DATA_BYTES)
        try:
            yield
        finally:
            csv.field_size_limit(limit)


def _read_parquet(raw: bytes) -> Rows:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(raw))
        parts = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        check_unpacked(file.metadata.num_rows, sum(part.total_byte_size for part in parts))
        rows: Rows = []
        unpacked = 0
        # A value that is stored once and named by many rows is in no total; as a Python value each row has its own.
        for batch in file.iter_batches(batch_size=PARQUET_BATCH):
            columns = [
                column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
                for column in batch.columns
            ]
            unpacked += sum(column.nbytes for column in columns)
            check_unpacked(len(rows) + batch.num_rows, unpacked)
            rows += batch.to_pylist()
        return rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BadData(f"not a readable Parquet file: {error}") from error


def check_unpacked(rows: int, unpacked: int) -> None:
    """See that a table may be taken into memory.

    Raises:
        BadData: it has too many rows, or too many bytes once it is unpacked.
    """
    if rows > DATA_ROWS:
        raise BadData(f"{rows:,} rows, and at most {DATA_ROWS:,} are read of a file; divide it")
    if unpacked > DATA_BYTES:
        raise BadData(f"it unpacks to {size(unpacked)} or more, and at most {size(DATA_BYTES)} are read; divide it")


def _readable_start(raw: bytes) -> str:
    """The text before the first byte that is not UTF-8."""
    return re.split("[\udc80-\udcff]", raw.decode(errors="surrogateescape"), maxsplit=1)[0].removeprefix("\ufeff")


def _elements_read(text: str) -> int | None:
    """How many elements of a JSON list can be read: the number of the one at fault. None where no list begins."""
    decoder = json.JSONDecoder()
    start = re.match(r"\s*\[\s*", text)
    if start is None:
        return None
    place, count = start.end(), 0
    while True:
        try:
            _, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return count
        count += 1
        follows = JSON_FOLLOWS.match(text, place)
        if follows is None or follows[1] == "]":
            return count if follows is None else None
        place = follows.end()


READERS: dict[str, Callable[[bytes], Rows]] = {
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
