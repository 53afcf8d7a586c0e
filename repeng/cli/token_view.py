"""How `repeng watch` shows tokens: JSON lines, a table, or text coloured by score."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict

from rich.style import Style
from rich.text import Text

from repeng.cli.console import Talk
from repeng.errors import UnknownName
from repeng.watching.session import Event, TextEnd
from repeng.watching.token_score import TextSummary, TokenScore
from repeng.watching.watched_model import Watched

VIEWS = ("auto", "flow", "table")
LOW, MIDDLE, HIGH = (58, 122, 184), (242, 242, 242), (222, 121, 47)
"""Blue, light grey and orange: told apart by the colour-blind too."""
STEPS = 6
"""Shades on either side of the middle."""
ENDS = {
    "end": "",
    "alarm": "; stopped at the alarm",
    "max_new_tokens": "; stopped at --max-new-tokens",
    "window": "; the model takes no more tokens",
}


class View:
    """What shows tokens."""

    def scale(self, watched: Watched) -> None:
        """Learn what scores mean, where that matters."""

    def show(self, event: Event) -> None:
        """Show a token, or what is said at a text's end."""
        raise NotImplementedError


def view_of(name: str, talk: Talk, *, lines: bool) -> View:
    """The view that was asked for.

    Raises:
        UnknownName: it is none of auto, flow and table.
    """
    if name not in VIEWS:
        raise UnknownName("view", name, VIEWS)
    if talk.json:
        return JsonView()
    coloured = talk.out.is_terminal and not talk.out.no_color and talk.out.color_system is not None
    return FlowView(talk, lines) if name == "flow" or (name == "auto" and coloured) else TableView(talk, lines)


class JsonView(View):
    """One JSON object a line, each written as soon as it is known."""

    def show(self, event: Event) -> None:
        """Write it."""
        if isinstance(event, TextEnd):
            said = {"kind": "text", "text": event.text, "end": event.why}
            said |= {} if event.summary is None else asdict(event.summary)
        else:
            token = asdict(event.token)
            said = {"kind": "token", "text": event.text, "token": token.pop("text"), **token}
        sys.stdout.write(json.dumps(said, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()


class TableView(View):
    """A token a line: position, score, probability, `!` where it rings, and the token as Python writes it."""

    def __init__(self, talk: Talk, lines: bool) -> None:
        self._talk, self._lines = talk, lines
        self._begun = False

    def show(self, event: Event) -> None:
        """Print it."""
        if isinstance(event, TextEnd):
            self._talk.out.print(_said(event, self._lines), markup=False, highlight=False, soft_wrap=True)
            return
        if not self._begun:
            self._line("position", "score", "p", "", "token")
            self._begun = True
        token = event.token
        self._line(
            str(token.position),
            "" if token.score is None else f"{token.score:.4f}",
            "" if token.probability is None else f"{token.probability:.3f}",
            "!" if token.alarm else "",
            json.dumps(token.text, ensure_ascii=False),
        )

    def _line(self, position: str, score: str, probability: str, alarm: str, token: str) -> None:
        line = f"{position:>8}  {score:>9}  {probability:>5} {alarm:1} {visible(token)}"
        self._talk.out.print(line, markup=False, highlight=False, soft_wrap=True)
        self._talk.out.file.flush()


class FlowView(View):
    """The text as it is, each token on a ground of its score's colour; one that rings is underlined and bold."""

    def __init__(self, talk: Talk, lines: bool) -> None:
        self._talk, self._lines = talk, lines
        self._strength: Callable[[TokenScore], float | None] = lambda _: None

    def scale(self, watched: Watched) -> None:
        """By probability where there is one; else by the score, a temperature's to each side."""
        if watched.fitted.texts is not None:
            self._strength = lambda token: None if token.probability is None else 2 * token.probability - 1
        else:
            unit = watched.fitted.temperature or 1.0
            self._strength = lambda token: None if token.score is None else math.tanh(token.score / unit / 2)
        legend = Text()
        for step in range(-STEPS, STEPS + 1, 2):
            legend.append("  ", style=shade(step / STEPS))
        source = watched.fitted.provenance.get("source", "the source")
        note = Text("low ") + legend + Text(f" high: like label 1 of {source}; underlined: alarm")
        if not self._talk.quiet:
            self._talk.err.print(note)

    def show(self, event: Event) -> None:
        """Print it."""
        if isinstance(event, TextEnd):
            self._talk.out.print()
            self._talk.out.print(_said(event, self._lines), markup=False, highlight=False, soft_wrap=True)
            return
        token = event.token
        strength = self._strength(token)
        style = Style(dim=True) if strength is None or token.part == "prompt" else shade(strength)
        if token.alarm:
            style += Style(bold=True, underline=True)
        # A ground that runs to the end of the line would hide where it ends.
        for number, line in enumerate(visible(token.text).split("\n")):
            if number:
                self._talk.out.print()
            self._talk.out.print(Text(line, style=style), end="", soft_wrap=True)
        self._talk.out.file.flush()


def shade(strength: float) -> Style:
    """The colour of a score from -1 to 1, in a few steps, with black or white text on it."""
    step = round(max(-1.0, min(1.0, strength)) * STEPS) / STEPS
    end = HIGH if step > 0 else LOW
    red, green, blue = (round(a + (b - a) * abs(step)) for a, b in zip(MIDDLE, end, strict=True))
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 128
    return Style(color="#000000" if light else "#ffffff", bgcolor=f"#{red:02x}{green:02x}{blue:02x}")


def visible(text: str) -> str:
    """A text that does nothing to a terminal: control characters but line ends and tabs as their pictures.

    What a model writes, or a stranger's text, could hold an escape sequence.
    """
    return "".join(_picture(character) for character in text)


def _picture(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 32:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 127 else "\N{REPLACEMENT CHARACTER}" if 128 <= code < 160 else character


def _said(event: TextEnd, lines: bool) -> str:
    """What is said at a text's end, in a line."""
    of = f"line {event.text + 1}" if lines else "text"
    if event.summary is None:
        return f"{of}: longer than the model takes, skipped"
    return f"{of}: {_figures(event.summary)}{ENDS[event.why]}"


def _figures(summary: TextSummary) -> str:
    own = "no score"
    if summary.score is not None:
        chance = "" if summary.probability is None else f" (p {summary.probability:.3f})"
        own = f"score {summary.score:.4f}{chance}, {'ALARM' if summary.alarm else 'no alarm'}"
    if summary.mean is None or summary.max is None:
        return own
    rang = f"{summary.alarms} of {summary.tokens} tokens rang"
    first = "" if summary.first_alarm is None else f", the first at {summary.first_alarm}"
    return f"{own}; mean {summary.mean:.4f}, max {summary.max:.4f}; {rang}{first}"
