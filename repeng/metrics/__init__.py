"""Evaluations to figures, with intervals. Knows no model, file or torch."""

from repeng.metrics.comparison import correlation, holm, mistake_kappa
from repeng.metrics.evaluation import AGREES, Evaluation
from repeng.metrics.figures import (
    Figures,
    ReliabilityBin,
    auroc,
    brier,
    differential_elicitation,
    elicitation,
    figure_inputs,
    figures_of,
    genies_rms_calibration_error,
    reliability_bins,
    rms_calibration_error,
)
from repeng.metrics.intervals import (
    Difference,
    accuracy_interval,
    accuracy_intervals,
    mean_accuracy_interval,
    mean_paired_difference,
)
from repeng.metrics.resampling import Estimate

__all__ = [
    "AGREES",
    "Difference",
    "Estimate",
    "Evaluation",
    "Figures",
    "ReliabilityBin",
    "accuracy_interval",
    "accuracy_intervals",
    "auroc",
    "brier",
    "correlation",
    "differential_elicitation",
    "elicitation",
    "figure_inputs",
    "figures_of",
    "genies_rms_calibration_error",
    "holm",
    "mean_accuracy_interval",
    "mean_paired_difference",
    "mistake_kappa",
    "reliability_bins",
    "rms_calibration_error",
]
