"""Hooks that score what a model reads, as it reads it. They always come off."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from repeng.activations.forward import by_cell, hooked, stored
from repeng.activations.token_rules import token_rule
from repeng.errors import BadInput
from repeng.models.load import LanguageModel
from repeng.models.sites import OF_D_MODEL, Hook
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.watching.scoring import scorer_class


class ScoreHooks:
    """Scores every token that a model reads while the context is open; the activations are not kept.

    Scores stay on the model's device until they are asked for, so that nothing waits for them.

    Args:
        lm: the model.
        fitted: a probe that was fitted on it.
        storage_dtype: what its activations were kept in.

    Attributes:
        counted: which tokens of the next pass are the response's: all, none, or as a mask `[row, pos]`.
        begins: whether a pass since the last `take` was the first of a text: it had a cache, and that was empty.
        has_cache: whether the last pass had a cache.
        attention_mask: of the last pass, as the model was given it.

    Raises:
        BadInput: the probe cannot be followed token by token, or the model is held by several processes or has no such
            layer or site.
    """

    def __init__(self, lm: LanguageModel, fitted: FittedProbe, storage_dtype: torch.dtype | None) -> None:
        if lm.processes is not None:
            raise BadInput(f"{lm.name} is held by several processes; watch a model that one holds (--device-map auto)")
        self._scorer = scorer_class(fitted)(fitted, storage_dtype)
        readings = {reading.layer: (reading.site, reading.block) for reading in fitted.reads(lm.n_layers)}
        if lacking := sorted(set(fitted.layers) - set(readings)):
            raise BadInput(f"probe {fitted.name!r} reads layer {lacking[0]}, and {lm.name} has {lm.n_layers} layers")
        self._units = [(readings[layer], head) for layer, head in fitted.units]
        self.points = {hook: lm.hook_point(*hook) for hook in readings.values()}
        self._of_means = token_rule(fitted.token).kind == "means"
        self._lm = lm
        self._shape: torch.Size | None = None
        self._values: dict[Hook, Tensor] = {}
        self._scores: list[Tensor] = []
        self._open: ExitStack | None = None
        self.counted: bool | Tensor = True
        self.begins = self.has_cache = False
        self.attention_mask: Any = None

    def __enter__(self) -> ScoreHooks:
        if self._open is not None:
            raise BadInput("these hooks are on the model already; one context at a time")
        self.reset()
        with ExitStack() as stack:
            handle = self._lm.base.register_forward_pre_hook(self._begin, with_kwargs=True)
            stack.callback(handle.remove)
            stack.enter_context(hooked(self.points, self._keep))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        stack, self._open = self._open, None
        self._values.clear()
        if stack is not None:
            stack.close()

    def check_width(self) -> None:
        """Score a vector of the model's width, which a probe of another model may not take.

        Raises:
            BadInput: the probe is of another width.
        """
        hook = self._units[0][0]
        width = self.points[hook].d_head or (self._lm.d_model if hook[0] in OF_D_MODEL else None)
        if width is None:
            return
        try:
            self._scorer(torch.zeros(len(self._units), 1, 1, width), counted=True)
        except RuntimeError as error:
            raise BadInput(
                f"the probe reads other vectors than the {width} dimensions that {hook[0]} of {self._lm.name} has; "
                "take the model that it was fitted on"
            ) from error
        finally:
            self._scorer.reset()

    def reset(self) -> None:
        """Begin with other texts."""
        self._scorer.reset()
        self._scores.clear()
        self._values.clear()

    def take(self) -> list[Float[Tensor, "row pos"]]:
        """The scores of each pass since the last call, on the model's device."""
        taken, self._scores, self.begins = self._scores, [], False
        return taken

    def _begin(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("input_ids", args[0] if args else None)
        given = kwargs.get("inputs_embeds") if given is None else given
        self._shape = None if given is None else given.shape[:2]
        cache: Any = kwargs.get("past_key_values")
        self.has_cache = cache is not None
        # A cache on a device may have to be waited for: it is asked only where a text may begin.
        may_begin = self._shape is not None and self._shape[1] > 1 and hasattr(cache, "get_seq_length")
        self.begins |= may_begin and not int(cache.get_seq_length())
        self.attention_mask = kwargs.get("attention_mask")
        self._values.clear()

    def _keep(self, hook: Hook, value: Tensor) -> None:
        """Take a layer's vectors, and score them when all are there."""
        if self._shape is None:
            return
        self._values[hook] = by_cell(value.detach(), self._shape, hook)
        if len(self._values) < len(self.points):
            return
        with torch.no_grad():
            vectors = torch.stack([self._unit(place, head) for place, head in self._units])
            self._values.clear()
            self._scores.append(self._scorer(vectors, self.counted))

    def _unit(self, hook: Hook, head: int) -> Float[Tensor, "row pos d"]:
        """A unit's vectors, as a capture has them before they are rounded to be kept."""
        value, point = self._values[hook], self.points[hook]
        # A capture takes the mean in float32, and what scales it comes after.
        value = stored(value.float() if self._of_means else value, point, torch.float32)
        first = self._values[self._units[0][0]].device
        return (value if head == NO_HEAD else value[..., head, :]).to(first)
