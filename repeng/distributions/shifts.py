"""Shift files: lists of (source, target), as GENIES has them."""

from __future__ import annotations

from pathlib import Path

from repeng.distributions.chat import kind
from repeng.distributions.rows import RepeatedKeys, parse_json, read_text
from repeng.distributions.schema import Shift
from repeng.errors import BadData
from repeng.limits import RECORD_BYTES, read_bounded

KEYS = ("source", "target", "target_reference", "label", "category")
LABELS = ("extreme", "probing")


def load_shifts(path: str | Path) -> tuple[Shift, ...]:
    """The shifts of a JSON file, in its order, repeated rows included.

    A file in a folder named `extreme` or `probing` gives its rows that label, and (except `all.json`) its own name as
    their category, where they have none themselves.

    Raises:
        BadData: the file is not a list of shifts; the message names the shift and what is wrong with it.
    """
    path = Path(path).expanduser()
    try:
        rows = parse_json(read_text(read_bounded(path, RECORD_BYTES)))
    except OSError as error:
        raise BadData(f"cannot be read: {error.strerror}", path=path) from error
    except BadData as error:
        raise BadData(error.reason, path=path) from error
    if not isinstance(rows, list):
        raise BadData(f"expected a list of shifts, found {kind(rows)}", path=path)
    if not rows:
        raise BadData("an empty list: there are no shifts", path=path)
    place = path.resolve()
    label = place.parent.name if place.parent.name in LABELS else ""
    category = place.stem if label and place.stem != "all" else ""
    shifts = []
    for number, row in enumerate(rows):
        try:
            shifts.append(_shift(row, label, category))
        except BadData as error:
            raise BadData(f"shift {number}: {error.reason}", path=path) from error
    return tuple(shifts)


def _shift(row: object, label: str, category: str) -> Shift:
    if not isinstance(row, dict):
        raise BadData(f"a shift is an object with a source and a target, not {kind(row)}")
    if isinstance(row, RepeatedKeys):
        raise BadData(f"the key {row.repeated!r} is given twice")
    if unknown := sorted(row.keys() - set(KEYS)):
        raise BadData(f"unknown key {unknown[0]!r}; a shift has {', '.join(KEYS)}")
    for key in KEYS:
        value = row.get(key)
        if value is None and key in row and key not in ("source", "target"):
            continue
        if key in row and not isinstance(value, str):
            raise BadData(f"{key} is {kind(value)}, not text")
        if key in ("source", "target") and not value:
            raise BadData(f"no {key}")
    return Shift(
        source=row["source"],
        target=row["target"],
        target_reference=row.get("target_reference") or "",
        label=row.get("label") or label,
        category=row.get("category") or category,
    )
