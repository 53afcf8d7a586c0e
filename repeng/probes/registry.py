"""Which probes there are, by the name that users type."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from repeng.errors import BadInput, UnknownName
from repeng.probes.base import Probe
from repeng.probes.ccs import CCS, CCSGenies
from repeng.probes.cra import CRA
from repeng.probes.genies import CRAGenies, LATGenies, LATStimulus2Genies, MMSGenies
from repeng.probes.lat import LAT, LATStimulus2
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.mms import MMS
from repeng.probes.random import Random

ENTRY_POINTS = "repeng.probes"

CLASSES: tuple[type[Probe], ...] = (
    MMS,
    LAT,
    LATStimulus2,
    CCS,
    CRA,
    Logistic,
    LDA,
    Random,
    MMSGenies,
    LATGenies,
    LATStimulus2Genies,
    CRAGenies,
    CCSGenies,
)
PROBES: dict[str, type[Probe]] = {cls.name: cls for cls in CLASSES}


def known_probes() -> tuple[str, ...]:
    """Every name that `get_probe` answers to, those of installed packages included, sorted."""
    return tuple(sorted({*PROBES, *(point.name for point in entry_points(group=ENTRY_POINTS))}))


def probe_class(name: str) -> type[Probe]:
    """The class of that name: ours, or an installed package's entry point in the group `repeng.probes`.

    Raises:
        UnknownName: nothing answers to the name.
        BadInput: the entry point is not a probe of that name.
    """
    if name in PROBES:
        return PROBES[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        loaded = point.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Probe) and getattr(loaded, "name", None) == name):
            raise BadInput(f"entry point {point.value!r} is not a subclass of repeng.probes.base.Probe named {name!r}")
        return loaded
    raise UnknownName("probe", name, known_probes())


def get_probe(name: str, **params: Any) -> Probe:
    """An unfitted probe of that name.

    Raises:
        UnknownName: nothing answers to the name.
        BadInput: the probe has no such parameter.
    """
    cls = probe_class(name)
    unknown = sorted(set(params) - set(cls.parameter_names()))
    if unknown:
        known = ", ".join(cls.parameter_names()) or "(it has none)"
        raise BadInput(f"probe {name!r} has no parameter {unknown[0]!r}; choose from {known}")
    return cls(**params)
