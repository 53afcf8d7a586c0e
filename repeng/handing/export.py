"""A fitted probe's directions, written for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repeng.atomic import write_atomically
from repeng.errors import BadInput, UnknownName
from repeng.handing.adapter import write_adapter
from repeng.handing.control_vector import control_vector_bytes
from repeng.handing.directions import Directions, npz_bytes, safetensors_bytes
from repeng.limits import check_number
from repeng.places import Place, place
from repeng.probes.fitted import FittedProbe
from repeng.probes.io import load

SUFFIXES = {"gguf": ".gguf", "safetensors": ".safetensors", "numpy": ".npz", "peft": ""}
"""What is written, and how its file's name ends; an adapter is a folder."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        to: the format.
        path: the file, or the adapter's folder.
        site: that the probe reads.
        units: the (layer, head) of each direction, head -1 where the site has none.
        spread: of each, one unit of strength.
    """

    to: str
    path: Place
    site: str
    units: tuple[tuple[int, int], ...]
    spread: tuple[float, ...]


def export(
    probe: FittedProbe | Place | str,
    *,
    to: str,
    out: Place | str,
    layers: Sequence[int] | None = None,
    alpha: float | None = None,
    model: str | None = None,
    trust_code: bool = False,
) -> Exported:
    """Write a probe's directions for other tools: a strength of 1 is one standard deviation of its source.

        repeng.export("probes/mms", to="gguf", out="mms.gguf")
        repeng.export("probes/mms", to="peft", out="adapter", alpha=2.0)

    Args:
        probe: a fitted probe, or the folder of one.
        to: `gguf` (a control vector of llama.cpp), `peft` (a LoRA adapter), `safetensors` or `numpy` (.npz).
        out: file to write, or the adapter's folder; what is there is replaced.
        layers: of those that the probe was fitted at; None for those that it chose.
        alpha: strength of an adapter, which is part of it; the others are scaled where they are used.
        model: whose architecture it is for; None for the one that the probe was fitted on.
        trust_code: whether to run the file that a probe of one's own names as its class.

    Raises:
        BadInput: the probe reads along no direction, or the format cannot hold what it reads; or a package is missing.
        UnknownName: no such format.
    """
    if to not in SUFFIXES:
        raise UnknownName("format to export to", to, SUFFIXES)
    target = place(out)
    if not target.name.endswith(SUFFIXES[to]):
        raise BadInput(f"{target}: end the file's name in {SUFFIXES[to]}")
    if (alpha is None) == (to == "peft"):
        raise BadInput(
            "an adapter has a strength in it; give it with --alpha, in standard deviations of the source"
            if to == "peft"
            else f"--alpha is for an adapter (--to peft); {to} holds a strength of 1, to be scaled where it is used"
        )
    fitted = probe if isinstance(probe, FittedProbe) else load(probe, trust_code=trust_code)
    directions = Directions.of(fitted, layers)
    if to == "peft":
        assert alpha is not None
        check_number("alpha", alpha, 1.0)
        write_adapter(directions, target, alpha=alpha, model=model)
    elif to == "gguf":
        write_atomically(target, control_vector_bytes(directions, model=model))
    else:
        write_atomically(target, safetensors_bytes(directions) if to == "safetensors" else npz_bytes(directions))
    vector = directions.vector
    return Exported(to, target, vector.site, vector.units, tuple(map(float, vector.spread)))
