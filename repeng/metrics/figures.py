"""Figures of one evaluation: elicitation, calibration, Brier score and AUROC; `Figures` lists those of results.csv."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.intervals import accuracy_interval

GENIES_SEED = 42
GENIES_BINS = 5
GENIES_FEWEST = 20


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of like confidence: how sure the method was of them on average, and how often it was right."""

    confidence: float
    accuracy: float
    n_pairs: int


def elicitation(accuracy: float, capability: float) -> float:
    """Accuracy as a share of what the model is capable of when tuned on the target's reference.

    Raises:
        BadInput: the capability is 0, so that there is nothing to elicit.
    """
    _check_capability(capability)
    return accuracy / capability


def differential_elicitation(accuracy: float, baseline: float, capability: float) -> float:
    """Accuracy gained over the zero-shot baseline, as a share of the target-tuned capability.

    Raises:
        BadInput: the capability is 0, so that there is nothing to elicit.
    """
    _check_capability(capability)
    return (accuracy - baseline) / capability


def _check_capability(capability: float) -> None:
    if not capability > 0:
        raise BadInput(f"the target-tuned capability is {capability}; elicitation needs one above 0")


def brier(probabilities: Float[np.ndarray, " pair"]) -> float:
    """Mean square of 1 - p(best): 0 is perfect, 0.25 is what p = 0.5 throughout gives, 1 is the worst."""
    _check_pairs(probabilities)
    return float(np.mean((1.0 - probabilities) ** 2))


