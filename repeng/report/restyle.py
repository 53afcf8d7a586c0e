"""A finished chart in another style: its Vega-Lite specification with other sizes, colours and line styles."""

from __future__ import annotations

from typing import Any

from repeng.report.chart_views import values, views
from repeng.report.style import SCREEN, Style

DATA = ("data", "datasets", "config", "$schema")
"""What is not drawn."""
LENGTHS = (
    *("fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize"),
    *("width", "height", "step", "offset", "spacing", "row", "column", "cornerRadius", "dx", "dy"),
)
OF_LABELS = ("minExtent", "maxExtent", "labelLimit")
"""Lengths that follow the size of labels."""
FONTS = ("fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize")
STROKE = "stroke"
"""The shape of marks that are as high as their row."""
BROAD = 8.0
"""Pixels; a stroke so broad is a bar, and is no thinner in a style of thin rules."""
MIDDLE_GREY = 50.0
"""CIE lightness under which white text reads better than black."""


def restyled(spec: dict[str, Any], style: Style) -> dict[str, Any]:
    """A chart's specification, which was drawn in the style `SCREEN`, in another style."""
    if style == SCREEN:
        return spec
    swaps = _colour_swaps(style)
    drawn = {key: value if key in DATA else _converted(value, style, swaps) for key, value in spec.items()}
    config = spec.get("config", {})
    for key, value in style.config().items():
        config = config | {key: config.get(key, {}) | value if isinstance(value, dict) else value}
    drawn["config"] = config
    if style.title is None:
        drawn.pop("title", None)
    done: set[int] = set()
    for view, rows in views(drawn):
        inner = view.get("spec", view)
        if "layer" in inner and id(inner) not in done:
            done.add(id(inner))
            _heat(inner, style)
            _line_styles(inner["layer"], style, rows, view.get("facet", {}).get("field"))
    return drawn


def _colour_swaps(style: Style) -> dict[str, str]:
    swaps = {SCREEN.ink: style.ink, SCREEN.muted: style.muted, SCREEN.grid: style.grid}
    swaps |= dict(zip(SCREEN.heat, style.heat, strict=True))
    return swaps | {one: style.colours[place % len(style.colours)] for place, one in enumerate(SCREEN.colours)}


def _converted(node: Any, style: Style, swaps: dict[str, str], key: str = "", kind: str = "") -> Any:
    """A part of a specification with sizes and colours of the style.

    Args:
        node: the part.
        key: under which it stands.
        kind: of the mark that it is about.
    """
    factor = style.text / SCREEN.text
    if isinstance(node, dict):
        if key == "legend":
            node = {name: value for name, value in node.items() if name != "orient"}
        mark = node.get("mark", node.get("type", ""))
        kind = str(mark.get("type", "")) if isinstance(mark, dict) else kind if "mark" not in node else str(mark)
        kind = str(node.get("shape", node["type"])) if key == "mark" else kind
        changed = {
            name: value if name in DATA else _converted(value, style, swaps, name, kind) for name, value in node.items()
        }
        if key == "size":
            changed = _areas(changed, style.points)
        # Not by a configuration of rules: the renderer would prefer it to an encoded width.
        if mark and kind == "rule" and "mark" in node and "strokeWidth" not in node.get("encoding", {}):
            own = mark if isinstance(mark, dict) else {"type": mark}
            changed["mark"] = {"strokeWidth": style.rules} | _converted(own, style, swaps, "mark")
        return changed
    if isinstance(node, list):
        return [_converted(value, style, swaps, key, kind) for value in node]
    if isinstance(node, str):
        return swaps.get(node, node)
    if isinstance(node, bool) or not isinstance(node, int | float):
        return node
    if key in FONTS:
        return max(node * factor, style.smallest)
    if key in LENGTHS:
        return node * factor
    if key in OF_LABELS:
        return node * style.labels / SCREEN.labels
    if key == "size":
        return node * (factor**2 if kind == STROKE else style.points)
    if key in ("strokeWidth", "strokeDash"):
        thin = 1.0 if key == "strokeDash" or node >= BROAD else style.rules
        return node * factor * thin
    return node


def _areas(size: dict[str, Any], share: float) -> dict[str, Any]:
    """An encoding of the size of points, its range or its one value times a share."""
    if isinstance(size.get("value"), int | float):
        return size | {"value": size["value"] * share}
    scale = size.get("scale")
    if isinstance(scale, dict) and isinstance(scale.get("range"), list):
        return size | {"scale": scale | {"range": [each * share for each in scale["range"]]}}
    return size


