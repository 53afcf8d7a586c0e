"""Methods by the names that users type, with parameters in parentheses: `logistic(C=0.1)`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.distributions.stimuli import FORMS, Form
from repeng.errors import BadInput, UnknownName, choice_of
from repeng.methods.base import Method, MethodSettings
from repeng.methods.few_shot import FewShot
from repeng.methods.follow_up import PREFIX, Ask
from repeng.methods.named_probe import NamedProbe
from repeng.methods.names import parse_name, with_parameters
from repeng.methods.plugins.genies_folder import FolderPlugin, GeniesFolder
from repeng.methods.plugins.python_object import PythonObject, entry_point_references
from repeng.methods.probes import ProbeMethod
from repeng.methods.prompted import InForms, NamedMethod, Truthfulness, ZeroShot
from repeng.methods.text import SCORERS, TextMethod
from repeng.methods.weight_tuning import Tuning
from repeng.probes.own_file import is_probe_reference
from repeng.probes.registry import is_known_probe, known_probes
from repeng.probes.sklearn_probe import is_sklearn_reference
from repeng.tuning.settings import METHODS as TUNING

PROMPTED: Mapping[str, type[InForms]] = {
    **dict.fromkeys(ZeroShot.STIMULUS, ZeroShot),
    "few-shot": FewShot,
    "truthfulness": Truthfulness,
    **{PREFIX + question: Ask for question in FOLLOW_UPS},
}
"""Methods that prompt the model with texts in either form, by name."""
ALL = (
    *("mms", "lat", "ccs", "cra", "logistic", "lda", "random"),
    *("lora", "prompt-tuning", "few-shot", "truthfulness", "zero-shot", "zero-shot-mean", "length", "tfidf"),
)
"""What `--methods all` means."""


def method_names() -> tuple[str, ...]:
    """Every name that `--methods` takes, besides folders and `module:name`."""
    return tuple(sorted({*known_probes(), *TUNING, *PROMPTED, *SCORERS, *entry_point_references()}))


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
    if (prompted := prompted_class(name)) is not None:
        _check(full, parameters, (*prompted.PARAMETERS, "stimulus"))
        form = _form(full, parameters.pop("stimulus", "plain"))
        return prompted.named(NamedMethod(name, form, parameters, settings))
    if name in TUNING:
        return Tuning(full, name, settings, parameters)
    if is_known_probe(name) or is_probe_reference(name) or is_sklearn_reference(name):
        return ProbeMethod(NamedProbe.made(name, parameters), settings)
    _check(full, parameters, ())
    if name in SCORERS:
        return TextMethod(name, settings.seed, settings.fits)
    if Path(name).is_dir():
        return GeniesFolder(FolderPlugin.at(name), settings)
    if ":" in name or name in entry_point_references():
        return PythonObject.at(name, settings)
    raise UnknownName("method", name, (*method_names(), "all", "a folder with train.py and eval.py"))


def prompted_class(name: str) -> type[InForms] | None:
    """The class of a method that prompts the model, by its name without parameters; None of another."""
    return Ask if name.startswith(PREFIX) else PROMPTED.get(name)


def _form(name: str, given: object) -> Form:
    for form in FORMS:
        if given == form:
            return form
    raise BadInput(f"method {name!r}: its stimulus is {given!r}; choose from {', '.join(FORMS)}")


def _check(name: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        choice = choice_of(unknown[0], known) if known else "it has none"
        raise BadInput(f"method {name!r} has no parameter {unknown[0]!r}; {choice}")
