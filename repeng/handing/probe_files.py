"""A saved probe as files that are handed on: read as data, its weights held against their checksum, no code run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from repeng.atomic import write_atomically
from repeng.errors import BadInput
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.locks import locked
from repeng.places import Place
from repeng.probes.io import DESCRIPTION, read_weights
from repeng.probes.own_file import is_reference

WEIGHTS_SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class ProbeFiles:
    """A saved probe, read but not rebuilt.

    Attributes:
        folder: that it was read from.
        content: of probe.json, byte by byte.
        described: the same, parsed.
        tensors: what the weights' file holds.
    """

    folder: Place
    content: bytes
    described: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def weights(self) -> str:
        """The name of the weights' file."""
        return weights_name(self.described, self.folder)

    @property
    def own_code(self) -> str:
        """FILE.py:NAME of a probe of somebody's own, which is not handed on and not run; else empty."""
        name = str(self.described.get("probe", ""))
        return name if is_reference(name) else ""

    @classmethod
    def read(cls, folder: Place) -> ProbeFiles:
        """What `repeng fit` saved in a folder.

        Raises:
            BadInput: there is no probe, or it is damaged.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise BadInput(f"{folder}: no {DESCRIPTION} here; name a folder that `repeng fit` wrote")
        content = read_bounded(path, RECORD_BYTES)
        described = parse_description(content, path)
        return cls(folder, content, described, read_weights(folder, described))


def parse_description(content: bytes, path: Place) -> dict[str, Any]:
    """probe.json, as far as it is needed to hand it on.

    Raises:
        BadInput: it is none.
    """
    try:
        described = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: damaged ({error})") from error
    if (
        not isinstance(described, dict)
        or not {"format", "probe", "weights", "sha256", "provenance"} <= described.keys()
    ):
        raise BadInput(f"{path}: is not the description of a probe that `repeng fit` saved")
    weights_name(described, path)
    return described


def weights_name(described: Mapping[str, Any], path: Place) -> str:
    """The name of the weights' file, which lies next to probe.json.

    Raises:
        BadInput: it lies elsewhere, or is no safetensors file.
    """
    name = described["weights"]
    if (
        not isinstance(name, str)
        or set(name) & set("/\\:\0")
        or name.startswith(".")
        or not name.endswith(WEIGHTS_SUFFIX)
    ):
        raise BadInput(f"{path}: names {name!r} as its weights; they are a {WEIGHTS_SUFFIX} file next to it")
    return name


def copy_probe(found: ProbeFiles, target: Place, *, replace: bool = False) -> bool:
    """Write a probe into a folder, its description last; False where it is there already.

    Args:
        found: the probe.
        target: the folder.
        replace: another probe that is there may go.

    Raises:
        BadInput: another probe is there.
    """
    with locked(target, wait=True):
        path = target / DESCRIPTION
        old: set[Place] = set()
        if path.is_file():
            if read_bounded(path, RECORD_BYTES) == found.content and ProbeFiles.read(target).weights == found.weights:
                return False
            if not replace:
                raise BadInput(f"{target}: another probe is here; nothing was written: choose another folder")
            old = {*target.glob(f"weights-*{WEIGHTS_SUFFIX}")} - {target / found.weights}
        write_atomically(target / found.weights, (found.folder / found.weights).read_bytes())
        write_atomically(path, found.content)
        for weights in old:
            weights.unlink(missing_ok=True)
    return True
