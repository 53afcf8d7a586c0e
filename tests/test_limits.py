"""Whatever never ends, or unpacks to more than memory, is refused before work begins, and the message has the limit."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from repeng.distributions import rows
from repeng.distributions.load import load_distributions
from repeng.distributions.rows import parse_json
from repeng.distributions.schema import Example, Split
from repeng.distributions.shifts import load_shifts
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadData, BadInput
from repeng.limits import LARGEST_SEED, RESPONSES, read_bounded
from repeng.methods.base import MethodSettings
from repeng.methods.names import parse_name
from repeng.methods.registry import make_method
from repeng.models.load import LanguageModel, load_model
from repeng.models.token_width import FewestTokens, token_width
from repeng.models.tokens import tokenize
from repeng.probes.io import load
from repeng.probes.selection import parse_layers
from repeng.results.evaluations import read_evaluation
from repeng.results.table import read_results
from repeng.study.rescore import read_capability
from repeng.study.settings import Study
from repeng.tuning.data import encode_split


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.fixture(scope="module")
def mini() -> LanguageModel:
    return load_model("mini", device="cpu")


READERS: dict[str, Callable[[Path], object]] = {
    "study": lambda path: Study.read(path, {}),
    "shifts": load_shifts,
    "data": lambda path: rows.read_rows(path),
    "evaluation": read_evaluation,
    "results": read_results,
    "capability": read_capability,
    "probe": lambda path: load(path.parent),
}
NAMES = {"data": "data.json", "probe": "probe.json"}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["device", "pipe", "large"])
def test_a_file_that_never_ends_is_refused_at_once(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES.get(reader, "file")
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 3_000_000_000)
    complaint = "3 GB, and at most" if kind == "large" else "a device or a pipe"
    if reader == "probe" and kind != "large":
        complaint = "no probe.json here"
    with within(2), pytest.raises(BadInput, match=complaint):
        READERS[reader](path)


def test_a_file_that_grows_while_it_is_read_is_bounded_too() -> None:
    # Of no size by its status, and longer than that.
    with pytest.raises(BadData, match="at most 3 bytes are read"):
        read_bounded(Path("/proc/self/status"), 3)


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("way", ["compressed", "dictionary"])
def test_a_parquet_file_that_unpacks_to_gigabytes_is_refused(way: str, tmp_path: Path) -> None:
    text = "a" * 1_000_000
    packed = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2_500, pyarrow.int32()), pyarrow.array([text]))
    plain = pyarrow.array([text] * 100)
    if way == "compressed":
        path = parquet(tmp_path / "data.parquet", {"chosen": plain}, compression="zstd", use_dictionary=False)
    else:
        path = parquet(tmp_path / "data.parquet", {"chosen": packed}, compression="zstd")
    assert path.stat().st_size < 400_000
    with pytest.MonkeyPatch.context() as patched, within(30):
        if way == "compressed":
            patched.setattr(rows, "DATA_BYTES", 90_000_000)
            patched.setattr(rows, "read_bounded", lambda path, _most: path.read_bytes())
        with pytest.raises(BadData, match="it unpacks to .* or more, and at most .* are read; divide it"):
            rows.read_rows(path)


def test_a_parquet_file_of_endless_empty_rows_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "data.parquet", {"chosen": pyarrow.nulls(10_000_001, pyarrow.string())})
    with within(5), pytest.raises(BadData, match="10,000,001 rows, and at most 10,000,000 are read of a file"):
        rows.read_rows(path)


def test_a_parquet_file_of_several_row_groups_is_read_in_order(tmp_path: Path) -> None:
    path = parquet(tmp_path / "data.parquet", {"number": list(range(1000))}, row_group_size=300)
    assert [row["number"] for row in rows.read_rows(path)] == list(range(1000))


def test_a_repeated_key_is_found_in_linear_time() -> None:
    keys = [f'"{number}":0' for number in range(200_000)]
    with within(5):
        assert parse_json("{" + ",".join([*keys, '"199999":0']) + "}").repeated == "199999"


def test_a_csv_field_without_end_is_a_text_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text('prompt,chosen,rejected\nq,"' + "a" * 20_000_001 + '",b\n')
    with pytest.raises(BadData, match="a response has 20,000,001 characters, .* the limit is 20,000,000"):
        load_distributions(tmp_path / "data.csv")


def test_an_example_of_endless_responses_is_refused() -> None:
    Example("p", tuple(map(str, range(RESPONSES))), 0)
    with pytest.raises(BadData, match="1,001 responses; an example has at most 1,000"):
        Example("p", tuple(map(str, range(RESPONSES + 1))), 0)


@pytest.mark.parametrize(
    "text",
    ["0-99999999999", "99999999999", "top-k:99999999999", "top-k:" + "9" * 5000, "3,4-" + "9" * 5000, "-" * 9999],
)
def test_layers_beyond_any_model_are_refused_at_once(text: str) -> None:
    with within(1), pytest.raises(BadInput, match="layers is .*(go up to 10,000|give auto)"):
        parse_layers(text)


def test_layers_that_models_have_are_read_as_before() -> None:
    assert parse_layers("0-9999") == tuple(range(10_000))
    assert parse_layers("top-k:0016") == "top-k:0016" and parse_layers("5,1-3,2") == (1, 2, 3, 5)
    with pytest.raises(BadInput, match="give auto, all, top-k:N"):
        parse_layers("top-k:²")


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        ("logistic(C=1e999)", "C is inf; it must be a finite number"),
        ("logistic(C='x')", "C is 'x'; it must be a finite number"),
        ("logistic(max_iter=99999999999)", "max_iter is 99999999999; it must be a whole number from 0 to 100,000"),
        ("ccs(restarts=1e12)", "restarts is 1000000000000.0; it must be a whole number"),
        ("lat(seed=-1)", f"seed is -1; it must be a whole number from 0 to {LARGEST_SEED:,}"),
        ("lora(steps=99999999999)", "steps is 99999999999; it must be a whole number"),
        ("lora(learning_rate=1e999)", "learning_rate is inf; it must be a finite number"),
        ("few-shot(shots=99999999999)", "shots is 99999999999; it must be a whole number"),
        ("mms(" + "(" * 900 + ")", "write parameters as name=value"),
        ("mms(x=" + "-" * 900 + "1)", "write parameters as name=value|no parameter 'x'"),
        ("mms(x=" + "-" * 100_000 + "1)", "has 100,008 characters; a name with parameters has at most 1000"),
    ],
)
def test_parameters_that_never_end_are_refused(method: str, complaint: str) -> None:
    with within(5), pytest.raises(BadInput, match=complaint):
        make_method(method, MethodSettings("mini", 6, 512, "mini-0", Path("plugins"), Path("tuned")))


def test_a_value_that_cannot_be_evaluated_is_taken_as_text() -> None:
    assert parse_name("mms(x={[]: 1})") == ("mms", {"x": "{[]:1}"})


@pytest.mark.parametrize(
    "text",
    ["seed = -1", f"seed = {2**31}", "seed = " + "9" * 5000, "x = " + "[" * 100_000, "limit = -3", "augment = nan"],
)
def test_a_study_of_endless_values_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(BadInput, match=r"study.toml"):
        Study.read(tmp_path / "study.toml", {})


def tokenizer(pre: Any, normalizer: Any = None, *, byte_fallback: bool = False) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer with a few merges, one of them of four characters."""
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else pre_tokenizers.ByteLevel.alphabet()
    merged = ["aa", "aaaa", "bc"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*alphabet, "a", "b", "c", *merged]))}
    merges = [("a", "a"), ("aa", "aa"), ("b", "c")]
    made = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=byte_fallback))
    made.pre_tokenizer, made.decoder = pre, decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="bc")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
