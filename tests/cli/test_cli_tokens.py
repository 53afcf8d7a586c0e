"""`repeng cache` with other tokens, its estimate, and its limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_samples import Repeng

from repeng.activations.store.store import Store


def flags(place: Path, store: Path) -> tuple[object, ...]:
    data = ("--data", place / "data", "--store", store, "--limit", 3, "--device", "cpu", "--stimuli", "plain")
    return ("--model", place / "tiny", *data)


def test_a_dry_run_says_what_is_then_written_and_writes_nothing(repeng: Repeng, place: Path, tmp_path: Path) -> None:
    asked = (*flags(place, tmp_path / "store"), "--tokens", "last,all,last:-2,mean:assistant", "--json")
    planned = repeng("cache", *asked, "--dry-run")
    assert planned.code == 0 and not (tmp_path / "store").exists()
    sizes, estimate = planned.json["sizes"], planned.json["capture_estimate"]
    assert (len(sizes), planned.json["parts_missing"]) == (40, 40)
    assert repeng("cache", *asked).json["parts_written"] == 40
    written = sum(file.stat().st_size for file in (tmp_path / "store").rglob("*.safetensors"))
    assert sum(size["n_bytes"] for size in sizes) == written == estimate["n_bytes"]
    assert estimate["seconds_low"] <= estimate["seconds"] <= estimate["seconds_high"]
    again = repeng("cache", *asked, "--dry-run").json["sizes"]
    assert sum(size["held_bytes"] for size in again) == written and not sum(size["n_bytes"] for size in again)
    shown = repeng("cache", *asked[:-1], "--dry-run")
    assert "plain.resid_post.mean:assistant" in shown.out and "to write: 0 bytes; there already: " in shown.out
    assert Store(tmp_path / "store").verify() == []


def test_every_token_above_the_limit_is_refused_with_the_number_and_the_way_out(
    repeng: Repeng, place: Path, tmp_path: Path
) -> None:
    asked = (*flags(place, tmp_path / "store"), "--tokens", "all", "--max-bytes", "1K")
    for extra in ((), ("--dry-run",)):
        said = repeng("cache", *asked, *extra)
        assert said.code == 2 and not (tmp_path / "store").exists()
        assert "error: the token all takes " in said.err and "the limit of 1.0 KiB; take fewer layers" in said.err
    assert "is no number of bytes" in repeng("cache", *asked[:-1], "much").err


@pytest.mark.parametrize(
    ("token", "what"),
    [
        ("al", "unknown token 'al'"),
        ("last:2", "as last:-1 for the one before it"),
        ("mean:", "write mean:assistant"),
        ("mean:user", "has a text as its prompt and no chat"),
        ("turn_end", "take last, or data whose prompts are messages"),
    ],
)
@pytest.mark.parametrize("extra", [(), ("--dry-run",)], ids=["run", "dry-run"])
def test_a_token_that_is_not_there_is_refused_before_anything_is_written(
    token: str, what: str, extra: tuple[str, ...], repeng: Repeng, place: Path, tmp_path: Path
) -> None:
    said = repeng("cache", *flags(place, tmp_path / "store"), "--tokens", token, *extra)
    assert said.code == 2 and what in said.err and not (tmp_path / "store").exists()
