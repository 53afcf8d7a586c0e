"""Evaluations to figures, with intervals. Knows no model, file or torch."""

from repeng.maths import threshold_at
from repeng.metrics.calibration import (
    debiased_calibration_error,
    genies_rms_calibration_error,
    reliability_bins,
    rms_calibration_error,
)
from repeng.metrics.comparison import correlation, holm, mistake_kappa, mistake_kappas
from repeng.metrics.differences import mean_paired_difference, mean_paired_differences
from repeng.metrics.draw_means import mean_of_draws
from repeng.metrics.evaluation import AGREES, PAIR_ACCURACY, Evaluation
from repeng.metrics.figures import FIGURES, Figures, TextFigures, auroc, brier, figure_inputs, figures_of
from repeng.metrics.intervals import (
    accuracy_interval,
    accuracy_intervals,
    chance_p,
    fits_disagree,
    mean_accuracy_interval,
    mean_accuracy_intervals,
    mean_interval,
    prompt_variance,
)
from repeng.metrics.kind_differences import DifferenceOfKinds, difference_of_kinds
from repeng.metrics.nulls import cell_p, cosine_null_ends, cosine_p, draw_ends, draw_p, null_p
from repeng.metrics.pair_correlation import grouped_correlation, grouped_rank_correlation
from repeng.metrics.ranking import auroc_values
from repeng.metrics.ratios import (
    differential_elicitation,
    differential_elicitation_interval,
    elicitation,
    elicitation_capped,
    elicitation_interval,
    mean_elicitation_interval,
)
from repeng.metrics.resampling import Estimate, check_same_pairs
from repeng.metrics.text_figures import (
    accuracy_at_threshold,
    average_precision_of,
    balanced_accuracy,
    brier_of,
    false_positives_at_1,
    false_positives_at_5,
    recall_at_1,
    recall_at_5,
)
from repeng.metrics.texts import AUROC, TextEvaluation

__all__ = [
    "AGREES",
    "AUROC",
    "DifferenceOfKinds",
    "Estimate",
    "Evaluation",
    "FIGURES",
    "Figures",
    "PAIR_ACCURACY",
    "TextEvaluation",
    "TextFigures",
    "accuracy_at_threshold",
    "accuracy_interval",
    "accuracy_intervals",
    "auroc",
    "auroc_values",
    "average_precision_of",
    "balanced_accuracy",
    "brier",
    "brier_of",
    "cell_p",
    "chance_p",
    "check_same_pairs",
    "correlation",
    "cosine_null_ends",
    "cosine_p",
    "debiased_calibration_error",
    "difference_of_kinds",
    "differential_elicitation",
    "differential_elicitation_interval",
    "draw_ends",
    "draw_p",
    "elicitation",
    "elicitation_capped",
    "elicitation_interval",
    "false_positives_at_1",
    "false_positives_at_5",
    "figure_inputs",
    "figures_of",
    "fits_disagree",
    "genies_rms_calibration_error",
    "grouped_correlation",
    "grouped_rank_correlation",
    "holm",
    "mean_accuracy_interval",
    "mean_accuracy_intervals",
    "mean_elicitation_interval",
    "mean_interval",
    "mean_of_draws",
    "mean_paired_difference",
    "mean_paired_differences",
    "mistake_kappa",
    "mistake_kappas",
    "null_p",
    "prompt_variance",
    "recall_at_1",
    "recall_at_5",
    "reliability_bins",
    "rms_calibration_error",
    "threshold_at",
]
