"""Pictures of a study: heat map of shifts by methods, elicitation plot, reliability diagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repeng.report.theme import INK, METHOD_COLOURS, MUTED, diverging, method_colour, method_shape, themed

if TYPE_CHECKING:
    import pandas as pd

STEP = 22


def heat_map(frame: pd.DataFrame) -> Any:
    """Accuracy of every shift (down) and method (across), one panel a label and category.

    Args:
        frame: as `shift_frame` gives it.
    """
    import altair as alt

    names = _in_order(frame["name"])
    extent = _label_extent(frame["shift"])
    panels = []
    for number, section in enumerate(_in_order(frame["section"])):
        chosen = frame[frame["section"] == section]
        above = alt.Axis(orient="top", labelAngle=-40, domain=False) if number == 0 else None
        shifts = _in_order(chosen["shift"])
        beside = alt.Axis(domain=False, ticks=False, minExtent=extent)
        base = alt.Chart(chosen[chosen["accuracy"].notna()]).encode(
            x=alt.X("name:N", sort=names, scale=alt.Scale(domain=names), title=None, axis=above),
            y=alt.Y("shift:N", sort=None, scale=alt.Scale(domain=shifts), title=None, axis=beside),
            tooltip=_tooltip(),
        )
        cells = base.mark_rect(cornerRadius=2).encode(
            color=alt.Color("accuracy:Q", scale=diverging(0.0, 0.5, 1.0), title="accuracy")
        )
        # White on the two ends of the scale, black elsewhere: 4 to 1 or better throughout.
        ink = alt.condition("abs(datum.accuracy - 0.5) > 0.45", alt.value("white"), alt.value("black"))
        figures = base.mark_text(fontSize=11).encode(text=alt.Text("accuracy:Q", format=".2f"), color=ink)
        size: dict[str, Any] = {"width": 46 * len(names), "height": STEP * len(shifts)}
        panels.append(alt.layer(cells, figures).properties(title=_panel_title(section), **size))
    summary = f"Pair accuracy of {len(names)} methods on {frame['shift'].nunique()} shifts; 0.5 is chance."
    return themed(
        alt.vconcat(*panels, spacing=4), title=alt.TitleParams("Accuracy by shift and method"), description=summary
    )


def elicitation_plot(frame: pd.DataFrame) -> Any:
    """Accuracy of each method on each shift, between the zero-shot baseline and the target-tuned capability.

    In the manner of the paper: the nearer a point to the capability's mark, the more was elicited. Panels: labels
    down, models across. A shift that a benchmark lists twice under one label is drawn once.

    Args:
        frame: as `shift_frame` gives it.
    """
    import altair as alt

    methods, models = _in_order(frame["method"]), _in_order(frame["model"])
    extent = _label_extent(frame["shift"])
    panels = []
    for label in _in_order(frame["label"]):
        across = []
        for model in models:
            chosen = frame[(frame["label"] == label) & (frame["model"] == model)]
            name = " · ".join(part for part in (label, model if len(models) > 1 else "") if part)
            across.append(_elicitation_panel(chosen, methods, extent).properties(title=_panel_title(name)))
        panels.append(alt.hconcat(*across))
    title = alt.TitleParams(
        text="Elicitation: accuracy between baseline and capability",
        subtitle=["solid mark: target-tuned capability; dashed mark: zero-shot baseline; points: methods, intervals"],
    )
    summary = f"Accuracy of {len(methods)} methods on each shift, with baseline and capability marked."
    return themed(alt.vconcat(*panels), title=title, description=summary)


def _elicitation_panel(frame: pd.DataFrame, methods: list[str], extent: int) -> Any:
    import altair as alt

    row = max(STEP, 8 * len(methods) + 6)
    shifts = alt.Y("shift:N", sort=None, title=None, axis=alt.Axis(minExtent=extent, grid=True))
    x: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1]), "title": "pair accuracy"}
    base = alt.Chart(frame)
    offset = alt.YOffset("method:N", sort=methods, scale=alt.Scale(domain=methods, paddingOuter=0.5))
    # One row a shift: marks of several methods on one place would darken each other.
    known = alt.Chart(frame.groupby("shift", sort=False, as_index=False).first())
    span = known.mark_rule(color=MUTED, opacity=0.15, strokeWidth=row - 8).encode(
        x=alt.X("baseline_accuracy:Q", **x), x2="target_tuned_capability:Q", y=shifts
    )
    marks = [
        known.mark_point(shape="stroke", angle=90, size=(row - 8) ** 2, color=INK, strokeWidth=width, opacity=1).encode(
            x=alt.X(f"{figure}:Q", **x),
            y=shifts,
            strokeDash=alt.value(dash),
            tooltip=["shift:N", "model:N", alt.Tooltip(f"{figure}:Q", format=".3f")],
        )
        for figure, width, dash in (("target_tuned_capability", 3, [1, 0]), ("baseline_accuracy", 2, [3, 2]))
        if frame[figure].notna().any()
    ]
    bars = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("accuracy_low:Q", **x), x2="accuracy_high:Q", y=shifts, yOffset=offset, color=method_colour(methods)
    )
    points = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("accuracy:Q", **x),
        y=shifts,
        yOffset=offset,
        color=method_colour(methods),
        shape=method_shape(methods),
        tooltip=_tooltip(),
    )
    chance = known.mark_rule(strokeDash=[4, 4], color=MUTED).encode(x=alt.datum(0.5))
    height = row * frame["shift"].nunique()
    return alt.layer(span, chance, *marks, bars, points).properties(width=380, height=height)


def reliability_chart(frame: pd.DataFrame) -> Any:
    """How often a method is right against how sure it was; on the diagonal it is calibrated.

    Args:
        frame: one row a bin with `method`, `label`, `confidence`, `accuracy`, `n_pairs`.
    """
    import altair as alt

    labels = _in_order(frame["label"])
    # The diagonal's ends would otherwise draw the scale to 0.
    x = alt.X("confidence:Q", scale=alt.Scale(domain=[0.5, 1], zero=False, nice=False), title="confidence")
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), title="share right")
    colour = alt.Color(
        "label:N", scale=alt.Scale(domain=labels, range=list(METHOD_COLOURS[: len(labels)])), sort=labels, title=None
    )
    base = alt.Chart(frame)
    diagonal = base.mark_rule(strokeDash=[4, 4], color=MUTED).encode(
        x=alt.datum(0.5), y=alt.datum(0.5), x2=alt.datum(1.0), y2=alt.datum(1.0)
    )
    tooltip = ["method:N", "label:N", *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("confidence", "accuracy"))]
    lines = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    points = base.mark_point(filled=True, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=alt.Shape("label:N", scale=alt.Scale(domain=labels), sort=labels, title=None),
        size=alt.Size("n_pairs:Q", scale=alt.Scale(range=[20, 120], zero=False), legend=None),
        tooltip=[*tooltip, "n_pairs:Q"],
    )
    chart = (
        alt.layer(diagonal, lines, points)
        .properties(width=190, height=190)
        .facet(facet=alt.Facet("method:N", sort=_in_order(frame["method"]), title=None), columns=3)
    )
    summary = "Share of right pairs against mean confidence, in bins of equal mass, pooled over the shifts of a label."
    return themed(chart, title="Reliability", description=summary)


def _tooltip() -> list[Any]:
    import altair as alt

    figures = ("accuracy", "accuracy_low", "accuracy_high", "elicitation")
    return ["shift:N", "name:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in figures)]


def _label_extent(shifts: pd.Series) -> int:
    """Room for the longest label, so that panels above each other stand in line."""
    return min(320, round(6.4 * max((len(shift) for shift in shifts), default=0)))


def _panel_title(text: str) -> Any:
    import altair as alt

    return alt.TitleParams(text or "shifts", fontSize=12, color=MUTED, frame="group", offset=4)


def _in_order(values: pd.Series) -> list[str]:
    return list(dict.fromkeys(values))
