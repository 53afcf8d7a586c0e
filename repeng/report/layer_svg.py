"""Accuracy by layer in small panels, drawn straight as SVG: what `sweep_chart` shows, for pages with hundreds of them.

Vega measures and lays out every label of every panel, some 25 ms a panel. Here all panels of a picture share one frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from repeng.report.frames import in_order
from repeng.report.layer_charts import DASHES, FEW_PANELS
from repeng.report.theme import FONT, GRID, INK, METHOD_COLOURS, MUTED, legend_columns
from repeng.results import LayerRow, figure_name

BETWEEN_COLUMNS, BETWEEN_ROWS = 22, 55
LEFT, TOP, RIGHT, BOTTOM = 51, 62, 7, 24
"""Pixels around the panels: an axis with its title, the titles above, and the layers under them."""
CHARACTER = 0.58
"""Width of a character, as a share of the font's size; a little more than the mean."""
DISC, DIAMOND = math.sqrt(55) / 2, math.sqrt(190) / 2
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ROOM = 12
"""Pixels by which the outermost mark of a panel sticks out."""


@dataclass(frozen=True)
class Frame:
    """What all panels of a picture share.

    Attributes:
        lowest, highest: layers.
        low: the lowest accuracy that is drawn.
    """

    width: int
    height: int
    columns: int
    lowest: int
    highest: int
    low: float

    def x(self, layer: int) -> float:
        """Pixels from the left of a panel."""
        return (layer - self.lowest + 0.4) / (self.highest - self.lowest + 0.8) * self.width

    def y(self, accuracy: float) -> float:
        """Pixels from the top of a panel."""
        room = (1.0 - self.low) * ROOM / self.height
        return (1.0 + room - accuracy) / (1.0 - self.low + 2 * room) * self.height

    @property
    def layers(self) -> range:
        """The layers that the axis names."""
        step = max(1, math.ceil((self.highest - self.lowest) * 36 / self.width))
        return range(self.lowest, self.highest + 1, step)

    @property
    def ticks(self) -> list[float]:
        """The accuracies that the axis names."""
        return [tick for tick in TICKS if 0 <= self.y(tick) <= self.height]


def layer_svg(rows: Sequence[LayerRow]) -> str:
    """One panel a source and target, one line a probe: `sweep_chart` of at most three probes without heads, as SVG.

    Args:
        rows: of layers.csv, all of one figure.
    """
    probes = in_order(row.probe for row in rows)
    panels: dict[tuple[str, str], list[LayerRow]] = {}
    for row in rows:
        panels.setdefault((row.source, row.target), []).append(row)
    frame = _frame(rows, len(panels), alone=len(probes) == 1)
    titles = [source if source == target else f"{source} → {target}" for source, target in panels]
    shown = figure_name(rows[0].figure)
    called = "accuracy" if shown == "pair accuracy" else shown
    across = max([frame.width + BETWEEN_COLUMNS, *(_width(title, 12) + BETWEEN_COLUMNS for title in titles)])
    down = frame.height + BETWEEN_ROWS
    columns, lines = min(frame.columns, len(panels)), -(-len(panels) // frame.columns)
    head, above = _head(called, probes)
    top = TOP + above
    widest = max(_width(_subtitle(probes), 12) + 6, LEFT + columns * across - BETWEEN_COLUMNS + RIGHT)
    width, height = math.ceil(widest), top + lines * down - BETWEEN_ROWS + BOTTOM
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><rect width="{width}" height="{height}" fill="white"/>'
        f'<g fill="none" stroke-miterlimit="10" font-family="{escape(FONT)}" font-size="12px">{head}'
    ]
    under, axis = _under(frame), _axis(frame, shown)
    for number, (title, own) in enumerate(zip(titles, panels.values(), strict=True)):
        line, column = divmod(number, frame.columns)
        found.append(
            f'<g transform="translate({LEFT + column * across:g},{top + line * down})">{under}'
            f"{'' if column else axis}"
            f'<text x="0" y="-13" font-weight="600" fill="{INK}">{escape(title)}</text>'
        )
        found += _lines(frame, own, probes, called)
        found.append("</g>")
    found.append("</g></svg>")
    return "".join(found)


