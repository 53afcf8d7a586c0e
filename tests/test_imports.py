"""The rooms and the doors between them: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import repeng

PACKAGE = Path(repeng.__file__).parent
ANY = {"errors", "distributions", "metrics", "activations", "probes", "tuning", "results", "benchmarks", "report"}
MAY_IMPORT = {
    "errors": set(),
    "maths": set(),
    "distributions": {"errors"},
    "metrics": {"errors"},
    "activations": {"errors", "distributions"},
    "probes": {"errors", "maths"},
    "tuning": {"errors", "maths", "distributions", "activations.model", "activations.packing"},
    "results": {"errors", "metrics"},
    "benchmarks": {"errors", "maths", "distributions", "metrics", "activations", "probes", "tuning", "results"},
    "report": {"errors", "results", "metrics", "distributions"},
    "cli": ANY,
}


def imports_of(path: Path) -> set[str]:
    """Names under `repeng` that a file imports, without the leading `repeng.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "repeng":
            rest = node.module.split(".")[1:]
            found |= {".".join(rest)} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("repeng.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_through_its_doors(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in imports_of(path):
        allowed = name.split(".")[0] == room or any(
            name == door or name.startswith(f"{door}.") for door in MAY_IMPORT[room]
        )
        assert allowed, f"{path.name} imports repeng.{name}"


def test_importing_repeng_and_its_command_line_loads_no_heavy_library() -> None:
    code = (
        "import sys, repeng, repeng.cli;"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'altair', 'datasets') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
