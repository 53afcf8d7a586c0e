"""The results folder of a study: of one study alone, and written by one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from repeng.atomic import clear_temporaries
from repeng.errors import BadInput
from repeng.locks import locked
from repeng.methods.base import no_note
from repeng.places import is_remote, place
from repeng.study.settings import WHERE, Study

STUDY = "study.toml"
TABLE = "results.csv"
PREDICTIONS = "predictions"
CAPABILITIES = "target_tuned_capability"
PICTURES = "report-pictures"
PAPER = "report-paper"
CAUSAL = "causal"
"""The rows of each probe, source and target of the causal tables."""
FOLDERS = (PREDICTIONS, CAPABILITIES, PICTURES, PAPER, CAUSAL)
MAY_DIFFER = (
    *("methods", "out", "store", "device", "device_map", "strict", "trust_store", "causal", "causal_examples"),
    *WHERE,
)
"""Settings that may be others when a study is run again in its folder: they change no figure, or add some."""


def joined(study: Study, *, running: bool = False) -> Study:
    """The study together with the methods that its results folder holds figures of.

    Args:
        study: asked for.
        running: whether another run writes there; else a study that left no evaluation yet may be replaced.

    Raises:
        BadInput: the folder holds another study, or what is no study.
    """
    out = place(study.out)
    finished = (out / TABLE).is_file()
    if not (out / STUDY).is_file() or not (finished or running or (out / PREDICTIONS).is_dir()):
        return study
    held = Study.read(out / STUDY, {})
    differences = [
        f"{field.name} is {before!r} there and {now!r} here"
        for field in fields(Study)
        if field.name not in MAY_DIFFER
        and not _same(before := getattr(held, field.name), now := getattr(study, field.name))
    ]
    if differences:
        raise BadInput(
            f"{out} holds another study ({'; '.join(differences)}); give this one a folder of its own with --out, "
            f"or remove {out}"
        )
    if not finished:
        return study
    methods = tuple(dict.fromkeys((*held.methods, *study.methods)))
    examples = study.causal_examples if study.causal else held.causal_examples
    return replace(study, methods=methods, causal=study.causal or held.causal, causal_examples=examples)


@contextmanager
def written_alone(study: Study, note: Callable[[str], None] = no_note) -> Iterator[bool]:
    """Hold a study's results folder against other runs; yields whether one that wrote there was waited for.

    Raises:
        BadInput: the other run is of another study.
    """
    out = place(study.out)
    with ExitStack() as held:
        waited = not held.enter_context(locked(out, wait=False))
        if waited:
            joined(study, running=True)
            note(f"another run writes {out}; waiting for it")
            held.enter_context(locked(out, wait=True))
        below = () if is_remote(out) else (each for name in FOLDERS for each in (out / name).glob("**/"))
        for folder in (out, *below):
            clear_temporaries(folder)
        yield waited


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are equal, or paths of one file."""
    if one == other:
        return True
    if not isinstance(one, str) or not isinstance(other, str) or "://" in one or "://" in other:
        return False
    return Path(one).exists() and Path(one).resolve() == Path(other).resolve()
