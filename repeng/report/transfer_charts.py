"""The transfer matrix next to the cosines of the fitted directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from repeng.distributions.unions import union_members
from repeng.errors import BadInput
from repeng.maths import in_ranges
from repeng.report.theme import INK, heat_cells, ink_on, themed
from repeng.results import figure_name, figure_names

if TYPE_CHECKING:
    # It brings torch, which a study's figures need not.
    from repeng.study.cached_sweep import Transfer

FEW_DISTRIBUTIONS = 25
"""Up to so many have their figures written in the cells."""
WITH_INTERVALS = 8
"""Up to so many have their intervals there too."""
NARROW = 36
FITTED, TESTED = "fitted on", "tested on"

Square = Sequence[Sequence[float]]
Interval = tuple[float | None, float | None]


def transfer_chart(found: Transfer) -> Any:
    """The transfer matrix of one probe on a store, with what it was made of in its title."""
    intervals = [list(zip(*ends, strict=True)) for ends in zip(found.accuracy_low, found.accuracy_high, strict=True)]
    return matrix_chart(
        found.names,
        found.accuracy,
        found.cosine,
        figures=found.figures,
        targets=found.targets,
        intervals=intervals,
        n=found.n,
        layers=[in_ranges(layers) for layers in found.layers],
        cosine_of=[
            f"cosine of directions at layer {found.cosine_layer}",
            *(["(of the highest mean held-out accuracy)"] if found.chosen_layers else []),
        ],
        title=f"Transfer of {found.probe} on {found.model}",
    )


def matrix_chart(
    names: Sequence[str],
    accuracy: Square,
    cosine: Square | None,
    *,
    figures: Sequence[str] = (),
    targets: Sequence[str] = (),
    intervals: Sequence[Sequence[Interval]] = (),
    n: Sequence[int] = (),
    layers: Sequence[str] = (),
    cosine_of: str | Sequence[str] = "cosine of directions",
    title: str = "Transfer",
) -> Any:
    """Transfer matrix (fitted on the row, tested on the column) next to the cosines of the fitted directions.

    Both are in one order, in which directions that point alike stand together; unions of distributions come last.
    Cells whose target the row was fitted on too are outlined.

    Args:
        names: of the N distributions that were fitted on.
        accuracy: N by M; row i is fitted on names[i].
        cosine: N by N, or None where the probe has no direction.
        figures: what the accuracies on each target are, as `study.cached_sweep.Transfer` has it; those of pairs by
            default.
        targets: the M distributions that were tested on; the same by default.
        intervals: N by M, the ends of each accuracy's interval.
        n: how many pairs, or labelled texts, each target has.
        layers: of each row, in words.
        cosine_of: what the cosines are, a line or several.
        title: of the picture.

    Raises:
        BadInput: a matrix is not of that size.
    """
    targets = targets or names
    if np.shape(accuracy) != (len(names), len(targets)):
        raise BadInput(f"a matrix of shape {np.shape(accuracy)} for {len(names)} distributions; give N by N")
    shown = figure_names(figures)
    called = "accuracy" if shown == "pair accuracy" else shown
    rows, columns = _order(names, targets, accuracy, cosine)
    of_row, of_column = _row_labels(names, layers), _column_labels(targets, figures, n)
    cells = _cells(names, targets, accuracy, intervals, n, layers)
    cells = cells.assign(row=cells[FITTED].map(of_row), column=cells[TESTED].map(of_column))
    places = [of_row[name] for name in rows], [of_column[name] for name in columns]
    down_title = [FITTED, *(["(at layers)"] if len(set(layers)) > 1 else [])]
    counted = "" if not n else " (pairs)" if shown == "pair accuracy" else " (n)"
    panels = [_accuracies(cells, *places, called, down_title, f"{TESTED}{counted}")]
    if cosine is not None:
        tall = bool(intervals) and max(len(names), len(targets)) <= WITH_INTERVALS
        panels.append(_cosines(names, cosine, rows, cosine_of, tall=tall))
    chart = alt.hconcat(*panels, spacing=24).resolve_scale(color="independent")
    subtitle = _subtitle(shown, intervals, max(len(names), len(targets)), layers)
    described = f"{title}: {shown} over {len(names)} distributions."
    return themed(chart, title=alt.TitleParams(text=title, subtitle=subtitle), description=described)


def cluster_order(names: Sequence[str], accuracy: Square, cosine: Square | None) -> list[int]:
    """Order of average-linkage clustering, by 1 - cosine, or by how accuracies correlate where there is no cosine.

    Raises:
        BadInput: a matrix is not N by N.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    for matrix in (accuracy, cosine):
        if matrix is not None and np.shape(matrix) != (len(names), len(names)):
            raise BadInput(f"a matrix of shape {np.shape(matrix)} for {len(names)} distributions; give N by N")
    if len(names) < 3:
        return list(range(len(names)))
    if cosine is not None:
        distance = 1.0 - np.asarray(cosine, dtype=float)
    else:
        rows = np.asarray(accuracy, dtype=float)
        both = np.concatenate([rows, rows.T], axis=1)
        distance = np.linalg.norm(both[:, None] - both[None], axis=2)
    distance = np.nan_to_num(np.clip((distance + distance.T) / 2, 0.0, None), nan=1.0)
    np.fill_diagonal(distance, 0.0)
    flat = squareform(distance, checks=False)
    return [int(i) for i in leaves_list(optimal_leaf_ordering(linkage(flat, "average"), flat))]


