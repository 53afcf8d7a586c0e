"""Which probes there are, by the name that users type."""

from __future__ import annotations

from importlib.metadata import entry_points
from inspect import signature
from typing import Any

from repeng.errors import BadInput, UnknownName, UnknownParameter, choice_of
from repeng.limits import check_number
from repeng.probes.attention import Attention
from repeng.probes.base import Probe
from repeng.probes.ccs import CCS, CCSGenies
from repeng.probes.cra import CRA
from repeng.probes.genies import CRAGenies, LATGenies, LATStimulus2Genies, MMSGenies
from repeng.probes.lat import LAT, LATStimulus2
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.mlp import MLP
from repeng.probes.mms import MMS
from repeng.probes.own_file import class_in_file, is_reference
from repeng.probes.pooling import MaxOfMeans, MeanOfScores, SoftmaxPooling
from repeng.probes.random import Random
from repeng.probes.sklearn_probe import from_name, is_sklearn_reference

ENTRY_POINTS = "repeng.probes"

CLASSES: tuple[type[Probe], ...] = (
    MMS,
    LAT,
    LATStimulus2,
    CCS,
    CRA,
    Logistic,
    LDA,
    MLP,
    Attention,
    MeanOfScores,
    MaxOfMeans,
    SoftmaxPooling,
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


def is_known_probe(name: str) -> bool:
    """Whether the name is one of `known_probes`; packages' own are asked for the others alone, which takes a while."""
    return name in PROBES or name in known_probes()


def get_probe(name: str, **params: Any) -> Probe:
    """An unfitted probe of that name.

    Args:
        name: of a probe of ours, of an installed package's entry point in the group `repeng.probes`, or `FILE.py:NAME`
            for a class in a file of the user's, whose code runs in this process, or `sklearn:MODULE.CLASS` for a
            classifier of scikit-learn's kind.
        params: its constructor's.

    Raises:
        UnknownName: nothing answers to the name.
        BadInput: the probe has no such parameter or it cannot have that value, what the name leads to is no probe, or
            the file cannot be imported.
    """
    if is_sklearn_reference(name):
        return from_name(name, **params)
    cls = probe_class(name)
    own = cls._get_param_names()
    if unknown := sorted(set(params) - set(own)):
        choice = choice_of(unknown[0], own) if own else "it has none"
        raise UnknownParameter(f"probe {cls.name!r} has no parameter {unknown[0]!r}; {choice}")
    for parameter, value in params.items():
        default = signature(cls).parameters[parameter].default
        if cls in CLASSES and isinstance(default, int | float):
            check_number(f"probe {cls.name!r}: {parameter}", value, default)
    try:
        return cls(**params)
    except Exception as error:
        if cls in CLASSES:
            raise
        where = cls.reference or cls.name
        raise BadInput(f"{where}: its constructor fails: {type(error).__name__}: {error}") from error


def probe_class(name: str) -> type[Probe]:
    """The class of that name; see `get_probe`."""
    if name in PROBES:
        return PROBES[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        loaded = point.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Probe) and loaded.name == name):
            raise BadInput(f"entry point {point.value!r} is not a subclass of repeng.probes.base.Probe named {name!r}")
        return loaded
    if is_reference(name):
        return class_in_file(name)
    if name.endswith(".py"):
        raise BadInput(f"{name!r} is a file and names no probe in it; a probe of your own is named as FILE.py:NAME")
    if name.count("(") != name.count(")"):
        raise BadInput(f"{name!r}: a parenthesis is open; parameters stand as in logistic(C=0.1)")
    raise UnknownName("probe", name, (*known_probes(), "your own FILE.py:NAME", "sklearn:MODULE.CLASS"))
