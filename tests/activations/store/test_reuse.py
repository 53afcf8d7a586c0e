"""What other versions of a split's data hold is taken over, and no other row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import made_up
from safetensors.torch import load_file, save_file

from repeng.activations.capture import Request, capture
from repeng.activations.store import files as parts
from repeng.activations.store.store import Store, StoredCapture
from repeng.distributions.schema import Example, Message, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel

REQUEST = Request(
    (get_stimulus("plain"), get_stimulus("contrast_yes")), ("resid_post", "hook_z"), ("last", "response_mean")
)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


def never() -> LanguageModel:
    raise AssertionError("the model was loaded")


def same(one: StoredCapture, other: StoredCapture, split: Split) -> None:
    """Everything that two captures hold of a split is the same to rounding."""
    ours, theirs = one.contents()[parts.split_key(split)], other.contents()[parts.split_key(split)]
    assert [held.key for held in ours] == [held.key for held in theirs]
    for mine, twin in zip(ours, theirs, strict=True):
        assert (mine.kept == twin.kept).all()
        assert mine.index.responses == twin.index.responses
        names = load_file(mine.folder / "shard-00000.safetensors")
        for name in names:
            layer = None if mine.key.site == "logprob" else int(name.split(".")[1])
            assert mine.tensor(name, layer).allclose(twin.tensor(name, layer), atol=1e-5)


def test_fewer_examples_after_all_need_no_model(llama: LanguageModel, tmp_path: Path) -> None:
    whole, store, alone = made_up(12), Store(tmp_path / "a"), Store(tmp_path / "b")
    few = whole.first(5)
    capture(llama, [whole], REQUEST, store, storage_dtype="float32")
    done = capture(never, [few], REQUEST, store, storage_dtype="float32", identity=llama.identity)
    assert (done.n_texts, done.parts_written, done.parts_reused, done.method) == (0, 10, 0, "none")
    capture(llama, [few], REQUEST, alone, storage_dtype="float32")
    same(store.capture(done.capture_id), alone.capture(done.capture_id), few)
    held = store.capture(done.capture_id).open(few, "plain", "resid_post")
    assert held.index.taken_over == {whole.data_hash: few.n_responses}
    assert store.verify() == []
    again = capture(never, [few], REQUEST, store, storage_dtype="float32", identity=llama.identity)
    assert again.parts_reused == 10


def test_all_examples_after_a_few_ask_the_model_for_the_others_alone(llama: LanguageModel, tmp_path: Path) -> None:
    whole, store, alone = made_up(12), Store(tmp_path / "a"), Store(tmp_path / "b")
    few = whole.first(5)
    capture(llama, [few], REQUEST, store, storage_dtype="float32")
    done = capture(llama, [whole], REQUEST, store, storage_dtype="float32")
    fresh = capture(llama, [whole], REQUEST, alone, storage_dtype="float32")
    assert done.n_texts == fresh.n_texts - 2 * few.n_responses
    same(store.capture(done.capture_id), alone.capture(done.capture_id), whole)
    assert store.verify() == []


def test_other_labels_are_other_data_with_the_same_rows(llama: LanguageModel, tmp_path: Path) -> None:
    split, store = made_up(6), Store(tmp_path)
    turned = Split(
        split.distribution,
        split.name,
        tuple(replace(example, best=(example.best + 1) % len(example.responses)) for example in split.examples),
    )
    capture(llama, [split], REQUEST, store)
    done = capture(never, [turned], REQUEST, store, identity=llama.identity)
    stored = store.capture(done.capture_id)
    assert (stored.open(split, "plain", "resid_post").read() == stored.open(turned, "plain", "resid_post").read()).all()
    labels = [stored.labels("made_up", data_hash=each.data_hash).labels for each in (split, turned)]
    assert (labels[0] == split.labels).all() and (labels[1] == turned.labels).all() and (labels[0] != labels[1]).any()


def test_texts_in_another_order_with_skipped_and_empty_ones(llama: LanguageModel, tmp_path: Path) -> None:
    examples = [Example("Q:", (" yes", ""), 0), Example("Q:", (" yes", " no" * 40), 0), *made_up(3).examples]
    first, other = Split("d", "train", tuple(examples)), Split("d", "train", tuple(reversed(examples)))
    store, alone = Store(tmp_path / "a"), Store(tmp_path / "b")
    options = {"max_length": 30, "storage_dtype": "float32"}
    capture(llama, [first], REQUEST, store, **options)
    done = capture(never, [other], REQUEST, store, identity=llama.identity, **options)
    capture(llama, [other], REQUEST, alone, **options)
    assert done.n_texts == 0 and done.skipped > 0
    same(store.capture(done.capture_id), alone.capture(done.capture_id), other)


def test_a_damaged_version_gives_nothing(llama: LanguageModel, tmp_path: Path) -> None:
    whole, store, alone = made_up(12), Store(tmp_path / "a"), Store(tmp_path / "b")
    capture(llama, [whole], REQUEST, store, storage_dtype="float32")
    for shard in store.root.glob("*/*/*/*/shard-00000.safetensors"):
        save_file({name: rows.flip(0).contiguous() for name, rows in load_file(shard).items()}, shard)
    few = whole.first(5)
    done = capture(llama, [few], REQUEST, store, storage_dtype="float32")
    assert done.n_texts == 2 * few.n_responses
    capture(llama, [few], REQUEST, alone, storage_dtype="float32")
    same(store.capture(done.capture_id), alone.capture(done.capture_id), few)


def test_chats_are_taken_over_with_the_tokenizer_at_hand(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    monkeypatch.setattr(llama.tokenizer, "chat_template", template)
    examples = [Example((Message("user", f"Say {word}"),), (" yes", " no"), 0) for word in ("a", "b", "c")]
    whole, store = Split("d", "train", tuple(examples)), Store(tmp_path)
    capture(llama, [whole], REQUEST, store)
    done = capture(llama, [whole.first(2)], REQUEST, store)
    assert done.n_texts == 0 and done.parts_written == 10