def reliability_bins(probabilities: Float[np.ndarray, " pair"], *, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Confidence max(p, 1 - p) against the share of preferred responses that are the best, in bins of equal mass.

    Pairs are sorted by confidence and cut into `bins` runs whose sizes differ by one at most (fewer runs where there
    are fewer pairs). Pairs of equal confidence share their mean, so that the order of the pairs never matters.

    Args:
        probabilities: p(best) of each pair.
        bins: how many bins.

    Raises:
        BadInput: no pair, or not one bin.
    """
    _check_pairs(probabilities)
    if bins < 1:
        raise BadInput(f"bins is {bins}; take 1 or more")
    confidence, tied = np.unique(np.maximum(probabilities, 1.0 - probabilities), return_inverse=True)
    counts = np.bincount(tied)
    right = np.bincount(tied, weights=(probabilities > 0.5) + 0.5 * (probabilities == 0.5)) / counts
    runs = zip(
        np.array_split(np.repeat(confidence, counts), min(bins, len(probabilities))),
        np.array_split(np.repeat(right, counts), min(bins, len(probabilities))),
        strict=True,
    )
    return tuple(ReliabilityBin(float(sure.mean()), float(true.mean()), len(sure)) for sure, true in runs)


def rms_calibration_error(probabilities: Float[np.ndarray, " pair"], *, bins: int = 10) -> float:
    """Root mean square calibration error with bins of equal mass (Hendrycks et al. 2018, section 4).

    The square of (in-bin accuracy - in-bin mean confidence), averaged with the bins' sizes as weights. Theirs holds
    100 pairs to a bin and its released code drops the last bin; ours has 10 bins and drops none. Over few pairs it is
    too high, because in-bin accuracy is then noisy.
    """
    found = reliability_bins(probabilities, bins=bins)
    square = sum(one.n_pairs * (one.accuracy - one.confidence) ** 2 for one in found) / len(probabilities)
    return math.sqrt(square)


def genies_rms_calibration_error(probabilities: Float[np.ndarray, " pair"]) -> float:
    """What GENIES released as RMS calibration error, bit for bit. It is not a calibration error in the usual sense.

    Each pair is turned round or not by a fixed series of coins l; q is the probability of what then stands first.
    Over five bins of equal width, leaving out those with under 20 pairs and q = 1 itself: the root of the unweighted
    mean of (mean of l over ALL pairs - mean of q in the bin)^2.

    Returns:
        The figure, or nan where no bin holds 20 pairs, as released.
    """
    _check_pairs(probabilities)
    coin = random.Random(GENIES_SEED)
    labels = np.array([coin.choice([0, 1]) for _ in range(len(probabilities))])
    turned = np.where(labels == 1, probabilities, 1 - probabilities)
    places = np.digitize(turned, np.linspace(0, 1, GENIES_BINS + 1))
    members = [turned[places == number] for number in range(1, GENIES_BINS + 1)]
    squares = [(np.mean(labels) - np.mean(one)) ** 2 for one in members if len(one) >= GENIES_FEWEST]
    return float(np.sqrt(np.mean(squares))) if squares else math.nan


def auroc(scores: Float[np.ndarray, " response"], best: Bool[np.ndarray, " response"]) -> float:
    """The chance that a best response drawn at random outscores a worse one, ties counted half.

    Responses of different prompts are compared with each other too, which pair accuracy never does.

    Args:
        scores: one score a response; `Evaluation.response_scores` gives them.
        best: whether each is its example's best response.

    Raises:
        BadInput: there is no best response, or no other.
    """
    n_best = int(np.sum(best))
    n_worse = len(best) - n_best
    if not n_best or not n_worse:
        raise BadInput(f"AUROC of {n_best} best and {n_worse} worse responses; it needs one of each at least")
    ranks = pd.Series(scores).rank().to_numpy()
    return float((ranks[best].sum() - n_best * (n_best + 1) / 2.0) / (n_best * n_worse))


def _check_pairs(probabilities: Float[np.ndarray, " pair"]) -> None:
    if len(probabilities) == 0:
        raise BadInput("no pair to compute a figure of; give one probability for each pair")


def figure_inputs(
    evaluation: Evaluation | None,
    *,
    source_id: Evaluation | None = None,
    baseline: Evaluation | None = None,
    capability: float | None = None,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Everything that a figure of a row of results may be made of, by name; None where it is unknown.

    The arguments are those of `results.row_from`.
    """
    interval = evaluation and accuracy_interval(evaluation, resamples=resamples)
    scores = evaluation and evaluation.response_scores
    return {
        "evaluation": evaluation,
        "accuracy": evaluation and evaluation.accuracy,
        "accuracy_low": interval and interval[0],
        "accuracy_high": interval and interval[1],
        "source_id_accuracy": source_id and source_id.accuracy,
        "baseline_accuracy": baseline and baseline.accuracy,
        "capability": capability,
        "capability_above_0": capability or None,
        "probabilities": evaluation and evaluation.probabilities,
        "scores": scores and scores[0],
        "best": scores and scores[1],
    }


def made_by(function: Callable[..., float], *needs: str) -> Any:
    """An entry of `Figures`: the function, and the names of its arguments among `figure_inputs`."""
    return field(default=None, metadata={"function": function, "needs": needs})


@dataclass(frozen=True)
class Figures:
    """The figures of a row of results, each with what makes it; the columns of results.csv follow.

    A figure is blank (None) where one of its needs is unknown, or where its function gives nan. A new one is a
    function and an entry here.
    """

    accuracy: float | None = made_by(float, "accuracy")
    accuracy_low: float | None = made_by(float, "accuracy_low")
    accuracy_high: float | None = made_by(float, "accuracy_high")
    source_id_accuracy: float | None = made_by(float, "source_id_accuracy")
    baseline_accuracy: float | None = made_by(float, "baseline_accuracy")
    target_tuned_capability: float | None = made_by(float, "capability")
    elicitation: float | None = made_by(elicitation, "accuracy", "capability_above_0")
    differential_elicitation: float | None = made_by(
        differential_elicitation, "accuracy", "baseline_accuracy", "capability_above_0"
    )
    rms_calibration_error: float | None = made_by(rms_calibration_error, "probabilities")
    genies_rms_calibration_error: float | None = made_by(genies_rms_calibration_error, "probabilities")
    brier: float | None = made_by(brier, "probabilities")
    auroc: float | None = made_by(auroc, "scores", "best")


def figures_of(inputs: dict[str, Any]) -> dict[str, float | None]:
    """Every figure of `Figures` by name, from `figure_inputs`."""
    found: dict[str, float | None] = {}
    for figure in fields(Figures):
        given = [inputs[need] for need in figure.metadata["needs"]]
        value = math.nan if any(one is None for one in given) else float(figure.metadata["function"](*given))
        found[figure.name] = None if math.isnan(value) else value
    return found
