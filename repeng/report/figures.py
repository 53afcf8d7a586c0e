"""Figures for papers and pages: one picture of a study in a style, of a width, of what was chosen, with a caption."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from repeng.errors import BadData, BadInput, UnknownName
from repeng.places import Place, place
from repeng.report.captions import caption_of, matrix_caption
from repeng.report.charts import (
    elicitation_plot,
    heat_map,
    matrix_chart,
    reliability_chart,
    sweep_chart,
    transfer_chart,
)
from repeng.report.contradictions import settle
from repeng.report.figure_choice import Choice, Names, known_names
from repeng.report.figure_size import DoesNotFit, extent_of, fitted
from repeng.report.frames import in_order, shift_frame
from repeng.report.predictions import read_predictions, reliability_frame
from repeng.report.restyle import restyled
from repeng.report.study_matrix import StudyMatrix, study_matrix
from repeng.report.style import PIXELS, POINT, Style, length, style_named, unit_of
from repeng.results import CAPABILITY, ResultRow, read_layers, read_results, record_of
from repeng.study.settings import Study

KINDS = ("heat-map", "sweep", "matrix", "elicitation", "transfer", "reliability")
IN_DISTRIBUTION = "in-distribution"
CHARTS: dict[str, Any] = {
    "vconcat": alt.VConcatChart,
    "hconcat": alt.HConcatChart,
    "concat": alt.ConcatChart,
    "facet": alt.FacetChart,
    "layer": alt.LayerChart,
}
"""What makes a specification which chart."""


@dataclass(frozen=True)
class Figure:
    """A picture and what to write under it.

    Attributes:
        kind: one of `KINDS`.
        chart: an Altair chart.
        caption: what it shows: model, benchmark, how many pairs, what the intervals are.
    """

    kind: str
    chart: Any
    caption: str

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height."""
        width, height = extent_of(_specification(self.chart))
        return width / PIXELS["in"], height / PIXELS["in"]


def make_figure(
    kind: str,
    results: Place | str,
    *,
    methods: Names = None,
    source: Names = None,
    target: Names = None,
    shifts: Names = None,
    style: str = "screen",
    width: str | None = None,
    height: str | None = None,
) -> Figure:
    """A figure of a study, as `repeng plot` writes it.

    Args:
        kind: `heat-map`, `sweep`, `matrix`, `elicitation`, `transfer` or `reliability`.
        results: a study's folder; for `sweep` also the table of `repeng sweep --csv`, for `matrix` also the output of
            `repeng matrix --json` in a file.
        methods: to show, in this order; `transfer` and the `matrix` of a study are of one.
        source: to show, of the distributions that were fitted on; `target` alike, of those tested on.
        shifts: labels or categories of the shifts to show; for `sweep` also `in-distribution`.
        style: `screen` or `paper`.
        width: of the whole figure, as `3.3in`, `8cm`, `84mm`, `240pt` or `400px`; by default the style's own.
        height: of the whole figure; by default as it comes.

    Raises:
        UnknownName: no such kind, style, method, source, target, label or category.
        BadInput: the results do not hold what the figure is made of; a length is none, or too little to be legible.
    """
    if kind not in KINDS:
        raise UnknownName("figure", kind, KINDS)
    choice = Choice(methods, source, target, shifts)
    chart, caption, count = DRAWN[kind](place(results), choice)
    try:
        return Figure(kind, styled(chart, style=style, width=width, height=height), caption)
    except DoesNotFit as error:
        asked = width if error.side == "width" else height
        raise BadInput(_too_small(error, kind, count, style_named(style), asked)) from None


