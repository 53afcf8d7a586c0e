"""A fitted probe on disk: one JSON file to read, one safetensors file of what was learned. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from repeng.atomic import write_atomically
from repeng.errors import BadInput, RepengError
from repeng.limits import DATA_BYTES, RECORD_BYTES, read_bounded
from repeng.locks import locked
from repeng.places import Place, place
from repeng.probes.calibration import LogisticCalibration, Temperature, TextCalibration
from repeng.probes.fitted import FittedProbe
from repeng.probes.own_file import is_reference, is_running
from repeng.probes.registry import get_probe

FORMAT = 2
DESCRIPTION = "probe.json"
STATE = "state."
CURVES = (
    *("centre", "scale", "layer_temperatures", "held_out_accuracy", "held_out_log_loss", "head_accuracy"),
    "train_accuracy",
)
PROJECTIONS = ("projection_mean", "projection_spread")
"""Curves that earlier versions of repeng did not save."""


def save(fitted: FittedProbe, directory: Place | str) -> Place:
    """Write `probe.json` and the tensors that it names; returns the path of `probe.json`.

    The tensors' file is named after its content and written first, `probe.json` is renamed into place last: a save that
    is stopped anywhere leaves what was there before.

    Raises:
        BadInput: what the probe learned is more than tensors, as of a classifier of scikit-learn's that is not linear.
    """
    fitted.probe.check_can_be_saved()
    directory = place(directory)
    tensors = {STATE + name: value.detach().cpu().contiguous() for name, value in fitted.probe.state().items()}
    tensors |= {name: torch.from_numpy(getattr(fitted, name).copy()) for name in (*CURVES, *PROJECTIONS)}
    content = save_tensors(tensors)
    checksum = hashlib.sha256(content).hexdigest()
    weights = directory / f"weights-{checksum[:12]}.safetensors"
    description = {
        "format": FORMAT,
        "probe": fitted.probe.reference or fitted.name,
        "parameters": fitted.probe.described(),
        "weights": weights.name,
        "sha256": checksum,
        "layers": list(fitted.layers),
        "units": [list(unit) for unit in fitted.units],
        "fitted_layers": list(fitted.fitted_layers),
        "layer_heads": list(fitted.layer_heads),
        "calibration": describe_calibration(fitted.calibration),
        **({} if fitted.texts is None else {"texts": asdict(fitted.texts)}),
        "seed": fitted.seed,
        "stimuli": list(fitted.stimuli),
        "site": fitted.site,
        "token": fitted.token,
        "provenance": dict(fitted.provenance),
    }
    path = directory / DESCRIPTION
    # Of two that save here at once, neither may remove the other's weights.
    with locked(directory, wait=True):
        write_atomically(weights, content)
        write_atomically(path, json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        for old in directory.glob("weights-*.safetensors"):
            if old != weights:
                old.unlink(missing_ok=True)
    return path


def load(directory: Place | str, *, trust_code: bool = False) -> FittedProbe:
    """Read what `save` wrote.

    Args:
        directory: where it is.
        trust_code: whether to run the file that a probe of someone's own names as its class. Without it such a probe is
            read only where this process has run the file already.

    Raises:
        BadInput: there is no probe, it is damaged, it would run code, or another version of repeng wrote it.
        UnknownName: nothing installed answers to its name.
    """
    directory = place(directory)
    path = directory / DESCRIPTION
    if not path.is_file():
        raise BadInput(f"{directory}: no {DESCRIPTION} here; name a folder that `repeng fit` wrote")
    try:
        described = json.loads(read_bounded(path, RECORD_BYTES))
        if not isinstance(described, dict):
            raise BadInput(f"{path}: this should be a JSON object; fit the probe again")
        if described["format"] != FORMAT:
            raise BadInput(f"{path}: format {described['format']} is not {FORMAT}; fit the probe again")
        own = str(described["probe"])
        if is_reference(own) and not (trust_code or is_running(own)):
            raise BadInput(
                f"{path}: its class is {own}, a file that reading the probe would run; if you trust that file, give "
                "--trust-code (trust_code=True)"
            )
        return rebuild(described, read_weights(directory, described))
    except RepengError:
        raise
    except (AttributeError, KeyError, OSError, TypeError, ValueError, RecursionError) as error:
        what = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{path}: damaged ({what[:200]}); fit the probe again") from error


def read_weights(
    directory: Place, described: Mapping[str, Any], *, described_in: str = DESCRIPTION, what: str = "the probe"
) -> dict[str, Tensor]:
    """The tensors that a description names, their checksum verified.

    Args:
        directory: where they are.
        described: its `weights` and `sha256`.
        described_in: the description's file, for messages.
        what: is to be fitted again where they are damaged.

    Raises:
        BadInput: they are missing or damaged.
    """
    path = directory / described["weights"].rpartition("/")[2]
    if not path.is_file():
        raise BadInput(f"{path}: missing; fit {what} again")
    content = read_bounded(path, DATA_BYTES)
    if hashlib.sha256(content).hexdigest() != described["sha256"]:
        raise BadInput(f"{path}: its content is not what {described_in} says; fit {what} again")
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
    except SafetensorError as error:
        raise BadInput(f"{path}: damaged ({error}); fit {what} again") from error
    return tensors


def rebuild(described: dict[str, Any], tensors: dict[str, Tensor]) -> FittedProbe:
    """A fitted probe from its description and tensors."""
    state = {name.removeprefix(STATE): value for name, value in tensors.items() if name.startswith(STATE)}
    unknown = np.full(tensors["head_accuracy"].shape, np.nan)
    return FittedProbe(
        probe=get_probe(described["probe"], **described["parameters"]).with_state(state),
        fitted_layers=tuple(described["fitted_layers"]),
        units=tuple((layer, head) for layer, head in described["units"]),
        calibration=read_calibration(described["calibration"]),
        layer_heads=tuple(described["layer_heads"]),
        seed=described["seed"],
        site=described["site"],
        token=described["token"],
        stimuli=tuple(described["stimuli"]),
        texts=TextCalibration(**described["texts"]) if "texts" in described else None,
        provenance=described["provenance"],
        **{name: tensors[name].numpy() for name in CURVES},
        **{name: (tensors[name].numpy() if name in tensors else unknown) for name in PROJECTIONS},
    )


def describe_calibration(calibration: Temperature | LogisticCalibration) -> dict[str, Any]:
    """A calibration as JSON."""
    kind = "temperature" if isinstance(calibration, Temperature) else "logistic"
    return {"kind": kind, **vars(calibration)}


def read_calibration(described: dict[str, Any]) -> Temperature | LogisticCalibration:
    """A calibration from JSON."""
    values = {name: value for name, value in described.items() if name != "kind"}
    return Temperature(**values) if described["kind"] == "temperature" else LogisticCalibration(**values)
