"""What a page tells its reader to run: commands and Python, in their order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+ )*((?:repeng|make|pip|python3?|\.venv/bin/\S+)(?: .*)?)$")
INLINE = re.compile(r"(?<!`)`(repeng [^`]+)`(?!`)")
PROSE = re.compile(r"\s{3,}(?![-\s])")
"""After three blanks stands what a command is for, unless it is one of its options."""


@dataclass(frozen=True)
class Piece:
    """Something to run.

    Attributes:
        page: its path from the root of the repository.
        line: where it begins, from 1.
        kind: `command` of a block, `inline` command of a sentence, or `python`.
        text: as it stands there, without what is said of it on the same line.
    """

    page: str
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        """As an editor opens it."""
        return f"{self.page}:{self.line}"


def pages(root: Path = ROOT) -> list[Path]:
    """README, CONTRIBUTING and docs/, the benchmarks of speed among them."""
    return [
        root / "README.md",
        root / "CONTRIBUTING.md",
        root / "perf" / "README.md",
        *sorted(root.glob("docs/**/*.md")),
    ]


def pieces_of(text: str, page: str) -> list[Piece]:
    """Every command and every Python block of a page, from its top to its bottom."""
    found = []
    outside = text.split("\n")
    for first, language, lines in _blocks(text):
        body = "\n".join(lines)
        if language == "python" or (language == "" and _is_python(body)):
            found.append(Piece(page, first, "python", body))
        elif language in ("", "sh", "bash", "console", "shell"):
            found += [Piece(page, first + place, "command", own) for place, own in _commands(lines)]
        for number in range(first - 1, first - 1 + len(lines)):
            outside[number] = ""
    for number, line in enumerate(outside, start=1):
        found += [Piece(page, number, "inline", match[1]) for match in INLINE.finditer(line)]
    return sorted(found, key=lambda piece: piece.line)


def _blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Of each fenced or indented block the number of its first line, its language, and its lines."""
    lines, number = text.split("\n"), 0
    while number < len(lines):
        if fence := re.match(r"```(\w*)", lines[number]):
            last = next(n for n in range(number + 1, len(lines)) if lines[n].startswith("```"))
            yield number + 2, fence[1], lines[number + 1 : last]
            number = last + 1
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            last = number
            while last < len(lines) and (lines[last].startswith("    ") or not lines[last].strip()):
                last += 1
            yield number + 1, "", [line[4:] for line in lines[number:last]]
            number = last
        else:
            number += 1


def _commands(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The lines that are commands; one that ends in a backslash goes on in the next."""
    number = 0
    while number < len(lines):
        first, line = number, lines[number].rstrip()
        while line.endswith("\\") and number + 1 < len(lines):
            number += 1
            line = f"{line[:-1].rstrip()} {lines[number].strip()}"
        if match := COMMAND.match(line):
            yield first, PROSE.split(match[1])[0].strip()
        number += 1


def _is_python(body: str) -> bool:
    if "repeng." not in body:
        return False
    try:
        ast.parse(body)
    except SyntaxError:
        return False
    return True
