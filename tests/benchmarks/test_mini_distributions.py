"""The miniature's distributions and shifts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from repeng.benchmarks.mini import MINI_DISTRIBUTIONS, mini_benchmark, mini_distributions
from repeng.benchmarks.mini.generate import SIZES
from repeng.distributions.load import load_distributions, write_genies
from repeng.distributions.schema import Split
from repeng.errors import UnknownName

CUED = {"long_right", "bold_right"}
"""Sources in which a surface cue is the point."""


def test_each_of_the_eight_categories_has_two_shifts_or_more() -> None:
    shifts = mini_benchmark().shifts
    assert len(shifts) >= 16
    counts = Counter(shift.category for shift in shifts)
    assert len(counts) == 8
    assert min(counts.values()) >= 2
    probing = {shift.category for shift in shifts if shift.label == "probing"}
    assert probing == {"spurious_cues", "unwanted_personas"}
    assert {shift.label for shift in shifts} == {"extreme", "probing"}


def test_every_distribution_of_a_shift_is_there_and_has_its_size() -> None:
    made = mini_distributions(names=mini_benchmark().distributions)
    for name, distribution in made.items():
        assert distribution.name == name
        assert {part: len(split.examples) for part, split in distribution.splits.items()} == SIZES
        assert {len(e.responses) for split in distribution.splits.values() for e in split.examples} <= {2, 3, 4}


def test_a_target_with_a_spurious_cue_has_a_reference_without_it() -> None:
    for shift in mini_benchmark().shifts:
        assert (shift.target_reference != shift.target) == (shift.label == "probing")


def test_equal_seeds_make_equal_distributions_and_others_do_not() -> None:
    from repeng.benchmarks.mini.generate import make_distribution
    from repeng.benchmarks.mini.recipes import RECIPES

    one, again, other = (make_distribution(RECIPES[0], seed).train.data_hash for seed in (1, 1, 2))
    assert one == again != other


def test_limit_and_names_choose_and_an_unknown_name_is_refused() -> None:
    made = mini_distributions(names=("words", "facts"), limit=7)
    assert list(made) == ["words", "facts"]
    assert len(made["words"].train.examples) == 7
    with pytest.raises(UnknownName, match="geografy"):
        mini_distributions(names=["geografy"])


def test_the_miniature_survives_being_written_as_genies_folders(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = mini_distributions(names=("flattery", "geography_spanish"))
    for distribution in made.values():
        write_genies(distribution, tmp_path)
    read = load_distributions(tmp_path)
    for name, distribution in made.items():
        assert read[name].train.data_hash == distribution.train.data_hash
        assert read[name].test.data_hash == distribution.test.data_hash


def _responses(split: Split) -> tuple[list[str], np.ndarray]:
    return [text for example in split.examples for text in example.responses], split.labels


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_words_and_length_of_a_response_tell_nothing_in_distribution(seed: int) -> None:
    """Pair accuracy of TF-IDF and of length near one half on every source, but for the two whose cue is the point."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    sources = [name for name in mini_benchmark().sources]
    for name, distribution in mini_distributions(seed, sources).items():
        train, labels = _responses(distribution.train)
        test, _ = _responses(distribution.test)
        vectors = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2))
        model = LogisticRegression().fit(vectors.fit_transform(train), labels)
        pairs = distribution.test.pairs
        for scores in (model.decision_function(vectors.transform(test)), np.array([float(len(t)) for t in test])):
            gaps = np.array([scores[pair.best] - scores[pair.worse] for pair in pairs])
            accuracy = ((gaps > 0) + 0.5 * (gaps == 0)).mean()
            if name in CUED:
                assert accuracy > 0.6
            else:
                # 150 prompts: three standard errors are 12 points.
                assert abs(accuracy - 0.5) < 0.12, (name, accuracy)


def test_an_answer_is_wrong_about_as_often_as_it_is_right() -> None:
    for name in ("geography", "facts", "science", "words"):
        split = mini_distributions(names=[name])[name].test
        right = Counter(e.responses[e.best] for e in split.examples)
        wrong = Counter(t for e in split.examples for i, t in enumerate(e.responses) if i != e.best)
        short = [text for text in right if text in wrong and right[text] + wrong[text] >= 12]
        for text in short:
            assert 0.1 < right[text] / (right[text] + wrong[text]) < 0.75, (name, text)


def test_the_names_are_sorted_and_are_those_that_a_study_may_ask_for() -> None:
    assert tuple(sorted(MINI_DISTRIBUTIONS)) == MINI_DISTRIBUTIONS
    assert set(mini_benchmark().distributions) <= set(MINI_DISTRIBUTIONS)
