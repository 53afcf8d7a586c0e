"""An evaluation: what every method's answer to one target looks like, wherever it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.errors import BadInput

AGREES = 1e-6
"""Accuracies this close are the same count of right pairs, written with fewer digits."""
PAIR_ACCURACY = "pair accuracy"
"""The `figure` of an evaluation of pairs."""
ITEM_ARRAYS = ("example", "group", "labels", "rows")
"""What says of an evaluation's pairs, or of its labelled texts, which they are."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """For each pair of one target, the probability that its best response is preferred.

    A method that was fitted several times (other splits, draws and starts) has one answer a fit; `of_fits` makes such
    an evaluation. Its accuracy is the mean over fits.

    Attributes:
        probabilities: p(best) of each pair, between 0 and 1, of several fits the mean; None where only an accuracy is
            known.
        example: the example that each pair belongs to; None where unknown.
        group: the prompt group that each pair belongs to (equal prompts are one group); None where unknown.
        scores: one score for the pair's best response and one for its worse; None where the method has none.
        reported_accuracy: the accuracy that a foreign file states. It stands, whatever the probabilities say.
        fit_probabilities: p(best) of each pair by each fit; None where there is one fit.
        fit_scores: `scores` of each fit; None where there is one fit, or none has scores.
        shuffled: accuracies of fits on shuffled labels, with the labels of these pairs shuffled too: the method's own
            null; None without them.
        unlabelled: accuracies of the same fits, with the labels of these pairs as they are: how far from a half a
            search gets that was told nothing, where the pairs differ along one dominant direction.
        random: accuracies of random directions that went through the same search; None without them.

    Raises:
        BadInput: no pair and no accuracy, lengths that differ, or a value outside of its range.
    """

    probabilities: Float[np.ndarray, " pair"] | None = None
    example: Int[np.ndarray, " _pair"] | None = None
    group: Int[np.ndarray, " _pair"] | None = None
    scores: Float[np.ndarray, "_pair choice"] | None = None
    reported_accuracy: float | None = None
    fit_probabilities: Float[np.ndarray, "fit _pair"] | None = None
    fit_scores: Float[np.ndarray, "fit _pair choice"] | None = None
    shuffled: Float[np.ndarray, " null"] | None = None
    unlabelled: Float[np.ndarray, " null"] | None = None
    random: Float[np.ndarray, " _null"] | None = None

    @classmethod
    def of_fits(
        cls,
        probabilities: Float[np.ndarray, "fit pair"],
        scores: Float[np.ndarray, "fit pair choice"] | None = None,
        **others: Any,
    ) -> Evaluation:
        """The evaluation of several fits; of one fit the ordinary one.

        Args:
            probabilities: p(best) of each pair by each fit.
            scores: of each fit.
            others: the other attributes.
        """
        if len(probabilities) == 1:
            return cls(probabilities[0], scores=None if scores is None else scores[0], **others)
        return cls(probabilities.mean(axis=0), fit_probabilities=probabilities, fit_scores=scores, **others)

    def __post_init__(self) -> None:
        per_pair = {name: getattr(self, name) for name in ("example", "group", "scores")}
        known = {name: values for name, values in per_pair.items() if values is not None}
        if self.probabilities is not None:
            check_probabilities(self.probabilities)
            for name, values in known.items():
                if len(values) != len(self.probabilities):
                    raise BadInput(
                        f"{name} has {len(values)} rows, but there are {self.n_pairs} pairs; give one row for each pair"
                    )
        elif self.reported_accuracy is None:
            raise BadInput("an evaluation has neither probabilities nor an accuracy; give at least one of them")
        elif known:
            raise BadInput(f"an evaluation has {next(iter(known))} but no probabilities; give p(best) of each pair too")
        if self.scores is not None and (self.scores.shape[1:] != (2,) or not np.isfinite(self.scores).all()):
            raise BadInput(
                f"scores have the shape {self.scores.shape}; give two finite scores a pair, of its best response and "
                "of its worse"
            )
        self._check_fits()
        if self.reported_accuracy is not None and not 0 <= self.reported_accuracy <= 1:
            raise BadInput(f"the reported accuracy is {self.reported_accuracy}; give a share between 0 and 1")

    def _check_fits(self) -> None:
        for name, values in (("fit_probabilities", self.fit_probabilities), ("fit_scores", self.fit_scores)):
            if values is not None and (self.probabilities is None or values.shape[1] != len(self.probabilities)):
                raise BadInput(f"{name} is of shape {values.shape}; give one column for each of {self.n_pairs} pairs")
        if self.fit_probabilities is not None:
            if len(self.fit_probabilities) < 2:
                raise BadInput("fit_probabilities hold one fit; leave them out where there is one")
            check_probabilities(self.fit_probabilities)
        if self.fit_scores is not None and not np.isfinite(self.fit_scores).all():
            raise BadInput("fit_scores are not all finite; give two finite scores a pair and fit")
        self.check_nulls()

    def check_nulls(self) -> None:
        """Refuse accuracies of nulls that are none."""
        for name in ("shuffled", "unlabelled", "random"):
            values = getattr(self, name)
            if values is not None and not ((values >= 0) & (values <= 1)).all():
                raise BadInput(f"{name} are accuracies; they lie between 0 and 1")

    @property
    def figure(self) -> str:
        """What `accuracy` is."""
        return PAIR_ACCURACY

    @property
    def is_bare(self) -> bool:
        """Whether only an accuracy is known."""
        return self.probabilities is None

    @property
    def n_fits(self) -> int:
        """How many fits there are of the method."""
        return 1 if self.fit_probabilities is None else len(self.fit_probabilities)

    @property
    def by_fit(self) -> Float[np.ndarray, "fit pair"] | None:
        """p(best) of each pair by each fit, in one row where there is one; None where there are no probabilities."""
        if self.probabilities is None or self.fit_probabilities is not None:
            return self.fit_probabilities
        return self.probabilities[None]

    @cached_property
    def fits(self) -> tuple[Evaluation, ...]:
        """The evaluation of each fit alone."""
        if self.fit_probabilities is None:
            return (self,)
        scores = [None] * self.n_fits if self.fit_scores is None else list(self.fit_scores)
        return tuple(
            Evaluation(one, example=self.example, group=self.group, scores=own)
            for one, own in zip(self.fit_probabilities, scores, strict=True)
        )

    def subset(self, keep: Bool[np.ndarray, " pair"]) -> Evaluation:
        """The evaluation of some of the pairs, without nulls, which are accuracies over all of them.

        Raises:
            BadInput: no pair is kept, or there are none to choose from.
        """
        if self.probabilities is None or not keep.any():
            raise BadInput("no pair is left to evaluate")
        values = {
            name: None if (own := getattr(self, name)) is None else own[keep]
            for name in ("probabilities", "example", "group", "scores")
        }
        fits = {
            name: None if (own := getattr(self, name)) is None else own[:, keep]
            for name in ("fit_probabilities", "fit_scores")
        }
        return Evaluation(**values, **fits)

    @property
    def n_pairs(self) -> int | None:
        """Number of pairs, None where unknown."""
        return None if self.probabilities is None else len(self.probabilities)

    @property
    def n_items(self) -> int | None:
        """Number of what is scored one by one: of pairs, or of texts; None where unknown."""
        return self.n_pairs

    @cached_property
    def known_items(self) -> tuple[bytes | None, ...]:
        """What it says of which items it is of, as a key: evaluations with equal keys are of the same ones."""
        arrays = (getattr(self, name, None) for name in ITEM_ARRAYS)
        return tuple(None if array is None else array.tobytes() for array in arrays)

    @property
    def n_prompts(self) -> int | None:
        """Number of prompt groups, of one prompt for all that of examples; None where unknown."""
        if self.group is None:
            return None
        groups = len(np.unique(self.group))
        return groups if groups > 1 or self.example is None else len(np.unique(self.example))

    @property
    def accuracy(self) -> float:
        """The reported accuracy if there is one, else the share of pairs won, ties counted half."""
        if self.reported_accuracy is not None:
            return self.reported_accuracy
        return float(np.mean(self.wins))

    @cached_property
    def wins(self) -> Float[np.ndarray, " pair"]:
        """1.0 for each pair won, 0.5 for a tie (p(best) exactly 0.5), 0.0 for one lost; the mean of these over fits.

        Raises:
            BadInput: the evaluation has no probabilities.
        """
        return np.asarray(self.fit_wins.mean(axis=0))

    @cached_property
    def fit_wins(self) -> Float[np.ndarray, "fit pair"]:
        """1.0 for each pair won, 0.5 for a tie, 0.0 for one lost, by each fit; one row where there is one fit.

        Raises:
            BadInput: the evaluation has no probabilities.
        """
        by_fit = self.by_fit
        if by_fit is None:
            raise BadInput("this evaluation holds a bare accuracy; what its pairs say is unknown")
        return (by_fit > 0.5) + 0.5 * (by_fit == 0.5)

    @property
    def fit_right(self) -> Float[np.ndarray, "fit pair"]:
        """1.0 for each item that the method gets right, 0.5 for a tie, 0.0 for one that it gets wrong, by each fit."""
        return self.fit_wins

    @property
    def right(self) -> Float[np.ndarray, " pair"]:
        """The mean over fits of `fit_right`."""
        return np.asarray(self.fit_right.mean(axis=0))

    @cached_property
    def credit(self) -> Float[np.ndarray, " pair"] | None:
        """What each pair adds to `accuracy`, so that its mean is the accuracy; None where that is unknown.

        Foreign files count a tie as right, as half or as wrong: the first of these that gives their accuracy is taken.
        None for a bare accuracy, and where the probabilities give the accuracy under none of the three.
        """
        if self.probabilities is None:
            return None
        if self.reported_accuracy is None:
            return self.wins
        tied = self.wins == 0.5
        for worth in (0.5, 1.0, 0.0):
            credit = np.where(tied, worth, self.wins)
            if abs(float(credit.mean()) - self.reported_accuracy) <= AGREES:
                return credit
        return None

    @property
    def contradicted_by(self) -> float | None:
        """What the probabilities give, where they give the reported accuracy under no rule for ties; None else."""
        denied = self.probabilities is not None and self.credit is None
        return float(np.mean(self.wins)) if denied else None

    @property
    def response_scores(self) -> tuple[Float[np.ndarray, " response"], Bool[np.ndarray, " response"]] | None:
        """Every response's score and whether it is a best one, each response once; None where unknown.

        A best response stands in one pair for each worse one: the examples tell which pairs share it.
        """
        if self.scores is None or self.example is None:
            return None
        _, first = np.unique(self.example, return_index=True)
        best, worse = self.scores[first, 0], self.scores[:, 1]
        return np.concatenate([best, worse]), np.arange(len(best) + len(worse)) < len(best)


def check_probabilities(probabilities: Float[np.ndarray, "*fit pair"], *, of: str = "pair") -> None:
    """Refuse no probability, or one that is none."""
    if probabilities.shape[-1] == 0:
        raise BadInput(f"an evaluation has no {of}; give one probability for each {of}, or no probabilities at all")
    allowed = (probabilities >= 0) & (probabilities <= 1)
    if not allowed.all():
        *fit, number = np.argwhere(~allowed)[0]
        value = probabilities[(*fit, number)]
        raise BadInput(f"the probability of {of} {number} is {value}; probabilities lie between 0 and 1")
