"""`repeng watch`: what it prints of a text, of what a model writes, and of a mistake."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cli_samples import Repeng, Said

from repeng.benchmarks.loaded import load_named
from repeng.cli.token_view import shade, visible
from repeng.models.load import load_model
from repeng.probes.io import save
from repeng.study.steps import capture, fit


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes of the embedded model, fitted on a few examples."""
    root = tmp_path_factory.mktemp("watch")
    lm = load_model("mini", device="cpu")
    facts = load_named("mini", ["facts"], limit=16)["facts"].train
    cached = capture(lm, facts, store=root / "store", stimuli=("plain", "contrast_yes", "contrast_no"))
    for name in ("mms", "cra"):
        save(fit(cached, "facts", name), root / name)
    return root


@pytest.fixture
def watch(repeng: Repeng, probes: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: object, stdin: bytes | str = "", probe: str = "mms") -> Said:
        content = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return repeng("watch", "--model", "mini", "--device", "cpu", "--probe", probes / probe, *arguments)

    return run


def rows(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.out.splitlines()]


def test_json_is_an_object_a_line_for_each_token_and_each_text(watch: Any) -> None:
    said = watch("--json", stdin="Paris is in France.\n")
    assert said.code == 0
    *tokens, end = rows(said)
    assert {one["kind"] for one in tokens} == {"token"} and end["kind"] == "text"
    assert "".join(one["token"] for one in tokens) == "<s> Paris is in France."
    assert [one["position"] for one in tokens] == list(range(len(tokens)))
    assert end["score"] == tokens[-1]["score"] and end["end"] == "end"
    assert end["alarms"] == sum(one["alarm"] for one in tokens)
    assert set(tokens[0]) == {
        *("kind", "text", "token", "token_id", "score", "probability", "alarm", "position", "part")
    }
    assert "of the held-out label-0 texts of facts score more" in said.err and "mms on facts" in said.err


def test_each_line_is_a_text_and_empty_ones_are_passed_over(watch: Any) -> None:
    said = watch("--json", "--lines", "--quiet", stdin="Paris is in France.\n\nSo it is.\r\n")
    ends = [one for one in rows(said) if one["kind"] == "text"]
    assert [one["text"] for one in ends] == [0, 2]
    alone = watch("--json", stdin="So it is.")
    assert rows(alone)[-1]["score"] == pytest.approx(ends[1]["score"])
    assert "label-0" in alone.err and "label-0" not in said.err


def test_a_file_is_read_as_standard_input_is(watch: Any, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Paris is in France.\n")
    assert watch("--json", tmp_path / "text.txt").out == watch("--json", stdin="Paris is in France.").out


def test_a_prompt_stands_before_the_text_and_does_not_ring(watch: Any) -> None:
    tokens = rows(watch("--json", "--prompt", "Q: Where is Paris?\nA:", "--alarm", "score=-1e9", stdin=" In France."))
    parts = {one["part"] for one in tokens if one["kind"] == "token"}
    assert parts == {"prompt", "response"}
    assert all(one["alarm"] == (one["part"] == "response") for one in tokens[:-1])


def test_a_table_has_a_token_a_line_and_ends_with_a_summary(watch: Any) -> None:
    said = watch("--alarm", "score=-1e9", stdin="é 1\n2")
    lines = said.out.splitlines()
    assert lines[0].split() == ["position", "score", "p", "token"]
    assert '"\\n"' in said.out and '"é"' in said.out
    assert lines[-1].startswith("text: score ") and "tokens rang, the first at 1" in lines[-1]
    assert "\x1b" not in said.out


def test_what_is_written_is_told_with_why_it_ended(watch: Any) -> None:
    how = ("--generate", "Q: Is Paris in France?\nA:", "--max-new-tokens", "3", "--alarm", "none")
    said = rows(watch("--json", *how))
    assert said[-1]["end"] in ("max_new_tokens", "end") and said[-1]["alarms"] == 0
    again = rows(watch("--json", "--generate", "-", *how[2:], stdin="Q: Is Paris in France?\nA:\n"))
    assert again == said
    stopped = rows(watch("--json", *how[:4], "--alarm", "score=-1e9", "--stop-at-alarm"))
    assert stopped[-1]["end"] == "alarm" and stopped[-1]["tokens"] == 1


def test_a_terminal_gets_the_text_in_colour_and_no_color_a_table(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    said = watch("--alarm", "score=-1e9", stdin="Paris is\nin France.")
    assert "\x1b[" in said.out and "48;2;" in said.out
    plain = "".join(part.partition("m")[2] if number else part for number, part in enumerate(said.out.split("\x1b[")))
    assert plain.startswith("<s> Paris is\n in France.\ntext: score")
    monkeypatch.setenv("NO_COLOR", "1")
    assert watch(stdin="Paris").out.split()[:2] == ["position", "score"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "probe", "said"),
    [
        ((), "", "mms", "standard input is empty"),
        ((), " \n", "mms", "standard input is empty"),
        ((), b"\xff\xfe", "mms", "is no UTF-8 text"),
        (("--alarm", "0.5"), "a", "mms", "is it a probability or a score"),
        (("--view", "rainbow"), "a", "mms", "unknown view 'rainbow'"),
        (("--generate", "a", "--lines"), "", "mms", "--generate and --lines conflict"),
        (("--generate", "a", "--prompt", "b"), "", "mms", "--generate and --prompt conflict"),
        (("--generate", "a", "text.txt"), "", "mms", "the file text.txt conflict"),
        (("nowhere.txt",), "", "mms", "nowhere.txt: there is no such file"),
        ((), "a", "cra", "compares two texts"),
        ((), "a", "none", "no probe.json here"),
        (("--lines",), "a\n" + "word " * 9000, "mms", "line 2: this text"),
    ],
)
def test_a_mistake_is_one_message(watch: Any, arguments: tuple[str, ...], stdin: Any, probe: str, said: str) -> None:
    found = watch(*arguments, stdin=stdin, probe=probe)
    assert found.code == 2 and said in found.err and "Traceback" not in found.err


def test_a_probe_of_another_model_is_refused(repeng: Repeng, probes: Path, place: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    found = repeng("watch", "--model", place / "tiny", "--probe", probes / "mms")
    assert found.code == 2 and "is another model" in found.err and "--any-model" in found.err


def test_the_model_is_the_probes_own_unless_another_is_named(repeng: Repeng, probes: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Paris")))
    assert repeng("watch", "--probe", probes / "mms", "--json").code == 0


def test_nothing_that_is_printed_does_anything_to_a_terminal() -> None:
    assert visible("a\x1b[2Jb\x07\x7f\x9b\tc\nd") == "a␛[2Jb␇␡�\tc\nd"


def test_colours_run_from_blue_to_orange_and_text_stays_readable() -> None:
    low, middle, high = (shade(value).bgcolor.get_truecolor() for value in (-9.0, 0.0, 9.0))
    assert low.blue > low.red and high.red > high.blue
    assert abs(middle.red - middle.blue) < 10
    assert shade(-1.0).color.name == "#ffffff" and shade(0.0).color.name == "#000000"
