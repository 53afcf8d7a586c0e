"""Hooks that edit activations while a model runs, and always come off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repeng.models.sites import HookPoint
from repeng.steering.edits import Edit
from repeng.steering.vector import Unit

Edits = Mapping[Unit, Sequence[Edit]]
"""What is done at each unit, in order."""
Mask = Callable[[torch.Size], Bool[Tensor, "row pos"] | None]
"""Says which tokens of a pass of [row, pos] are edited; None for all."""


def always(tokens: Bool[Tensor, "row pos"] | None) -> Mask:
    """The same tokens of every pass."""
    return lambda _shape: tokens


@contextmanager
def editing(points: Mapping[int, HookPoint], edits: Edits, mask: Mask | None = None) -> Iterator[None]:
    """While the context is open, each pass of the model edits its activations.

    Edits are computed in float32, of what the hook point gives as a store holds it (heads apart, as it enters the
    residual stream), and rounded to the model's dtype.

    Args:
        points: of each layer that is edited, where.
        edits: of each (layer, head), what.
        mask: which tokens; None for all.
    """
    by_layer: dict[int, list[tuple[int, Edit]]] = {}
    for (layer, head), own in edits.items():
        by_layer.setdefault(layer, []).extend((head, edit) for edit in own)
    handles: list[Any] = []
    try:
        for layer, here in by_layer.items():
            point = points[layer]
            editor = _Editor(point, tuple(here), mask or always(None))
            if point.side == "input":
                handles.append(point.module.register_forward_pre_hook(editor.before, with_kwargs=True))
            else:
                handles.append(point.module.register_forward_hook(editor.after))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Editor:
    """Edits what enters or leaves one module."""

    def __init__(self, point: HookPoint, edits: tuple[tuple[int, Edit], ...], mask: Mask) -> None:
        self._point, self._edits, self._mask = point, edits, mask
        self._device: torch.device | None = None

    def before(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (self._edited(args[0]), *args[1:]), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
        return args, {**kwargs, name: self._edited(kwargs[name])}

    def after(self, _module: Any, _args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._edited(output[0]), *output[1:])
        return self._edited(output)

    def _edited(self, value: Float[Tensor, "*cell feature"]) -> Float[Tensor, "*cell feature"]:
        if value.device != self._device:
            self._edits = tuple((head, edit.to(value.device)) for head, edit in self._edits)
            self._device = value.device
        found = value.float() * self._point.scale
        for head, edit in self._edits:
            if head < 0:
                found = edit(found)
            else:
                heads = found.unflatten(-1, (-1, self._point.d_head or found.shape[-1]))
                found = torch.cat(
                    [heads[..., :head, :], edit(heads[..., head : head + 1, :]), heads[..., head + 1 :, :]], dim=-2
                ).flatten(-2)
        found = (found / self._point.scale).to(value.dtype)
        chosen = self._mask(value.shape[:-1])
        if chosen is None:
            return found
        # OPT has rows and positions in one axis.
        chosen = chosen.to(value.device).reshape(value.shape[:-1])
        return torch.where(chosen[..., None], found, value)
