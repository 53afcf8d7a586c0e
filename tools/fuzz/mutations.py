"""Files that are nearly right: bytes flipped, cut and spliced, and values of JSON, CSV and TOML that nobody expects."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

RAW = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-0.0", "1" + "0" * 400, "-1", "9223372036854775808", "0.5", "1.0", "2"),
    *("null", "true", '""', '"\\ud800"', '"\\u0000"', '"a/../../b"', '"%2E%2E"', '"\u202e\ufeff\u0301"', "[]", "{}"),
    *("[null]", "[[]]", '{"": 1}', '"' + "a" * 3000 + '"', "[" * 900 + "]" * 900, "[" * 200_000, '{"a":' * 20_000),
    *("18446744073709551616", "-1e-320", '"1"', '"nan"', '" "', '"\\n"', "[1,2,3]", '"\ud83d\ude00"'),
)
"""JSON values as they are written, some of which are none."""
WORDS = (
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\r\n",
        b"\r",
        b'"',
        b",",
        b"'''",
        b"[[",
        b"NaN",
        b"inf",
    ),
    *(
        b"1e999",
        b"-1",
        b"9" * 30,
        b"null",
        b"../../x",
        b"/dev/zero",
        b"\xf0\x9f\x98\x80",
        b"=",
        b"{",
        b"}",
        b"#",
        b"\\u0000",
    ),
)


class _Raw(str):
    """Stands in a JSON value for text that is put there as it is."""


def mutate(content: bytes, others: list[bytes], draw: random.Random, name: str) -> bytes:
    """One file, changed in one to four places, in its own structure where that can be found."""
    found = content
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        kinds: list[Callable[[bytes, random.Random], bytes]] = [_bytes]
        if name.endswith((".json", ".jsonl", "json-in-toml")):
            kinds = [_json, _json, _json, _bytes]
        elif name.endswith(".safetensors"):
            kinds = [_header, _bytes]
        elif name.endswith((".csv", ".toml", ".md")):
            kinds = [_cells, _cells, _bytes]
        chosen = draw.choice(kinds)
        if draw.random() < 0.05 and others:
            other = draw.choice(others)
            found = found[: draw.randrange(len(found) + 1)] + other[draw.randrange(len(other) + 1) :]
        else:
            try:
                found = chosen(found, draw)
            except RecursionError:
                found = _bytes(found, draw)
    return found


def sealed(content: bytes, checksum: Callable[[bytes], str]) -> bytes:
    """A file of a store with the checksum that it should have, so that what it says is read."""
    body = re.sub(rb',\s*"checksum": "[^"]*"\s*}\s*\Z', b"", content)
    return body + f',\n "checksum": "{checksum(body)}"\n}}\n'.encode()


def _bytes(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return draw.choice(WORDS)
    at, other = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    match draw.randrange(6):
        case 0:
            flipped = bytearray(content)
            flipped[at % len(content)] ^= 1 << draw.randrange(8)
            return bytes(flipped)
        case 1:
            return content[:at]
        case 2:
            return content[:at] + content[other:]
        case 3:
            return content[:at] + draw.choice(WORDS) + content[at:]
        case 4:
            return content[:at] + content[at:other] * draw.choice((2, 3, 50)) + content[other:]
        case _:
            return content[:at] + draw.randbytes(min(8, len(content) - at)) + content[at + 8 :]


def _json(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines() if content.count(b"\n{") and not content.startswith((b"[", b"{\n")) else [content]
    number = draw.randrange(len(lines) or 1)
    try:
        value = json.loads(lines[number])
    except (ValueError, RecursionError, IndexError):
        return _bytes(content, draw)
    places = list(_places(value))
    if not places:
        lines[number] = draw.choice(RAW).encode("utf-8", "surrogatepass")
        return b"\n".join(lines)
    holder, key = draw.choice(places)
    match draw.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[_Raw(json.dumps(key) + ": " + draw.choice(RAW) + ", " + json.dumps(key))] = holder[key]
        case 1 | 2 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * draw.choice((1, 2, 500))
        case 2:
            holder[draw.choice(("", "a" * 300, "\x00", "__class__", f"{key} ", str(key).upper()))] = holder.pop(key)
        case 3:
            swapped, there = draw.choice(places)
            try:
                holder[key], swapped[there] = swapped[there], holder[key]
                json.dumps(value)
            except (ValueError, KeyError, IndexError, RecursionError):
                return _bytes(content, draw)
        case _:
            holder[key] = _Raw(draw.choice(RAW))
    lines[number] = _written(value).encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


def _places(value: Any) -> Any:
    """Every (container, key) in a value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        items = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        for key, held in items:
            yield one, key
            waiting.append(held)


def _written(value: Any) -> str:
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, dict):
        inside = (
            (str(key) if isinstance(key, _Raw) else json.dumps(key)) + ": " + _written(held)
            for key, held in value.items()
        )
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value)


def _header(content: bytes, draw: random.Random) -> bytes:
    """A safetensors file with another header."""
    if len(content) < 9:
        return _bytes(content, draw)
    (size,) = struct.unpack("<Q", content[:8])
    header, rest = content[8 : 8 + size], content[8 + size :]
    changed = _json(header.strip(), draw)
    length = draw.choice((len(changed),) * 6 + (0, 2**63, len(changed) + 1, 2**32))
    return struct.pack("<Q", length) + changed + rest


def _cells(content: bytes, draw: random.Random) -> bytes:
    """A text whose numbers and words are others."""
    tokens = list(re.finditer(rb"[^\s,=\[\]\"'{}:]+", content))
    if not tokens:
        return _bytes(content, draw)
    one = draw.choice(tokens)
    new = draw.choice(WORDS) if draw.random() < 0.5 else draw.choice(RAW).encode("utf-8", "surrogatepass")
    return content[: one.start()] + new + content[one.end() :]
