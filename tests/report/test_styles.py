"""The styles: readable in grey, told apart by the colour-blind, lengths as users type them."""

from __future__ import annotations

import itertools

import altair as alt
import numpy as np
import pytest
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.report.restyle import lightness
from repeng.report.style import PAPER, SCREEN, length, unit_of
from repeng.report.theme import heat_cells

VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
"""From linear RGB to what is seen of it (Machado, Oliveira and Fernandes 2009, at full severity)."""
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> Float[np.ndarray, " 3"]:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(seen: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    share = TO_XYZ @ np.clip(seen, 0, 1) / WHITE
    root = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_lightness_is_that_of_cielab() -> None:
    for colour in (*PAPER.colours, *SCREEN.colours, "#000000", "#ffffff"):
        assert lightness(colour) == pytest.approx(lab(linear(colour))[0], abs=0.05)


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_colours_on_paper_are_told_apart(vision: str) -> None:
    seen = [lab(np.array(VISIONS[vision]) @ linear(colour)) for colour in PAPER.colours]
    # Two patches next to each other are told apart from about 2.3 on; small marks need far more.
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2)) > 20


def test_colours_on_paper_stand_out_from_it() -> None:
    for colour in PAPER.colours:
        assert 1.05 / (linear(colour) @ TO_XYZ[1] + 0.05) >= 3


def test_a_heat_map_on_paper_darkens_from_low_to_high_and_so_reads_in_grey() -> None:
    import json
    import re

    import pandas as pd
    import vl_convert

    from repeng.report.restyle import restyled

    values = np.linspace(0, 1, 21)
    base = alt.Chart(pd.DataFrame({"value": values})).encode(x="value:O")
    chart = heat_cells(base, "value", (0.0, 0.5, 1.0), title="t")
    svg = vl_convert.vegalite_to_svg(restyled(json.loads(chart.to_json()), PAPER))
    cells = re.findall(r'aria-label="value: ([\d.]+)[^"]*"[^>]*fill="rgb\((\d+), (\d+), (\d+)\)"', svg)
    found = {float(value): lightness(f"#{int(r):02x}{int(g):02x}{int(b):02x}") for value, r, g, b in cells}
    drawn = [found[value] for value in sorted(found)]
    assert len(drawn) == len(values)
    assert all(after < before for before, after in itertools.pairwise(drawn))
    assert drawn[0] - drawn[10] > 15 and drawn[10] - drawn[-1] > 15


def test_lines_on_paper_differ_in_their_dashes_for_as_many_methods_as_a_study_has_by_default() -> None:
    assert len(set(PAPER.dashes)) == len(PAPER.dashes) == len(set(PAPER.colours)) == 9


@pytest.mark.parametrize(
    ("text", "pixels"), [("1in", 96), ("2.54cm", 96), ("25.4 mm", 96), ("72pt", 96), ("400px", 400), (".5IN", 48)]
)
def test_lengths_are_in_inches_centimetres_millimetres_points_or_pixels(text: str, pixels: float) -> None:
    assert length(text) == pytest.approx(pixels)


def test_a_length_keeps_its_unit() -> None:
    assert [unit_of(text) for text in ("3.3in", "84 MM")] == ["in", "mm"]


@pytest.mark.parametrize("text", ["", "in", "3,3in", "-3in", "3 3in", "1e3in", "nan", "101in", "0cm"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="width"):
        length(text)
