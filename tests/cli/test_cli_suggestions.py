"""Every command that a message suggests runs as it stands, and the command that had failed then succeeds."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from cli_samples import Repeng, Said
from planted_store import planted, write_store

from repeng.activations.store.capture_command import ranges
from repeng.activations.store.store import Store
from repeng.distributions.schema import Distribution, Example, Split
from repeng.distributions.stimuli import STIMULI, get_stimulus, stimulus_text
from repeng.study.steps import capture

OWN = r"judge={prompt}{response}\n\nIs it so? Yes"


def suggested(said: Said) -> list[list[str]]:
    """The arguments of each command that an error's message ends with."""
    _, begins, commands = said.err.strip().partition("capture it with: ")
    assert begins, said.err
    return [shlex.split(command)[1:] for command in commands.split(" && ")]


def mend(repeng: Repeng, *command: object) -> list[list[str]]:
    """Fail, do what the message says, and succeed; returns what it said."""
    failed = repeng(*command)
    assert failed.code == 1 or failed.code == 2
    given = suggested(failed)
    for arguments in given:
        done = repeng(*arguments)
        assert done.code == 0, done.err
        assert " 0 parts written" not in done.out
    again = repeng(*command)
    assert again.code == 0, again.err
    return given


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a blank in its name, whose columns must be named."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my claims"
    folder.mkdir()
    for name in ("odd", "even"):
        rows = [{"said": f"{name} {n} is fine", "is it so": "very true" if n % 3 else "not so"} for n in range(30)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def store(repeng: Repeng, place: Path, claims: Path, tmp_path: Path) -> Path:
    """With the plain texts of the first 24 claims at layer 2 alone."""
    named = ("--columns", "text=said,label=is it so", "--positive", "very true", "--limit", 24)
    where = ("--model", place / "tiny", "--data", "my claims", "--store", "a store", "--device", "cpu")
    assert repeng("cache", *where, *named, "--stimuli", "plain", "--layers", 1, "--no-logprob").code == 0
    return tmp_path / "a store"


def test_what_a_fit_lacks_is_captured_of_the_same_model_and_data_and_no_more(
    repeng: Repeng, store: Path, place: Path
) -> None:
    begun = ("fit", "--store", "a store", "--source", "odd", "--out", "probe", "--probe")
    (one,) = mend(repeng, *begun, "mms", "--site", "mlp_out")
    assert one == [
        *("cache", "--store", "a store", "--model", str(place / "tiny"), "--data", str(store.parent / "my claims")),
        *("--limit", "24", "--columns", "text=said,label=is it so", "--positive", "very true"),
        *("--sites", "mlp_out", "--tokens", "last", "--no-logprob", "--distributions", "odd", "--stimuli", "plain"),
    ]
    (both,) = mend(repeng, *begun, "ccs")
    assert both[-2:] == ["--stimuli", "contrast_yes,contrast_no"]
    (layers,) = mend(repeng, *begun, "mms")
    assert layers[layers.index("--layers") + 1] == "0,2"
    (template,) = mend(repeng, *begun, f"mms(stimulus={OWN!r})", "--layers", 2)
    assert template[-2:] == ["--stimuli", OWN]
    (capture,) = Store(store).captures()
    held = {(*key[:2], str(part.key)) for key, parts in capture.contents().items() for part in parts}
    assert ("odd", "train", "plain.mlp_out.last") in held
    assert {part for name, _, part in held if name == "even"} == {"plain.resid_post.last"}
    assert not any("logprob" in part for *_, part in held)


def test_a_sweep_and_a_matrix_say_all_that_they_lack_at_once(repeng: Repeng, store: Path) -> None:
    swept = mend(repeng, "sweep", "--store", store, "--source", "odd", "--target", "even", "--probe", "mms,lat,ccs")
    assert [each[each.index("--distributions") + 1] for each in swept] == ["odd,even"] * 2
    mend(repeng, "matrix", "--store", store, "--probe", "mms", "--token", "response_mean")


def test_a_score_and_data_that_are_meant_and_not_here_are_captured(repeng: Repeng, store: Path) -> None:
    named = ("--data", "my claims", "--columns", "text=said,label=is it so", "--positive", "very true")
    begun = ("fit", "--store", store, "--source", "odd", "--out", "probe", "--probe")
    (whole,) = mend(repeng, *begun, "mms", *named)
    assert "--limit" not in whole
    (mean,) = mend(repeng, *begun, "mms", *named, "--limit", 20, "--layers", 2, "--token", "response_mean")
    assert mean[mean.index("--limit") + 1] == "20"
    (target,) = mend(repeng, "score", "--store", store, "--probe", "probe", "--target", "even", *named, "--limit", 20)
    assert target[target.index("--distributions") + 1] == "even"
    assert target[target.index("--layers") + 1] == "2"


def test_a_damaged_part_is_dropped_and_captured_again_by_what_messages_say(repeng: Repeng, store: Path) -> None:
    (shard,) = store.glob("*/odd/train.*/plain.resid_post.last/shard-00000.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1])
    begun = ("fit", "--store", "a store", "--source", "odd", "--out", "probe", "--probe", "mms", "--layers", 1)
    damaged = repeng(*begun)
    command = re.search(r"repeng (store verify .*--repair)", damaged.err)
    assert damaged.code == 1 and command is not None
    assert repeng(*shlex.split(command[1])).code == 0
    mend(repeng, *begun)


def test_a_later_version_of_the_store_is_told_what_an_earlier_one_did_not_note(repeng: Repeng, store: Path) -> None:
    (folder,) = store.glob("*/odd/train.*")
    record = Store(store).captures()[0].data_of(Store(store).captures()[0].find("odd"))
    assert record is not None
    sources = tuple(source.model_copy(update={"options": None}) for source in record.sources)
    record.model_copy(update={"sources": sources}).write(folder / "split.json")
    said = repeng("fit", "--store", store, "--source", "odd", "--out", "p", "--probe", "mms", "--site", "mlp_out")
    assert "add --limit, --columns and the like as they were given" in said.err
    (given,) = suggested(said)
    assert given[given.index("--data") + 1] == str(store.parent / "my claims" / "odd.jsonl")
    named = ("--limit", 24, "--columns", "text=said,label=is it so", "--positive", "very true")
    assert repeng(*given, *named).code == 0
    assert (
        repeng("fit", "--store", store, "--source", "odd", "--out", "p", "--probe", "mms", "--site", "mlp_out").code
        == 0
    )
    (noted,) = store.glob("*/odd/train.*/split.json")
    assert '"options"' in noted.read_text()


def test_data_that_no_option_names_stand_as_a_word_in_capitals(repeng: Repeng, tmp_path: Path) -> None:
    write_store(tmp_path, {("near", "train", "plain", "resid_post"): planted({}, seed=0)})
    said = repeng("fit", "--store", tmp_path, "--source", "near", "--probe", "ccs", "--out", tmp_path / "p")
    assert "and its data for DATA" in said.err and "--data DATA" in said.err
    examples = tuple(Example(f"q {n}", (f"a {n}", f"b {n}"), 0) for n in range(6))
    made = capture("mini", Distribution("made", {"train": Split("made", "train", examples)}), store=tmp_path / "m")
    said = repeng(
        "fit", "--store", tmp_path / "m", "--source", "made", "--probe", "mms", "--site", "mlp_out", "--out", "p"
    )
    assert "its data were made in Python: call repeng.capture again" in said.err
    assert made.splits()
    empty = repeng("fit", "--store", tmp_path / "none", "--source", "x", "--probe", "mms", "--out", "p")
    assert "--model MODEL --data DATA" in empty.err


def test_a_typed_site_is_a_wrong_name_and_no_reason_to_capture(repeng: Repeng, store: Path) -> None:
    said = repeng("fit", "--store", store, "--source", "odd", "--probe", "mms", "--site", "resid_pst", "--out", "p")
    assert said.code == 2
    assert "unknown hook site 'resid_pst'; did you mean resid_post" in said.err


@pytest.mark.parametrize("text", [*sorted(STIMULI), OWN, r"ask?=Was\tit so?", r"ask?Yes=A \\ or\nnot?"])
def test_every_stimulus_is_written_as_it_is_read(text: str) -> None:
    assert stimulus_text(get_stimulus(text)) == text


def test_layers_are_written_as_they_are_read() -> None:
    assert ranges([3, 0, 1, 7, 5, 6]) == "0-1,3,5-7"


@pytest.mark.parametrize(
    "row",
    [
        {"statement": "s {n}", "text": "t {n}", "label": 1},
        {"statement": "s {n}", "truth": 1, "label": 1},
        {"statement": "s {n}", "label": "it's a b"},
        {"prompt": "p {n}", "responses": {"very true": "a {n}", "a lie": "b {n}"}},
    ],
)
def test_the_option_that_explains_columns_or_labels_is_one_word_of_the_shell(
    repeng: Repeng, tmp_path: Path, row: dict[str, object]
) -> None:
    rows = [json.dumps(row).replace("{n}", str(n)) for n in range(9)]
    (tmp_path / "d.jsonl").write_text("\n".join(rows))
    refused = repeng("data", "ls", tmp_path / "d.jsonl")
    option = re.search(r"--(?:columns|positive) .*", refused.err)
    assert refused.code == 2 and option is not None
    words = shlex.split(option[0].replace(", for example", ""))[:2]
    assert repeng("data", "ls", tmp_path / "d.jsonl", *words).code == 0
