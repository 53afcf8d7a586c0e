from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.mms import MMS
from repeng.probes.source import SourceData
from tools.layer_study import (
    ANY,
    CANDIDATES,
    CHOSEN,
    TIED,
    every_pair,
    rows_of_source,
    rule_table,
    storage_table,
    tie_table,
)

STRENGTHS = (0.4, 0.8, 1.2, 1.2, 0.6, 0.2)


def made_up(seed: int) -> SourceData:
    """Sixty prompts of three responses, of which the best lies further along one axis, more so at some layers."""
    generator = torch.Generator().manual_seed(seed)
    labels = np.tile([0.0, 1.0, 0.0], 60)
    x = torch.randn(len(STRENGTHS), 1, 180, 6, generator=generator)
    x[..., 0] += torch.tensor(STRENGTHS)[:, None, None] * torch.from_numpy(labels).float()
    examples = np.repeat(np.arange(60), 3)
    return SourceData(x, labels, examples, examples, tuple(range(len(STRENGTHS))))


class Made:
    """What rows_of_source asks of a Reader."""

    def __init__(self, data: dict[tuple[str, str], SourceData]) -> None:
        self.data, self.probe = data, MMS()

    def split(self, name: str, split: str) -> SourceData:
        return self.data[name, split]


def rows(source: SourceData, target: SourceData, seeds: int = 2) -> pd.DataFrame:
    reader: Any = Made({("a", "train"): source})
    return pd.DataFrame(rows_of_source(reader, "a", {"a": source, "b": target}, seeds))


def test_each_rules_accuracy_is_that_of_the_probe_which_it_gives() -> None:
    source, target = made_up(0), made_up(1)
    found = rows(source, target).set_index(["target", "seed", "rule"])
    pairs = every_pair(target)
    for seed in (0, 1):
        for rule in (*CHOSEN, "2"):
            fitted = fit_probe(ProbeSpec(MMS(), rule, seed=seed), source)
            own = fitted.pair_probabilities(target.activations[list(fitted.layers)], pairs)
            row = found.loc["b", seed, "layer 2" if rule == "2" else rule]
            assert row["accuracy"] == pytest.approx(np.mean(own > 0.5))
            if rule in CHOSEN:
                assert sorted(map(int, row["layers"].split())) == list(fitted.layers)


def test_tied_layers_are_counted_and_their_accuracies_averaged() -> None:
    source = made_up(0)
    copied = source.activations.clone()
    copied[5] = copied[3] = copied[2]
    found = rows(replace(source, activations=copied), made_up(1), seeds=1).query("target == 'b'").set_index("rule")
    assert found.tied.iloc[0] == 3
    alone = [found.accuracy[f"layer {layer}"] for layer in (2, 3, 5)]
    assert found.accuracy[TIED] == pytest.approx(np.mean(alone))
    assert found.tied_range.iloc[0] == pytest.approx(np.ptp(alone))
    assert found.accuracy[ANY] == pytest.approx(np.mean([found.accuracy[f"layer {layer}"] for layer in range(6)]))


def made_up_rows(accuracies: dict[str, list[float]]) -> pd.DataFrame:
    """Two sources, each with one target, and two seeds: `[source a seed 0, a 1, b 0, b 1]` of each rule."""
    every = [
        ("mms", source, target, seed, rule, str(seed), accuracy, 2, 0.1, 0.9, 0.0)
        for rule, values in accuracies.items()
        for (source, seed), accuracy in zip([("a", 0), ("a", 1), ("b", 0), ("b", 1)], values, strict=True)
        for target in (source, "c")
    ]
    columns = "probe source target seed rule layers accuracy tied tied_range source_accuracy coin_toss_layers"
    return pd.DataFrame(every, columns=columns.split())


def test_gain_and_cost_are_means_over_sources_of_means_over_seeds() -> None:
    same = dict.fromkeys([*CHOSEN, *CANDIDATES, TIED, ANY], [0.5, 0.7, 0.8, 0.8])
    table = rule_table(
        made_up_rows(same | {"average": [0.7, 0.7, 0.9, 0.9], "layer 0": [0.9, 0.9, 0.1, 0.1], "layer 1": [0.8] * 4})
    ).set_index("rule")
    assert table.loc["top-k:1", "accuracy on shifts"] == "70.0"
    assert table.loc["average", "gain over top-k:1"] == "+10.0 ± 0.0"
    # 0.9 - 0.6 of the first source, 0.8 - 0.8 of the second; t of one degree of freedom.
    assert table.loc["top-k:1", "cost against the best fixed layer"] == f"+15.0 ± {12.706 * 15:.1f}"
    assert table.loc["top-k:1", "sd over seeds"] == f"{100 * np.std([0.5, 0.7], ddof=1) / 2:.1f}"
    assert table.loc["top-k:1", "choices"] == "2.0"


def test_ties_are_counted_by_fit() -> None:
    table = tie_table(made_up_rows({CHOSEN[0]: [0.5] * 4}))
    assert table.loc[0, "fits with a tie, %"] == 100.0 and table.loc[0, "layers tied"] == 2.0
    assert table.loc[0, "range of target accuracy over tied layers"] == 10.0


def test_what_rounding_moves_is_the_difference_of_two_runs() -> None:
    exact = made_up_rows({"average": [0.5, 0.7, 0.8, 0.8], "layer 0": [0.5, 0.5, 0.5, 0.5]})
    rounded = made_up_rows({"average": [0.6, 0.6, 0.8, 0.8], "layer 0": [0.5, 0.5, 0.5, 0.7]})
    table = storage_table(exact, rounded).set_index("what")
    assert table.loc["average", "moved"] == 5.0 and table.loc["average", "worst"] == 10.0
    assert table.loc["average", "signed"] == 0.0
    assert table.loc["each layer alone", "worst_mean_over_seeds"] == 10.0
