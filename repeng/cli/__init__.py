"""The command line: parse, call, print. No logic lives here."""

import repeng

if not hasattr(repeng, "run"):
    raise ImportError(
        f"{repeng.__file__} is not repeng-toolkit's: PyPI's repeng (control vectors) was installed over it. Give each "
        "an environment of its own: pip uninstall repeng repeng-toolkit, then pip install repeng-toolkit"
    )

from repeng.cli.app import app, main

__all__ = ["app", "main"]
