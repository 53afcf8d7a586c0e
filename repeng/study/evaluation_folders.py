"""Which methods and models a folder of evaluations holds, under our names or the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from repeng.distributions.schema import Benchmark
from repeng.errors import BadInput, UnknownName
from repeng.results import our_name


def models_by_folder(evaluations: Path, benchmark: Benchmark) -> dict[str, set[str]]:
    """Each method's folder, and the models that it has evaluations of for some source of the benchmark.

    Raises:
        BadInput: there is no such folder, or nothing in it.
    """
    if not evaluations.is_dir():
        raise BadInput(f"{evaluations}: no such folder; give the one that holds METHOD/MODEL-SOURCE/TARGET.json")
    folders: dict[str, set[str]] = {}
    by_length = sorted(benchmark.sources, key=len, reverse=True)
    for method in sorted(path for path in evaluations.iterdir() if path.is_dir()):
        for place in (path for path in method.iterdir() if path.is_dir()):
            source = next((name for name in by_length if place.name.endswith(f"-{name}")), None)
            if source is not None:
                folders.setdefault(method.name, set()).add(place.name.removesuffix(f"-{source}"))
    if not folders:
        raise BadInput(
            f"{evaluations}: no evaluation of any source of {benchmark.name}; give the folder that holds "
            "METHOD/MODEL-SOURCE/TARGET.json (of a study, its `predictions`)"
        )
    return folders


def only_model(folders: Mapping[str, set[str]]) -> str:
    """The model that the evaluations are of.

    Raises:
        BadInput: there are several.
    """
    known = sorted(set().union(*folders.values()))
    if len(known) > 1:
        raise BadInput(f"evaluations of {len(known)} models: {', '.join(known)}; name one of them with --model")
    return known[0]


def choose_folders(folders: Mapping[str, set[str]], methods: Sequence[str] | None, model: str) -> list[str]:
    """The method folders to score, each holding the model.

    Raises:
        UnknownName: there is no such method, or it has no evaluation of the model.
    """
    if methods is None:
        known = set().union(*folders.values())
        if model not in known:
            raise UnknownName("model", model, known)
        return [folder for folder, models in folders.items() if model in models]
    chosen = []
    for method in methods:
        folder = folder_of(method, folders)
        if folder is None:
            raise UnknownName("method", method, folders)
        if model not in folders[folder]:
            raise UnknownName(f"model of {folder}", model, folders[folder])
        chosen.append(folder)
    return chosen


def folder_of(method: str, folders: Iterable[str]) -> str | None:
    """The folder of a method under its own name, else under another that means the same."""
    same = [folder for folder in folders if our_name(folder) == our_name(method)]
    return method if method in same else next(iter(same), None)
