"""Commands with a store and an --out in an object store."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from repeng.cli.app import app
from repeng.errors import BadInput
from repeng.places import place

RUN = CliRunner()


def said(*arguments: str) -> str:
    found = RUN.invoke(app, [*arguments])
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


def test_a_store_is_filled_looked_at_read_and_emptied_there(tmp_path: Path) -> None:
    store, probe = "memory://cli/store", "memory://cli/probe"
    said("cache", "--store", store, "--limit", "10", "--distributions", "facts,myths", "--stimuli", "plain", "--quiet")
    listed = json.loads(said("store", "ls", store, "--json"))
    assert {row["split"][0] for row in listed} == {"facts", "myths"}
    assert "every part is whole" in said("store", "verify", "--store", store)
    said("fit", "--store", store, "--source", "facts", "--probe", "mms", "--out", probe, "--quiet")
    assert (place(probe) / "probe.json").is_file()
    scored = json.loads(said("score", "--store", store, "--probe", probe, "--target", "myths", "--json"))
    local = str(tmp_path / "store")
    said("cache", "--store", local, "--limit", "10", "--distributions", "facts,myths", "--stimuli", "plain", "--quiet")
    assert scored == json.loads(said("score", "--store", local, "--probe", probe, "--target", "myths", "--json"))
    said("store", "rm", listed[0]["capture"], "--store", store)
    assert [*place(store).rglob("*")] == []


def test_a_place_that_cannot_be_taken_is_refused_before_anything_is_done() -> None:
    for command in (("store", "ls", "ftp://host/store"), ("cache", "--store", "ftp://host/store")):
        found = RUN.invoke(app, [*command])
        assert isinstance(found.exception, BadInput) and "not a file system that a store" in str(found.exception)
