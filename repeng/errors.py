"""Every error raised on purpose. A message says what is wrong, with which value, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class RepengError(Exception):
    """Something repeng could not do. The command line prints it without a traceback and exits with 1."""

    exit_code = 1


class BadInput(RepengError):
    """The user's arguments or files are wrong. The command line exits with 2."""

    exit_code = 2


class BadData(BadInput):
    """A data file is wrong.

    Attributes:
        path: the file, or None for data that never was a file.
        example: 0-based number of the example at fault, or None where the whole file is.
        reason: what is wrong with it, and what to do.
    """

    def __init__(self, reason: str, *, path: Path | str | None = None, example: int | None = None) -> None:
        self.reason, self.path, self.example = reason, path, example
        place = ", ".join(
            part for part in (str(path) if path else "", f"example {example}" if example is not None else "") if part
        )
        super().__init__(f"{place}: {reason}" if place else reason)


class UnknownName(BadInput):
    """A name that nothing answers to."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; choose from {', '.join(sorted(known)) or '(there are none)'}")


class BadArray(BadInput, ValueError):
    """What an estimator was given does not fit it. A ValueError too, which is what scikit-learn's tools expect."""


class StoreError(RepengError):
    """A store's files are missing, damaged, or not what was asked for."""


class CaptureMismatch(BadInput):
    """A probe was asked to read activations of another capture than the one that it was fitted on."""


class NonFinite(RepengError, ValueError):
    """An activation is infinite or not a number; the message names the layer and the example."""
