"""A small made-up study of labelled texts, alone or next to pairs: rows, evaluation files and distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_up_study import make_distribution

from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.metrics import Evaluation, TextEvaluation
from repeng.results import ResultRow, evaluation_path, row_from, with_verdicts, write_evaluation, write_results

SHIFTS = (("cities", "cities"), ("cities", "sums"))
FITS = 3


def statements(name: str, *, count: int = 60, of_group: int = 2) -> Distribution:
    """`count` statements, every second one true, so many of one group; test and train have the same texts."""
    examples = tuple(
        Example("", (f"{name} statement {number}.",), () if number % 2 else (0,), group=f"{name} {number // of_group}")
        for number in range(count)
    )
    return Distribution(name, {split: Split(name, split, examples) for split in ("train", "test")})


def text_evaluation(
    split: Split, *, strength: float = 1.5, seed: int = 0, keep: Sequence[int] | None = None, calibrated: bool = True
) -> TextEvaluation:
    """Scores that lean towards the label by `strength` standard deviations, of so many fits; of some rows alone."""
    rng = np.random.default_rng(seed)
    scores = strength * split.labels + rng.normal(size=(FITS, split.n_responses))
    rows = np.arange(split.n_responses) if keep is None else np.array(keep)
    groups = split.groups[split.response_example]
    positive = 1 / (1 + np.exp(strength / 2 - scores[:, rows]))
    best = np.array([pair.best for pair in split.pairs if {pair.best, pair.worse} <= set(rows.tolist())])
    worse = np.array([pair.worse for pair in split.pairs if {pair.best, pair.worse} <= set(rows.tolist())])
    pairs = Evaluation.of_fits(
        1 / (1 + np.exp(scores[:, worse] - scores[:, best])), example=split.units[best], group=groups[best]
    )
    return TextEvaluation.of_scores(
        scores[:, rows],
        split.labels[rows] == 1,
        positive if calibrated else None,
        example=split.units[rows],
        group=groups[rows],
        rows=rows,
        thresholds=np.tile([strength + 1.0, strength], (FITS, 1)) if calibrated else None,
        pairs=pairs,
        shuffled=np.clip(0.5 + 0.03 * rng.normal(size=20), 0, 1),
    )


def write_text_study(
    folder: Path, strengths: dict[str, float], *, pairs: bool = False
) -> tuple[list[ResultRow], dict[str, Distribution]]:
    """A results folder of SHIFTS, as `repeng run` leaves it; with `pairs` also from `cities` to pairs named `asked`."""
    distributions = {name: statements(name) for name in ("cities", "sums")}
    if pairs:
        distributions["asked"] = make_distribution("asked")
    made: dict[tuple[str, str, str], Evaluation] = {}
    for place, (method, strength) in enumerate(strengths.items()):
        for source, target in SHIFTS:
            split = distributions[target].test
            made[method, source, target] = text_evaluation(split, strength=strength, seed=place)
        if pairs:
            split = distributions["asked"].test
            p = np.clip(np.random.default_rng(place).normal(0.5 + strength / 10, 0.2, len(split.pairs)), 0.001, 0.999)
            example = np.array([pair.example for pair in split.pairs])
            made[method, "cities", "asked"] = Evaluation(p, example=example, group=example)
    rows = []
    for (method, source, target), evaluation in made.items():
        names = {"model": "tiny", "method": method, "source": source, "target": target}
        provenance = names | {"target_data_hash": distributions[target].test.data_hash}
        path = evaluation_path(folder / "predictions", method, "tiny", source, target)
        write_evaluation(path, evaluation, provenance)
        at_home = made[method, source, source]
        shift = Shift(source, target)
        rows.append(
            row_from(
                evaluation, model="tiny", method=method, layers="1", shift=shift, source_id=at_home, capability=0.9
            )
        )
    rows = with_verdicts(rows)
    write_results(rows, folder / "results.csv")
    (folder / "study.toml").write_text('model = "tiny"\n', encoding="utf-8")
    return rows, distributions
