"""The `repeng` command: its groups, its flags that hold everywhere, and how errors leave it."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from repeng.cli import data, erasure, handing, look, plot, probes, studies
from repeng.cli.doctor import doctor
from repeng.cli.steer import steer
from repeng.cli.watch import watch
from repeng.errors import BadInput, RepengError, sentence
from repeng.models.launch import rank
from repeng.version import __version__

GARBAGE_AFTER = 50_000
"""New objects behind which Python looks for garbage, which is what refers to itself in a circle."""

PLAIN: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
"""Panels leave a narrow column for the help of an option: at 80 columns words of it are cut off."""
app = typer.Typer(
    name="repeng",
    help="Run a language model once, cache its activations, and ask how probes and reward models generalise.",
    pretty_exceptions_enable=False,
    **PLAIN,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(**PLAIN, help="Look at, check, fetch and write out distributions.")
store_app = typer.Typer(**PLAIN, help="Look at, check and remove cached activations.")
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")

COMMANDS: tuple[Callable[..., None], ...] = (
    *(studies.run, studies.cache),
    *(probes.fit, probes.score, probes.sweep, probes.matrix, probes.tune),
    *(steer, erasure.erase),
    *(handing.export, handing.push, handing.pull),
    *(look.rescore, look.compare, look.report, plot.plot, look.browse),
    watch,
    doctor,
)
DATA: tuple[Callable[..., None], ...] = (data.data_ls, data.data_check, data.data_fetch, data.data_export)
STORE: tuple[Callable[..., None], ...] = (data.store_ls, data.store_verify, data.store_rm)
for group, commands in ((app, COMMANDS), (data_app, DATA), (store_app, STORE)):
    for command in commands:
        # `data_ls` is `repeng data ls`: the group's name goes.
        group.command(command.__name__.rpartition("_")[2])(command)


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"repeng {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def everywhere(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Flags that come before a command."""


def _stop(number: int, _frame: object) -> None:
    # Straight to the system: the signal may have come while Python was writing to the same stream.
    os.write(2, b"stopped; what was finished is kept, and the same command goes on from there\n")
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line; an error becomes one message and an exit code.

    That is 1 where it failed, 2 after bad usage or bad input, 130 after Ctrl-C and 143 after SIGTERM.
    """
    # --debug holds wherever it stands, so that it can be added at the end of a command that just failed.
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if {"--quiet", "-q"} & set(arguments) or not sys.stderr.isatty():
        # Read when transformers and tqdm are imported: bars are for a terminal, and for who wants to see them.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    # A study reads millions of small objects that are no garbage: by default a fifth of its time goes into looking.
    gc.set_threshold(GARBAGE_AFTER, 50, 20)
    # And a tenth into looking through all that is there when Python ends.
    atexit.register(gc.freeze)
    try:
        app(arguments)
    except RepengError as error:
        if debug:
            raise
        # Processes that were started together were all given the same: what is wrong with it the first one says.
        if not (rank() and isinstance(error, BadInput)):
            typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        if debug:
            raise
        said = sentence(error)
        hint = "\n(--debug shows where)" if said.startswith(type(error).__name__) else ""
        typer.echo(f"error: {said}{hint}", err=True)
        raise SystemExit(1) from None
