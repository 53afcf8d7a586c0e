"""The command that makes a study again, from its settings."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from typing import Any

from repeng.methods.names import split_names
from repeng.study.settings import Study

WIDTH = 100


def command_of(study: Study) -> str:
    """`repeng run` with every setting that differs from its default, as one command of a shell.

    Empty where no command line can say it: a method's name, such as a folder's, has a comma.
    """
    if split_names(",".join(study.methods)) != study.methods:
        return ""
    lines = ["repeng run"]
    for flag in _flags(study):
        if len(lines[-1]) + len(flag) + 1 > WIDTH:
            lines.append(f"    {flag}")
        else:
            lines[-1] += f" {flag}"
    return " \\\n".join(lines)


def _flags(study: Study) -> list[str]:
    found = []
    for field in fields(Study):
        value = getattr(study, field.name)
        default = replace(study, out="").out if field.name == "out" else field.default
        if value is not None and value != default:
            found.append(_flag(field.name.replace("_", "-"), value))
    return found


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    # A value that begins with a dash would be read as an option.
    return f"--{name}={shlex.quote(text)}" if text.startswith("-") else f"--{name} {shlex.quote(text)}"
