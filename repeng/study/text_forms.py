"""Methods in two forms of their texts: as they are, and as chats by the model's chat template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from repeng.distributions.stimuli import CHAT, STIMULI, Form, in_form
from repeng.errors import BadInput
from repeng.methods.names import parse_name, with_parameters

ZERO_SHOT = ("zero-shot", "zero-shot-mean", "zero-shot-genies")
"""The rules of zero-shot; the first is the baseline."""

MIXED = re.compile(r"\+[\d.e-]+%$")
"""What the name of a method that is fitted on an augmented source ends with."""


def in_chat_form(name: str) -> str | None:
    """The name of a method in chat form: `mms(stimulus='chat')` of `mms`.

    None of a method that has none: it reads no texts (`length`, tuning, plug-ins), reads what GENIES' code reads, reads
    a template of the user's own, or is in chat form already.

    Raises:
        BadInput: a probe of that name cannot be made.
    """
    # They bring torch, which a report of methods in plain form needs not.
    from repeng.methods.named_probe import NamedProbe
    from repeng.methods.registry import prompted_class
    from repeng.probes.own_file import is_probe_reference
    from repeng.probes.registry import is_known_probe
    from repeng.probes.sklearn_probe import is_sklearn_reference

    bare, parameters = parse_name(name)
    if (prompted := prompted_class(bare)) is not None:
        is_plain = parameters.get("stimulus", "plain") == "plain"
        chat = with_parameters(bare, {**parameters, "stimulus": in_form("plain", "chat")})
        return chat if is_plain and prompted.has_chat_form(bare) else None
    if not (is_known_probe(bare) or is_probe_reference(bare) or is_sklearn_reference(bare)):
        return None
    named = NamedProbe.made(bare, parameters)
    chats = [in_form(stimulus.name, "chat") for stimulus in named.reads]
    if named.probe.rule == "genies" or not named.probe.learns or not STIMULI.keys() >= set(chats):
        return None
    return with_parameters(named.probe.name, {**parameters, "stimulus": "+".join(chats)})


def methods_in_forms(names: Sequence[str], forms: Sequence[Form]) -> tuple[str, ...]:
    """The names of some methods in each of some forms, one after the other; once, as it is, what has one form alone."""
    if tuple(forms) == ("plain",):
        return tuple(names)
    from repeng.methods.registry import ALL

    found: dict[str, None] = {}
    for name in (each for given in names for each in (ALL if given == "all" else (given,))):
        chat = in_chat_form(name)
        both: dict[Form, str] = {"plain": name, "chat": chat or name}
        found |= dict.fromkeys(both[form] for form in forms)
    return tuple(found)


def form_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Of some methods those that are there in both forms: the plain one's name and the other's.

    Those fitted on a source with some target examples in it, such as `mms+1%`, are methods of their own.
    """
    known = dict.fromkeys(names)
    pairs: list[tuple[str, str]] = []
    if not any(CHAT in name for name in known):
        return pairs
    for name in known:
        mixed = MIXED.search(name)
        share = mixed[0] if mixed else ""
        try:
            chat = in_chat_form(name.removesuffix(share))
        except BadInput:  # such as a probe of the user's own whose file is gone
            continue
        if chat is not None and chat + share in known:
            pairs.append((name, chat + share))
    return pairs


def form_of(method: str) -> Form:
    """The form of the texts that a method reads, as its name says it; plain of a name that says nothing."""
    try:
        read = str(parse_name(method)[1].get("stimulus", "")).split("+")
    except BadInput:  # a folder of evaluations may have any name
        return "plain"
    return "chat" if any(STIMULI[name].form == "chat" for name in read if name in STIMULI) else "plain"


def zero_shot_form(method: str) -> Form | None:
    """The form in which a method is zero-shot, whichever its rule; None of every other method.

    `chat` of `zero-shot(stimulus='chat')`; `plain` of `zero-shot`, `zero-shot-mean` and `zero-shot-genies`.
    """
    return form_of(method) if method.partition("(")[0].strip() in ZERO_SHOT else None


def baseline_method(names: Iterable[str]) -> str:
    """The method whose accuracy on a target is everybody's baseline: zero-shot, in chat form where nothing is plain.

    Args:
        names: of the methods of a study.
    """
    names = tuple(names)
    only_chat = "chat" in map(form_of, names) and not any(map(_has_another_form, names))
    return (in_chat_form(ZERO_SHOT[0]) if only_chat else None) or ZERO_SHOT[0]


def _has_another_form(name: str) -> bool:
    """Whether a method is plain and could be asked in chat form."""
    try:
        return in_chat_form(name) is not None
    except BadInput:  # such as a probe of another version's, with parameters that are not known here
        return form_of(name) == "plain"
