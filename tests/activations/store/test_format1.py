"""A store that an earlier version wrote: files of format 1, with no checksums, no journal and no split.json.

`format1/` was written by version 0.1.0 before its release, on the first six examples of `facts` of the embedded
benchmark; a capture of `lat2`
in it was stopped before its index.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.benchmarks.mini import mini_distributions
from repeng.distributions.schema import Distribution
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.models.fingerprint import identify
from repeng.models.load import LanguageModel, load_model
from repeng.study.cached_data import open_store
from repeng.study.steps import evaluate, fit

PLAIN = Request((get_stimulus("plain"),))


@pytest.fixture
def old(tmp_path: Path) -> Store:
    shutil.copytree(Path(__file__).parent / "format1", tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def facts() -> Distribution:
    return mini_distributions(names=["facts"], limit=6)["facts"]


def never() -> LanguageModel:
    raise AssertionError("the model was loaded")


def test_it_is_whole_and_is_used_as_it_is(old: Store, facts: Distribution) -> None:
    assert old.verify() == []
    done = capture(never, [facts.train, facts.test], PLAIN, old, identity=identify("mini", device="cpu"))
    assert (done.parts_written, done.parts_reused) == (0, 4)
    stored = old.capture(done.capture_id)
    assert stored.data_of(facts.train).sources[0].siblings == {
        "train": facts.train.data_hash,
        "test": facts.test.data_hash,
    }
    assert old.verify() == []


def test_probes_are_fitted_on_it(old: Store) -> None:
    cached = open_store(old)
    assert cached.data_of(cached.find("facts", "train")) is None
    assert evaluate(fit(cached, "facts", "mms", layers="3"), cached, "facts").n_pairs > 6


def test_a_capture_that_was_stopped_is_begun_anew(old: Store, facts: Distribution, tmp_path: Path) -> None:
    (begun,) = old.root.glob("*/*/train.*/lat2.resid_post.last")
    assert sorted(file.name for file in begun.iterdir()) == ["plan.json", "shard-00000.safetensors"]
    shard = begun / "shard-00000.safetensors"
    shard.write_bytes(bytes(shard.stat().st_size))
    request, lm = Request((get_stimulus("lat2"),), layers=(3,), logprob=False), load_model("mini", device="cpu")
    found = [
        Store(store.root)
        .capture(capture(lm, [facts.train], request, store).capture_id)
        .open(facts.train, "lat2", "resid_post")
        for store in (old, Store(tmp_path / "new"))
    ]
    assert torch.equal(found[0].layer(3), found[1].layer(3))


def test_two_of_its_versions_are_not_chosen_between(old: Store) -> None:
    few = mini_distributions(names=["facts"], limit=4)["facts"]
    # No checksum says that a row is of the text that it names: the model is asked anew.
    assert capture(load_model("mini", device="cpu"), [few.train], PLAIN, old).n_texts > 0
    with pytest.raises(BadInput, match="holds 2 versions of facts/train"):
        fit(open_store(old), "facts", "mms")