SURE = {
    "bytes": (tokenizer(BYTES), 4),
    "composed": (tokenizer(BYTES, normalizers.Sequence([normalizers.NFC()])), 16),
    "pieces": (
        tokenizer(pre_tokenizers.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"), byte_fallback=True),
        6,
    ),
}
UNSURE = {
    "dropped spaces": tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), BYTES])),
    "removed": tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Split("b", "removed"), BYTES])),
    "stripped": tokenizer(BYTES, normalizers.Strip()),
    "shortened": tokenizer(BYTES, normalizers.Replace("aaaa", "b")),
    "unknown": PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"u": 0}, unk_token="u"))),
}


@pytest.mark.parametrize("name", SURE)
def test_no_text_has_fewer_tokens_than_its_characters_say(name: str) -> None:
    made, width = SURE[name]
    assert token_width(made) == width
    chance = random.Random(name)
    for _ in range(300):
        text = "".join(
            chance.choices(["a", "aaaa", "b", "c", " ", "é", "e\u0301", "\u1f80", "ᾂ", "한", "\n", "😀"], k=60)
        )
        count = len(made(text)["input_ids"])
        assert count * width >= len(text)
        fewest = FewestTokens(made)
        assert not any(fewest.exceed(text, limit) for limit in range(count, 60))
    assert FewestTokens(made).exceed("a" * (width * 10 + 1), 10)


@pytest.mark.parametrize("name", UNSURE)
def test_where_characters_may_vanish_only_tokenizing_tells(name: str) -> None:
    assert token_width(UNSURE[name]) is None
    assert not FewestTokens(UNSURE[name]).exceed("a" * 10_000, 1)


def test_a_token_that_swallows_spaces_leaves_the_length_unknown() -> None:
    made = tokenizer(BYTES)
    made.add_tokens([AddedToken("<x>", rstrip=True)])
    assert len(made("<x>" + " " * 1000)["input_ids"]) == 1
    assert token_width(made) is None


def test_texts_of_megabytes_are_skipped_without_being_tokenized(mini: LanguageModel) -> None:
    long = "word " * 400_000
    texts = [Example("short", ("yes", "no"), 0), Example(long, ("yes", "no"), 0), Example("short", ("no", long), 0)]
    split = Split("d", "test", tuple(texts))
    for name in ("plain", "zero_shot_genies"):
        with within(1):
            found = tokenize(split, get_stimulus(name), mini)
        assert [text is None for text in found] == [False, False, True, True, False, True]
    with (
        within(1),
        pytest.raises(BadInput, match="example 1: 2,000,003 characters under 'plain', and mini takes 512 tok"),
    ):
        tokenize(split, get_stimulus("plain"), mini, too_long="refuse")
    with within(1):
        encoded = encode_split(split, mini.tokenizer, 512)
    assert encoded.kept.tolist() == [True, True, False, False, True, False]


@pytest.mark.parametrize("too_long", ["skip", "cut"])
def test_what_is_skipped_is_what_tokenizing_says(
    too_long: str, mini: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        Example(text * count, ("yes", "no"), 0)
        for text in (" " * 10, "### Instruction:\n", "word ", "é", "a")
        for count in (1, 30, 300, 600, 3000, 40_000)
    ]
    split = Split("d", "test", tuple(texts))
    ours = tokenize(split, get_stimulus("plain"), mini, too_long=too_long)
    monkeypatch.setattr(FewestTokens, "exceed", lambda *_: False)
    assert ours == tokenize(split, get_stimulus("plain"), mini, too_long=too_long)
