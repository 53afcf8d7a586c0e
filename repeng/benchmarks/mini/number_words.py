"""Numbers from 0 to 299 in words, English and Spanish."""

from __future__ import annotations

from functools import cache

from repeng.benchmarks.mini.tables import read_table


@cache
def _words(row: str) -> tuple[str, ...]:
    return tuple(next(line["words"] for line in read_table("number_words") if line["row"] == row).split())


def english(number: int) -> str:
    """English words: 42 -> `forty-two`, 142 -> `one hundred forty-two`."""
    if number >= 100:
        head = f"{_words('english')[number // 100]} hundred"
        return f"{head} {english(number % 100)}" if number % 100 else head
    if number < 20:
        return _words("english")[number]
    tens = _words("english_tens")[number // 10]
    return f"{tens}-{_words('english')[number % 10]}" if number % 10 else tens


def spanish(number: int) -> str:
    """Spanish words: 42 -> `cuarenta y dos`, 142 -> `ciento cuarenta y dos`."""
    if number == 100:
        return "cien"
    if number >= 100:
        head = {1: "ciento", 2: "doscientos"}[number // 100]
        return f"{head} {spanish(number % 100)}" if number % 100 else head
    if number < 30:
        return _words("spanish")[number]
    tens = _words("spanish_tens")[number // 10]
    return f"{tens} y {_words('spanish')[number % 10]}" if number % 10 else tens
