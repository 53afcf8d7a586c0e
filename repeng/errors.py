"""Every error raised on purpose. A message says what is wrong, with which value, and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

MOST_NEAR = 2
NEAR = 0.6
"""How alike a name must be to be meant, as `difflib` has it."""


class RepengError(Exception):
    """Something repeng could not do. The command line prints it without a traceback and exits with 1."""

    exit_code = 1


class BadInput(RepengError):
    """The user's arguments or files are wrong. The command line exits with 2."""

    exit_code = 2


class BadData(BadInput):
    """A data file is wrong.

    Attributes:
        path: the file, local or in an object store, or None for data that never was a file.
        example: 0-based number of the example at fault, or None where the whole file is.
        reason: what is wrong with it, and what to do.
    """

    def __init__(self, reason: str, *, path: Any = None, example: int | None = None) -> None:
        self.reason, self.path, self.example = reason, path, example
        place = ", ".join(
            part for part in (str(path) if path else "", f"example {example}" if example is not None else "") if part
        )
        super().__init__(f"{place}: {reason}" if place else reason)


class UnknownName(BadInput):
    """A name that nothing answers to. The names that are most like it stand first, then all that there are."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; {choice_of(name, known)}")


def choice_of(name: str, known: Iterable[str]) -> str:
    """What to take in place of a name: `did you mean mms? Choose from ...`, or without a near one `choose from ...`."""
    names = sorted(set(known))
    listed, meant = ", ".join(names) or "(there are none)", did_you_mean(name, names)
    return f"{meant} Choose from {listed}" if meant else f"choose from {listed}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean mms?` of one or two names that are like the given one; empty where none is."""
    folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), folded, n=MOST_NEAR, cutoff=NEAR)
    return f"did you mean {' or '.join(folded[each] for each in near)}?" if near else ""


def path_like(path: str | Path) -> str:
    """`; did you mean data/facts.jsonl?` of a path where there is nothing, from what lies next to it; else nothing."""
    try:
        here = [entry.name for entry in Path(path).expanduser().parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(Path(path).name, here, n=1, cutoff=NEAR)
    return f"; did you mean {Path(path).parent / near[0]}?" if near else ""


class UnknownParameter(BadInput):
    """A method or probe was given a parameter that it does not have."""


class BadArray(BadInput, ValueError):
    """What an estimator was given does not fit it. A ValueError too, which is what scikit-learn's tools expect."""


class StoreError(RepengError):
    """A store's files are missing, damaged, or not what was asked for."""


class UnreadableFile(StoreError):
    """A store's file that this process may not or cannot read, or of a later format: it need not be damaged."""


class RemoteError(OSError):
    """An object store that does not answer, or not as it must; the message names the object and says what to do."""


class CaptureMismatch(BadInput):
    """A probe was asked to read activations of another capture than the one that it was fitted on."""


class NonFinite(RepengError, ValueError):
    """An activation is infinite or not a number; the message names the layer and the example."""


REMEDIES = {
    errno.ENOSPC: "the disk is full; make room, and the same command goes on from what is finished",
    errno.EDQUOT: "your share of the disk is used up; make room, and the same command goes on from what is finished",
    errno.EFBIG: "larger than files may be here; raise the limit (ulimit -f), or choose another disk",
    errno.EACCES: "permission denied; change its permissions, or choose another place",
    errno.EPERM: "not permitted; choose another place",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another place",
    errno.EEXIST: "a file stands where a folder is needed; choose another place",
    errno.EISDIR: "this is a folder, and a file is needed; give a file's name",
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.ENAMETOOLONG: "the name is longer than the disk takes; give a shorter one",
    errno.ELOOP: "a link that leads back to itself; give what it should lead to",
    errno.EMFILE: "too many files are open at once; raise the limit (ulimit -n)",
    errno.EIO: "the disk fails; check it, or choose another",
}
"""What an error of the operating system means to whoever meets it, and what to do."""
OS_ERROR = re.compile(r"os error (\d+)")
"""How libraries in Rust, such as safetensors, name an error of the operating system."""
LOOP = re.compile(r"Symlink loop from '(.*)'")
"""What `Path.resolve` says before Python 3.13."""
UNWRITTEN = ("inline_container", "PytorchStreamWriter")
"""What PyTorch says where a checkpoint cannot be written as a whole; it does not say why."""
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def sentence(error: BaseException) -> str:
    """What went wrong and what to do; of an error that nobody raised on purpose, its kind and what it says."""
    if isinstance(error, RepengError | RemoteError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY):
        return "out of memory; take a smaller model, a smaller --dtype or a --limit, or free some"
    if any(words in str(error) for words in UNWRITTEN):
        return "a checkpoint could not be written; make room, and the same command goes on from the last one"
    number, file = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    if foreign := OS_ERROR.search(str(error)):
        number = int(foreign[1])
    elif isinstance(error, RuntimeError) and (loop := LOOP.match(str(error))):
        number, file = errno.ELOOP, loop[1]
    if number in REMEDIES:
        return f"{file}: {REMEDIES[number]}" if file else REMEDIES[number]
    return f"{type(error).__name__}: {error}"


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
