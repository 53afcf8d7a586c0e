"""What a method is shown: a source with its labels and nothing else, a target without any."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from judged import judged
from small_world import flip, split_of, world

from repeng.distributions.schema import ResponseLabels, Split
from repeng.methods.answers import by_layer
from repeng.methods.base import LayerScores, PairProbabilities, ResponseScores, Source, Target
from repeng.methods.few_shot import FewShot
from repeng.study.study import StudyOutcome


def target_of(split: Split) -> Target:
    return Target.of(split, lambda: pytest.fail("nothing is read"))


def test_a_target_is_the_same_whatever_its_labels_are() -> None:
    split = split_of("hard", "test")
    flipped = replace(split, examples=tuple(map(flip, split.examples)))
    one, other = target_of(split), target_of(flipped)
    assert one.questions == other.questions
    np.testing.assert_array_equal(one.pairs, other.pairs)
    np.testing.assert_array_equal(one.rivals, other.rivals)
    assert not one.as_texts and not other.as_texts
    shown = {field.name for field in fields(Target)}
    assert shown == {"distribution", "key", "units", "rivals", "as_texts", "questions", "opened"}
    assert not any(hasattr(question, "best") for question in one.questions)


def test_a_targets_pairs_are_every_two_responses_of_one_question() -> None:
    split = split_of("hard", "test", 6)
    expected = [
        (int(offset) + first, int(offset) + second)
        for example, offset in zip(split.examples, split.offsets, strict=True)
        for first in range(len(example.responses))
        for second in range(first + 1, len(example.responses))
    ]
    assert [tuple(pair) for pair in target_of(split).pairs.tolist()] == expected


def test_a_source_holds_one_train_split_alone(finished: StudyOutcome) -> None:
    split = world()["easy"].train
    source = finished.plan.runner.source(split)
    assert {field.name for field in fields(Source)} == {"split", "opened"}
    assert source.split is split
    assert source.activations.name == "easy/train"


def test_answers_by_pairs_are_turned_to_the_best_response() -> None:
    split = split_of("hard", "test", 9)
    scores = np.random.default_rng(0).normal(size=split.n_responses)
    pairs = target_of(split).pairs
    by_pairs = 1 / (1 + np.exp(-(scores[pairs[:, 0]] - scores[pairs[:, 1]])))
    one, other = judged(ResponseScores(scores), split), judged(PairProbabilities(by_pairs, scores), split)
    np.testing.assert_allclose(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_layers_accuracy_is_the_share_of_best_responses_that_it_prefers() -> None:
    split = split_of("hard", "test", 9)
    scores = np.random.default_rng(0).normal(size=(2, split.n_responses))
    target = target_of(split)
    by_pair = scores[:, target.pairs[:, 0]] - scores[:, target.pairs[:, 1]]
    chosen = np.array([[False, True]])
    found = LayerScores(((0, None), (1, 3)), by_pair[None], np.array([[0.5, 0.75]]), chosen)
    alone = by_layer(found, target, ResponseLabels.of(split))
    figures = alone.figures
    assert alone.tied is None and [figure.chosen_share for figure in figures] == [0, 1]
    for row, figure in zip(scores, figures, strict=True):
        assert figure.accuracy == pytest.approx(np.mean([row[pair.best] > row[pair.worse] for pair in split.pairs]))
    assert [(figure.layer, figure.head, figure.held_out_accuracy) for figure in figures] == [
        (0, None, 0.5),
        (1, 3, 0.75),
    ]


def test_layers_that_the_source_cannot_tell_apart_are_named_with_their_range() -> None:
    split = split_of("hard", "test", 9)
    target, best = target_of(split), ResponseLabels.of(split)
    right = np.random.default_rng(0).normal(size=split.n_responses)
    right[best.labels == 1] += 9
    gaps = right[target.pairs[:, 0]] - right[target.pairs[:, 1]]
    held_out = np.array([[0.8, 0.8, 0.7], [0.6, 0.9, 0.9]])
    chosen = held_out.argmax(axis=1)[:, None] == np.arange(3)
    scores = np.stack([[gaps, -gaps, gaps], [gaps, gaps, -gaps]])
    alone = by_layer(LayerScores(((0, None), (1, None), (2, None)), scores, held_out, chosen), target, best)
    assert alone.tied == (0.0, 1.0)
    assert [figure.accuracy for figure in alone.figures] == [1.0, 0.5, 0.5]
    assert [figure.tied_share for figure in alone.figures] == [0.5, 1.0, 0.5]
    assert [figure.chosen_share for figure in alone.figures] == [0.5, 0.5, 0.0]


def test_few_shots_examples_depend_on_the_source_alone(model: str) -> None:
    source = world()["easy"].train
    method = FewShot("few-shot", model, max_length=256)
    room = method.stimulus(source)
    assert room == FewShot("few-shot", model, max_length=256).stimulus(split_of("easy", "train"))
    assert method.requires(source)[0].stimulus.preamble.count("### Instruction") >= 1
