"""What a notebook asks of a captured model: activations and labels by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import made_up

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store, StoredCapture
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, StoreError, UnknownName
from repeng.models.load import LanguageModel

REQUEST = Request((get_stimulus("plain"),), ("resid_post", "hook_z"), ("last", "response_mean"))


@pytest.fixture
def stored(llama: LanguageModel, split: Split, tmp_path: Path) -> StoredCapture:
    store = Store(tmp_path)
    return store.capture(capture(llama, [split], REQUEST, store).capture_id)


def test_activations_are_float32_numpy_in_file_order(stored: StoredCapture, split: Split) -> None:
    every = stored.activations("made_up", "train")
    assert isinstance(every, np.ndarray) and every.dtype == np.float32
    assert every.shape == (3, split.n_responses, stored.d_model)
    one = stored.activations("made_up", "train", layer=1)
    assert np.array_equal(one, every[1])
    assert np.array_equal(stored.activations("made_up", "train", layer=[2, 1]), every[[2, 1]])
    assert np.array_equal(one, stored.open(split, "plain", "resid_post").layer(1).float().numpy())
    heads = stored.activations("made_up", "train", layer=0, site="hook_z", token="response_mean")
    assert heads.shape == (split.n_responses, 4, 8)
    one[0] = 0.0  # What comes out is the caller's own.
    assert np.array_equal(stored.activations("made_up", "train", layer=1), every[1])


def test_labels_examples_and_groups_come_without_the_data(stored: StoredCapture, split: Split) -> None:
    known = stored.labels("made_up", "train")
    assert np.array_equal(known.labels, split.labels)
    assert np.array_equal(known.units, split.response_example)
    assert np.array_equal(known.groups, split.groups[split.response_example])
    assert len(known.labels) == len(stored.activations("made_up", "train", layer=0))


def test_a_response_without_a_value_is_nan(llama: LanguageModel, tmp_path: Path) -> None:
    examples = (Example("Q:", (" yes", ""), 0), Example("Q:", (" yes", " no" * 40), 0))
    store = Store(tmp_path)
    summary = capture(llama, [Split("d", "train", examples)], REQUEST, store, max_length=20)
    stored = store.capture(summary.capture_id)
    mean = stored.activations("d", "train", layer=0, token="response_mean")
    assert np.isnan(mean).all(axis=1).tolist() == [False, True, False, True]
    assert np.isnan(stored.activations("d", "train")).all(axis=(0, 2)).tolist() == [False, False, False, True]


def test_of_several_versions_of_the_data_none_is_chosen(
    llama: LanguageModel, stored: StoredCapture, split: Split, tmp_path: Path
) -> None:
    few = split.first(5)
    capture(llama, [few], REQUEST, Store(tmp_path))
    with pytest.raises(BadInput, match="2 versions of made_up/train") as error:
        stored.activations("made_up", "train")
    for one in (split, few):
        assert f"{one.data_hash} ({one.n_responses} responses, memory, 20" in str(error.value)
        assert len(stored.labels("made_up", "train", data_hash=one.data_hash).labels) == one.n_responses
        found = stored.activations("made_up", "train", layer=0, data_hash=one.data_hash)
        assert found.shape == (one.n_responses, 32)
    with pytest.raises(UnknownName, match=f"version of made_up/train '0123'; choose from .*{few.data_hash}"):
        stored.labels("made_up", "train", data_hash="0123")


def test_what_is_not_there_is_refused_by_name(stored: StoredCapture) -> None:
    with pytest.raises(UnknownName, match="'nowhere'; choose from made_up"):
        stored.activations("nowhere", "train")
    with pytest.raises(UnknownName, match="'made_up/test'; did you mean made_up/train"):
        stored.activations("made_up", "test")
    with pytest.raises(StoreError, match="repeng cache .*--tokens prompt_last"):
        stored.activations("made_up", "train", token="prompt_last")
    with pytest.raises(StoreError, match="no layer 7 here, only 0, 1, 2"):
        stored.activations("made_up", "train", layer=7)


def test_a_store_says_what_it_holds(llama: LanguageModel, stored: StoredCapture, tmp_path: Path) -> None:
    (only,) = Store(str(tmp_path)).captures()
    assert (only.id, only.model, only.n_layers, only.dtype) == (stored.id, llama.name, 3, "float32")
    assert stored.id in repr(only) and "3 layers" in repr(only)
    assert Store("~/store").root == Path.home() / "store"


def test_a_split_that_was_begun_alone_is_not_listed(stored: StoredCapture) -> None:
    (stored.folder / "other" / "train.0123456789ab" / "plain.resid_post.last").mkdir(parents=True)
    assert {key.distribution for key in stored.splits()} == {"made_up"}
    assert {key.distribution for key in stored.begun()} == {"made_up", "other"}


def test_the_same_texts_under_another_name_are_another_split(llama: LanguageModel, tmp_path: Path) -> None:
    store = Store(tmp_path)
    splits = [made_up(3, "a b"), made_up(3, "a/b")]
    stored = store.capture(capture(llama, splits, REQUEST, store).capture_id)
    assert [key.distribution for key in stored.splits()] == ["a b", "a/b"]
    assert np.array_equal(stored.activations("a b", "train"), stored.activations("a/b", "train"))
