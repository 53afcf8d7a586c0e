"""The command line: parse, call, print. No logic lives here."""

from repeng.cli.app import app, main

__all__ = ["app", "main"]