def styled(chart: Any, *, style: str = "screen", width: str | None = None, height: str | None = None) -> Any:
    """A chart of repeng in another style, and exactly as wide and high as asked, its text at the style's size.

    Args:
        chart: any Altair chart that repeng gives, or one like it.
        style: `screen`, as it is in reports, or `paper`: text of 7 to 8 points, no title, thin rules, colours that read
            in grey and to the colour-blind, lines that differ in their dashes too.
        width: of the whole picture, as `3.3in`; None is the style's: 3.3in on paper, on a screen as it comes.
        height: of the whole picture; None lets it follow.

    Returns:
        An Altair chart. A pixel of it is 1/96 inch.

    Raises:
        UnknownName: no such style.
        BadInput: a length is none, or is too little for the text.
    """
    look = style_named(style)
    wide = look.width if width is None else length(width, "width")
    high = None if height is None else length(height, "height")
    if look.name == "screen" and wide is None and high is None:
        return chart
    spec = fitted(restyled(_specification(chart), look), look, wide, high)
    kind = next((kind for name, kind in CHARTS.items() if name in spec), alt.Chart)
    # It is checked when it is drawn; to check it against every kind of chart takes seconds.
    return kind.from_dict(spec, validate=False)


def _specification(chart: Any) -> dict[str, Any]:
    # The size of a chart's data is the caller's business: a picture has no row limit.
    with alt.data_transformers.enable("default", max_rows=None):
        spec: dict[str, Any] = chart.to_dict()
    return spec


def _too_small(error: DoesNotFit, kind: str, count: int, style: Style, asked: str | None) -> str:
    asked = asked or f"{(style.width or 0) / PIXELS['in']:.3g}in"
    unit = unit_of(asked)
    digits = {"in": 2, "cm": 2, "mm": 1, "pt": 1}.get(unit, 0)
    least = math.ceil(error.least / PIXELS[unit] * 10**digits - 1e-6) / 10**digits
    narrow, narrowest = ("narrow", "narrowest") if error.side == "width" else ("low", "lowest")
    methods = "one method" if count == 1 else f"{count} methods"
    return (
        f"{error.side} {asked} is too {narrow} for the {kind} figure of {methods} with text of "
        f"{style.labels / POINT:.3g} pt: the {narrowest} that works is {least:.{digits}f}{unit}; give that, or show "
        "less (--methods, --source, --target, --shifts)"
    )


Drawn = tuple[Any, str, int]
"""A chart, its caption, and of how many methods it is."""


def _heat_map(results: Place, choice: Choice) -> Drawn:
    frame = _frame(results, choice)
    return heat_map(frame), caption_of("heat-map", frame, _benchmark(results)), frame["name"].nunique()


def _elicitation(results: Place, choice: Choice) -> Drawn:
    frame = _frame(results, choice)
    if frame["target_tuned_capability"].isna().all():
        raise BadInput(
            f"{results} has no target-tuned capability, so there is no elicitation to draw; run the study with "
            "--capability, or draw a heat-map"
        )
    return elicitation_plot(frame), caption_of("elicitation", frame, _benchmark(results)), frame["name"].nunique()


def _reliability(results: Place, choice: Choice) -> Drawn:
    if not (results / "predictions").is_dir():
        raise BadInput(f"{results} has no predictions, of which reliability is made; give the folder of a whole study")
    frame = _frame(results, choice)
    bins = reliability_frame(frame, read_predictions(results))
    if bins.empty:
        raise BadInput(f"{results}: no prediction of these methods is a probability; choose others with --methods")
    return reliability_chart(bins), caption_of("reliability", frame, _benchmark(results)), bins["method"].nunique()


def _transfer(results: Place, choice: Choice) -> Drawn:
    found, frame = _one_method(results, choice, "transfer")
    return found.chart(), caption_of("transfer", frame, _benchmark(results)), 1


def _matrix(results: Place, choice: Choice) -> Drawn:
    if results.is_file():
        return *_read_matrix(results), 1
    found, frame = _one_method(results, choice, "matrix")
    square = found.matrix()
    names = in_order([*square.index, *square.columns])
    square = square.reindex(index=names, columns=names)
    if square.isna().to_numpy().any():
        raise BadInput(
            f"{results} did not ask {found.method} from every distribution to every other, which a matrix is of; draw "
            "what was asked with repeng plot transfer, or write a matrix with repeng matrix --json > FILE"
        )
    kinds = found.frame.drop_duplicates("target").set_index("target")["figure"]
    chart = matrix_chart(names, square.to_numpy().tolist(), None, figures=[kinds[name] for name in names])
    return chart, caption_of("matrix", frame, _benchmark(results)), 1


