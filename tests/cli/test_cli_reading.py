"""Labelled data on the command line: what it is taken for, how it is explained, written out and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_samples import Repeng

from repeng.distributions.load import load_distributions
from repeng.distributions.reading import Reading


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """Twenty claims about ten cities, their columns named otherwise than ours."""
    rows = [{"said": f"City {n} is in {c}.", "kind": c, "city": n} for n in range(10) for c in ("Asia", "Mars")]
    return lines(tmp_path / "claims.jsonl", rows)


MEANING = ("--columns", "text=said,label=kind", "--positive", "Asia", "--group", "city")


def test_check_says_what_it_understood_in_words_and_as_json(repeng: Repeng, claims: Path) -> None:
    said = repeng("data", "check", claims, *MEANING)
    sentence = (
        "claims: 20 texts, labelled by `kind` (10 are 1, 10 are 0; 1 is 'Asia'), 10 groups by `city`; asked about each "
        "text, and 10 pairs (train 18, test 2)"
    )
    assert said.code == 0 and said.out.splitlines()[0] == sentence
    assert said.out.splitlines()[1:3] == ["  1: City 0 is in Asia.", "  0: City 0 is in Mars."]
    (understood,) = repeng("data", "check", claims, *MEANING, "--json").json["understood"]
    assert understood["sentence"] == sentence and understood["distribution"] == "claims"
    (train, _) = repeng("data", "ls", claims, *MEANING, "--json").json
    assert (train["positives"], train["pairs"], train["prompts"]) == (9, 9, 9)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "20 examples (0, 1, 2 and 17 more): no prompt; the example has city, kind, said. Columns of other names"),
        (("--columns", "text=said"), "20 examples (0, 1, 2 and 17 more): no label; it has city, kind, said. Name its"),
        (("--columns", "text=said,label=kind"), "the labels in 'kind' are 'Asia' (10), 'Mars' (10); which one counts"),
        (("--columns", "text=told,label=kind"), "no text: the column 'told' is not there or empty"),
    ],
)
def test_what_is_not_explained_is_one_line_that_says_what_to_do(repeng: Repeng, claims: Path, flags, message) -> None:
    said = repeng("data", "check", claims, *flags)
    assert said.code == 2 and message in said.out
    assert len(said.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--columns", "sentence=said"), "unknown field 'sentence'; choose from chosen, group"),
        (("--columns", "text"), "write OURS=THEIRS"),
        (("--turn", "1.5"), "turn is '1.5'; give a number from 0"),
        ((*MEANING[:2], "--positive", "Venus"), "no label is 'Venus' (--positive); the labels are Asia, Mars"),
        ((*MEANING, "--turn", "user"), "--turn user says which message is labelled"),
    ],
)
def test_what_is_wrongly_explained_is_an_error(repeng: Repeng, claims: Path, flags, message) -> None:
    for command in (("data", "check", claims), ("run", "--data", claims), ("cache", "--data", claims)):
        said = repeng(*command, *flags)
        assert said.code == 2 and message in said.err, command


def test_public_sets_are_listed_and_an_unknown_one_is_refused(repeng: Repeng) -> None:
    listed = repeng("data", "ls", "--known", "--json").json
    assert {"name", "hub", "home", "asks", "fields", "licence", "size"} == set(listed[0])
    assert {"known:geometry-of-truth", "known:liars-bench", "known:reward-bench-2", "known:doluschat"} <= {
        row["name"] for row in listed
    }
    assert "Cadenza-Labs/liars-bench" in repeng("data", "ls", "--known").out
    assert "takes no data" in repeng("data", "ls", "mini", "--known").err
    assert "unknown public set 'lies'" in repeng("data", "ls", "known:lies").err


def test_any_data_is_written_as_statements_and_read_again(repeng: Repeng, claims: Path, tmp_path: Path) -> None:
    said = repeng("data", "export", claims, *MEANING, "--as", "statements", "--out", tmp_path / "out")
    assert (said.code, said.out) == (0, f"wrote 1 distributions to {tmp_path / 'out' / 'distributions'}\n")
    first = load_distributions(claims, reading=Reading.parse(MEANING[1], positive="Asia", group="city"))["claims"]
    again = load_distributions(tmp_path / "out")["claims"]
    assert [again.train.data_hash, again.test.data_hash] == [first.train.data_hash, first.test.data_hash]
    refused = repeng("data", "export", claims, *MEANING, tmp_path / "genies")
    assert refused.code == 2 and "--as statements" in refused.err
    assert "name one folder" in repeng("data", "export", "mini").err
    assert "name one folder" in repeng("data", "export", "mini", tmp_path, "--out", tmp_path).err
    assert "unknown form 'csv'" in repeng("data", "export", "mini", tmp_path, "--as", "csv").err


def test_a_run_reads_labelled_texts_as_it_is_told_and_keeps_how(repeng: Repeng, claims: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "results", tmp_path / "store"
    flags = ("--data", claims, *MEANING, "--store", store, "--methods", "mms", "--nulls", "0", "--fits", "1")
    said = repeng("run", *flags, "--out", out, "--json", "--quiet")
    assert said.code == 0
    (row,) = [row for row in said.json["rows"] if row["method"] == "mms"]
    assert (row["source"], row["target"]) == ("claims", "claims") and row["accuracy"] is not None
    kept = (out / "study.toml").read_text()
    assert 'columns = "text=said,label=kind"' in kept and 'group = "city"' in kept
    other = repeng("run", *flags, "--out", out, "--positive", "Mars")
    assert other.code == 2 and "positive is 'Asia' there and 'Mars' here" in other.err
    fitted = ("--store", store, "--source", "claims", "--probe", "mms", "--out", tmp_path / "probe", "--data", claims)
    assert repeng("fit", *fitted, *MEANING).code == 0
    wrong = repeng("fit", *fitted, *MEANING[:2], "--positive", "Mars", "--group", "city")
    assert wrong.code == 2 and "claims" in wrong.err
    assert repeng("browse", claims, *MEANING, "--export", tmp_path / "pages", "--quiet").code == 0
