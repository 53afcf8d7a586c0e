from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from made_up import made_up
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from repeng.activations.capture import CaptureSummary, Request, capture
from repeng.activations.store import files as parts
from repeng.activations.store.files import SplitKey, blocks, file_name, split_key
from repeng.activations.store.store import Store, StoredCapture
from repeng.atomic import write_atomically
from repeng.distributions.schema import Distribution, Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, NonFinite, StoreError, UnknownName
from repeng.models.load import LanguageModel, load_model

FolderOf = Callable[[str], Path]
PLAIN = Request((get_stimulus("plain"),), ("resid_post", "hook_z"))


@pytest.fixture
def stored(llama: LanguageModel, split: Split, tmp_path: Path) -> StoredCapture:
    store = Store(tmp_path)
    return store.capture(capture(llama, [split], PLAIN, store).capture_id)


def test_files_lie_as_documented(stored: StoredCapture, split: Split) -> None:
    folder = stored.folder / "made_up" / f"train.{split.data_hash}"
    assert {place.name for place in folder.iterdir() if place.is_dir()} == {
        "plain.resid_post.last",
        "plain.hook_z.last",
        "plain.logprob",
    }
    for place in folder.iterdir():
        if place.is_dir():
            assert sorted(file.name for file in place.iterdir()) == ["index.json", "shard-00000.safetensors"]
    with safe_open(folder / "plain.hook_z.last" / "shard-00000.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == [f"blocks.{layer}.attn.hook_z" for layer in range(3)]
        assert file.get_slice("blocks.0.attn.hook_z").get_shape() == [split.n_responses, 4, 8]
        assert file.get_slice("blocks.0.attn.hook_z").get_dtype() == "BF16"
    with safe_open(folder / "plain.logprob" / "shard-00000.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == ["logprob", "text_length", "token_count"]


def test_an_index_says_of_each_response_what_it_is(stored: StoredCapture, split: Split) -> None:
    index = stored.index(split)
    responses = index.responses
    assert [row["example"] for row in responses] == split.response_example.tolist()
    assert [row["label"] for row in responses] == split.labels.tolist()
    assert [row["group"] for row in responses] == split.groups[split.response_example].tolist()
    assert [row["response"] for row in responses if row["example"] == 1] == [0, 1, 2]
    assert len({row["text_hash"] for row in responses}) == split.n_responses
    assert (index.distribution, index.split, index.data_hash) == ("made_up", "train", split.data_hash)
    assert index.layout is not None
    assert index.layout.batch_tokens == 2048 and index.layout.stimuli == ("plain",)


def test_one_layer_is_read_alone(stored: StoredCapture, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    part = stored.open(split, "plain", "resid_post")
    read: list[str] = []
    opened = safe_open

    class Watched:
        def __init__(self, path: Path, framework: str) -> None:
            self.file = opened(path, framework=framework)

        def __enter__(self) -> Watched:
            self.file.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.file.__exit__(*error)

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr("repeng.activations.store.stored_activations.safe_open", Watched)
    vectors = part.layer(1)
    assert read == ["blocks.1.hook_resid_post"]
    assert vectors.shape == (split.n_responses, 32) and vectors.dtype == torch.bfloat16
    assert torch.equal(part.read((2, 1))[1], vectors)


def test_a_part_can_be_found_by_any_name_of_its_site_and_by_key(stored: StoredCapture, split: Split) -> None:
    key = SplitKey("made_up", "train", split.data_hash)
    assert stored.splits() == (key,) and stored.trained_distributions() == ("made_up",)
    assert torch.equal(
        stored.open(key, "plain", "hook_resid_post").layer(0), stored.open(split, "plain", "resid_post").layer(0)
    )
    assert [str(held.key) for held in stored.contents()[key]] == [
        "plain.hook_z.last",
        "plain.logprob",
        "plain.resid_post.last",
    ]


def test_what_is_not_there_is_refused_with_a_way_to_get_it(stored: StoredCapture, split: Split, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no plain.mlp_out.last of made_up/train .*repeng cache .*--sites mlp_out"):
        stored.open(split, "plain", "mlp_out")
    with pytest.raises(StoreError, match="no layer 7 here, only 0, 1, 2"):
        stored.open(split, "plain", "resid_post").layer(7)
    with pytest.raises(StoreError, match="contrast_yes.logprob"):
        stored.logprobs(split, "contrast_yes")
    with pytest.raises(StoreError, match="holds nothing of made_up/train"):
        stored.index(made_up(3))
    with pytest.raises(UnknownName, match=f"unknown capture 'nobody'; choose from {stored.id}"):
        Store(tmp_path).capture("nobody")


def test_damage_is_found_and_named(stored: StoredCapture, split: Split, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.verify() == []
    shards = [held.folder / "shard-00000.safetensors" for held in stored.contents()[split_key(split)]]
    content = bytearray(shards[0].read_bytes())
    content[-1] ^= 1
    shards[0].write_bytes(content)
    shards[1].write_bytes(shards[1].read_bytes()[:-5])
    shards[2].unlink()
    problems = [str(damage) for damage in store.verify()]
    assert [problem.rpartition(": ")[2].split()[0] for problem in problems] == ["its", "has", "is"]
    with pytest.raises(StoreError, match="is not there; drop what is damaged with repeng store verify .*--repair"):
        stored.open(split, "plain", "resid_post").layer(0)
    (shards[0].parent / "index.json").write_text("{")
    assert "cannot be read" in str(store.verify()[0])


def test_a_repair_drops_what_is_bad_and_no_more(stored: StoredCapture, split: Split, tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second, third = (held.folder for held in stored.contents()[split_key(split)])
    shard = first / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    (second / "index.json").write_text("[]")
    assert len(store.verify()) == 2
    store.verify(repair=True)
    assert not first.exists() and not second.exists() and third.is_dir()
    assert store.verify() == []


def test_a_repair_keeps_what_a_later_version_wrote_and_what_cannot_be_read_now(
    stored: StoredCapture, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = stored.open(split, "plain", "resid_post").folder / "index.json"
    index.write_text(index.read_text().replace('"format": 2', '"format": 3'))
    denied = stored.open(split, "plain", "hook_z").folder / "shard-00000.safetensors"
    opened = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == denied:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file != denied}
    for repair in (False, True):
        said = "\n".join(map(str, Store(tmp_path).verify(repair=repair)))
        assert "format 3; this version of repeng reads formats 1 and 2; take a later one" in said
        assert f"{denied}: cannot be read: " in said and "the disk fails" in said
    assert denied.is_file() and {file: file.read_bytes() for file in before} == before


def test_activations_of_another_capture_are_refused(
    llama: LanguageModel, stored: StoredCapture, split: Split, tmp_path: Path
) -> None:
    other = capture(llama, [split], PLAIN, Store(tmp_path / "other"), storage_dtype="float32").capture_id
    theirs = Store(tmp_path / "other").capture(other).open(split, "plain", "resid_post").folder
    mine = stored.open(split, "plain", "resid_post").folder
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    with pytest.raises(StoreError, match=f"is the index of {other}/.*and does not belong here; drop what is damaged"):
        stored.open(split, "plain", "resid_post")
    (damage,) = Store(tmp_path).verify()
    assert damage.bad == mine and str(damage).endswith("does not belong here")


def test_swapped_rows_of_a_shard_are_not_read_and_a_capture_mends_them(
    llama: LanguageModel, stored: StoredCapture, split: Split, tmp_path: Path
) -> None:
    folder = stored.open(split, "plain", "resid_post").folder
    shard = folder / "shard-00000.safetensors"
    whole = shard.read_bytes()
    tensors = load_file(shard)
    save_file({name: rows.flip(0).contiguous() for name, rows in tensors.items()}, shard)
    assert len(whole) == shard.stat().st_size
    with pytest.raises(StoreError, match="its content has changed since it was written"):
        stored.open(split, "plain", "resid_post").layer(0)
    trusting = Store(tmp_path, trust=True).capture(stored.id)
    assert trusting.open(split, "plain", "resid_post").layer(0).shape[0] == split.n_responses
    Store(tmp_path).verify(repair=True)
    capture(llama, [split], PLAIN, Store(tmp_path))
    assert shard.read_bytes() == whole


def test_a_folder_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="is no store"):
            Store(place).verify()


def test_a_split_says_where_its_data_was_read(llama: LanguageModel, split: Split, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    read = Distribution.read_from("/data/made_up", "made_up", {"train": split, "test": made_up(4, split="test")})
    stored = store.capture(capture(llama, [split], PLAIN, store).capture_id)
    assert [source.place for source in stored.data_of(split).sources] == ["memory"]
    capture(llama, list(read.splits.values()), PLAIN, store)
    known = stored.data_of(split)
    assert known.place == "/data/made_up" and len(known.sources) == 2
    assert known.prompts == split.prompt_hashes
    assert known.belongs_with("test", read.test.data_hash) and not known.belongs_with("test", split.data_hash)
    again = (stored.folder / "made_up" / f"train.{split.data_hash}" / "split.json").read_bytes()
    capture(llama, [read.train], PLAIN, store)
    assert (stored.folder / "made_up" / f"train.{split.data_hash}" / "split.json").read_bytes() == again


def test_a_distribution_or_a_capture_can_be_removed(llama: LanguageModel, tmp_path: Path) -> None:
    store = Store(tmp_path)
    splits = [made_up(3, "one/with a slash"), made_up(3, "two"), made_up(4, "two", "test")]
    stored = store.capture(capture(llama, splits, PLAIN, store).capture_id)
    assert {key[0] for key in stored.splits()} == {"one/with a slash", "two"}
    with pytest.raises(UnknownName, match="choose from one/with a slash, two"):
        store.remove(stored.id, "three")
    size = sum(held.n_bytes for key, some in stored.contents().items() for held in some if key.distribution == "two")
    assert store.remove(stored.id, "two") > size > 0
    assert {key[0] for key in stored.splits()} == {"one/with a slash"}
    assert capture(llama, splits, PLAIN, store).parts_written == 6
    with (
        parts.locked(parts.split_folder(stored.folder, parts.split_key(splits[0])), wait=True),
        pytest.raises(StoreError, match="a run is writing here"),
    ):
        store.remove(stored.id)
    store.remove(stored.id)
    assert store.captures() == [] and list(tmp_path.iterdir()) == []


def test_a_store_of_another_format_is_refused(stored: StoredCapture, split: Split, tmp_path: Path) -> None:
    record = stored.folder / "capture.json"
    record.write_text(record.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(StoreError, match="format 3; this version of repeng reads formats 1 and 2"):
        Store(tmp_path).capture(stored.id)


def test_too_long_texts_are_skipped_and_counted_or_cut_or_refused(llama: LanguageModel, tmp_path: Path) -> None:
    examples = [Example("Q:", (" yes", " no"), 0), Example("Q:", (" yes", " no" * 40), 0)]
    split, store = Split("d", "train", tuple(examples)), Store(tmp_path)
    request = Request((get_stimulus("plain"),), tokens=("last", "response_mean"))

    def run(**options: object) -> tuple[CaptureSummary, StoredCapture]:
        summary = capture(llama, [split], request, store, max_length=20, storage_dtype="float32", **options)
        return summary, store.capture(summary.capture_id)

    summary, stored = run()
    assert summary.skipped == 1 == run()[0].skipped
    for token in request.tokens:
        part = stored.open(split, "plain", "resid_post", token)
        assert part.kept.tolist() == [True, True, True, False] and part.index.skipped == (3,)
        assert not part.layer(0)[3].any() and part.layer(0)[2].any()
    logprobs, counts = stored.logprobs(split)
    assert np.isnan(logprobs[3]) and counts[3] == 0 and np.isfinite(logprobs[:3]).all()
    cut, stored_cut = run(too_long="cut")
    assert cut.skipped == 0 and cut.capture_id != summary.capture_id
    part = stored_cut.open(split, "plain", "resid_post", "last")
    ids = llama.tokenizer("Q:" + " no" * 40)["input_ids"]
    with torch.no_grad():
        # The cut text keeps what it begins with: the token that the tokenizer puts before every text.
        states = llama.model(input_ids=torch.tensor([[ids[0], *ids[-19:]]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(part.layer(1)[3], states[2][0, -1], rtol=1e-5, atol=1e-5)
    with pytest.raises(BadInput, match=r"d/train, example 1: \d+ tokens .* takes 20 tokens; .*--too-long skip"):
        run(too_long="refuse")
    with pytest.raises(UnknownName, match="choose from cut, refuse, skip"):
        run(too_long="ignore")


def test_a_split_whose_texts_are_all_too_long_is_a_part_of_zeros(llama: LanguageModel, tmp_path: Path) -> None:
    split, store = made_up(3), Store(tmp_path)
    request = Request((get_stimulus("plain"),), ("hook_z",), ("last", "response_mean"))
    summary = capture(llama, [split], request, store, max_length=2)
    stored = store.capture(summary.capture_id)
    assert summary.skipped == split.n_responses and summary.n_texts == 0
    for token in request.tokens:
        part = stored.open(split, "plain", "hook_z", token)
        assert part.read().shape == (3, split.n_responses, 4, 8) and not part.read().any()
        assert not part.kept.any()
    assert np.isnan(stored.logprobs(split)[0]).all()


def test_weights_that_are_not_finite_are_refused_by_layer(folder_of: FolderOf, tmp_path: Path) -> None:
    lm, store = load_model(str(folder_of("llama")), device="cpu"), Store(tmp_path)
    lm.blocks[1].mlp.down_proj.weight[3, 3] = torch.nan
    with pytest.raises(NonFinite, match=r"^blocks.1.hook_mlp_out is .*made_up/train, example 0, response 0"):
        capture(lm, [made_up(4)], Request((get_stimulus("plain"),), ("resid_post", "mlp_out")), store)
    assert store.capture(store.captures()[0].id).contents() == {} and not list(tmp_path.rglob("*.safetensors"))


def test_the_example_that_is_not_finite_is_named(
    folder_of: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 4)
    lm, store = load_model(str(folder_of("llama")), device="cpu"), Store(tmp_path)
    rare = lm.tokenizer("Ω", add_special_tokens=False)["input_ids"][-1]
    lm.model.get_input_embeddings().weight[rare] = torch.inf
    examples = [Example(f"Q{number}:", (" yes", " no"), 0) for number in range(5)]
    examples[3] = Example("Q3:", (" yes", " Ω"), 0)
    with pytest.raises(NonFinite, match=r"^blocks.0.attn.hook_z is .*d/train, example 3, response 1, .*'plain'"):
        capture(lm, [Split("d", "train", tuple(examples))], PLAIN, store)


def test_float16_that_overflows_is_refused_and_bfloat16_is_not(folder_of: FolderOf, tmp_path: Path) -> None:
    lm, store = load_model(str(folder_of("llama")), device="cpu"), Store(tmp_path)
    lm.blocks[0].mlp.down_proj.weight *= 1e6
    with pytest.raises(NonFinite, match="float16"):
        capture(lm, [made_up(4)], PLAIN, store, storage_dtype="float16")
    capture(lm, [made_up(4)], PLAIN, store, storage_dtype="bfloat16")


def test_shards_hold_whole_examples(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 6)
    found = blocks(split)
    sizes = [sum(len(split.examples[number].responses) for number in block) for block in found]
    assert [number for block in found for number in block] == list(range(12))
    assert max(sizes) <= 6 and len(found) > 4
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 1)
    assert len(blocks(split)) == 12


@pytest.mark.parametrize("name", ["plain", "org/name", ".hidden", "..", "100%", "ünï", "a b.c", "%2F"])
def test_any_name_is_a_file_name_and_back(name: str, tmp_path: Path) -> None:
    assert unquote(file_name(name)) == name
    write_atomically(tmp_path / file_name(name) / "file", b"x")
    assert [place.name for place in tmp_path.iterdir()] == [file_name(name)]


def test_a_split_without_examples_is_refused(llama: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="d/train has no examples"):
        capture(llama, [Split("d", "train", ())], PLAIN, Store(tmp_path))
