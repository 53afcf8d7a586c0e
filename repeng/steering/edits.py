"""What is done to the activations of one unit: a vector added, a subspace taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Edit(Protocol):
    """A map of activations, one vector at a time."""

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The edited activations, in float32 as they are given."""
        ...

    def to(self, device: torch.device) -> Edit:
        """The same where activations are."""
        ...

    @property
    def width(self) -> int:
        """Dimensions of the activations."""
        ...


@dataclass(frozen=True, eq=False)
class Add:
    """x + vector."""

    vector: Float[Tensor, " d"]

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """With the vector added."""
        return x + self.vector

    @property
    def width(self) -> int:
        """Dimensions of the activations."""
        return len(self.vector)

    def to(self, device: torch.device) -> Add:
        """The same on a device."""
        return Add(self.vector.to(device))


@dataclass(frozen=True, eq=False)
class Erase:
    """x - left (right (x - bias)): a subspace is taken away, what lies at `bias` stays.

    One direction d of length 1, whose projection is set to the source's mean c: left and right are d, bias is c d.
    LEACE's eraser is of the same form, with a left and a right of its own.
    """

    left: Float[Tensor, "d k"]
    right: Float[Tensor, "k d"]
    bias: Float[Tensor, " d"]

    @classmethod
    def along(cls, direction: Float[Tensor, " d"], centre: float) -> Erase:
        """Set the projection on a direction of length 1 to `centre`."""
        return cls(direction[:, None], direction[None], centre * direction)

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """With the subspace taken away."""
        return x - (x - self.bias) @ self.right.T @ self.left.T

    @property
    def width(self) -> int:
        """Dimensions of the activations."""
        return len(self.bias)

    def to(self, device: torch.device) -> Erase:
        """The same on a device."""
        return Erase(self.left.to(device), self.right.to(device), self.bias.to(device))
