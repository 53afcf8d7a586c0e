"""Figures of one evaluation: Brier score, AUROC and others; `Figures` and `TextFigures` list those of results.csv."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from repeng.errors import BadInput
from repeng.metrics.calibration import (
    check_pairs,
    debiased_calibration_error,
    genies_rms_calibration_error,
    mean_rms_calibration_error,
)
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.intervals import accuracy_interval
from repeng.metrics.nulls import cell_p, null_sd, selectivity
from repeng.metrics.ranking import count_below
from repeng.metrics.ratios import (
    differential_elicitation,
    differential_elicitation_interval,
    elicitation,
    elicitation_capped,
    elicitation_interval,
)
from repeng.metrics.text_figures import TEXT_ESTIMATES, false_positives_at_1, false_positives_at_5
from repeng.metrics.texts import TextEvaluation


def brier(probabilities: Float[np.ndarray, " pair"]) -> float:
    """Mean square of 1 - p(best): 0 is perfect, 0.25 is what p = 0.5 throughout gives, 1 is the worst."""
    check_pairs(probabilities)
    return float(np.mean((1.0 - probabilities) ** 2))


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
    return float(count_below(scores[best], scores[~best]).sum() / (n_best * n_worse))


def mean_auroc(evaluation: Evaluation) -> float:
    """The mean over fits of each one's AUROC; nan where responses have no scores."""
    if isinstance(evaluation, TextEvaluation):
        return evaluation.accuracy
    found = [one.response_scores for one in evaluation.fits]
    known = [one for one in found if one is not None]
    return float(np.mean([auroc(*one) for one in known])) if len(known) == len(found) else math.nan


def over_fits(
    figure: Callable[[Float[np.ndarray, " pair"]], float],
) -> Callable[[Float[np.ndarray, "fit pair"]], float]:
    """The mean over fits of a figure of p(best)."""

    def mean(by_fit: Float[np.ndarray, "fit pair"]) -> float:
        return float(np.mean([figure(one) for one in by_fit]))

    return mean


def mean_of(values: Float[np.ndarray, " value"]) -> float:
    """The mean; nan of no value."""
    return float(np.mean(values)) if len(values) else math.nan


