"""How scores rank texts of two labels: AUROC, average precision, thresholds, and what each text adds to them.

A text's *pseudo-value* u of a figure F is F + n * (the derivative of F by the text's weight, n texts weighing 1/n
each). Their mean is F, and the variance of their mean, over groups, is that of F: for AUROC it is that of DeLong et al.
(1988), and of Obuchowski (1997) where texts of one group are not independent.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from repeng.errors import BadInput

Scores = Float[np.ndarray, "*unit text"]
Labels = Bool[np.ndarray, " text"]


def placements(scores: Scores, labels: Labels) -> Scores:
    """For each text the share of the texts of the other label that it is ranked rightly against, ties counted half.

    Raises:
        BadInput: no text has the label, or every one.
    """
    n_positive = check_labels(labels)
    n_negative = len(labels) - n_positive
    found = np.empty(scores.shape)
    for place in np.ndindex(scores.shape[:-1]):
        positive, negative = scores[place][labels], scores[place][~labels]
        below = count_below(positive, negative)
        found[place][labels], found[place][~labels] = (
            below / n_negative,
            1 - count_below(negative, positive) / n_positive,
        )
    return found


def count_below(scores: Float[np.ndarray, " text"], others: Float[np.ndarray, " _text"]) -> Float[np.ndarray, " text"]:
    """How many of the others each score is above, ties counted half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2


def auroc_values(scores: Scores, labels: Labels) -> Scores:
    """Pseudo-values of AUROC; their mean over texts is the AUROC.

    Args:
        scores: higher where the label is likelier; leading axes (fits, layers) ride along.
        labels: of the texts.

    Raises:
        BadInput: no text has the label, or every one.
    """
    found = placements(scores, labels)
    area = found[..., labels].mean(axis=-1, keepdims=True)
    return area + (found - area) * len(labels) / np.where(labels, labels.sum(), (~labels).sum())


def class_mean_values(values: Scores, labels: Labels) -> Scores:
    """Pseudo-values of the mean over the two labels of the mean over that label's texts, as of balanced accuracy.

    Raises:
        BadInput: no text has the label, or every one.
    """
    n_positive = check_labels(labels)
    means = [values[..., labels].mean(axis=-1, keepdims=True), values[..., ~labels].mean(axis=-1, keepdims=True)]
    off = values - np.where(labels, *means)
    return sum(means) / 2 + off * len(labels) / (2 * np.where(labels, n_positive, len(labels) - n_positive))


def average_precision(scores: Float[np.ndarray, " text"], labels: Labels) -> float:
    """The mean over positive texts of the precision among the texts that score as high as it, or higher.

    Texts of one score are taken or left together, as in scikit-learn's figure of this name.

    Raises:
        BadInput: no text has the label, or every one.
    """
    return float(average_precision_values(scores, labels).mean())


def average_precision_values(scores: Scores, labels: Labels) -> Scores:
    """Pseudo-values of average precision; their mean over texts is the average precision.

    Raises:
        BadInput: no text has the label, or every one.
    """
    n_positive = check_labels(labels)
    found = np.empty(scores.shape)
    for place in np.ndindex(scores.shape[:-1]):
        # Distinct scores from the highest; of each, how many texts and positives score as high or higher.
        _, tied = np.unique(-scores[place], return_inverse=True)
        positives = np.bincount(tied, weights=labels)
        taken, held = np.cumsum(np.bincount(tied)), np.cumsum(positives)
        precision = held / taken
        mean = float(precision @ positives) / n_positive
        # One text's weight moves the precision at its own score and at every lower one.
        gain = np.cumsum((positives / taken)[::-1])[::-1]
        loss = np.cumsum((positives * held / taken**2)[::-1])[::-1]
        moved = np.where(labels, precision[tied] - mean + gain[tied], 0.0) - loss[tied]
        found[place] = mean + moved * len(labels) / n_positive
    return found


def check_labels(labels: Labels) -> int:
    """The number of positive texts; texts of one label alone are refused."""
    n_positive = int(np.sum(labels))
    if not 0 < n_positive < len(labels):
        raise BadInput(
            f"{n_positive} of {len(labels)} texts have the label; figures of labelled texts need texts with it and "
            "texts without it"
        )
    return n_positive
