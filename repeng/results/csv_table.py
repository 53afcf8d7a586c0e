"""Tables as CSV files, read and written by column name through pandas."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from repeng.atomic import write_atomically
from repeng.errors import BadInput
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.places import Place

RowT = TypeVar("RowT")
OTHERS = "others"
"""The field of a row that holds the cells of columns which the row's class does not know."""


@cache
def columns_of(row_type: type) -> tuple[str, ...]:
    """The columns that a class of rows knows, in order."""
    return tuple(field.name for field in fields(row_type) if field.name != OTHERS)


def record_of(row: Any) -> dict[str, Any]:
    """A row as plain values by column: those that its class knows, then the others."""
    return {**{name: getattr(row, name) for name in columns_of(row.__class__)}, **getattr(row, OTHERS)}


def write_csv(records: Iterable[Mapping[str, Any]], path: Place, columns: Sequence[str] = ()) -> None:
    """Write records atomically: figures to the last bit, None as nothing between commas.

    Args:
        records: cells by column; a column that some lack is blank there.
        path: the file.
        columns: the header where there is no record.
    """
    listed = list(records)
    frame = pd.DataFrame(listed, columns=None if listed else list(columns), dtype=object)
    write_atomically(path, frame.to_csv(index=False, lineterminator="\n"))


def write_rows(rows: Sequence[Any], path: Place, row_type: type) -> None:
    """Write rows of a class as `read_rows` reads them."""
    write_csv(map(record_of, rows), path, columns_of(row_type))


def read_rows(path: Place, row_type: type[RowT], *, what: str, needed: Sequence[str]) -> list[RowT]:
    """Read a table by the names of its columns, in any order; those that the class does not know go to `others`.

    A column that is missing is blank: None, or an empty text.

    Args:
        path: the file.
        row_type: a dataclass whose fields are columns of type str, bool, int or float, or one of these or None.
        what: what the table is of, for errors.
        needed: the columns without which it is no such table.

    Raises:
        BadInput: there is no such file, a needed column is missing, or a cell is not what its column holds.
    """
    no_table = f"{path}: not a table of {what}"
    try:
        # The other engine fills a row that is too short with blanks.
        content = io.BytesIO(read_bounded(path, RECORD_BYTES))
        cells = pd.read_csv(content, dtype=str, keep_default_na=False, encoding="utf-8-sig", engine="python")
    except OSError as error:
        raise BadInput(
            f"{path}: cannot read the {what}: {error.strerror}; give the folder of a finished study"
        ) from error
    except ValueError as error:
        raise BadInput(f"{no_table}: not a CSV file in UTF-8: {error}; give a study's {what}.csv") from error
    absent = [name for name in needed if name not in cells]
    if absent:
        raise BadInput(f"{no_table}: no column {', '.join(absent)}; its first line must name its columns")
    short = cells.isna().any(axis=1).to_numpy().nonzero()[0]
    if len(short) or not isinstance(cells.index, pd.RangeIndex):
        number = short[0] + 1 if len(short) else 1
        raise BadInput(
            f"{no_table}: row {number}: more or fewer cells than there are columns; quote cells with a comma"
        )
    reader = TypeAdapter(row_type)
    rows = []
    for number, values in enumerate(_records(cells, row_type), start=1):
        try:
            rows.append(reader.validate_python(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = f"{no_table}: row {number}, column {first['loc'][0]}"
            raise BadInput(f"{where} is {first['input']!r}: {first['msg']}") from error
    return rows


def _records(cells: pd.DataFrame, row_type: type) -> list[dict[str, Any]]:
    """The fields of each row, from the text of its cells: by columns, which is much sooner done than by rows."""
    kinds = get_type_hints(row_type)
    columns = {str(name): cells[name].tolist() for name in cells}
    known = []
    for name in columns_of(row_type):
        texts = columns.get(name, [""] * len(cells))
        known.append(texts if kinds[name] is str else [text.strip() or None for text in texts])
    others = {name: texts for name, texts in columns.items() if name not in kinds}
    names = (*columns_of(row_type), OTHERS)
    of_others = (dict(zip(others, texts, strict=True)) for texts in zip(*others.values(), strict=True))
    rest = of_others if others else ({} for _ in range(len(cells)))
    return [dict(zip(names, row, strict=True)) for row in zip(*known, rest, strict=True)]