def _order(
    names: Sequence[str], targets: Sequence[str], accuracy: Square, cosine: Square | None
) -> tuple[list[str], list[str]]:
    """Rows and columns: those that are both, clustered, then the others as they come."""
    both = [name for name in names if name in targets]
    down, across = [names.index(name) for name in both], [targets.index(name) for name in both]
    square = [[accuracy[i][j] for j in across] for i in down]
    angles = None if cosine is None else [[cosine[i][j] for j in down] for i in down]
    ordered = [both[i] for i in cluster_order(both, square, angles)]
    rest = [name for name in names if name not in both], [name for name in targets if name not in both]
    return ordered + rest[0], ordered + rest[1]


def _row_labels(names: Sequence[str], layers: Sequence[str]) -> dict[str, str]:
    if len(set(layers)) < 2:
        return {name: name for name in names}
    return {name: f"{name} ({own})" for name, own in zip(names, layers, strict=True)}


def _column_labels(targets: Sequence[str], figures: Sequence[str], n: Sequence[int]) -> dict[str, str]:
    found = {name: name for name in targets}
    if len(set(figures)) > 1:
        found = {name: f"{name}, {figure_name(figure)}" for name, figure in zip(targets, figures, strict=True)}
    return {name: f"{found[name]} ({count})" for name, count in zip(targets, n, strict=True)} if n else found


def _cells(
    names: Sequence[str],
    targets: Sequence[str],
    accuracy: Square,
    intervals: Sequence[Sequence[Interval]],
    n: Sequence[int],
    layers: Sequence[str],
) -> pd.DataFrame:
    """One row a cell; what is not known of it has no column."""
    return pd.DataFrame(
        {
            FITTED: source,
            TESTED: target,
            "value": accuracy[i][j],
            "own": target in union_members(source, targets),
            **({"at layers": layers[i]} if layers else {}),
            **({"n": n[j]} if n else {}),
            **(dict(zip(("low", "high"), intervals[i][j], strict=True)) if intervals else {}),
        }
        for i, source in enumerate(names)
        for j, target in enumerate(targets)
    )


