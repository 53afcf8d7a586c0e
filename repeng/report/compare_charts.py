"""Pictures of a comparison: per-shift scatter, elicitation by model size, agreement of mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repeng.report.theme import METHOD_COLOURS, MUTED, diverging, method_colour, method_shape, themed

if TYPE_CHECKING:
    import pandas as pd

ACROSS = 3


def scatter_chart(frame: pd.DataFrame) -> Any:
    """Accuracy of one entrant against another's, a point a shift, one panel a pair of entrants.

    Args:
        frame: with `x`, `y`, `shift`, `label`, `x_accuracy`, `y_accuracy`.
    """
    import altair as alt

    labels = list(dict.fromkeys(frame["label"]))
    scale = alt.Scale(domain=labels, range=list(METHOD_COLOURS[: len(labels)]))
    axes = alt.Scale(domain=[0, 1])
    panels = []
    for (x_name, y_name), chosen in frame.groupby(["x", "y"], sort=False):
        x = alt.X("x_accuracy:Q", scale=axes, title=str(x_name))
        y = alt.Y("y_accuracy:Q", scale=axes, title=str(y_name))
        diagonal = alt.Chart(chosen.head(1)).mark_rule(strokeDash=[4, 4], color=MUTED)
        diagonal = diagonal.encode(x=alt.datum(0), y=alt.datum(0), x2=alt.datum(1), y2=alt.datum(1))
        figures = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("x_accuracy", "y_accuracy")]
        points = alt.Chart(chosen).mark_point(filled=True, size=60, opacity=0.9)
        points = points.encode(
            x=x,
            y=y,
            color=alt.Color("label:N", scale=scale, sort=labels, title=None),
            shape=alt.Shape("label:N", scale=alt.Scale(domain=labels), sort=labels, title=None),
            tooltip=["shift:N", "label:N", *figures],
        )
        panels.append(alt.layer(diagonal, points).properties(width=220, height=220))
    summary = f"Pair accuracy on each shift, {len(panels)} panels; on the diagonal both are alike."
    return themed(alt.concat(*panels, columns=ACROSS), title="Shift by shift", description=summary)


def size_chart(frame: pd.DataFrame) -> Any:
    """Mean elicitation by model size, one line a method, one panel a label. Sizes that no name tells stand in order.

    Args:
        frame: with `model`, `method`, `billions`, `label`, `elicitation`.
    """
    import altair as alt

    methods = list(dict.fromkeys(frame["method"]))
    known = bool(frame["billions"].notna().all())
    models = list(dict.fromkeys(frame["model"]))
    x = (
        alt.X("billions:Q", scale=alt.Scale(type="log"), title="billions of parameters")
        if known
        else alt.X("model:N", sort=models, title=None)
    )
    base = alt.Chart(frame).encode(
        x=x,
        y=alt.Y("elicitation:Q", scale=alt.Scale(zero=False), title="mean elicitation"),
        color=method_colour(methods),
        tooltip=["model:N", "method:N", "label:N", alt.Tooltip("elicitation:Q", format=".3f"), "shifts:Q"],
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(shape=method_shape(methods))
    labels = list(dict.fromkeys(frame["label"]))
    chart = (
        alt.layer(base.mark_line(), points)
        .properties(width=260, height=220)
        .facet(facet=alt.Facet("label:N", sort=labels, title=None), columns=ACROSS)
    )
    return themed(chart, title="Elicitation by model size", description="Mean elicitation by model size and label.")


def agreement_chart(frame: pd.DataFrame) -> Any:
    """Cohen's kappa of two entrants' mistakes, as a symmetric matrix.

    Args:
        frame: with `a`, `b`, `kappa`.
    """
    import altair as alt
    import pandas as pd

    names = list(dict.fromkeys([*frame["a"], *frame["b"]]))
    both = pd.concat([frame, frame.rename(columns={"a": "b", "b": "a"})])
    base = alt.Chart(both).encode(
        x=alt.X("a:N", sort=names, title=None, axis=alt.Axis(orient="top", labelAngle=-40)),
        y=alt.Y("b:N", sort=names, title=None),
        tooltip=["a:N", "b:N", alt.Tooltip("kappa:Q", format=".3f")],
    )
    cells = base.mark_rect().encode(color=alt.Color("kappa:Q", scale=diverging(-1.0, 0.0, 1.0), title="kappa"))
    ink = alt.condition("abs(datum.kappa) > 0.9", alt.value("white"), alt.value("black"))
    figures = base.mark_text(fontSize=11).encode(text=alt.Text("kappa:Q", format=".2f"), color=ink)
    chart = (cells + figures).properties(width=alt.Step(46), height=alt.Step(24))
    summary = "Cohen's kappa between the mistakes of every two: 1 if they fail on the same pairs, 0 if by chance."
    return themed(chart, title="Do they fail on the same pairs?", description=summary)