def _line_styles(layers: list[dict[str, Any]], style: Style, rows: list[dict[str, Any]], facet: str | None) -> None:
    """Give lines that colour alone tells apart a dash each, in the legend too.

    Args:
        layers: of a panel.
        style: whose dashes.
        rows: of its data.
        facet: the column that says which panel a row is in; None where there is one panel.
    """
    encodings = [layer.get("encoding", {}) for layer in layers]
    lines = [layer for layer in layers if _is_one_of_many_lines(layer, rows, facet)]
    if not style.dashes or not lines or any("field" in encoding.get("shape", {}) for encoding in encodings):
        return
    for line in lines:
        colour = line["encoding"]["color"]
        names = colour["scale"]["domain"]
        dashes = [list(style.dashes[place % len(style.dashes)]) for place in range(len(names))]
        dash = {name: colour[name] for name in ("field", "type", "sort", "title", "legend") if name in colour}
        line["encoding"]["strokeDash"] = dash | {"scale": {"domain": names, "range": dashes}}
    for encoding in (encoding[name] for encoding in encodings for name in ("color", "strokeDash") if name in encoding):
        encoding["legend"] = {**(encoding.get("legend") or {}), "symbolType": STROKE, "symbolSize": 250}


def _is_one_of_many_lines(layer: dict[str, Any], rows: list[dict[str, Any]], facet: str | None) -> bool:
    """Whether a layer is of lines, several to a panel, that colour tells apart."""
    mark, colour = layer.get("mark"), layer.get("encoding", {}).get("color", {})
    kind = mark.get("type") if isinstance(mark, dict) else mark
    if kind != "line" or colour.get("type") != "nominal" or "domain" not in colour.get("scale", {}):
        return False
    lines = {(row.get(facet or ""), row.get(colour["field"])) for row in rows}
    return len(lines) > len(values(facet, rows) if facet else [None])


def _heat(view: dict[str, Any], style: Style) -> None:
    """White figures on the dark cells of a heat map, black ones on the others; short ones where the style is bare."""
    layers = view["layer"]
    cells = [layer["encoding"]["color"] for layer in layers if _is_heat(layer, style)]
    if not cells:
        return
    texts = [layer for layer in layers if isinstance(layer.get("mark"), dict) and layer["mark"].get("type") == "text"]
    height, share = view.get("height"), style.rows if len(texts) < 2 else 1.0
    if isinstance(height, dict):
        view["height"] = {"step": height["step"] * share}
    elif height is not None:
        view["height"] = height * share
    colour = cells[0]
    colour["scale"]["interpolate"] = "lab"
    colour["legend"] = {"values": colour["scale"]["domain"], **(colour.get("legend") or {})}
    test = _dark_test(f"datum.{colour['field']}", colour["scale"]["domain"], style.heat)
    for layer in texts:
        mark, encoding = layer["mark"], layer["encoding"]
        encoding["color"] = {"condition": {"test": test, "value": "white"}, "value": "black"}
        if style.bare and encoding.get("text", {}).get("field") == colour["field"]:
            encoding.pop("text")
            shown = f"format(datum.{colour['field']}, '.2f')"
            mark["text"] = {"expr": f"replace(replace({shown}, /^(-|−)?0\\./, '$1.'), '1.00', '1.0')"}


def _is_heat(layer: dict[str, Any], style: Style) -> bool:
    colour = layer.get("encoding", {}).get("color", {})
    return isinstance(colour, dict) and colour.get("scale", {}).get("range") == list(style.heat)


def _dark_test(value: str, domain: list[float], colours: tuple[str, str, str]) -> str:
    """A Vega expression: whether a value's colour is so dark that text on it is white."""
    tests = []
    for start, stop, first, last in zip(domain, domain[1:], colours, colours[1:], strict=False):
        from_, to = lightness(first), lightness(last)
        if (from_ < MIDDLE_GREY) != (to < MIDDLE_GREY):
            cross = start + (stop - start) * (MIDDLE_GREY - from_) / (to - from_)
            tests.append(f"{value} {'<' if from_ < MIDDLE_GREY else '>'} {cross:.4f}")
    return " || ".join(tests) or "false"


def lightness(colour: str) -> float:
    """CIE lightness of a colour `#rrggbb`: 0 is black, 100 white."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    ]
    luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance
