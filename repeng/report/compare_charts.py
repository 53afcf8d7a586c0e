"""Pictures of a comparison: per-shift scatter, elicitation by model size, agreement of mistakes."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import in_order
from repeng.report.theme import colour_by, diagonal, heat_cells, shape_by, themed, tooltips

ACROSS = 3
MOST_WITH_INTERVALS = 12
"""Methods of a map of kappas in whose cells there is room for an interval."""
DODGE = 0.035
"""Of the width of all sizes: how far one method's points stand from the next one's, so that bars do not cover bars."""


def scatter_chart(frame: pd.DataFrame) -> Any:
    """Accuracy of one method against another's, a point a shift with its intervals, one panel a pair of methods.

    Args:
        frame: with `x`, `y`, `shift`, `label`, `x_accuracy` and `y_accuracy`; their `_low` and `_high` where known.
    """
    labels = in_order(frame["label"])
    axes = alt.Scale(domain=[0, 1])
    panels = []
    for (x_name, y_name), chosen in frame.groupby(["x", "y"], sort=False):
        x = alt.X("x_accuracy:Q", scale=axes, title=str(x_name))
        y = alt.Y("y_accuracy:Q", scale=axes, title=str(y_name))
        base = alt.Chart(chosen)
        colour = colour_by("label", labels)
        shape = shape_by("label", labels)
        if len(labels) == 1:
            colour, shape = colour.legend(None), shape.legend(None)
        points = base.mark_point(filled=True, size=50, opacity=0.9)
        points = points.encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            tooltip=tooltips("shift:N", "label:N", figures=("x_accuracy", "y_accuracy")),
        )
        bars = base.mark_rule(opacity=0.3).encode(x=x, y=y, color=colour)
        across = bars.encode(x=alt.X("x_accuracy_low:Q", title=str(x_name)), x2=alt.X2("x_accuracy_high:Q"))
        along = bars.encode(y=alt.Y("y_accuracy_low:Q", title=str(y_name)), y2=alt.Y2("y_accuracy_high:Q"))
        known = [
            one
            for one, axis in ((across, "x"), (along, "y"))
            if f"{axis}_accuracy_low" in chosen and chosen[f"{axis}_accuracy_low"].notna().any()
        ]
        layers = [diagonal(alt.Chart(chosen.head(1)), 0.0), *known, points]
        panels.append(alt.layer(*layers).properties(width=220, height=220))
    summary = f"Accuracy on each shift (of labelled texts AUROC), {len(panels)} panels; on the diagonal both are alike."
    return themed(alt.concat(*panels, columns=ACROSS), title="Shift by shift", description=summary)


def size_chart(frame: pd.DataFrame) -> Any:
    """Mean elicitation by model size, one line a method with its intervals, one panel a label.

    Args:
        frame: with `model`, `method`, `billions`, `label`, `shifts`, `elicitation`, `low` and `high`.
    """
    methods, labels = in_order(frame["method"]), in_order(frame["label"])
    sizes = sorted(frame["billions"].unique())
    step = DODGE * math.log(sizes[-1] / sizes[0])
    beside = frame["method"].map({name: place - (len(methods) - 1) / 2 for place, name in enumerate(methods)})
    frame = frame.assign(place=frame["billions"] * (step * beside).map(math.exp))
    room = math.exp(step * (len(methods) + 1) / 2)
    named = "datum.value >= 1 ? format(datum.value, '.3~r') + 'B' : format(1000 * datum.value, '.3~r') + 'M'"
    x = alt.X(
        "place:Q",
        scale=alt.Scale(type="log", domain=[sizes[0] / room, sizes[-1] * room], nice=False),
        axis=alt.Axis(values=sizes, labelExpr=named, grid=False, labelOverlap=False),
        title="parameters of the model",
    )
    ends = [end for name in ("elicitation", "low", "high") for end in frame[name].dropna()]
    margin = 0.1 * (max(ends) - min(ends)) + 0.01
    axis = alt.Scale(domain=[max(0.0, min(ends) - margin), max(ends) + margin], zero=False)
    y = alt.Y("elicitation:Q", scale=axis, title="mean elicitation")
    panels = []
    for label in labels:
        own = frame[frame["label"] == label]
        base = alt.Chart(own).encode(
            x=x,
            color=colour_by("method", methods),
            tooltip=[
                *tooltips("model:N", "method:N", "label:N", figures=("elicitation", "low", "high")),
                alt.Tooltip("shifts:Q"),
            ],
        )
        points = base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape_by("method", methods))
        layers = [base.mark_line(opacity=0.6).encode(y=y), points]
        if own["low"].notna().any():
            layers.insert(
                0, base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q", title="mean elicitation"), y2=alt.Y2("high:Q"))
            )
        counts = sorted(set(own["shifts"]))
        shifts = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        title = f"{label}, {shifts} shifts" if len(labels) > 1 else f"{shifts} shifts"
        panels.append(alt.layer(*layers).properties(width=260, height=220, title=title))
    chart = alt.concat(*panels, columns=ACROSS)
    return themed(chart, title="Elicitation by model size", description="Mean elicitation by model size and label.")


def agreement_chart(frame: pd.DataFrame, *, items: str = "pairs") -> Any:
    """Cohen's kappa of two methods' mistakes, every two once; methods that share nothing stand in panels of their own.

    Args:
        frame: with `a`, `b`, `kappa`, `low` and `high`.
        items: what they are right or wrong about.
    """
    panels = [_kappa_map(own) for own in _that_share(frame)]
    summary = f"Cohen's kappa between the mistakes of every two: 1 if they fail on the same {items}, 0 if by chance."
    return themed(alt.vconcat(*panels), title=f"Do they fail on the same {items}?", description=summary)


def _that_share(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows by what hangs together: methods that are compared, at least through others."""
    groups: list[set[str]] = []
    for a, b in zip(frame["a"], frame["b"], strict=True):
        joined = [group for group in groups if a in group or b in group]
        groups = [group for group in groups if group not in joined] + [set.union({a, b}, *joined)]
    return [frame[frame["a"].isin(group)] for group in groups]


def _kappa_map(frame: pd.DataFrame) -> Any:
    names = in_order([*frame["a"], *frame["b"]])
    rank = {name: place for place, name in enumerate(names)}
    # A triangle: of two names that which comes first is the column.
    turned = frame["a"].map(rank) > frame["b"].map(rank)
    ordered = frame.assign(
        across=frame["a"].where(~turned, frame["b"]),
        down=frame["b"].where(~turned, frame["a"]),
        interval=[_interval(low, high) for low, high in zip(frame["low"], frame["high"], strict=True)],
    )
    with_intervals = len(names) <= MOST_WITH_INTERVALS and bool(ordered["low"].notna().any())
    base = alt.Chart(ordered).encode(
        x=alt.X("across:N", sort=names, scale=alt.Scale(domain=names[:-1]), title=None, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("down:N", sort=names, scale=alt.Scale(domain=names[1:]), title=None),
        tooltip=tooltips("across:N", "down:N", figures=("kappa", "low", "high")),
    )
    cells = heat_cells(base, "kappa", (-1.0, 0.0, 1.0), title="kappa", under="interval" if with_intervals else None)
    wide, high = (70, 36) if with_intervals else (46, 24)
    no_frame = alt.ViewBackground(stroke=None)
    return cells.properties(width=alt.Step(wide), height=alt.Step(high), view=no_frame)


def _interval(low: float | None, high: float | None) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"{low:.2f} to {high:.2f}".replace("-", "\N{MINUS SIGN}")
