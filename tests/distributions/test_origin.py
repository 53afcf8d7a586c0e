"""A split knows where it was read, what was read with it, and the hash of each of its prompts."""

import json

from repeng.benchmarks.mini import mini_distributions
from repeng.distributions.load import load_distributions, write_genies
from repeng.distributions.schema import Distribution, Message
from tests.made_up import made_up


def test_a_split_knows_its_place_and_what_was_read_with_it(tmp_path) -> None:
    write_genies(mini_distributions(names=["facts"])["facts"], tmp_path)
    read = load_distributions(tmp_path)["facts"]
    origin = read.train.origin
    assert origin == read.test.origin
    assert origin.place == str(tmp_path / "facts")
    assert origin.siblings == {"train": read.train.data_hash, "test": read.test.data_hash}


def test_a_limit_is_another_version(tmp_path) -> None:
    write_genies(mini_distributions(names=["facts"])["facts"], tmp_path)
    few = load_distributions(tmp_path, limit=5)["facts"]
    assert few.train.origin.siblings == {"train": few.train.data_hash, "test": few.test.data_hash}
    assert few.train.first(3).origin is None, "what was cut afterwards was never read anywhere"
    assert few.train.first(5) is few.train


def test_the_origin_changes_nothing_else() -> None:
    made = mini_distributions(names=["facts"])["facts"].train
    bare = type(made)(made.distribution, made.name, made.examples)
    assert bare == made
    assert hash(bare) == hash(made)
    assert bare.data_hash == made.data_hash


def test_a_split_that_is_told_where_it_was_read_is_not_hashed_again(monkeypatch) -> None:
    split = made_up(12)
    read = Distribution.read_from("here", "facts", {"train": split}).train
    monkeypatch.setattr(json, "dumps", None)
    assert read.data_hash == split.data_hash
    assert read.origin is not None and split.origin is None


def test_prompts_have_a_hash_a_group() -> None:
    split = made_up(12)
    assert len(split.prompt_hashes) == len(set(split.groups.tolist())) == len(set(split.prompt_hashes))
    by_prompt = {
        example.prompt: split.prompt_hashes[group] for example, group in zip(split.examples, split.groups, strict=True)
    }
    assert len(by_prompt) == len(split.prompt_hashes)
    assert json.dumps(split.prompt_hashes)
    chat = type(split.examples[0])((Message("user", "x"),), ("a", "b"), 0)
    text = type(split.examples[0])('[["user", "x"]]', ("a", "b"), 0)
    assert (
        type(split)("d", "train", (chat, text)).prompt_hashes[0] != type(split)("d", "train", (text,)).prompt_hashes[0]
    )
