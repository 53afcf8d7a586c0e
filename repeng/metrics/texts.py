"""An evaluation of labelled texts: what a method's answer looks like where the items are texts and not pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.errors import BadInput
from repeng.maths import FALSE_POSITIVE_RATES, pair_wins
from repeng.metrics.evaluation import Evaluation, check_probabilities
from repeng.metrics.ranking import auroc_values, check_labels, placements
from repeng.metrics.resampling import Units, resampling_units

AUROC = "auroc"
"""The `figure` of an evaluation of labelled texts."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TextEvaluation(Evaluation):
    """For each labelled text of one target, a score that is higher where the label is likelier.

    Its accuracy is the AUROC, which is the accuracy over every pair of a text with the label and one without it, the
    mean over fits; `credit` and `wins` are the texts' pseudo-values of that. So whatever takes an `Evaluation` (its
    interval, a paired difference, elicitation, a mean over shifts) takes this too.

    Attributes:
        probabilities: what the method gives to each text's OWN label, of several fits the mean; None where it is not
            calibrated. Above 0.5 is right at the threshold that the source chose.
        fit_probabilities: the same by fit.
        example: what of each text is never parted: its explicit group, by the number of the group's first example;
            or its example.
        group: what is resampled as a whole.
        shuffled, unlabelled, random: AUROCs of nulls.
        labels: whether each text has the label.
        text_scores: of each text by each fit.
        rows: which response of its split each text is, counted over all examples; None where unknown.
        thresholds: for each fit the score above which a text is flagged at 1 % and at 5 % false positives, set on other
            texts; None without them.
        benign: the distribution that the thresholds were set on; empty for the source's own negatives.
        pairs: the evaluation of the pairs that the texts form; None where they form none.

    Raises:
        BadInput: the texts are of one label, lengths differ, or a value is outside of its range.
    """

    labels: Bool[np.ndarray, " text"]
    text_scores: Float[np.ndarray, "_fit _text"]
    rows: Int[np.ndarray, " _text"] | None = None
    thresholds: Float[np.ndarray, "_fit rate"] | None = None
    benign: str = ""
    pairs: Evaluation | None = None

    @classmethod
    def of_scores(
        cls,
        scores: Float[np.ndarray, "fit text"],
        labels: Bool[np.ndarray, " text"],
        positive: Float[np.ndarray, "fit text"] | None = None,
        **others: Any,
    ) -> TextEvaluation:
        """The evaluation of scores by fit, and of the probability that each text has the label.

        Args:
            scores: of each text by each fit, one at least.
            labels: whether each text has the label.
            positive: the probability that it has; None where the method is not calibrated.
            others: the other attributes.
        """
        if positive is not None:
            own = np.where(labels, positive, 1.0 - positive)
            others |= {"probabilities": own.mean(axis=0), "fit_probabilities": own if len(own) > 1 else None}
        return cls(labels=labels, text_scores=scores, **others)

    def __post_init__(self) -> None:
        check_labels(self.labels)
        n_texts = len(self.labels)
        if not len(self.text_scores) or not np.isfinite(self.text_scores).all():
            raise BadInput("text_scores are not all finite, or of no fit; give a finite score for each text and fit")
        if self.scores is not None or self.fit_scores is not None or self.reported_accuracy is not None:
            raise BadInput("an evaluation of texts has text_scores; leave out scores, fit_scores and reported_accuracy")
        several = self.n_fits if self.n_fits > 1 and self.probabilities is not None else 0
        if several != (0 if self.fit_probabilities is None else len(self.fit_probabilities)):
            raise BadInput(
                f"text_scores are of {self.n_fits} fits; give fit_probabilities of as many, and none for one fit"
            )
        lengths = {name: getattr(self, name) for name in ("example", "group", "rows", "probabilities")}
        for name, values in [*lengths.items(), *((name, fit) for name, fit in self._by_fit().items())]:
            if values is not None and values.shape[-1] != n_texts:
                raise BadInput(f"{name} has {values.shape[-1]} rows, but there are {n_texts} texts; give one for each")
        for probabilities in (self.probabilities, self.fit_probabilities):
            if probabilities is not None:
                check_probabilities(probabilities, of="text")
        limits = self.thresholds
        if limits is not None and (
            limits.shape != (self.n_fits, len(FALSE_POSITIVE_RATES)) or not np.isfinite(limits).all()
        ):
            raise BadInput(f"thresholds are of the shape {limits.shape}; give two finite scores for each fit")
        self.check_nulls()

    def _by_fit(self) -> Mapping[str, np.ndarray | None]:
        return {"text_scores": self.text_scores, "fit_probabilities": self.fit_probabilities}

    @property
    def figure(self) -> str:
        """What `accuracy` is."""
        return AUROC

    @cached_property
    def units(self) -> Units | None:
        """What intervals resample as a whole: groups, or examples where groups are few; None where it is not known."""
        # Cached, so that the warning of few groups comes once and not for every figure.
        return resampling_units([self])

    @property
    def is_bare(self) -> bool:
        """Whether only an accuracy is known; never of texts."""
        return False

    @property
    def n_fits(self) -> int:
        """How many fits there are of the method."""
        return len(self.text_scores)

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        return len(self.labels)

    @property
    def n_items(self) -> int:
        """Number of texts."""
        return self.n_texts

    @property
    def n_positive(self) -> int:
        """Number of texts that have the label."""
        return int(np.sum(self.labels))

    @property
    def n_pairs(self) -> int | None:
        """Number of pairs that the texts form; None where they form none."""
        return None if self.pairs is None else self.pairs.n_pairs

    @cached_property
    def accuracy(self) -> float:
        """The AUROC, the mean over fits."""
        return float(np.mean(placements(self.text_scores, self.labels)[:, self.labels]))

    @cached_property
    def fit_wins(self) -> Float[np.ndarray, "fit text"]:
        """Each text's pseudo-value of the AUROC, by fit; they may leave 0 to 1, and their mean is the AUROC."""
        return auroc_values(self.text_scores, self.labels)

    @cached_property
    def credit(self) -> Float[np.ndarray, " text"]:
        """`wins`: what each text adds to `accuracy`."""
        return self.wins

    @cached_property
    def fit_right(self) -> Float[np.ndarray, "fit text"]:
        """1.0 for each text that gets its own label at the source's threshold, 0.5 for a tie, else 0.0, by each fit.

        Raises:
            BadInput: the method is not calibrated, so that it has no threshold.
        """
        by_fit = self.by_fit
        if by_fit is None:
            raise BadInput("this evaluation of texts has no probabilities; what is right at a threshold is unknown")
        return pair_wins(by_fit - 0.5)

    @property
    def response_scores(self) -> tuple[Float[np.ndarray, " text"], Bool[np.ndarray, " text"]]:
        """Every text's score, of several fits the mean, and whether it has the label."""
        return self.text_scores.mean(axis=0), self.labels

    @cached_property
    def fits(self) -> tuple[Evaluation, ...]:
        """The evaluation of each fit alone, without nulls and pairs."""
        own = [self.probabilities] if self.fit_probabilities is None else list(self.fit_probabilities)
        return tuple(
            TextEvaluation(
                own[fit if self.fit_probabilities is not None else 0],
                self.example,
                self.group,
                labels=self.labels,
                text_scores=self.text_scores[fit : fit + 1],
                rows=self.rows,
                thresholds=None if self.thresholds is None else self.thresholds[fit : fit + 1],
                benign=self.benign,
            )
            for fit in range(self.n_fits)
        )

    def subset(self, keep: Bool[np.ndarray, " text"]) -> TextEvaluation:
        """The evaluation of some of the texts, and of the pairs of their examples, without nulls.

        Raises:
            BadInput: the texts that are left are of one label.
        """
        names = ("probabilities", "example", "group", "rows")
        cut = {**{name: getattr(self, name) for name in names}, **self._by_fit()}
        values: dict[str, Any] = {name: None if own is None else own[..., keep] for name, own in cut.items()}
        pairs = self.pairs
        if pairs is not None and not keep.all():
            held = None if pairs.example is None else np.isin(pairs.example, values["example"])
            pairs = pairs.subset(held) if held is not None and held.any() else None
        return TextEvaluation(
            labels=self.labels[keep], thresholds=self.thresholds, benign=self.benign, pairs=pairs, **values
        )
