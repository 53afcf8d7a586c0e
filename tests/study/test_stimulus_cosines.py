"""Which methods are one probe under two stimuli, and the cosines of their directions: against plain loops."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from repeng.metrics import cosine_null_ends, cosine_p
from repeng.probes.directions import Directions, fit_directions
from repeng.probes.fitting import ProbeSpec
from repeng.probes.mms import MMS
from repeng.probes.source import SourceData
from repeng.study.stimulus_cosines import (
    StimulusPair,
    compare_directions,
    stimulus_pairs,
    truthfulness_of,
)

TRUTH = "mms(stimulus='truthfulness')"


def names(pairs: list[StimulusPair]) -> list[tuple[str, str, str]]:
    return [(pair.title, pair.one.name, pair.other.name) for pair in pairs]


def test_a_probe_is_paired_with_itself_under_another_stimulus_its_own_first() -> None:
    found = stimulus_pairs([TRUTH, "lat", "mms", "lda"])
    assert names(found) == [("mms", "mms", TRUTH)]
    assert found[0].stimuli == ("plain", "truthfulness")


def test_verdicts_are_named_by_their_question() -> None:
    contrast = "cra(stimulus='truthfulness_yes+truthfulness_no')"
    assert stimulus_pairs(["cra", contrast])[0].stimuli == ("contrast", "truthfulness")


def test_three_stimuli_are_three_pairs_and_the_same_stimulus_twice_is_none() -> None:
    other = "mms(stimulus='did_you_lie')"
    assert names(stimulus_pairs(["mms", TRUTH, other])) == [
        ("mms", "mms", TRUTH),
        ("mms", "mms", other),
        ("mms", TRUTH, other),
    ]
    assert stimulus_pairs(["mms", "mms(stimulus='plain')"]) == []


def test_probes_of_other_parameters_are_no_pair() -> None:
    assert stimulus_pairs(["logistic(C=0.1)", "logistic(stimulus='truthfulness')"]) == []
    same = ["logistic(C=0.1)", "logistic(C=0.1, stimulus='truthfulness')"]
    assert [pair.title for pair in stimulus_pairs(same)] == ["logistic(C=0.1)"]


def test_another_site_is_a_pair_only_without_a_partner_that_reads_the_same_and_then_has_no_angle() -> None:
    there = "mms(site='hook_z', stimulus='truthfulness')"
    (lone,) = stimulus_pairs(["mms", there])
    assert lone.two_spaces == "resid_post and hook_z are two spaces, between which there is no angle"
    both = stimulus_pairs(["mms", TRUTH, "mms(site='hook_z')", there])
    assert names(both) == [("mms", "mms", TRUTH), ("mms(site='hook_z')", "mms(site='hook_z')", there)]
    assert [pair.two_spaces for pair in both] == ["", ""]


def test_what_has_no_partner_is_not_looked_up() -> None:
    assert stimulus_pairs(["gone.py:Mine", "mms"]) == []
    assert truthfulness_of(["gone.py:Mine", "mms"]) == [TRUTH]


def test_lone_probes_are_named_under_the_truthfulness_stimuli() -> None:
    found = truthfulness_of(["lda", "lda(stimulus='truthfulness')", "ccs(restarts=3)", "mms-genies", "random", "mms"])
    assert found == ["ccs(restarts=3, stimulus='truthfulness_yes+truthfulness_no')", TRUTH]


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def made_up(seed: int, chosen: list[list[tuple[int, int]]], *, heads: int = 2) -> Directions:
    """Three fits at layers 3, 4 and 5, and ten draws of each control."""
    rng = np.random.default_rng(seed)
    marked = np.zeros((3, 3, heads), dtype=bool)
    for fit, units in enumerate(chosen):
        for layer, head in units:
            marked[fit, layer, head] = True
    shape = (3, heads, 6)
    drawn = (unit(rng, 10, *shape) for _ in range(3))
    of_fit = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    shuffled, random, spread = drawn
    return Directions((3, 4, 5), unit(rng, 3, *shape), marked, shuffled, of_fit, random, spread)


PAIR = stimulus_pairs(["mms", TRUTH])[0]


def test_cosines_are_those_of_a_plain_loop() -> None:
    one = made_up(0, [[(0, 0), (1, 1)], [(1, 0)], [(2, 1)]])
    other = made_up(1, [[(0, 0), (1, 1), (2, 0)], [(1, 0), (2, 0)], [(0, 1)]])
    found = compare_directions(PAIR, "facts", one, other)
    # The last fit has nothing in common and is left out, with its shuffled labels.
    shared = {0: [(0, 0), (1, 1)], 1: [(1, 0)]}
    cosines = [
        float(np.mean([one.fits[fit, layer, head] @ other.fits[fit, layer, head] for layer, head in units]))
        for fit, units in shared.items()
    ]
    shuffled = np.array(
        [
            np.mean(
                [one.shuffled[draw, layer, head] @ other.shuffled[draw, layer, head] for layer, head in shared[fit]]
            )
            for draw, fit in enumerate(one.fit_of_shuffled.tolist())
            if fit in shared
        ]
    )
    spread = np.array(
        [
            np.mean(
                [
                    np.mean([one.spread[draw, layer, head] @ other.spread[draw, layer, head] for layer, head in units])
                    for units in shared.values()
                ]
            )
            for draw in range(10)
        ]
    )
    chosen = found.chosen
    assert chosen is not None and found.chosen_layers == (3, 4)
    assert chosen.cosine == pytest.approx(np.mean(cosines))
    assert chosen.over_fits == pytest.approx(np.std(cosines, ddof=1))
    assert chosen.shuffled == pytest.approx(shuffled.mean())
    assert chosen.shuffled_ends == pytest.approx(cosine_null_ends(shuffled))
    assert chosen.p == pytest.approx(cosine_p(float(np.mean(cosines)), shuffled))
    assert chosen.spread == pytest.approx(spread.mean())
    assert chosen.p_spread == pytest.approx(cosine_p(float(np.mean(cosines)), spread))
    assert chosen.random_expected == pytest.approx(6**-0.5)
    assert not chosen.sign_alone


def test_a_layer_is_the_mean_over_its_heads_and_all_fits() -> None:
    one, other = made_up(2, [[(0, 0)]] * 3), made_up(3, [[(0, 0)]] * 3)
    layers = dict(compare_directions(PAIR, "facts", one, other).layers)
    assert list(layers) == [3, 4, 5]
    by_fit = [np.mean([one.fits[fit, 1, head] @ other.fits[fit, 1, head] for head in (0, 1)]) for fit in range(3)]
    assert layers[4].cosine == pytest.approx(np.mean(by_fit))
    between = [
        np.mean([one.fits[j, 1, head] @ one.fits[k, 1, head] for j, k in ((0, 1), (0, 2), (1, 2))]) for head in (0, 1)
    ]
    assert layers[4].between_fits[0] == pytest.approx(np.mean(between))


def test_no_layer_in_common_leaves_the_figure_blank_and_says_why() -> None:
    found = compare_directions(PAIR, "facts", made_up(0, [[(0, 0)]] * 3), made_up(1, [[(1, 0)]] * 3))
    assert found.chosen is None and found.missing == "the two choose no layer in common"
    assert len(found.layers) == 3


def test_with_more_fits_than_draws_a_fit_that_alone_has_layers_in_common_still_has_a_p_value() -> None:
    """As `repeng run --fits 25` with 20 nulls leaves it, of which the last fit alone chooses what the other does."""
    pairs = np.repeat(np.arange(60), 2)
    both = []
    for seed in (0, 1):
        activations = torch.randn(2, 1, 120, 8, generator=torch.Generator().manual_seed(seed))
        source = SourceData(activations, np.tile([1.0, 0.0], 60), pairs, pairs, (0, 1))
        found = fit_directions(ProbeSpec(MMS()), source, fits=25, draws=20)
        assert found is not None
        both.append(replace(found, chosen=np.zeros_like(found.chosen)))
    both[0].chosen[:, 0], both[1].chosen[:24, 1], both[1].chosen[24, 0] = True, True, True
    figure = compare_directions(PAIR, "facts", *both).chosen
    assert figure is not None and 0 <= figure.p <= 1
    own = [float(a[0, 0] @ b[0, 0]) for a, b in zip(both[0].shuffled[-2:], both[1].shuffled[-2:], strict=True)]
    assert figure.shuffled == pytest.approx(np.mean(own))
    json.dumps(asdict(figure), allow_nan=False)
