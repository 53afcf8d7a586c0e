"""What a probe is: a scikit-learn estimator over activations, batched over every leading axis of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.exceptions import NotFittedError
from torch import Tensor

from repeng.errors import BadArray, NonFinite
from repeng.maths import all_pairs
from repeng.probes.inputs import all_finite, as_activations, as_labels, as_tokens, finite_rows, in_float
from repeng.probes.ragged import Ragged

Labels = Float[Tensor, " example"]


class NotFitted(BadArray, NotFittedError):
    """A probe was asked before it was fitted."""


class Reading(NamedTuple):
    """One `layer` of a probe's input, and where a store keeps it: `blocks.{block}.hook_{site}`."""

    site: str
    block: int
    layer: int


class Probe(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    """A binary classifier of responses, best or worse, that ranks the responses of a pair by their scores.

    It is a scikit-learn estimator: `get_params`, `set_params`, `clone`, pipelines and cross-validation work as there.
    What every method below calls X is one of

    - rows: `[n, d]`, one row a response, as an array, a data frame, lists or a tensor; a probe of several stimuli takes
      an array `[n, stimulus, d]`;
    - a batch: a tensor `[*batch, stimulus, example, d_model]`, "example" being one response. Every batch element (a
      layer, a head) is fitted by itself, all in one call.

    Scores come back as an array for an array, and as a tensor `[*batch, example]` for a tensor.

    The constructor stores its keyword-only parameters and does nothing else; `fit` learns tensors whose names end in
    `_`, each with the leading batch axes of the activations. A probe of one's own derives from `LinearProbe` and writes
    `fit_direction`, or from this class and writes `learn` and `response_scores`.

    Attributes:
        name: what users type; the class's own name unless it says otherwise.
        title: what it is, in words.
        stimuli: names of the stimuli that it reads, in the order of the stimulus axis.
        site: the hook site that it reads.
        token: the token whose activation it reads.
        rule: which of `repeng.probes.fitting.RULES` chooses layers and calibrates.
        ranks_by_scores: whether a pair's score is the difference of two responses' scores.
        learns: False where it is the same whatever it is fitted on.
        ragged: whether it reads every token of a text: X may be a `Ragged`, or a list of `[token, d]` arrays.
        in_groups: whether it learns from single responses and holds some groups out of them: the `groups` of `fit` are
            then whatever is not to be parted, and make no pairs.
        reference: `FILE.py:NAME`, where it was loaded from a file of the user's.
        classes_: the two labels that it was fitted on; the second is the better.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    stimuli: ClassVar[tuple[str, ...]] = ("plain",)
    site: ClassVar[str] = "resid_post"
    token: ClassVar[str] = "last"
    rule: ClassVar[str] = "held-out"
    ranks_by_scores: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    ragged: ClassVar[bool] = False
    in_groups: ClassVar[bool] = False
    reference: ClassVar[str] = ""

    classes_: np.ndarray
    _n_features_out = 1

    def __init_subclass__(cls, **options: Any) -> None:
        # A probe derived from another is another: it does not answer to the same name.
        for attribute in ("name", "title"):
            if attribute not in vars(cls):
                setattr(cls, attribute, cls.__name__)
        super().__init_subclass__(**options)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.poor_score = not self.learns
        tags.input_tags.two_d_array = len(self.stimuli) == 1
        tags.input_tags.three_d_array = len(self.stimuli) > 1
        return tags

    @property
    def keeps(self) -> int:
        """How many (layer, head) it keeps where the user names no number."""
        return 1

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],
    ) -> None:
        """Set the attributes that `fit` learns. What is learned of one batch element must not depend on the others.

        Args:
            activations: finite, one row a response.
            labels: 1.0 for a best response, 0.0 for a worse one; both are there.
            pairs: rows (best, worse) of two pairs or more.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method learn(activations, labels, pairs)")

    def learn_in_groups(
        self,
        activations: Any,
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],
        groups: Shaped[np.ndarray, " example"] | None,  # noqa: ARG002  (for those that override it)
    ) -> None:
        """`learn`, for a probe that holds some groups out of what it learns from; `groups` are those given to `fit`."""
        self.learn(activations, labels, pairs)

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """One score a response; higher means better."""
        raise NotImplementedError(f"{type(self).__name__} has no method response_scores(activations)")

    def fit(self, X: Any, y: Any, groups: Any = None) -> Probe:  # noqa: N803  (scikit-learn's name)
        """Learn from labelled responses.

        Args:
            X: rows or a batch, as the class says.
            y: two labels, of which the higher is the better: one a response.
            groups: example ids: an example's pairs are its best row against each of its worse rows. Without them the
                first best row and the first worse one are a pair, the second ones, and so on, which matters to a probe
                that learns from pairs' differences (LAT), and to one that takes its sign from them (LAT, CCS).

        Raises:
            BadArray: the parts do not fit each other, one class only, or fewer than two pairs.
            NonFinite: an activation of a tensor is infinite or not a number.
        """
        activations = self._given(X, fits=True)
        self.classes_, labels = as_labels(self, y, activations.shape[-2])
        check_finite(activations)
        ids = None if groups is None else group_ids(groups, len(labels))
        pairs = pair_rows(labels, None if self.in_groups else ids)
        if len(pairs) < 2:
            raise BadArray(f"probe {self.name!r}: {len(pairs)} pair(s) to fit on; it needs 2 or more")
        device = activations.device
        best, rows = torch.from_numpy(labels).float().to(device), torch.from_numpy(pairs).to(device)
        self.learn_in_groups(activations, best, rows, ids)
        return self

    def _given(self, X: Any, *, fits: bool = False) -> Any:  # noqa: N803
        """X as `learn` and `response_scores` take it."""
        return as_tokens(self, X, fits=fits) if self.ragged else as_activations(self, X, fits=fits)

    @classmethod
    def fit_each(
        cls,
        probes: Sequence[Probe],
        activations: Float[Tensor, "fit *batch stimulus example d_model"] | list[Ragged],
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> list[Probe]:
        """Fit unfitted probes that differ in their `seed` alone, each on rows of its own with the same labels.

        This is the plain loop. A class overrides it where fits that run side by side cost less.

        Returns:
            The same probes, fitted.
        """
        return [probe.fit(own, labels, groups) for probe, own in zip(probes, activations, strict=True)]

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """What it would have learned with the labels of some pairs exchanged: a null for its accuracy.

        This is the plain loop, one fit a null. A probe overrides it where it has a quicker way to the same.

        Args:
            activations: the rows that it was fitted on, in the order best, worse, best, worse, ...
            swaps: for each null, the pairs whose best response counts as the worse one and the other way round.

        Returns:
            A fitted probe whose state has one more leading axis, the nulls: it scores `[null, *batch, example]`.
        """
        rows = torch.arange(2 * swaps.shape[1], device=swaps.device).reshape(-1, 2)
        labels, groups = torch.tensor([1.0, 0.0]).repeat(len(rows)), torch.arange(len(rows)).repeat_interleave(2)
        states = []
        for swap in swaps:
            order = torch.where(swap[:, None], rows.flip(1), rows).reshape(-1).to(activations.device)
            states.append(clone(self).fit(activations[..., order, :], labels, groups).state())
        return self.with_state({name: torch.stack([state[name] for state in states]) for name in states[0]})

    def fit_relabelled(
        self,
        activations: Any,  # noqa: ARG002
        labels: Float[np.ndarray, "null example"],  # noqa: ARG002
        groups: Int[np.ndarray, " example"],  # noqa: ARG002
    ) -> Probe | None:
        """What it would have learned from labelled texts with other labels, all nulls in one fit.

        Args:
            activations: the rows that it was fitted on.
            labels: of each row, by null.
            groups: of each row, what is not to be parted.

        Returns:
            A fitted probe as of `fit_swapped`; None where the class has no quicker way than one fit a null.
        """
        return None

    def decision_function(self, X: Any) -> Any:  # noqa: N803
        """One score a response, `[n]` or `[*batch, example]`; higher means better.

        Raises:
            NotFitted: before `fit`.
            BadArray: X is not shaped as what it was fitted on.
        """
        self.state()
        scores = self.response_scores(self._given(X))
        return scores if isinstance(X, Tensor | Ragged) else scores.numpy()

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The label of each response, one of `classes_`: the second where the score is above 0."""
        above: np.ndarray = np.asarray(torch.as_tensor(self.decision_function(X)).cpu() > 0)
        return self.classes_[above.astype(np.int64)]

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """`[*, 2]`: the probability of each of `classes_`, sigmoid(score) of the second.

        It is calibrated as far as the scores are: a logistic regression's are, a mass mean's are where the classes are
        Gaussian with unit covariance. What `repeng.fit` gives is calibrated on held-out pairs.
        """
        probability = self.probabilities(torch.as_tensor(self.decision_function(X)))
        both = torch.stack([1 - probability, probability], dim=-1)
        return both if isinstance(X, Tensor | Ragged) else both.numpy()

    def probabilities(self, scores: Float[Tensor, "*batch example"]) -> Float[Tensor, "*batch example"]:
        """From a response's score to the probability that it is the better class."""
        return scores.sigmoid()

    def transform(self, X: Any) -> Any:  # noqa: N803
        """`[n, 1]`: the scores as a column."""
        return self.decision_function(X)[..., None]

    def pair_score(
        self,
        best: Float[Tensor, "*batch stimulus pair d_model"],
        worse: Float[Tensor, "*batch stimulus pair d_model"],
    ) -> Float[Tensor, "*batch pair"]:
        """One score a pair, positive where the first is preferred; antisymmetric in its arguments."""
        return self.decision_function(best) - self.decision_function(worse)

    def scores_of_each(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "each *batch example"]:
        """The scores by several fitted probes at once, whose states lie side by side on one more leading axis.

        This is the plain loop. A probe overrides it where one product gives them all.
        """
        return torch.stack([each.response_scores(activations) for each in self.apart()])

    def pair_scores_of_each(
        self,
        best: Float[Tensor, "*batch stimulus pair d_model"],
        worse: Float[Tensor, "*batch stimulus pair d_model"],
    ) -> Float[Tensor, "each *batch pair"]:
        """`pair_score` by several fitted probes at once, as in `scores_of_each`."""
        return torch.stack([each.pair_score(best, worse) for each in self.apart()])

    def apart(self) -> list[Probe]:
        """The fitted probes whose states lie side by side on the leading axis."""
        state = self.state()
        return [
            self.with_state({name: value[place] for name, value in state.items()})
            for place in range(len(next(iter(state.values()))))
        ]

    def described(self) -> dict[str, Any]:
        """Its parameters as a file holds them: `get_probe(name, **described)` is the same unfitted probe."""
        return self.get_params()

    def check_can_be_saved(self) -> None:
        """Raise BadInput, saying why, where what was learned is more than its tensors."""

    def with_directions(self, directions: Float[Tensor, "*batch d_model"]) -> Probe | None:  # noqa: ARG002
        """A fitted probe that reads along given directions; None where it reads along none."""
        return None

    @classmethod
    def sites(cls) -> tuple[str, ...]:
        """Every site that a capture must hold for this probe."""
        return (cls.site,)

    @classmethod
    def reads(cls, n_layers: int, site: str | None = None) -> tuple[Reading, ...]:
        """Which tensors of a store are this probe's layers, lowest first, for a model of `n_layers` blocks.

        `site` asks for another site than the probe's own.
        """
        site = site or cls.site
        if site == "ln_final":
            return (Reading(site, n_layers - 1, n_layers - 1),)
        return tuple(Reading(site, layer, layer) for layer in range(n_layers))

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned: every tensor whose name ends in `_`.

        Raises:
            NotFitted: the probe is not fitted.
        """
        state = {name: value for name, value in vars(self).items() if name.endswith("_") and isinstance(value, Tensor)}
        if not state:
            raise NotFitted(f"probe {self.name!r} is not fitted; call fit first")
        return state

    def with_state(self, state: dict[str, Tensor]) -> Probe:
        """A probe of the same parameters that has learned `state`."""
        probe: Probe = object.__new__(type(self))
        probe.__dict__.update((name, value) for name, value in vars(self).items() if not isinstance(value, Tensor))
        probe.classes_ = getattr(self, "classes_", np.array([0.0, 1.0]))
        for name, value in state.items():
            setattr(probe, name, value)
        return probe

    def select(self, *index: Int[Tensor, " unit"]) -> Probe:
        """The fitted probe of chosen batch elements: one index tensor a batch axis, as in `tensor[layers, heads]`."""
        return self.with_state({name: value[index] for name, value in self.state().items()})


class LinearProbe(Probe):
    """A probe whose score is `features . direction_ - offset_`.

    Attributes:
        direction_: `[*batch, d_model]`.
        offset_: `[*batch]`, which no pair's score depends on.
    """

    direction_: Tensor
    offset_: Tensor

    def features(self, activations: Float[Tensor, "*batch stimulus example d"]) -> Float[Tensor, "*batch example d"]:
        """What the direction is applied to: the first stimulus, in float32 (float64 stays)."""
        return in_float(activations[..., 0, :, :])

    def fit_direction(
        self, features: Float[Tensor, "*batch example d"], labels: Labels, pairs: Int[Tensor, "pair 2"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """The direction and the offset. `pairs` are rows (best, worse)."""
        raise NotImplementedError(f"{type(self).__name__} has no method fit_direction(features, labels, pairs)")

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],
    ) -> None:
        """The direction and the offset."""
        self.direction_, self.offset_ = self.fit_direction(self.features(activations), labels, pairs)

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """`features . direction_ - offset_`."""
        return self._along(activations)

    def _along(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*each_batch example"]:
        features = self.features(activations).to(self.direction_.dtype)
        return projected(features, self.direction_) - self.offset_[..., None]

    def scores_of_each(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "each *batch example"]:
        """One matrix product for all, where the class has not its own way to a score."""
        if type(self).response_scores is not LinearProbe.response_scores:
            return super().scores_of_each(activations)
        return self._along(activations)

    def with_directions(self, directions: Float[Tensor, "*batch d_model"]) -> Probe:
        """The same directions, and no offset."""
        return self.with_state({"direction_": directions, "offset_": directions.new_zeros(directions.shape[:-1])})


def check_finite(activations: Float[Tensor, "*batch stimulus example d"] | Ragged) -> None:
    """Raise NonFinite, naming the first batch element and row at fault."""
    if all_finite(activations):
        return
    *batch, _, row = (int(number) for number in (~finite_rows(activations)).nonzero()[0])
    place = f"batch element {tuple(batch)}, " if batch else ""
    raise NonFinite(f"{place}response row {row}: the activation is not finite; capture in bfloat16 or float32")


def group_ids(groups: Any, count: int) -> Shaped[np.ndarray, " example"]:
    """The group of each response, as an array.

    Raises:
        BadArray: there are more, or fewer.
    """
    ids = np.asarray(groups.cpu() if isinstance(groups, Tensor) else groups)
    if ids.shape != (count,):
        raise BadArray(f"groups of shape {ids.shape} are not one a response; there are {count} responses")
    return ids


def pair_rows(labels: Float[np.ndarray, " example"], groups: Any) -> Int[np.ndarray, "pair 2"]:
    """Rows (best, worse): `all_pairs` of groups; without groups best rows and worse ones side by side, in order."""
    if groups is None:
        best, worse = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        count = min(len(best), len(worse))
        return np.stack([best[:count], worse[:count]], axis=1)
    ids = group_ids(groups, len(labels))
    if not np.issubdtype(ids.dtype, np.integer):
        _, ids = np.unique(ids, return_inverse=True)
    return all_pairs(labels, ids)


def projected(
    rows: Float[Tensor, "*batch example d"], direction: Float[Tensor, "*directions d"]
) -> Float[Tensor, "*directions example"]:
    """Each row's product with its batch element's direction, of which there may be many (a null axis in front).

    One matrix product a batch element: rows are not copied for each of their directions.
    """
    columns = rows.transpose(-1, -2)
    extra = direction.ndim - rows.ndim + 1
    if extra <= 0:
        return (direction[..., None, :] @ columns)[..., 0, :]
    # Rows that are read by directions of their own: those lie side by side as one matrix.
    together = direction.flatten(0, extra - 1).movedim(0, -2) @ columns
    return together.movedim(-2, 0).unflatten(0, direction.shape[:extra])


def swap_signs(swaps: Bool[Tensor, "null pair"]) -> Float[Tensor, "null example"]:
    """+1 for a row that counts as best and -1 for one that counts as worse, rows being best, worse, best, ..."""
    signs = 1 - 2 * swaps.float()
    return torch.stack([signs, -signs], dim=-1).flatten(1)


def exchanged(
    gaps: Float[Tensor, "*batch pair"], swaps: Bool[Tensor, "null pair"]
) -> Float[Tensor, "null *batch pair"]:
    """Each pair's difference, turned round where its labels are."""
    signs = 1 - 2 * swaps.to(gaps)
    return gaps * signs.reshape(len(swaps), *(1,) * (gaps.ndim - 1), -1)


def majority_sign(pair_scores: Float[Tensor, "*batch pair"]) -> Float[Tensor, "*batch"]:
    """+1 where most of the pairs score above zero, else -1; where as many do as not, the sign of their mean."""
    majority = pair_scores.sign().sum(dim=-1)
    decided = torch.where(majority == 0, pair_scores.mean(dim=-1), majority)
    return torch.where(decided < 0, -1.0, 1.0).to(pair_scores.dtype)
