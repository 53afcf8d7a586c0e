"""Pictures of a comparison: per-shift scatter, elicitation by model size, agreement of mistakes."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import in_order
from repeng.report.theme import colour_by, diagonal, heat_cells, shape_by, themed, tooltips

ACROSS = 3


def scatter_chart(frame: pd.DataFrame) -> Any:
    """Accuracy of one method against another's, a point a shift, one panel a pair of methods.

    Args:
        frame: with `x`, `y`, `shift`, `label`, `x_accuracy`, `y_accuracy`.
    """
    labels = in_order(frame["label"])
    axes = alt.Scale(domain=[0, 1])
    panels = []
    for (x_name, y_name), chosen in frame.groupby(["x", "y"], sort=False):
        x = alt.X("x_accuracy:Q", scale=axes, title=str(x_name))
        y = alt.Y("y_accuracy:Q", scale=axes, title=str(y_name))
        points = alt.Chart(chosen).mark_point(filled=True, size=60, opacity=0.9)
        points = points.encode(
            x=x,
            y=y,
            color=colour_by("label", labels),
            shape=shape_by("label", labels),
            tooltip=tooltips("shift:N", "label:N", figures=("x_accuracy", "y_accuracy")),
        )
        panels.append(alt.layer(diagonal(alt.Chart(chosen.head(1)), 0.0), points).properties(width=220, height=220))
    summary = f"Accuracy on each shift (of labelled texts AUROC), {len(panels)} panels; on the diagonal both are alike."
    return themed(alt.concat(*panels, columns=ACROSS), title="Shift by shift", description=summary)


def size_chart(frame: pd.DataFrame) -> Any:
    """Mean elicitation by model size, one line a method, one panel a label. Sizes that no name tells stand in order.

    Args:
        frame: with `model`, `method`, `billions`, `label`, `elicitation`.
    """
    methods = in_order(frame["method"])
    known = bool(frame["billions"].notna().all())
    models = in_order(frame["model"])
    x = (
        alt.X("billions:Q", scale=alt.Scale(type="log"), title="billions of parameters")
        if known
        else alt.X("model:N", sort=models, title=None)
    )
    base = alt.Chart(frame).encode(
        x=x,
        y=alt.Y("elicitation:Q", scale=alt.Scale(zero=False), title="mean elicitation"),
        color=colour_by("method", methods),
        tooltip=[*tooltips("model:N", "method:N", "label:N", figures=("elicitation",)), "shifts:Q"],
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape_by("method", methods))
    labels = in_order(frame["label"])
    chart = (
        alt.layer(base.mark_line(), points)
        .properties(width=260, height=220)
        .facet(facet=alt.Facet("label:N", sort=labels, title=None), columns=ACROSS)
    )
    return themed(chart, title="Elicitation by model size", description="Mean elicitation by model size and label.")


def agreement_chart(frame: pd.DataFrame, *, items: str = "pairs") -> Any:
    """Cohen's kappa of two methods' mistakes, as a symmetric matrix.

    Args:
        frame: with `a`, `b`, `kappa`.
        items: what they are right or wrong about.
    """
    names = in_order([*frame["a"], *frame["b"]])
    both = pd.concat([frame, frame.rename(columns={"a": "b", "b": "a"})])
    base = alt.Chart(both).encode(
        x=alt.X("a:N", sort=names, title=None, axis=alt.Axis(orient="top", labelAngle=-40)),
        y=alt.Y("b:N", sort=names, title=None),
        tooltip=tooltips("a:N", "b:N", figures=("kappa",)),
    )
    chart = heat_cells(base, "kappa", (-1.0, 0.0, 1.0), title="kappa").properties(
        width=alt.Step(46), height=alt.Step(24)
    )
    summary = f"Cohen's kappa between the mistakes of every two: 1 if they fail on the same {items}, 0 if by chance."
    return themed(chart, title=f"Do they fail on the same {items}?", description=summary)
