"""Text that cites: written once, for a paper in LaTeX and for a page in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from repeng.report.citations import Entry, tex
from repeng.report.pair_texts import visible


@dataclass(frozen=True)
class Cite:
    """Works by their keys."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Name:
    """What a user or a program calls something: shown to the letter."""

    text: str


@dataclass(frozen=True)
class Yours:
    """A mark that a citation is wanted which the reader alone knows."""


Piece = str | Cite | Name | Yours


def latex(pieces: Iterable[Piece]) -> str:
    """The text in LaTeX, with `\\cite{key}`."""
    return "".join(map(_latex, pieces))


def markdown(pieces: Iterable[Piece], entries: Mapping[str, Entry]) -> str:
    """The text in Markdown, each work by authors and year with its link."""
    return "".join(_markdown(piece, entries) for piece in pieces)


def keys_of(pieces: Iterable[Piece]) -> list[str]:
    """The keys that a text cites, each once, in the order in which they come."""
    return list(dict.fromkeys(key for piece in pieces if isinstance(piece, Cite) for key in piece.keys))


def listed(items: Sequence[Sequence[Piece]], *, comma: str = "; ") -> list[Piece]:
    """Pieces of several items, one after the other, `and` before the last."""
    found: list[Piece] = []
    for number, item in enumerate(items):
        if number:
            last = number == len(items) - 1
            both = len(items) == 2 and comma == ", "
            found.append((" and " if both else f"{comma}and ") if last else comma)
        found += item
    return found


def _latex(piece: Piece) -> str:
    match piece:
        case Cite(keys):
            return f"~\\cite{{{','.join(keys)}}}"
        case Name(text):
            return f"\\texttt{{{tex(_one_line(text))}}}"
        case Yours():
            return r"~\textbf{[cite: yours]}"
        case text:
            return tex(text)


def _markdown(piece: Piece, entries: Mapping[str, Entry]) -> str:
    match piece:
        case Cite(keys):
            return f" ({'; '.join(_linked(entries[key]) for key in keys)})"
        case Name(text):
            return _code(_one_line(text))
        case Yours():
            return r" **\[cite: yours\]**"
        case text:
            return re.sub(r"([\\`*_\[\]<>])", r"\\\1", text)


def _linked(entry: Entry) -> str:
    return f"[{entry.short}]({entry.link})" if entry.link else entry.short


def _code(text: str) -> str:
    """A span of code, between more backticks than the text has in a row."""
    ticks = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    blank = " " if "`" in text else ""
    return f"{ticks}{blank}{text}{blank}{ticks}"


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))
