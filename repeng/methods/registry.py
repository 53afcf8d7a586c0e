"""Method names, and the interventions that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repeng.errors import UnknownName
from repeng.methods.base import Method, ProbeMethod
from repeng.methods.plugins.genies_folder import FolderPlugin
from repeng.methods.plugins.methods import Folder, PythonObject
from repeng.methods.plugins.python_object import PythonPlugin, entry_point_references
from repeng.methods.prompted import FewShot, Prompting, TextBaseline, Verdict, ZeroShot
from repeng.methods.weight_tuning import Tuning
from repeng.probes.registry import known_probes
from repeng.tuning.settings import METHODS as TUNING

BASELINE = "zero-shot"
ALL = (
    *("mms", "lat", "ccs", "cra", "logistic", "lda", "random"),
    *("lora", "prompt-tuning", "few-shot", "truthfulness", "zero-shot", "zero-shot-mean", "length", "tfidf"),
)
"""What `--methods all` means."""


def method_names() -> tuple[str, ...]:
    """Every name that `--methods` takes, beside folders and `module:name`."""
    named = {*known_probes(), *TUNING, *ZeroShot.STIMULUS, "few-shot", "truthfulness", "length", "tfidf"}
    return tuple(sorted(named | set(entry_point_references())))


def make_methods(names: tuple[str, ...], prompting: Callable[[], Prompting]) -> tuple[Method, ...]:
    """The interventions of some names, `all` among them, each once.

    Args:
        names: what the user typed.
        prompting: called only where a method needs it.

    Raises:
        UnknownName: a name is neither a method nor a plug-in.
        BadInput: a folder is no plug-in.
    """
    wanted = [each for name in names for each in (ALL if name == "all" else (name,))]
    return tuple(make_method(name, prompting) for name in dict.fromkeys(wanted))


def make_method(name: str, prompting: Callable[[], Prompting]) -> Method:
    """The intervention of one name."""
    if name in ("length", "tfidf"):
        return TextBaseline(name)
    if name in ZeroShot.STIMULUS:
        return ZeroShot(name)
    if name == "truthfulness":
        return Verdict(name)
    if name == "few-shot":
        known = prompting()
        return FewShot(name, known)
    if name in TUNING:
        return Tuning(name)
    if name in known_probes():
        return ProbeMethod(name)
    if Path(name).is_dir():
        return Folder(FolderPlugin.at(name))
    if ":" in name or name in entry_point_references():
        return PythonObject(PythonPlugin.at(name))
    raise UnknownName("method", name, (*method_names(), "all", "a folder with train.py and eval.py"))
