"""Steering a model: a context in which it runs with its activations edited, and after which it is as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from repeng.activations.matching import match
from repeng.errors import BadInput, UnknownName
from repeng.limits import check_number
from repeng.models.architectures import dissect
from repeng.models.load import LanguageModel
from repeng.models.sites import OF_D_MODEL, HookPoint, Sites
from repeng.probes.fitted import FittedProbe
from repeng.steering.edits import Add, Edit, Erase
from repeng.steering.eraser import Eraser
from repeng.steering.hooks import Edits, always, editing
from repeng.steering.vector import SteeringVector, Unit

log = logging.getLogger(__name__)

TOKENS = ("all", "prompt", "generated")


@contextmanager
def steer(
    model: Any,
    along: FittedProbe | SteeringVector | Eraser,
    *,
    alpha: float = 0.0,
    project_out: bool = False,
    layers: Sequence[int] | None = None,
    tokens: str | Bool[Tensor, "row pos"] = "all",
    any_model: bool = False,
) -> Iterator[Any]:
    """Run a model with directions added to its activations, or taken out of them; afterwards it is as it was.

        probe = repeng.fit(cached, "facts", "mms")
        with repeng.steer(model, probe, alpha=2):          # two standard deviations of the source
            model.generate(**inputs)
        with repeng.steer(model, probe, project_out=True):
            model(**inputs)

    Contexts may be nested: the inner one edits last.

    Args:
        model: a causal language model of transformers, or what `load_model` gives.
        along: a fitted probe, or a `SteeringVector`; or an `Eraser`, whose subspace is taken out.
        alpha: how much of each direction is added, in standard deviations of the source's projections on it; negative
            for the other way.
        project_out: first set each projection to the source's mean, so that nothing lies along the direction that
            differs from text to text. An eraser does just this.
        layers: of those that the probe was fitted at; None for those that it chose.
        tokens: `all`; `prompt`, those of a pass that begins without a cache; `generated`, those of passes that go on
            with one, as in `generate`; or a mask [row, pos] of the tokens of each pass.
        any_model: take a model that is not known to be the one that the probe was fitted on.

    Yields:
        The model.

    Raises:
        BadInput: the probe reads along no direction, has no such layer, or is of another width than the model; nothing
            is to be done; or something is to be added of an eraser.
        CaptureMismatch: the model is what `load_model` gives, and the probe was fitted on another one's activations.
        UnknownName: no such tokens, or no such site.
    """
    if isinstance(along, Eraser):
        if alpha:
            raise BadInput("an eraser takes a subspace out and adds nothing; leave alpha out, or take a probe")
        edits, site = edits_of_eraser(along, layers), along.site
    else:
        if not alpha and not project_out:
            raise BadInput("nothing is to be done: give alpha, a strength other than 0, or project_out=True")
        vector = along if isinstance(along, SteeringVector) else SteeringVector.of(along, layers)
        if isinstance(along, SteeringVector) and layers is not None:
            vector = vector.at(layers)
        edits = edits_along(vector, alpha=alpha, project_out=project_out)
        site = vector.site
    if isinstance(model, LanguageModel):
        check_model(model, along, any_model=any_model)
    with steering(model, site, edits, tokens):
        yield model


def edits_of_eraser(eraser: Eraser, layers: Sequence[int] | None = None) -> Edits:
    """What `steer` does at each unit of an eraser, or of some of its layers.

    Raises:
        BadInput: it has no such layer.
    """
    if layers is not None and (missing := sorted({*layers} - {*eraser.layers})):
        there = ", ".join(map(str, eraser.layers))
        raise BadInput(f"the eraser was not fitted at layer {missing[0]}; it was at {there}")
    chosen = [unit for unit in eraser.units if layers is None or unit[0] in {*layers}]
    return {unit: (Erase(*(part.float() for part in eraser.maps(*unit))),) for unit in chosen}


def edits_along(vector: SteeringVector, *, alpha: float, project_out: bool) -> Edits:
    """What `steer` does at each unit.

    Raises:
        BadInput: `alpha` is no finite number.
    """
    check_number("alpha", alpha, 0.0)
    added = vector.scaled(alpha)
    found: dict[Unit, list[Edit]] = {}
    for unit, direction, centre, sum_ in zip(vector.units, vector.directions, vector.centre, added, strict=True):
        own = [Erase.along(direction, float(centre))] if project_out else []
        found[unit] = [*own, *([Add(sum_)] if alpha else [])]
    return found


@contextmanager
def steering(model: Any, site: str, edits: Edits, tokens: str | Bool[Tensor, "row pos"] = "all") -> Iterator[None]:
    """While the context is open a model runs with edits at some units of a site.

    Raises:
        BadInput, UnknownName: as `steer`.
    """
    if isinstance(tokens, str) and tokens not in TOKENS:
        raise UnknownName("tokens to steer at", tokens, TOKENS)
    points = hook_points(model, site, {layer for layer, _ in edits})
    check_width(model, site, points, edits)
    if isinstance(tokens, Tensor) or tokens == "all":
        with editing(points, edits, always(tokens if isinstance(tokens, Tensor) else None)):
            yield
        return
    inner = model.model if isinstance(model, LanguageModel) else model
    with _pass_kinds(dissect(inner).base) as kinds:

        def chosen(shape: torch.Size) -> Bool[Tensor, "row pos"] | None:
            return None if (tokens == "prompt") == kinds["begins"] else torch.zeros(shape, dtype=torch.bool)

        with editing(points, edits, chosen):
            yield


def hook_points(model: Any, site: str, layers: set[int]) -> dict[int, HookPoint]:
    """Where a site is edited at some layers of a model.

    Raises:
        BadInput: there is no such layer; or several processes hold the model together.
        UnknownName: there is no such site.
    """
    if isinstance(model, LanguageModel):
        if model.processes is not None:
            raise BadInput("a model that several processes hold together is not steered; load it in one (--device-map)")
        return {layer: model.hook_point(site, layer) for layer in sorted(layers)}
    sites = Sites(dissect(model))
    return {layer: sites.point(site, layer) for layer in sorted(layers)}


def check_width(model: Any, site: str, points: Mapping[int, HookPoint], edits: Edits) -> None:
    """Refuse edits of another width than the site's.

    Raises:
        BadInput: they are.
    """
    config = model.config.get_text_config()
    for (layer, head), own in edits.items():
        point = points[layer]
        if (head >= 0) != (point.d_head is not None):
            raise BadInput(
                f"{point.name} {'has heads' if point.d_head else 'has no heads'}; fit the probe on this model"
            )
        width = point.d_head or (int(config.hidden_size) if site in OF_D_MODEL else None)
        for edit in own:
            if width is not None and edit.width != width:
                raise BadInput(
                    f"the direction has {edit.width} dimensions, and {point.name} of this model has {width}; take the "
                    "model that the probe was fitted on"
                )


def check_model(model: LanguageModel, along: FittedProbe | SteeringVector | Eraser, *, any_model: bool = False) -> None:
    """Refuse what was fitted on another model than this one, where it says which.

    Raises:
        CaptureMismatch: it was.
    """
    if isinstance(along, Eraser):
        what = f"the eraser by {along.by}"
    else:
        name = along.name if isinstance(along, FittedProbe) else along.provenance.get("probe")
        what = f"the probe {name}" if name else "the direction"
    for caution in match(along.provenance, model, what=what, any_model=any_model).cautions:
        log.warning("%s", caution)


@contextmanager
def _pass_kinds(base: nn.Module) -> Iterator[Mapping[str, bool]]:
    """Tells whether the pass that a model is in begins a text, or goes on with a cache of one."""
    kinds = {"begins": True}

    def before(_module: Any, _args: Any, kwargs: Mapping[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        kinds["begins"] = cache is None or int(cache.get_seq_length()) == 0

    handle = base.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield kinds
    finally:
        handle.remove()
