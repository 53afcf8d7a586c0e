"""A hash over the code that a class runs, so that an answer made by code that was edited since is not believed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from repeng.version import __version__

OWN = __name__.partition(".")[0]
BORROWED = ("abc", "builtins", "sklearn", "typing")
"""Packages that a class may be derived from without their code being the method's own."""


def code_hash(cls: type) -> str:
    """Twelve hex digits over the files of every package that a class and its ancestors are written in.

    Of repeng that is the folder of each class (`repeng/probes`) and the version; of another installed package all of
    its Python files; of a single file that file.
    """
    digest = hashlib.sha256(__version__.encode())
    for folder in sorted({str(_code_of(ancestor)) for ancestor in cls.__mro__ if _is_own(ancestor)}):
        digest.update(_hash_of(Path(folder)).encode())
    return digest.hexdigest()[:12]


def files_hash(folder: Path, pattern: str = "*") -> str:
    """Twelve hex digits over the names and contents of a folder's files, compiled ones aside."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob(pattern)):
        if file.is_file() and "__pycache__" not in file.parts:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()[:12]


def _is_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] not in BORROWED


def _code_of(cls: type) -> Path:
    """The folder or file that holds a class's code; the bare name of its module where it has no file."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        return Path(cls.__module__)
    path, depth = Path(file), cls.__module__.count(".")
    if depth == 0:
        return path.parent if path.name == "__init__.py" else path
    if cls.__module__.startswith(f"{OWN}."):
        return path.parent
    return path.parents[depth - (path.name != "__init__.py")]


def _hash_of(place: Path) -> str:
    if place.is_dir():
        return files_hash(place, "*.py")
    return hashlib.sha256(place.read_bytes()).hexdigest()[:12] if place.is_file() else str(place)