def sd(values: Float[np.ndarray, " value"]) -> float:
    """Standard deviation with n - 1; nan of one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def figure_inputs(
    evaluation: Evaluation | None,
    *,
    source_id: Evaluation | None = None,
    baseline: Evaluation | None = None,
    capability: Evaluation | float | None = None,
    same_target: bool = False,
) -> dict[str, Any]:
    """Everything that a figure of a row of results may be made of, by name; None where it is unknown.

    The arguments are those of `results.row_from`; `same_target` says that the capability is of the target itself.
    """
    reached = capability.accuracy if isinstance(capability, Evaluation) else capability
    # A reference of pairs is no measure of what is elicited on labelled texts, nor the reverse.
    alike = not isinstance(capability, Evaluation) or evaluation is None or capability.figure == evaluation.figure
    answered = evaluation if evaluation is not None and not evaluation.is_bare else None
    texts = evaluation if isinstance(evaluation, TextEvaluation) else None
    fits = answered.fits if answered is not None else ()
    accuracies = np.array([one.accuracy for one in fits]) if len(fits) > 1 else None
    by_fit = answered and answered.by_fit
    debiased = answered and debiased_calibration_error(answered)
    given: dict[str, Any] = {
        "evaluation": evaluation,
        "evaluation_of_answers": answered,
        "evaluation_of_texts": texts,
        "accuracy": evaluation and evaluation.accuracy,
        "p": evaluation and cell_p(evaluation),
        "fit_accuracies": accuracies,
        "shuffled": evaluation and evaluation.shuffled,
        "unlabelled": evaluation and evaluation.unlabelled,
        "random": evaluation and evaluation.random,
        "source_id_accuracy": source_id and source_id.accuracy,
        "baseline_accuracy": baseline and baseline.accuracy,
        "capability": reached,
        "capability_above_0": reached or None if alike else None,
        "debiased_calibration_error": debiased and debiased.value,
        "debiased_calibration_error_low": debiased and debiased.low,
        "debiased_calibration_error_high": debiased and debiased.high,
        "probabilities": answered and answered.probabilities,
        "fit_probabilities": by_fit,
        "fit_probabilities_of_pairs": by_fit if texts is None else None,
    }
    for name, estimate in TEXT_ESTIMATES.items():
        found = texts and estimate(texts)
        # The Brier score itself is a figure of pairs too.
        given |= {f"text_{name}": found and found.value, f"{name}_low": found and found.low}
        given[f"{name}_high"] = found and found.high
    ends: dict[str, tuple[float, float] | None] = {"accuracy": None, "elicitation": None, "differential": None}
    if evaluation is not None:
        ends["accuracy"] = accuracy_interval(evaluation)
    if evaluation is not None and isinstance(capability, Evaluation) and reached and alike:
        ends["elicitation"] = elicitation_interval(evaluation, capability, same_target=same_target)
        if baseline is not None:
            # A baseline of other pairs leaves the interval blank; the figure itself needs accuracies alone.
            with suppress(BadInput):
                ends["differential"] = differential_elicitation_interval(
                    evaluation, baseline, capability, same_target=same_target
                )
    for name, interval in ends.items():
        given[f"{name}_low"], given[f"{name}_high"] = interval or (None, None)
    return given


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
    p: float | None = made_by(float, "p")
    fit_sd: float | None = made_by(sd, "fit_accuracies")
    fit_lowest: float | None = made_by(np.min, "fit_accuracies")
    fit_highest: float | None = made_by(np.max, "fit_accuracies")
    # Before `null_sd`, which is a figure from then on and no longer the function.
    unlabelled_sd: float | None = made_by(null_sd, "unlabelled")
    null_sd: float | None = made_by(null_sd, "shuffled")
    selectivity: float | None = made_by(selectivity, "accuracy", "shuffled")
    random_mean: float | None = made_by(mean_of, "random")
    random_sd: float | None = made_by(sd, "random")
    source_id_accuracy: float | None = made_by(float, "source_id_accuracy")
    baseline_accuracy: float | None = made_by(float, "baseline_accuracy")
    target_tuned_capability: float | None = made_by(float, "capability")
    elicitation: float | None = made_by(elicitation, "accuracy", "capability_above_0")
    elicitation_low: float | None = made_by(float, "elicitation_low")
    elicitation_high: float | None = made_by(float, "elicitation_high")
    elicitation_capped: float | None = made_by(elicitation_capped, "accuracy", "capability_above_0")
    differential_elicitation: float | None = made_by(
        differential_elicitation, "accuracy", "baseline_accuracy", "capability_above_0"
    )
    differential_elicitation_low: float | None = made_by(float, "differential_low")
    differential_elicitation_high: float | None = made_by(float, "differential_high")
    rms_calibration_error: float | None = made_by(mean_rms_calibration_error, "fit_probabilities")
    rms_calibration_error_debiased: float | None = made_by(float, "debiased_calibration_error")
    rms_calibration_error_debiased_low: float | None = made_by(float, "debiased_calibration_error_low")
    rms_calibration_error_debiased_high: float | None = made_by(float, "debiased_calibration_error_high")
    genies_rms_calibration_error: float | None = made_by(
        over_fits(genies_rms_calibration_error), "fit_probabilities_of_pairs"
    )
    brier: float | None = made_by(over_fits(brier), "fit_probabilities")
    auroc: float | None = made_by(mean_auroc, "evaluation_of_answers")


@dataclass(frozen=True)
class TextFigures:
    """The figures of labelled texts, in columns of their own; blank of pairs, and made as those of `Figures` are."""

    pair_accuracy: float | None = made_by(float, "text_pair_accuracy")
    pair_accuracy_low: float | None = made_by(float, "pair_accuracy_low")
    pair_accuracy_high: float | None = made_by(float, "pair_accuracy_high")
    accuracy_at_threshold: float | None = made_by(float, "text_accuracy_at_threshold")
    accuracy_at_threshold_low: float | None = made_by(float, "accuracy_at_threshold_low")
    accuracy_at_threshold_high: float | None = made_by(float, "accuracy_at_threshold_high")
    balanced_accuracy: float | None = made_by(float, "text_balanced_accuracy")
    balanced_accuracy_low: float | None = made_by(float, "balanced_accuracy_low")
    balanced_accuracy_high: float | None = made_by(float, "balanced_accuracy_high")
    recall_at_1: float | None = made_by(float, "text_recall_at_1")
    recall_at_1_low: float | None = made_by(float, "recall_at_1_low")
    recall_at_1_high: float | None = made_by(float, "recall_at_1_high")
    recall_at_5: float | None = made_by(float, "text_recall_at_5")
    recall_at_5_low: float | None = made_by(float, "recall_at_5_low")
    recall_at_5_high: float | None = made_by(float, "recall_at_5_high")
    false_positives_at_1: float | None = made_by(false_positives_at_1, "evaluation_of_texts")
    false_positives_at_5: float | None = made_by(false_positives_at_5, "evaluation_of_texts")
    average_precision: float | None = made_by(float, "text_average_precision")
    average_precision_low: float | None = made_by(float, "average_precision_low")
    average_precision_high: float | None = made_by(float, "average_precision_high")
    brier_low: float | None = made_by(float, "brier_low")
    brier_high: float | None = made_by(float, "brier_high")


FIGURES = (*fields(Figures), *fields(TextFigures))
"""Every figure of a row of results."""


def figures_of(inputs: dict[str, Any]) -> dict[str, float | None]:
    """Every figure of `Figures` and `TextFigures` by name, from `figure_inputs`."""
    found: dict[str, float | None] = {}
    for figure in FIGURES:
        given = [inputs[need] for need in figure.metadata["needs"]]
        value = math.nan if any(one is None for one in given) else float(figure.metadata["function"](*given))
        found[figure.name] = None if math.isnan(value) else value
    return found
