"""`repeng watch`: a fitted probe at every token of a text, or of what a model writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.errors import BadInput, path_like, sentence
from repeng.places import Place

if TYPE_CHECKING:
    from repeng.watching.watched_model import Watched


def watch(
    probe: Annotated[Place, typer.Option("--probe", **o.AT, help="Folder of a fitted probe.")],
    file: Annotated[
        Path | None, typer.Argument(help="File to read in place of standard input.", show_default=False)
    ] = None,
    model: o.ProbesModel = None,
    generate: Annotated[
        str | None,
        typer.Option("--generate", help="Have the model write on from this prompt; - reads it as a text is read."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What stands before each text, which is then the response.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line is a text. [default: all of it is one]")] = False,
    alarm: Annotated[
        str | None,
        typer.Option(
            "--alarm",
            help="What rings: 1%, 5% (thresholds of fit), p=0.9, score=2.5, below-p=0.1, below-score=-2, none. "
            "[default: 1%, where the probe has it]",
        ),
    ] = None,
    stop_at_alarm: Annotated[
        bool, typer.Option("--stop-at-alarm", help="End a text with the first token that rings.")
    ] = False,
    max_new_tokens: o.MaxNewTokens = o.MAX_NEW_TOKENS,
    temperature: o.Temperature = 0.0,
    seed: o.SamplingSeed = 0,
    view: Annotated[
        str,
        typer.Option(
            "--view", help="flow (text coloured by score), table (a token a line), or auto: flow where colour is shown."
        ),
    ] = "auto",
    too_long: Annotated[
        str, typer.Option("--too-long", help="Texts longer than the model takes: refuse, cut (the beginning) or skip.")
    ] = "refuse",
    stimulus: Annotated[
        str | None, typer.Option("--stimulus", help="Text of a stimulus of your own, where the probe reads one.")
    ] = None,
    device: o.Device = "auto",
    device_map: o.DeviceMap = None,
    dtype: o.ComputeDtype = "auto",
    quantization: o.Quantization = None,
    any_model: o.AnyModel = False,
    trust_code: o.TrustCode = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: each token, and each text's end.")
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Score every token of a text, from standard input or a file, or of what the model writes.

    A token's score is the one that the text would have if it ended there. The alarm's thresholds were set for whole
    texts, at the token that the probe reads: of many tokens more ring by chance.
    """
    from repeng.cli.token_view import view_of
    from repeng.models.load import load_model
    from repeng.probes.io import load
    from repeng.watching.session import read_all, write_one
    from repeng.watching.watched_model import Watched
    from repeng.watching.writing import Writing

    talk = Talk(json=json, quiet=quiet)
    if generate is not None and (lines or prompt is not None):
        raise BadInput(f"--generate and {'--lines' if lines else '--prompt'} conflict: the first has the text written")
    if file is not None and generate not in (None, "-"):
        raise BadInput(f"--generate {generate!r} and the file {file} conflict: give one, or --generate - with the file")
    shown = view_of(view, talk, lines=lines)
    how = Writing(max_new_tokens, temperature, seed, stop_at_alarm)
    fitted = load(probe, trust_code=trust_code)
    if generate == "-" or generate is None:
        texts = _texts(file, talk, lines=lines)
    own = o.own_model(model, fitted.provenance)
    loaded = load_model(own, device=device, dtype=dtype, device_map=device_map, quantization=quantization or "auto")
    watched = Watched.of(loaded, fitted, alarm=alarm, any_model=any_model, stimulus=stimulus)
    talk.note(f"{fitted.name} on {fitted.provenance.get('source', '?')}, {_places(watched)}; {watched.alarm.sentence}")
    shown.scale(watched)
    if generate is None:
        told = read_all(watched, texts, prompt or "", too_long=too_long, stop_at_alarm=stop_at_alarm)
    else:
        told = write_one(watched, texts[0] if generate == "-" else generate, how)
    for event in told:
        shown.show(event)


def _places(watched: Watched) -> str:
    """Where the probe reads."""
    fitted = watched.fitted
    units = [f"{layer}.{head}" if fitted.has_heads else str(layer) for layer, head in fitted.units]
    return f"{fitted.site} {'+'.join(units)} of {watched.lm.name}, token {fitted.token}"


def _texts(file: Path | None, talk: Talk, *, lines: bool) -> list[str]:
    """The texts of a file or of standard input; one line end at the very end is the shell's, not the text's.

    Raises:
        BadInput: there is no such file, or it is empty or no UTF-8.
    """
    where = "standard input" if file is None else str(file)
    if file is None and sys.stdin.isatty():
        talk.note("reading the text from this terminal; end it with Ctrl-D on a line of its own")
    try:
        text = (sys.stdin.buffer.read() if file is None else file.read_bytes()).decode("utf-8")
    except OSError as error:
        raise BadInput(f"{sentence(error)}{path_like(file or '')}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is no UTF-8 text (byte {error.start}); convert it first") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise BadInput(f"{where} is empty; give a text there, or have one written with --generate PROMPT")
    return [line.removesuffix("\r") for line in text.split("\n")] if lines else [text]