def _frame(rows: Sequence[LayerRow], n_panels: int, *, alone: bool) -> Frame:
    width, height, columns = (340, 200, 2) if n_panels <= FEW_PANELS else (290, 130, 3)
    low = 0.4
    for row in rows:
        low = min(low, row.accuracy, row.accuracy if row.accuracy_low is None else row.accuracy_low)
        low = min(low, row.held_out_accuracy) if alone else low
    layers = [row.layer for row in rows]
    return Frame(width, height, columns, min(layers), max(layers), low)


def _subtitle(probes: Sequence[str]) -> str:
    held_out = ["dotted: held out of the source"] if len(probes) == 1 else []
    said = ["disc: a layer that the source chose", "diamond: the target's own best, an oracle", *held_out]
    return "; ".join([*said, "band: interval"])


def _head(called: str, probes: Sequence[str]) -> tuple[str, int]:
    """The title and the legend, and how many pixels the latter takes."""
    title = f"{called[0].upper()}{called[1:]} by layer"
    head = (
        f'<text x="6" y="17" font-size="15px" font-weight="bold" fill="{INK}">{escape(title)}</text>'
        f'<text x="6" y="32" fill="{MUTED}">{escape(_subtitle(probes))}</text>'
    )
    if len(probes) == 1:
        return head, 0
    columns, wide = legend_columns(probes)
    head += f'<text x="{LEFT}" y="47" font-weight="600" fill="{INK}">probe</text>'
    for number, probe in enumerate(probes):
        line, column = divmod(number, columns)
        x, y = LEFT + column * (wide + 10), 71 + 18 * line
        head += (
            f'<line x1="{x}" x2="{x + 22}" y1="{y - 4}" y2="{y - 4}" stroke="{METHOD_COLOURS[number]}" '
            f'stroke-width="2"{_dashes(number)}/><text x="{x + 28}" y="{y}" fill="{INK}">{escape(probe)}</text>'
        )
    return head, 35 + 18 * -(-len(probes) // columns)


def _under(frame: Frame) -> str:
    """Under every panel's lines: rules, the layers below, and chance; thin lines in the middle of a pixel."""
    width, height = frame.width, frame.height
    rules = "".join(f"M{frame.x(layer):.1f},0v{height}" for layer in frame.layers)
    ticks = "".join(f"M{frame.x(layer):.1f},{height}v5" for layer in frame.layers)
    named = "".join(
        f'<text x="{frame.x(layer):.1f}" y="{height + 17}">{"layer " if layer == frame.lowest else ""}{layer}</text>'
        for layer in frame.layers
    )
    chance = frame.y(0.5)
    return (
        f'<g transform="translate(0.5,0.5)"><path d="{rules}M0,0h{width}v{height}h-{width}Z" stroke="{GRID}"/>'
        f'<path d="M0,{height}h{width}{ticks}" stroke="{MUTED}"/><g text-anchor="middle" fill="{INK}">{named}</g>'
        f'<path d="M0,{chance:.1f}h{width}" stroke="{MUTED}" stroke-dasharray="4,4"/></g>'
    )


def _axis(frame: Frame, shown: str) -> str:
    """The axis of accuracies, to the left of a row of panels."""
    ticks = "".join(f"M-2,{frame.y(tick):.1f}h-5" for tick in frame.ticks)
    named = "".join(f'<text x="-9" y="{frame.y(tick) + 4:.1f}">{tick:.1f}</text>' for tick in frame.ticks)
    return (
        f'<path d="M-2,0v{frame.height}{ticks}" stroke="{MUTED}"/><g text-anchor="end" fill="{INK}">{named}</g>'
        f'<text transform="translate(-35,{frame.height / 2:g}) rotate(-90)" text-anchor="middle" font-weight="600" '
        f'fill="{INK}">{escape(shown)}</text>'
    )


def _lines(frame: Frame, rows: Sequence[LayerRow], probes: Sequence[str], called: str) -> Iterator[str]:
    """A panel's bands, lines and marks."""
    of_probe = {probe: sorted((row for row in rows if row.probe == probe), key=_layer) for probe in probes}
    looks = {probe: (METHOD_COLOURS[number], number) for number, probe in enumerate(probes)}
    for probe, own in of_probe.items():
        yield from _bands(frame, own, looks[probe][0])
    for probe, own in of_probe.items():
        colour, number = looks[probe]
        if len(probes) == 1:
            dotted = _path(frame, own, lambda row: row.held_out_accuracy)
            yield f'<path d="{dotted}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="1,3"/>'
        yield (
            f'<path role="graphics-symbol" aria-label="{escape(f"method: {probe}")}" '
            f'd="{_path(frame, own, lambda row: row.accuracy)}" stroke="{colour}" stroke-width="2"'
            f"{_dashes(number) if len(probes) > 1 else ''}/>"
        )
    for probe, own in of_probe.items():
        colour = looks[probe][0]
        shapes = ((_chosen, _disc, f'fill="{colour}"'), (_oracle, _diamond, f'stroke="{colour}" stroke-width="1.8"'))
        for holds, shape, look in shapes:
            for row in filter(holds, own):
                at = shape(frame.x(row.layer), frame.y(row.accuracy))
                yield f'<path role="graphics-symbol" aria-label="{escape(_said(row, called))}" d="{at}" {look}/>'


def _bands(frame: Frame, rows: Sequence[LayerRow], colour: str) -> Iterator[str]:
    """The interval around a line, as far as it is known."""
    for known, run in groupby(rows, key=lambda row: row.accuracy_low is not None and row.accuracy_high is not None):
        own = list(run)
        if known:
            over = _path(frame, own, lambda row: row.accuracy_high or 0.0)
            back = _path(frame, own[::-1], lambda row: row.accuracy_low or 0.0)
            yield f'<path d="{over}L{back[1:]}Z" fill="{colour}" opacity="0.15"/>'


def _path(frame: Frame, rows: Sequence[LayerRow], figure: Callable[[LayerRow], float]) -> str:
    return "M" + "L".join(f"{frame.x(row.layer):.1f},{frame.y(figure(row)):.1f}" for row in rows)


def _disc(x: float, y: float) -> str:
    half = f"a{DISC:.2f},{DISC:.2f},0,1,1,"
    return f"M{x + DISC:.1f},{y:.1f}{half}-{2 * DISC:.2f},0{half}{2 * DISC:.2f},0"


def _diamond(x: float, y: float) -> str:
    side = f"{DIAMOND:.2f}"
    return f"M{x - DIAMOND:.1f},{y:.1f}l{side},-{side}l{side},{side}l-{side},{side}Z"


def _layer(row: LayerRow) -> int:
    return row.layer


def _chosen(row: LayerRow) -> bool:
    return row.chosen


def _oracle(row: LayerRow) -> bool:
    return row.oracle


def _said(row: LayerRow, called: str) -> str:
    """What a mark says on hover."""
    figures = {
        called: row.accuracy,
        f"{called} low": row.accuracy_low,
        f"{called} high": row.accuracy_high,
        f"held out {called}": row.held_out_accuracy,
    }
    known = (f"{name}: {value:.3f}" for name, value in figures.items() if value is not None)
    return "; ".join([f"method: {row.probe}", f"layer: {row.layer}", *known])


def _dashes(number: int) -> str:
    return "" if number == 0 else f' stroke-dasharray="{",".join(map(str, DASHES[number]))}"'


def _width(text: str, size: int) -> float:
    return CHARACTER * size * len(text)
