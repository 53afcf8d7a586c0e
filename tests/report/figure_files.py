"""What a figure's file says of itself."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Pdf:
    """A PDF of one page: its size and the sizes of its texts in points, and what it is made of."""

    width: float
    height: float
    text_sizes: frozenset[float]
    fonts: int
    images: int


def read_pdf(data: bytes) -> Pdf:
    """A PDF as the renderer writes it: one page, streams compressed, its only scale that from pixels to points."""
    assert data.startswith(b"%PDF-1.") and data.rstrip().endswith(b"%%EOF")
    (box,) = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", data)
    drawn = b"".join(map(_content, re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL)))
    scaled = re.findall(rb"\n([-\d.]+) 0 0 ([-\d.]+) \S+ \S+ cm", drawn)
    assert {round(abs(float(share)), 5) for shares in scaled for share in shares} == {1.0, 0.75}
    sizes = frozenset(round(0.75 * float(size), 2) for size in re.findall(rb"/\w+ ([\d.]+) Tf", drawn))
    return Pdf(float(box[0]), float(box[1]), sizes, data.count(b"/FontFile"), data.count(b"/Subtype /Image"))


def _content(stream: bytes) -> bytes:
    """A stream of drawing commands; empty for fonts and the like."""
    try:
        text = zlib.decompress(stream)
    except zlib.error:
        return b""
    return text if text.startswith(b"q\n") else b""
