"""A probe in a file of the user's: `FILE.py:NAME`."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb

import numpy as np
import torch
from sklearn.base import clone

from repeng.errors import BadInput, RepengError, did_you_mean
from repeng.probes.base import Probe

ROOM = "repeng.probes"
TRIAL_SHAPE = (2, 40, 16)
"""Layers, responses and dimensions of the activations that a probe is tried on."""


def is_reference(name: str) -> bool:
    """Whether a name has the form `FILE.py:NAME`."""
    file, colon, found = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and found.isidentifier()


def is_probe_reference(text: str) -> bool:
    """Whether `FILE.py:NAME` is a probe: a class derived from one of `repeng.probes`. Nothing is imported.

    False where there is no such file or class, where the file is not Python, and where the class is something else,
    such as a plug-in.
    """
    file, _, name = text.rpartition(":")
    if not is_reference(text) or not Path(file).is_file():
        return False
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    # What each name stands for; a class of the file for its bases.
    known: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ClassDef):
            full = [_full_name(base, known) for base in node.bases]
            known[node.name] = next((base for base in full if base.startswith(f"{ROOM}.")), "")
            if node.name == name:
                return bool(known[name])
    return False


def is_running(reference: str) -> bool:
    """Whether the file of `FILE.py:NAME`, with the content that it has now, has been run in this process already."""
    path = Path(reference.rpartition(":")[0]).expanduser()
    return path.is_file() and _module_name(path.resolve()) in sys.modules


def class_in_file(reference: str) -> type[Probe]:
    """The probe that `FILE.py:NAME` means. The file is run, once for each content that it has had.

    Raises:
        BadInput: there is no such file or class, it is no probe, or the file fails.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; a probe of your own is named as FILE.py:NAME")
    module_name = _module_name(path)
    module = sys.modules.get(module_name)
    if module is None:
        spec = spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        # The module is known by its name while it runs, as dataclasses and pickles want it.
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise BadInput(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if _is_own_probe(value, module_name)]
        held = f"its probes: {', '.join(classes)}" if classes else "it has no probe; one is named as FILE.py:NAME"
        raise BadInput(f"{path} has no class {name}; {did_you_mean(name, classes) or held}")
    if not (isinstance(found, type) and issubclass(found, Probe)):
        raise BadInput(f"{path}: {name} is no subclass of repeng.probes.Probe; see docs/add-a-probe.md")
    found.reference = f"{path}:{name}"
    return found


def try_probe(probe: Probe) -> None:
    """Fit an unfitted probe on a few made-up activations, and score them.

    Raises:
        BadInput: it cannot be fitted, or does not give one finite score a response.
    """
    stimuli, (layers, responses, width) = len(probe.stimuli), TRIAL_SHAPE
    made = torch.randn(layers, stimuli, responses, width, generator=torch.Generator().manual_seed(0))
    labels, examples = np.tile([1.0, 0.0], responses // 2), np.repeat(np.arange(responses // 2), 2)
    named = probe.reference or probe.name
    try:
        scores = clone(probe).fit(made, labels, examples).decision_function(made)
    except Exception as error:
        raise BadInput(f"{named}: tried on made-up activations it fails: {type(error).__name__}: {error}") from error
    if tuple(scores.shape) != (layers, responses) or not bool(torch.as_tensor(scores).isfinite().all()):
        raise BadInput(
            f"{named}: tried on made-up activations of {layers} layers and {responses} responses it gives scores of "
            f"shape {tuple(scores.shape)}, or some that are not finite; it gives [layer, response]"
        )


@contextmanager
def named_in_errors(probe: Probe) -> Iterator[None]:
    """Within it an error of the code of a probe from a user's file says which probe, and which line of its file."""
    try:
        yield
    except (RepengError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if not probe.reference:
            raise
        file = probe.reference.rpartition(":")[0]
        lines = [frame for frame in extract_tb(error.__traceback__) if frame.filename == file]
        where = f" in {lines[-1].name}, line {lines[-1].lineno}" if lines else ""
        raise BadInput(
            f"{probe.reference} fails{where}: {type(error).__name__}: {error}; docs/add-a-probe.md says what it is "
            "given and what it returns"
        ) from error


def _is_own_probe(value: object, module_name: str) -> bool:
    return isinstance(value, type) and issubclass(value, Probe) and value.__module__ == module_name


def _module_name(path: Path) -> str:
    return f"{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def _full_name(node: ast.expr, known: dict[str, str]) -> str:
    """A base as written, its first word replaced by what it stands for."""
    first, *rest = ast.unparse(node).split(".")
    return ".".join([known.get(first, first), *rest])
