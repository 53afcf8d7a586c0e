"""The command line: parse, call, print. No logic lives here."""

import sys

PACKAGE = sys.modules[__name__.partition(".")[0]]

if not hasattr(PACKAGE, "run"):
    raise ImportError(
        f"{PACKAGE.__file__} is not repeng-toolkit's: PyPI's repeng (control vectors) was installed over it. Give each "
        "an environment of its own: pip uninstall repeng repeng-toolkit, then pip install repeng-toolkit"
    )

from repeng.cli.app import app, main  # noqa: E402  (what it imports fails in other words)

__all__ = ["app", "main"]
