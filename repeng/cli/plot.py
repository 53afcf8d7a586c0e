"""`plot`: figures of results for a paper or a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.errors import BadInput
from repeng.places import Place

PAGE = 9.5
"""Inches that a page has room for."""


def plot(
    kind: Annotated[
        str,
        typer.Argument(
            help="heat-map (shifts by methods), elicitation, reliability, sweep (accuracy by layer), transfer (one "
            "method, sources by targets, the cells that were asked) or matrix (every distribution against every one)."
        ),
    ],
    results: Annotated[
        Place,
        typer.Argument(
            parser=o.place,
            help="Results folder of a study; for sweep also a table of repeng sweep --csv, for matrix also a file of "
            "repeng matrix --json.",
        ),
    ],
    methods: Annotated[
        str | None, typer.Option("--methods", help="Comma-separated, in the order to show. [default: all]")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only shifts from these distributions, comma-separated.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Only shifts to these distributions, comma-separated.")
    ] = None,
    shifts: Annotated[
        str | None,
        typer.Option(
            "--shifts",
            help="Only shifts of these labels or categories, comma-separated; for sweep also in-distribution.",
        ),
    ] = None,
    style: Annotated[
        str, typer.Option("--style", help="paper (text of 7 to 8 points, no title, reads in grey) or screen.")
    ] = "paper",
    width: Annotated[
        str | None,
        typer.Option("--width", help="Of the whole figure: 3.3in, 8cm, 84mm, 240pt, 400px. [default: 3.3in on paper]"),
    ] = None,
    height: Annotated[str | None, typer.Option("--height", help="Of the whole figure. [default: as it comes]")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="pdf, svg, png or html. [default: by --out's ending, else pdf]")
    ] = None,
    dpi: Annotated[int | None, typer.Option("--dpi", min=30, max=2400, help="Of a png. [default: 300]")] = None,
    out: Annotated[
        Place | None,
        typer.Option("--out", **o.AT, help="File to write. [default: KIND.FORMAT here]"),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """A figure of results for a paper: exactly as wide as asked, its text at the printed size, fonts inside.

    A caption to begin with is printed: model, benchmark, how many pairs, what the intervals are.
    """
    from repeng.methods.names import split_names
    from repeng.report.figures import make_figure
    from repeng.report.pictures import save_chart

    talk = Talk(json=json, quiet=quiet)
    file = _place(kind, out, form)
    if dpi is not None and file.suffix.lower() != ".png":
        raise BadInput(f"--dpi is for a png, and {file.name} is none; leave it out")
    figure = make_figure(
        kind,
        results,
        methods=None if methods is None else split_names(methods),
        source=None if source is None else o.names(source),
        target=None if target is None else o.names(target),
        shifts=None if shifts is None else o.names(shifts),
        style=style,
        width=width,
        height=height,
    )
    save_chart(figure.chart, file, dpi=dpi or 300)
    wide, high = (round(side, 2) for side in figure.inches)
    if style == "paper" and high > PAGE:
        talk.note(f"the figure is {high:.1f} in high, more than a page: show less with --methods or --shifts")
    plain = {"figure": str(file), "width_in": wide, "height_in": high, "caption": figure.caption}
    talk.result(plain, f"wrote {file} ({wide:.2f} x {high:.2f} in)", "", figure.caption)


def _place(kind: str, out: Place | None, form: str | None) -> Place:
    """The file to write, whose ending says its format.

    Raises:
        BadInput: an unknown format, or one that the file's ending denies.
    """
    from repeng.errors import UnknownName
    from repeng.report.pictures import FORMATS

    if form is not None and form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    if out is None:
        return Path(f"{kind}.{form or 'pdf'}")
    ending = out.suffix.lower().removeprefix(".")
    if ending in FORMATS:
        if form is not None and form != ending:
            raise BadInput(f"--out {out} ends in .{ending}, and --format is {form}: give one of them, or the same")
        return out
    if ending:
        raise BadInput(f"--out {out}: unknown ending .{ending}; end it in .pdf, .svg, .png or .html")
    return out.with_name(f"{out.name}.{form or 'pdf'}")
