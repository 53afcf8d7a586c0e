"""Source augmentation."""

from __future__ import annotations

import pytest

from repeng.distributions.schema import Example, Split
from repeng.errors import BadInput
from repeng.study.augment import augment


def split(name: str, n: int, split_name: str = "train") -> Split:
    return Split(name, split_name, tuple(Example(f"{name} {i}", ("a", "b"), i % 2) for i in range(n)))


def test_the_share_is_of_the_targets_examples_and_the_source_keeps_its_order() -> None:
    source, target = split("easy", 50), split("hard", 200)
    mixed = augment(source, target, 0.1)
    taken = [example for example in mixed.examples if example not in source.examples]
    assert [example for example in mixed.examples if example in source.examples] == list(source.examples)
    assert len(taken) == len(set(taken)) == 20
    assert set(taken) <= set(target.examples)


def test_the_mixed_examples_are_not_all_at_one_end() -> None:
    mixed = augment(split("easy", 100), split("hard", 100), 0.2)
    places = [place for place, example in enumerate(mixed.examples) if str(example.prompt).startswith("hard")]
    assert min(places) < 40
    assert max(places) > 80


def test_the_same_seed_mixes_the_same_and_another_seed_others() -> None:
    source, target = split("easy", 50), split("hard", 200)
    assert augment(source, target, 0.1, seed=3) == augment(source, target, 0.1, seed=3)
    assert augment(source, target, 0.1, seed=3) != augment(source, target, 0.1, seed=4)


def test_a_mixed_source_has_a_name_and_a_hash_of_its_own() -> None:
    mixed = augment(split("easy", 50), split("hard", 200), 0.01)
    assert mixed.distribution == "easy+1pct-of-hard"
    assert mixed.data_hash != split("easy", 50).data_hash
    assert augment(split("easy", 50), split("hard", 10), 0.001).distribution == "easy+0.1pct-of-hard"


def test_a_share_of_few_examples_mixes_in_at_least_one() -> None:
    assert len(augment(split("easy", 5), split("hard", 10), 0.01).examples) == 6


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="above 0 and up to 1"):
        augment(split("easy", 5), split("hard", 10), share)


def test_the_targets_test_split_is_refused() -> None:
    with pytest.raises(BadInput, match="is for testing"):
        augment(split("easy", 5), split("hard", 10, "test"), 0.1)
