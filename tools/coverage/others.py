"""Elicitation, means over shifts, p-values of cells without signal, and the debiased calibration error."""

from __future__ import annotations

import numpy as np

from repeng.metrics import (
    Evaluation,
    cell_p,
    chance_p,
    debiased_calibration_error,
    elicitation_interval,
    mean_accuracy_interval,
    null_p,
    rms_calibration_error,
)
from tools.coverage.draws import Cell, uniforms, wins_of
from tools.coverage.rivals import resampled

RATIOS = ((0.5, 0.9), (0.7, 0.9), (0.9, 0.9), (0.95, 0.99), (0.99, 0.99), (0.05, 0.95))
"""True accuracies of the method and of the capability."""


def evaluation_of(wins: np.ndarray, cell: Cell) -> Evaluation:
    """An evaluation of [fit, pair] verdicts."""
    group = np.repeat(np.arange(cell.prompts), cell.pairs)
    return Evaluation.of_fits(0.1 + 0.8 * wins, example=group, group=group)


def ratio_coverage(
    cell: Cell, capability: float, *, shared: bool, draws: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Intervals of elicitation: the share that holds the truth, blank ones left out, and their mean width."""
    generator = np.random.default_rng([seed, cell.prompts, round(1000 * capability), int(shared)])
    other = Cell(cell.prompts, cell.pairs, cell.alike, capability, fits=cell.fits, fit_sd=cell.fit_sd)
    shape = (draws, 1, cell.prompts, cell.pairs)
    number = uniforms(generator, shape, cell.alike)
    second = np.where(generator.random(shape) < 0.8, number, uniforms(generator, shape, cell.alike))
    if not shared:
        second = uniforms(generator, shape, cell.alike)
    a, c = ((n < p).reshape(draws, 1, -1).astype(float) for n, p in ((number, cell.accuracy), (second, capability)))
    if cell.fits > 1:
        a, c = wins_of(generator, cell, draws), wins_of(generator, other, draws)
    truth, ours, theirs = cell.accuracy / capability, [], []
    of_prompts = resampled(generator, cell.prompts, 500)
    others = of_prompts if shared else resampled(generator, cell.prompts, 500)
    for one, two in zip(a, c, strict=True):
        ends = elicitation_interval(evaluation_of(one, cell), evaluation_of(two, cell), same_target=shared)
        if ends is not None:
            ours.append(ends)
        top, bottom = (w.mean(axis=0).reshape(cell.prompts, -1).mean(axis=1) for w in (one, two))
        ratios = (of_prompts @ top) / np.maximum(others @ bottom, 1e-9)
        theirs.append(np.quantile(ratios, [0.025, 0.975]))
    return {
        name: _share(np.array(found), truth)
        for name, found in (("MOVER of Korn-Graubard", ours), ("joint bootstrap", theirs))
    }


def _share(ends: np.ndarray, truth: float) -> tuple[float, float]:
    holds = (ends[:, 0] <= truth + 1e-12) & (truth - 1e-12 <= ends[:, 1])
    return float(holds.mean()), float((ends[:, 1] - ends[:, 0]).mean())


def mean_coverage(kind: str, *, n_shifts: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Intervals of a mean over shifts of 100 prompts, of fixed shifts and of sampled ones, each against its truth.

    Args:
        kind: how the shifts' true accuracies are drawn: `alike` (a beta of mean .8, sd .05), `spread` (mean .7, sd
            .2), `two kinds` (.05 or .95, as likely).
        n_shifts: how many.
        draws: how many means.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, n_shifts])
    held: dict[str, list[bool]] = {"fixed": [], "sampled": []}
    targets = [str(number) for number in range(n_shifts)]
    for _ in range(draws):
        if kind == "two kinds":
            truths, centre = generator.choice([0.05, 0.95], n_shifts), 0.5
        else:
            centre, sd = (0.8, 0.05) if kind == "alike" else (0.7, 0.2)
            size = centre * (1 - centre) / sd**2 - 1
            truths = generator.beta(centre * size, (1 - centre) * size, n_shifts)
        cells = [Cell(100, 1, 0.0, float(p)) for p in truths]
        evaluations = [evaluation_of(wins_of(generator, cell, 1)[0], cell) for cell in cells]
        fixed = mean_accuracy_interval(evaluations, targets, shifts="fixed")
        sampled = mean_accuracy_interval(evaluations, targets, shifts="sampled")
        for name, found, truth in (("fixed", fixed, float(truths.mean())), ("sampled", sampled, centre)):
            if found.low is not None and found.high is not None:
                held[name].append(found.low <= truth <= found.high)
    return {name: float(np.mean(one)) for name, one in held.items()}


def null_levels(spread: float | str, *, fits: int, nulls: int, draws: int, seed: int = 0) -> dict[str, float]:
    """How often p < 0.05 where labels say nothing: of the interval alone, of the null alone, and of both.

    Args:
        spread: standard deviation of the accuracies of single fits about a half; `two kinds`: .05 or .95, as likely.
        fits: of the method.
        nulls: how many fits on shuffled labels.
        draws: how many cells.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, fits, nulls])

    def accuracies(count: int) -> np.ndarray:
        if spread == "two kinds":
            return generator.choice([0.05, 0.95], count)
        return np.clip(generator.normal(0.5, float(spread), count), 0, 1)

    found: dict[str, list[float]] = {"interval": [], "null": [], "both": []}
    cell = Cell(100, 2, 0.3, 0.5)
    for _ in range(draws):
        # The fits on the method's own labels may all have learned the same nothing: the hardest case.
        rates = np.repeat(accuracies(1), fits)
        number = uniforms(generator, (1, cell.prompts, cell.pairs), cell.alike)
        wins = (number < rates[:, None, None]).reshape(fits, -1).astype(float)
        others = uniforms(generator, (nulls, cell.prompts, cell.pairs), cell.alike)
        shuffled = (others < accuracies(nulls)[:, None, None]).mean(axis=(1, 2))
        base = evaluation_of(wins, cell)
        whole = Evaluation(
            base.probabilities, base.example, base.group, fit_probabilities=base.fit_probabilities, shuffled=shuffled
        )
        for name, p in (("interval", chance_p(whole)), ("null", null_p(whole)), ("both", cell_p(whole))):
            found[name].append(float(p if p is not None else 1.0))
    return {name: float(np.mean(np.array(one) < 0.05)) for name, one in found.items()}


