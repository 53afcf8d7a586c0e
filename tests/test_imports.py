"""The rooms and the doors between them: who may import whom, and no circle of files anywhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import repeng

PACKAGE = Path(repeng.__file__).parent
FLOOR = {
    "atomic",
    "errors",
    "garbage",
    "lease",
    "limits",
    "locks",
    "maths",
    "places",
    "prefetch",
    "progress",
    "threads",
    "version",
}
MAY_IMPORT = {
    "atomic": set(),
    "errors": set(),
    "garbage": set(),
    "lease": set(),
    "limits": set(),
    "locks": set(),
    "maths": set(),
    "places": set(),
    "progress": set(),
    "threads": set(),
    "version": set(),
    "distributions": {"errors"},
    "models": {"distributions"},
    "activations": {"models", "distributions"},
    "probes": set(),
    "steering": {"probes", "activations", "models", "distributions"},
    "tuning": {"activations.layouts.packing", "models", "distributions"},
    "benchmarks": {"distributions"},
    "metrics": set(),
    "results": {"metrics", "distributions.schema"},
    "methods": {"activations", "probes", "tuning", "models", "distributions", "metrics", "results"},
    "handing": {"steering", "probes", "activations", "models", "distributions"},
    "cluster": {"activations", "models", "distributions"},
    "watching": {"activations", "probes", "models", "distributions"},
    "study": {
        *("cluster", "methods", "steering", "benchmarks", "activations", "probes", "tuning", "models", "distributions"),
        *("metrics", "results"),
    },
    "report": {"study", "distributions", "metrics", "results"},
    "__main__": {"cli"},
    "cli": {
        *(
            "report",
            "study",
            "methods",
            "steering",
            "handing",
            "benchmarks",
            "activations",
            "probes",
            "tuning",
            "models",
        ),
        *("distributions", "metrics", "results", "watching"),
    },
}
"""Downwards only. Rooms may import those named, themselves, and the floor (FLOOR)."""
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """A file's dotted name without the leading `repeng.`; the package's own file is the empty name."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


@cache
def modules() -> frozenset[str]:
    return frozenset(map(module_of, FILES))


def nearest(name: str) -> str:
    """The module that a dotted name means: itself, or the one that holds it."""
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


def imports_of(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports anywhere: at its head, within functions, and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "repeng":
            base = node.module.partition(".")[2]
            yield from {nearest(f"{base}.{alias.name}".strip(".")) for alias in node.names}
        elif isinstance(node, ast.Import):
            yield from {nearest(a.name.partition(".")[2]) for a in node.names if a.name.split(".")[0] == "repeng"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_through_its_doors(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in imports_of(path):
        doors = MAY_IMPORT[room] | FLOOR | {room}
        assert any(name == door or name.startswith(f"{door}.") for door in doors), f"{path} imports repeng.{name}"


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of files that import each other, however far round (strongly connected components, Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(group)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module_of(path): set(imports_of(path)) - {module_of(path)} for path in FILES}
    assert circles(graph) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def test_no_file_reaches_another_room_by_its_path() -> None:
    """`Path(__file__).parents[1]` would lead into a room that the imports do not name."""
    for path in FILES:
        assert not re.search(r"__file__\)[.\w()]*\.(parents|parent\.parent)\b", path.read_text()), path


def test_importing_repeng_and_its_command_line_loads_no_heavy_library() -> None:
    code = (
        "import sys, repeng, repeng.cli;"
        "heavy = ('torch', 'transformers', 'sklearn', 'altair', 'datasets', 'fsspec', 'upath');"
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_what_a_finished_study_is_read_with_loads_no_transformers() -> None:
    code = "import sys, repeng.study.study, repeng.report.study; print('transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_what_a_study_shows_on_a_terminal_draws_no_chart() -> None:
    rooms = "current, form_section, page, sentences, tables, text_section, text_solved"
    code = f"import sys, repeng.study.study; from repeng.report import {rooms}; print('altair' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