def _accuracies(
    cells: pd.DataFrame, down: list[str], across: list[str], called: str, down_title: list[str], across_title: str
) -> Any:
    """The accuracies as a heat map, with their intervals where there is room."""
    most = max(len(down), len(across))
    hover = [alt.Tooltip(f"{name}:N") for name in (FITTED, "at layers", TESTED) if name in cells]
    hover.append(alt.Tooltip("value:Q", format=".3f", title=called))
    if "low" in cells:
        hover += [alt.Tooltip(f"{end}:Q", format=".3f", title=f"95 % {end}") for end in ("low", "high")]
    hover += [alt.Tooltip("n:Q")] if "n" in cells else []
    said = cells[FITTED] + " on " + cells[TESTED] + ": " + called + cells["value"].map(" {:.3f}".format)
    cells = cells.assign(said=said)
    base = alt.Chart(cells).encode(
        x=alt.X("column:N", sort=across, title=across_title, axis=_across()),
        y=alt.Y("row:N", sort=down, title=down_title, axis=alt.Axis(domain=False, ticks=False, titleAnchor="middle")),
        tooltip=hover,
        description=alt.Description("said:N"),
    )
    wide = "low" in cells and most <= WITH_INTERVALS
    width, height, size = _sizes(most, wide=wide)
    ends = (0.0, 0.5, 1.0)
    panel = heat_cells(base, "value", ends, title=called, size=None if wide else size)
    if wide:
        interval = "datum.low === null ? '' : format(datum.low, '.2f') + '–' + format(datum.high, '.2f')"
        ink = ink_on("value", ends)
        panel += base.mark_text(fontSize=12, dy=-6).encode(text=alt.Text("value:Q", format=".2f"), color=ink)
        panel += (
            base.transform_calculate(interval=interval)
            .mark_text(fontSize=9, dy=8)
            .encode(text=alt.Text("interval:N"), color=ink)
        )
    panel += base.transform_filter("datum.own").mark_rect(fill=None, stroke=INK, strokeWidth=1.5)
    return panel.properties(width=alt.Step(width), height=alt.Step(height))


def _cosines(names: Sequence[str], cosine: Square, order: list[str], title: str | Sequence[str], *, tall: bool) -> Any:
    """The cosines as a heat map whose rows are those of the accuracies."""
    cells = pd.DataFrame(
        {FITTED: one, "and on": other, "value": cosine[i][j], "said": f"{one} and {other}: cosine {cosine[i][j]:.3f}"}
        for i, one in enumerate(names)
        for j, other in enumerate(names)
    )
    base = alt.Chart(cells).encode(
        x=alt.X("and on:N", sort=order, title=title if isinstance(title, str) else list(title), axis=_across()),
        y=alt.Y(f"{FITTED}:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False)),
        tooltip=[
            alt.Tooltip(f"{FITTED}:N"),
            alt.Tooltip("and on:N"),
            alt.Tooltip("value:Q", format=".3f", title="cosine"),
        ],
        description=alt.Description("said:N"),
    )
    width, height, size = _sizes(len(names), wide=tall)
    panel = heat_cells(base, "value", (-1.0, 0.0, 1.0), title="cosine", size=size)
    return panel.properties(width=alt.Step(min(width, NARROW)), height=alt.Step(height))


def _across() -> Any:
    return alt.Axis(orient="top", labelAngle=-40, domain=False, ticks=False)


def _sizes(most: int, *, wide: bool) -> tuple[int, int, int | None]:
    """Width and height of a cell, and the size of the figure in it; None where there is no room for one."""
    if wide:
        return 62, 34, 11
    return (NARROW, 24, 10) if most <= FEW_DISTRIBUTIONS else (14, 14, None)


def _subtitle(shown: str, intervals: Sequence[Sequence[Interval]], most: int, layers: Sequence[str]) -> list[str]:
    """What the figures are, in a line or two."""
    chosen = ""
    if layers:
        same = f"every row at layers {layers[0]}" if "-" in layers[0] or "," in layers[0] else f"at layer {layers[0]}"
        own = "each row at the layers that its own held-out examples chose"
        chosen = f"; {same if len(set(layers)) == 1 else own}"
    lines = [f"{shown} on test splits{chosen}; outlined: fitted on the same distribution"]
    known = [end for row in intervals for end in row if None not in end]
    if known:
        widths = [high - low for low, high in known if low is not None and high is not None]
        where = "under each figure" if most <= WITH_INTERVALS else "shown on hover"
        lines.append(f"95 % intervals over prompts, {where}, are {min(widths):.2f} to {max(widths):.2f} wide")
    return lines
