"""Intervals in words: one way of writing them for tables and sentences."""

from __future__ import annotations


def ends(low: float | None, high: float | None, *, digits: int = 2) -> str:
    """`0.12 to 0.34`; empty where there is no interval."""
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def with_ends(value: float, low: float | None, high: float | None, *, digits: int = 2) -> str:
    """`0.23 (0.12 to 0.34)`; the value alone where there is no interval."""
    interval = ends(low, high, digits=digits)
    return f"{value:.{digits}f}" + (f" ({interval})" if interval else "")
