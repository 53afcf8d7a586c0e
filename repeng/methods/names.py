"""How methods are written: `mms,logistic(C=0.1)`, and in a study file also `{ name = "logistic", C = 0.1 }`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from repeng.errors import BadInput

LONGEST = 1_000
PLAIN = re.compile(r"(\w+)\s*=\s*([\w:+.?-]+)")
"""One parameter whose value needs no quotes for want of commas and blanks, as `token=mean:assistant`."""
CALL = re.compile(r"([^()]+)\((.*)\)", re.DOTALL)


def split_names(text: str) -> tuple[str, ...]:
    """A comma-separated list of methods; commas within parentheses belong to a method's parameters."""
    return tuple(name.strip() for name in re.split(r",(?![^()]*\))", text) if name.strip())


def with_parameters(name: str, parameters: Mapping[str, Any]) -> str:
    """A method with parameters as users type it: `logistic(C=0.1)`."""
    inside = ", ".join(f"{key}={value!r}" for key, value in sorted(parameters.items()))
    return f"{name}({inside})" if inside else name


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """A method's name and its parameters. A value that is no Python literal is taken as text.

    Raises:
        BadInput: it is too long, or what stands in the parentheses is no list of `name=value`.
    """
    if len(text) > LONGEST:
        raise BadInput(
            f"method {text[:60]!r}... has {len(text):,} characters; a name with parameters has at most {LONGEST}"
        )
    found = CALL.fullmatch(text.strip())
    if found is None:
        return text.strip(), {}
    unreadable = f"method {text!r}: write parameters as name=value, as in logistic(C=0.1)"
    try:
        call = ast.parse(f"f({found[2]})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise BadInput(unreadable)
        parameters = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two of what is nested too deeply
        pieces = [PLAIN.fullmatch(piece.strip()) for piece in found[2].split(",")]
        if None in pieces:
            raise BadInput(unreadable) from error
        parameters = {piece[1]: _plain(piece[2]) for piece in pieces if piece is not None}
    return found[1].strip(), parameters


def _plain(text: str) -> Any:
    """A Python literal, or the text as it stands, such as `last:-2`."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _value(node: ast.expr) -> Any:
    """A Python literal; what is none is taken as text."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return ast.unparse(node).replace(" ", "")
