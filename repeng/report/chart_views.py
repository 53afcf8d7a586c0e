"""The views that a chart's Vega-Lite specification is made of, and the rows of their data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GROUPS = ("vconcat", "hconcat", "concat", "spec")
"""Under what a view has others."""


def nodes(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every view of a specification, the outer ones first."""
    yield spec
    for key in ("vconcat", "hconcat", "concat", "layer"):
        for child in spec.get(key, ()):
            yield from nodes(child)
    if "spec" in spec:
        yield from nodes(spec["spec"])


def views(
    spec: dict[str, Any], rows: list[dict[str, Any]] | None = None, known: dict[str, Any] | None = None
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every view of a specification but layers, with the rows of its data: its own, or of what it stands in."""
    known = spec.get("datasets", {}) if known is None else known
    rows = _rows(spec, known) or rows or [row for layer in spec.get("layer", ()) for row in _rows(layer, known)]
    yield spec, rows
    for group in GROUPS:
        for child in [spec[group]] if group == "spec" and group in spec else spec.get(group, ()):
            yield from views(child, rows, known)


def facet_names(spec: dict[str, Any]) -> list[str]:
    """What stands above the panels of facets."""
    found: list[str] = []
    for view, rows in views(spec):
        if "field" in view.get("facet", {}):
            found += map(str, values(view["facet"]["field"], rows))
    return found


def _rows(view: dict[str, Any], known: dict[str, Any]) -> list[dict[str, Any]]:
    data = view.get("data") or {}
    rows: list[dict[str, Any]] = known.get(str(data.get("name")), data.get("values", []))
    return rows


def values(field: str, rows: list[dict[str, Any]]) -> list[Any]:
    """The values of a column, each once, as they first come."""
    return list(dict.fromkeys(row[field] for row in rows if field in row))
