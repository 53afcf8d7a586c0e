"""What a probe is: an estimator in scikit-learn's way over activations, batched over every leading axis."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadInput, NonFinite
from repeng.maths import all_pairs

Labels = Float[Tensor, " example"]
ExampleIds = Int[Tensor, " example"]


class Reading(NamedTuple):
    """One `layer` of a probe's input, and where a store keeps it: `blocks.{block}.hook_{site}`."""

    site: str
    block: int
    layer: int


class Probe(ABC):
    """An estimator over activations `[*batch, stimulus, example, d_model]`, fitted on every batch element in one call.

    "example" here is one response. The constructor stores its keyword-only parameters and does nothing else; `fit`
    learns tensors whose names end in `_`, each with the leading batch axes of the activations, and returns self.
    What it learns for one batch element must not depend on the others.

    Attributes:
        name: what users type.
        stimuli: names of the stimuli that it reads, in the order of the stimulus axis.
        site: the hook site that it reads.
        token: the token whose activation it reads.
        rule: "held-out" lets held-out source pairs choose layers and calibrate; "genies" does as GENIES released it.
        ranks_by_scores: whether a pair's score is the difference of two responses' scores.
    """

    name: ClassVar[str]
    stimuli: ClassVar[tuple[str, ...]] = ("plain",)
    site: ClassVar[str] = "resid_post"
    token: ClassVar[str] = "last"
    rule: ClassVar[Literal["held-out", "genies"]] = "held-out"
    ranks_by_scores: ClassVar[bool] = True

    @abstractmethod
    def fit(
        self, activations: Float[Tensor, "*batch stimulus example d_model"], labels: Labels, groups: ExampleIds
    ) -> Probe:
        """Learn from labelled responses.

        Args:
            activations: one row a response.
            labels: 1.0 for an example's best response, 0.0 for a worse one.
            groups: example ids; an example's pairs are its 1.0 row against each of its 0.0 rows.

        Raises:
            BadInput: one class only, an example with two best responses, or fewer than two pairs.
            NonFinite: an activation is infinite or not a number.
        """

    @abstractmethod
    def decision_function(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """One score a response; higher means better."""

    def pair_score(
        self,
        best: Float[Tensor, "*batch stimulus pair d_model"],
        worse: Float[Tensor, "*batch stimulus pair d_model"],
    ) -> Float[Tensor, "*batch pair"]:
        """One score a pair, positive where the first is preferred; antisymmetric in its arguments."""
        return self.decision_function(best) - self.decision_function(worse)

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

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Names of the constructor's parameters."""
        return tuple(name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs"))

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  (scikit-learn's signature)
        """The constructor's parameters."""
        return {name: getattr(self, name) for name in self.parameter_names()}

    def set_params(self, **params: Any) -> Probe:
        """Change parameters in place.

        Raises:
            BadInput: the probe has no such parameter.
        """
        for name, value in params.items():
            if name not in self.parameter_names():
                known = ", ".join(self.parameter_names()) or "(it has none)"
                raise BadInput(f"probe {self.name!r} has no parameter {name!r}; choose from {known}")
            setattr(self, name, value)
        return self

    def clone(self) -> Probe:
        """An unfitted probe of the same parameters."""
        return type(self)(**self.get_params())

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned: every tensor whose name ends in `_`.

        Raises:
            BadInput: the probe is not fitted.
        """
        state = {name: value for name, value in vars(self).items() if name.endswith("_") and isinstance(value, Tensor)}
        if not state:
            raise BadInput(f"probe {self.name!r} is not fitted; call fit first")
        return state

    def with_state(self, state: dict[str, Tensor]) -> Probe:
        """A probe of the same parameters that has learned `state`."""
        probe = self.clone()
        for name, value in state.items():
            setattr(probe, name, value)
        return probe

    def select(self, *index: Int[Tensor, " unit"]) -> Probe:
        """The fitted probe of chosen batch elements: one index tensor a batch axis, as in `tensor[layers, heads]`."""
        return self.with_state({name: value[index] for name, value in self.state().items()})

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({parameters})"


class LinearProbe(Probe):
    """A probe whose score is `features . direction_ - offset_`.

    Attributes:
        direction_: `[*batch, d_model]`.
        offset_: `[*batch]`, which no pair's score depends on.
    """

    direction_: Tensor
    offset_: Tensor

    def features(self, activations: Float[Tensor, "*batch stimulus example d"]) -> Float[Tensor, "*batch example d"]:
        """What the direction is applied to: the first stimulus, in float32."""
        return activations[..., 0, :, :].float()

    @abstractmethod
    def fit_direction(
        self, features: Float[Tensor, "*batch example d"], labels: Labels, pairs: Int[Tensor, "pair 2"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """The direction and the offset. `pairs` are rows (best, worse)."""

    def fit(
        self, activations: Float[Tensor, "*batch stimulus example d_model"], labels: Labels, groups: ExampleIds
    ) -> LinearProbe:
        """Learn the direction; see `Probe.fit`."""
        pairs = check_fit(self, activations, labels, groups)
        labels = labels.to(activations.device)
        self.direction_, self.offset_ = self.fit_direction(self.features(activations), labels, pairs)
        return self

    def decision_function(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """`features . direction_ - offset_`."""
        check_stimuli(self, activations)
        direction = self.state()["direction_"]
        return (self.features(activations) @ direction[..., None])[..., 0] - self.offset_[..., None]


def check_stimuli(probe: Probe, activations: Float[Tensor, "*batch stimulus example d"]) -> None:
    """Raise BadInput unless the activations hold exactly the stimuli that the probe reads."""
    if activations.shape[-3] != len(probe.stimuli):
        raise BadInput(
            f"probe {probe.name!r} reads {len(probe.stimuli)} stimuli ({', '.join(probe.stimuli)}); "
            f"the activations hold {activations.shape[-3]}"
        )


def check_fit(
    probe: Probe, activations: Float[Tensor, "*batch stimulus example d"], labels: Labels, groups: ExampleIds
) -> Int[Tensor, "pair 2"]:
    """Check what `fit` was given, and return its pairs as rows (best, worse).

    Raises:
        BadInput: wrong number of stimuli, one class only, two best responses in an example, or under two pairs.
        NonFinite: an activation is infinite or not a number.
    """
    check_stimuli(probe, activations)
    for label, kind in ((1.0, "best"), (0.0, "worse")):
        if not bool((labels == label).any()):
            raise BadInput(f"probe {probe.name!r}: no response is labelled {label} ({kind}); a fit needs both classes")
    check_finite(activations)
    pairs = pair_rows(labels, groups)
    if len(pairs) < 2:
        raise BadInput(f"probe {probe.name!r}: {len(pairs)} pair(s) to fit on; it needs 2 or more")
    return pairs.to(activations.device)


def check_finite(activations: Float[Tensor, "*batch stimulus example d"]) -> None:
    """Raise NonFinite, naming the first batch element and row at fault."""
    if all_finite(activations):
        return
    *batch, _, row, _ = (int(number) for number in (~torch.isfinite(activations)).nonzero()[0])
    place = f"batch element {tuple(batch)}, " if batch else ""
    raise NonFinite(f"{place}response row {row}: the activation is not finite; capture in bfloat16 or float32")


def all_finite(values: Float[Tensor, "*shape"]) -> bool:
    """Whether no value is infinite or not a number.

    One such value makes the sum so too, and a sum is forty times faster than looking at each; only where finite values
    add up to an overflow are they looked at.
    """
    total = values.sum(dtype=torch.float32 if values.element_size() < 4 else None)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(values).all())


def pair_rows(labels: Labels, groups: ExampleIds) -> Int[Tensor, "pair 2"]:
    """`all_pairs` for tensors."""
    return torch.from_numpy(all_pairs(labels.cpu().double().numpy(), groups.cpu().numpy()))


def majority_sign(pair_scores: Float[Tensor, "*batch pair"]) -> Float[Tensor, "*batch"]:
    """+1 where most of the pairs score above zero, else -1; where as many do as not, the sign of their mean."""
    majority = pair_scores.sign().sum(dim=-1)
    decided = torch.where(majority == 0, pair_scores.mean(dim=-1), majority)
    return torch.where(decided < 0, -1.0, 1.0).to(pair_scores.dtype)