def calibration_coverage(pairs: int, off: float, sure: str, *, draws: int, seed: int = 0) -> dict[str, float]:
    """The calibration error of a method whose confidence is `off` too high: raw, debiased, and its interval.

    Args:
        pairs: how many, one a prompt.
        off: by how much the confidence is above the truth.
        sure: how the confidence is spread: `even` over .5 to 1, `high` (mostly above .9), or `two` values.
        draws: how many evaluations.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, pairs, round(1000 * off)])
    raw, debiased, held, highs = [], [], [], []
    for _ in range(draws):
        if sure == "two":
            confidence = generator.choice([0.99, 0.6], pairs)
        else:
            confidence = 0.5 + 0.5 * (generator.random(pairs) if sure == "even" else generator.beta(5, 1, pairs))
        right = generator.random(pairs) < confidence - off
        p = np.where(right, confidence, 1 - confidence)
        found = debiased_calibration_error(Evaluation(p, np.arange(pairs), np.arange(pairs)), fewest_pairs=1)
        if found is None or found.low is None or found.high is None:
            continue
        raw.append(rms_calibration_error(p))
        debiased.append(found.value)
        held.append(found.low <= off <= found.high)
        highs.append(found.high)
    columns: dict[str, list] = {"raw": raw, "debiased": debiased, "covers": held, "high": highs}
    return {name: float(np.mean(one)) for name, one in columns.items()}
