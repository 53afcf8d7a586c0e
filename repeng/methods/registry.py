"""Methods by the names that users type, with parameters in parentheses: `logistic(C=0.1)`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.distributions.stimuli import FORMS, Form
from repeng.errors import BadInput, UnknownName
from repeng.methods.base import Method, MethodSettings
from repeng.methods.few_shot import FewShot
from repeng.methods.follow_up import PREFIX, Ask
from repeng.methods.named_probe import NamedProbe
from repeng.methods.names import parse_name, with_parameters
from repeng.methods.plugins.genies_folder import FolderPlugin, GeniesFolder
from repeng.methods.plugins.python_object import PythonObject, entry_point_references
from repeng.methods.probes import ProbeMethod
from repeng.methods.prompted import Truthfulness, ZeroShot
from repeng.methods.text import SCORERS, TextMethod
from repeng.methods.weight_tuning import Tuning
from repeng.probes.own_file import is_probe_reference
from repeng.probes.registry import known_probes
from repeng.probes.sklearn_probe import is_sklearn_reference
from repeng.tuning.settings import METHODS as TUNING

BASELINE = "zero-shot"
"""Whose accuracy on a target stands as the baseline."""
ALL = (
    *("mms", "lat", "ccs", "cra", "logistic", "lda", "random"),
    *("lora", "prompt-tuning", "few-shot", "truthfulness", "zero-shot", "zero-shot-mean", "length", "tfidf"),
)
"""What `--methods all` means."""


def method_names() -> tuple[str, ...]:
    """Every name that `--methods` takes, besides folders and `module:name`."""
    named = {*known_probes(), *TUNING, *ZeroShot.STIMULUS, "few-shot", "truthfulness", *SCORERS}
    return tuple(sorted(named | {PREFIX + question for question in FOLLOW_UPS} | set(entry_point_references())))


def make_methods(names: tuple[str, ...], settings: MethodSettings) -> tuple[Method, ...]:
    """The methods of some names, `all` among them, each once.

    Raises:
        UnknownName: a name is neither a method nor a plug-in.
        BadInput: a folder is no plug-in, or a method has no such parameter.
    """
    wanted = [each for name in names for each in (ALL if name == "all" else (name,))]
    made = {method.name: method for method in (make_method(name, settings) for name in wanted)}
    return tuple(made.values())


def make_method(text: str, settings: MethodSettings) -> Method:
    """The method of one name, with its parameters."""
    name, parameters = parse_name(text)
    full = with_parameters(name, parameters)
    if name == "few-shot":
        _check(full, parameters, ("shots", "stimulus"))
        form = _form(full, parameters)
        return FewShot(full, settings.model, settings.max_length, seed=settings.seed, form=form, **parameters)
    if name.startswith(PREFIX):
        _check(full, parameters, ("best", "stimulus"))
        return Ask.named(full, name, form=_form(full, parameters), **parameters)
    if name in TUNING:
        return Tuning(full, name, settings, parameters)
    if name in known_probes() or is_probe_reference(name) or is_sklearn_reference(name):
        return ProbeMethod(NamedProbe.made(name, parameters), settings)
    if name in ZeroShot.STIMULUS:
        _check(full, parameters, ("stimulus",))
        return ZeroShot(full, rule=name, form=_form(full, parameters))
    if name == "truthfulness":
        _check(full, parameters, ("stimulus",))
        return Truthfulness(full, form=_form(full, parameters))
    _check(full, parameters, ())
    if name in SCORERS:
        return TextMethod(name, settings.seed, settings.fits)
    if Path(name).is_dir():
        return GeniesFolder(FolderPlugin.at(name), settings)
    if ":" in name or name in entry_point_references():
        return PythonObject.at(name, settings)
    raise UnknownName("method", name, (*method_names(), "all", "a folder with train.py and eval.py"))


def _form(name: str, parameters: dict[str, Any]) -> Form:
    """The form of the texts, taken out of a prompted method's parameters."""
    given = parameters.pop("stimulus", "plain")
    for form in FORMS:
        if given == form:
            return form
    raise BadInput(f"method {name!r}: its stimulus is {given!r}; choose from {', '.join(FORMS)}")


def _check(name: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        choice = f"choose from {', '.join(known)}" if known else "it has none"
        raise BadInput(f"method {name!r} has no parameter {unknown[0]!r}; {choice}")