def _one_method(results: Place, choice: Choice, kind: str) -> tuple[StudyMatrix, pd.DataFrame]:
    rows = choice.rows(_rows(results))
    methods, models = (in_order(getattr(row, name) for row in rows) for name in ("method", "model"))
    if len(methods) > 1:
        raise BadInput(f"a {kind} is of one method; give it with --methods, one of {', '.join(methods)}")
    if len(models) > 1:
        raise BadInput(f"a {kind} is of one model, and {results} has {', '.join(models)}; give a study of one")
    return study_matrix(rows, methods[0]), shift_frame(rows)


def _sweep(results: Place, choice: Choice) -> Drawn:
    table = results if results.is_file() else results / "layers.csv"
    if not table.is_file():
        raise BadInput(f"{results} has no layers.csv: no probe of the study was fitted at several layers")
    rows = pd.DataFrame([record_of(row) for row in read_layers(table)])
    if results.is_dir():
        rows = rows[_of_shifts(rows, results, choice)]
    elif choice.shifts is not None:
        raise BadInput(f"{table} does not say the labels of its shifts; choose by source and target, or give a folder")
    for column, names in (("probe", choice.methods), ("source", choice.source), ("target", choice.target)):
        wanted = known_names("method" if column == "probe" else column, names, rows[column])
        if wanted is not None:
            rows = pd.concat([rows[rows[column] == name] for name in wanted])
    if rows.empty:
        raise BadInput(f"nothing is left to draw of {table}; ask for less at once")
    return sweep_chart(rows), caption_of("sweep", rows, _benchmark(results)), rows["probe"].nunique()


def _of_shifts(layers: pd.DataFrame, results: Place, choice: Choice) -> Any:
    """Which rows of layers.csv are of the shifts asked for; by default of all but the sources' own test splits."""
    at_home = layers["source"] == layers["target"]
    if choice.shifts is None:
        return ~at_home | (choice.target is not None)
    wanted = [choice.shifts] if isinstance(choice.shifts, str) else list(choice.shifts)
    named = [name for name in wanted if name != IN_DISTRIBUTION]
    chosen = Choice(shifts=named).rows(_rows(results)) if named else []
    pairs = pd.MultiIndex.from_tuples([(row.source, row.target) for row in chosen] or [("", "")])
    of_shifts = pd.MultiIndex.from_frame(layers[["source", "target"]]).isin(pairs)
    return of_shifts | (at_home & (IN_DISTRIBUTION in wanted))


def _rows(results: Place) -> list[ResultRow]:
    """The rows of a study's results.csv as its predictions bear them out, without those of capability."""
    table = results / "results.csv"
    predictions = read_predictions(results) if (results / "predictions").is_dir() else {}
    rows = settle(read_results(table), predictions, table)[0]
    found = [row for row in rows if not row.method.startswith(CAPABILITY)]
    if not found:
        raise BadInput(f"{table} has no row; run the study first")
    return found


def _frame(results: Place, choice: Choice) -> pd.DataFrame:
    """The chosen rows in the order of a report, each shift's methods in the order asked for."""
    return shift_frame(choice.rows(_rows(results)))


def _benchmark(results: Place) -> str:
    """What the study's shifts are from; empty where its folder does not say."""
    if not (results / "study.toml").is_file():
        return ""
    study = Study.read(results / "study.toml", {})
    return study.benchmark or study.data or "mini"


def _read_matrix(path: Place) -> tuple[Any, str]:
    """The chart of what `repeng matrix --json` wrote, and its caption.

    Raises:
        BadData: it is something else.
    """
    from repeng.study.cached_sweep import Transfer

    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        tuples = {name: tuple(read[name]) for name in ("names", "targets", "n", "n_prompts", "figures")}
        found = Transfer(**{**read, **tuples, "layers": tuple(map(tuple, read["layers"]))})
        return transfer_chart(found), matrix_caption(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(
            "this is no output of repeng matrix --json; write it with repeng matrix ... --json > FILE", path=path
        ) from error


DRAWN: dict[str, Callable[[Place, Choice], Drawn]] = {
    "heat-map": _heat_map,
    "sweep": _sweep,
    "matrix": _matrix,
    "elicitation": _elicitation,
    "transfer": _transfer,
    "reliability": _reliability,
}
