"""The runner of the documentation's commands: what it reads out of a page, and that it finds what is stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.doc_commands import tables
from tools.doc_commands.__main__ import unused
from tools.doc_commands.checks import is_whole, missing_files, unknown_options, words_of
from tools.doc_commands.pages import ROOT, Piece, pages, pieces_of
from tools.doc_commands.running import Interpreter, Outcome, run_command
from tools.doc_commands.stand_ins import as_run, in_words

PAGE = """# A page with `repeng --version` in its head

    repeng run --model DIR        # a comment
    repeng sweep  --store store   --probe mms
    repeng compare OUT1 OUT2 ...           studies
    OUT/results.csv               no command

Say `repeng data check DIR`, or `run --drop-overlap`.

```
$ repeng fit --store store \\
    --probe mms
repeng.capture("mini", texts) is Python in a sentence
```

```python
import repeng
```

```json
{"repeng": 1}
```

    study = repeng.run(limit=40)
    study.frame
"""


def test_commands_and_python_are_read_in_order_without_what_is_said_of_them() -> None:
    assert [(one.line, one.kind, one.text.strip()) for one in pieces_of(PAGE, "page.md")] == [
        (1, "inline", "repeng --version"),
        (3, "command", "repeng run --model DIR"),
        (4, "command", "repeng sweep  --store store   --probe mms"),
        (5, "command", "repeng compare OUT1 OUT2 ..."),
        (8, "inline", "repeng data check DIR"),
        (11, "command", "repeng fit --store store --probe mms"),
        (17, "python", "import repeng"),
        (24, "python", "study = repeng.run(limit=40)\nstudy.frame"),
    ]
    assert words_of("repeng run --model DIR # a comment") == ["run", "--model", "DIR"]


def test_every_page_holds_what_its_reader_would_say_it_holds() -> None:
    found = {str(page.relative_to(ROOT)): pieces_of(page.read_text(), str(page)) for page in pages()}
    assert "repeng data fetch genies" in {one.text for one in found["README.md"]}
    assert [one.kind for one in found["README.md"]].count("python") == 2
    assert sum(one.kind == "command" and one.text.startswith("repeng") for own in found.values() for one in own) > 50


def test_words_stand_for_something_and_long_commands_are_shortened() -> None:
    assert as_run("repeng run --model DIR --data DIR") == "repeng run --model M --data DIR --limit 8"
    assert as_run("repeng run --limit 60") == "repeng run --limit 60"
    assert as_run("repeng browse [DATA]") == "repeng browse DATA --port 0"
    assert in_words("repeng compare RESULTS... --question NAME") == "repeng compare OUT --question perplexity"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("repeng run", False),
        ("repeng run --dry-run", True),
        ("repeng sweep --csv", False),
        ("repeng fit --seed", False),
        ("repeng data check", False),
        ("repeng data ls --known", True),
        ("repeng --version", True),
        ("repeng compare OUT32 OUT16", True),
    ],
)
def test_an_inline_command_is_run_where_it_has_what_it_needs(text: str, whole: bool) -> None:
    assert is_whole(words_of(text)) == whole


def test_an_option_that_no_command_has_is_found() -> None:
    text = (
        "    repeng run --modl M\n\nWith `--drop-overlap` or `--drop-all N`, or `repeng data check --strict --bring`.\n"
    )
    assert [line.partition(": ")[0] for line in unknown_options(pieces_of(text, "a.md"), text, "a.md")] == [
        "a.md:1",
        "a.md:3",
        "a.md:3",
    ]
    assert list(unknown_options([], "`pip install --no-deps x`, `repeng run --limit 3`", "a.md")) == []


def test_a_file_that_is_not_there_is_found() -> None:
    text = "See docs/data.md and\n[here](docs/dato.md), or tests/metrics/test_figures.py."
    assert list(missing_files(text, "a.md")) == ["a.md:2: there is no docs/dato.md"]


def test_a_command_runs_in_its_folder_and_its_exit_code_is_seen(tmp_path: Path) -> None:
    assert run_command("repeng --version", tmp_path)[0] == 0
    code, seconds, said = run_command("repeng report 'no such folder'", tmp_path)
    assert code == 2 and "no such folder" in said and seconds >= 0
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_a_page_share_a_namespace_and_a_folder_and_say_what_failed(tmp_path: Path) -> None:
    python = Interpreter(tmp_path)
    try:
        assert python.run("from pathlib import Path\nx = 3") == ""
        assert python.run("Path('made').write_text(str(x)); print('unseen')") == ""
        assert "ZeroDivisionError" in python.run("x / 0")
    finally:
        python.close()
    assert (tmp_path / "made").read_text() == "3"


def test_an_entry_that_fits_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SKIPPED", (tables.Entry("docs/a.md", "*gone", "for a reason"),))
    monkeypatch.setattr(tables, "NOT_OURS", (tables.Entry("", "make ", "for another"),))
    monkeypatch.setattr(tables, "MENTIONS", ())
    monkeypatch.setattr(tables, "EXIT_CODES", {("docs/a.md", "repeng run"): 2})
    outcomes = [Outcome(Piece("README.md", 1, "command", "make run"), "known")]
    assert [line.partition(":")[0] for line in unused(outcomes)] == ["tables.SKIPPED", "tables.EXIT_CODES"]
