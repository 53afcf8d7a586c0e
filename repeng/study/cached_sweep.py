"""Cached activations layer by layer: every layer of several probes, and every source against every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.methods.answers import by_layer
from repeng.methods.base import Target
from repeng.methods.named_probe import NamedProbe
from repeng.methods.probes import FittedOnCache
from repeng.probes.directions import unit_directions
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.probes.source import BLOCK_BYTES
from repeng.results import AUROC, PAIR_ACCURACY, LayerRow, layer_rows
from repeng.study.cached_data import Cached, CachedData, opened
from repeng.study.lacking import check_captured
from repeng.study.steps import cached_target, fit, parts_of, probe_of, question_of, spec_of


def sweep(
    cached: Cached,
    source: str,
    targets: str | Sequence[str],
    probes: Any = ("mms", "lat", "ccs", "cra"),
    *,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    block_bytes: int = BLOCK_BYTES,
    allow_shared: bool = False,
) -> list[LayerRow]:
    """Every probe at every layer, and every head where the site has heads, on every target's test split.

    Memory does not grow with the store: fitting holds `block_bytes` of the source's float32 activations (one layer, if
    that has more) and two or three copies of them, scoring one layer of one target.

    Args:
        cached: the activations.
        source: the distribution to fit on.
        targets: the distributions to score.
        probes: as in `fit`.
        site: hook site to read, where it is not a probe's own; `token` alike.
        seed: of the source's split.
        block_bytes: as in `fit`.
        allow_shared: as in `evaluate`.

    Returns:
        One row a probe, target, layer and head, with accuracy and its 95 % interval; `pandas.DataFrame(rows)` is a
        table. `chosen` marks what the source alone chose, `oracle` what the target's labels would have: not to use.

    Raises:
        UnknownName: no such probe, source or target.
        BadInput: as `evaluate`.
        StoreError: what a probe reads was not captured.
    """
    data = opened(cached)
    targets = (targets,) if isinstance(targets, str) else targets
    named = [probe_of(probe) for probe in (list(probes) if isinstance(probes, tuple | list) else [probes])]
    check_probes(data, named, [(source, "train"), *((target, "test") for target in targets)], site=site, token=token)
    rows: list[LayerRow] = []
    for one in named:
        fitted = fit(data, source, one, site=site, token=token, seed=seed, block_bytes=block_bytes)
        units = [unit for layer in fitted.fitted_layers for unit in fitted.heads_of(layer)]
        for target in targets:
            asked = cached_target(fitted, data, target, allow_shared=allow_shared)
            question, labels = question_of(asked)
            found = FittedOnCache.alone(fitted, data.n_layers).unit_scores(question, units)
            asked.forget()
            figures = by_layer(found, question, labels).figures
            names = {"model": data.model, "probe": one.name, "source": source, "target": target}
            rows += layer_rows(figures, **names, figure=_figure(question))
    return rows


@dataclass(frozen=True)
class Transfer:
    """One probe fitted on each of some distributions and tested on each.

    Attributes:
        accuracy: `[source][target]`.
        cosine: `[source][source]`, of the directions at one layer that all sources share; None where the probe has
            no direction, and where sources chose different heads.
        layer: that layer: the one of highest mean held-out accuracy over the sources.
        figures: what the accuracies on each target are: `pair accuracy`, or `auroc` of labelled texts.
    """

    probe: str
    names: tuple[str, ...]
    accuracy: list[list[float]]
    cosine: list[list[float]] | None
    layer: int
    figures: tuple[str, ...]


def transfer_matrix(
    cached: Cached,
    distributions: Sequence[str],
    probe: Any = "mms",
    *,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    allow_shared: bool = False,
) -> Transfer:
    """Fit on each distribution's train split, test on each one's test split, all at one shared layer.

    Is it one truth direction (Marks and Tegmark 2023, arXiv:2310.06824)? Then every accuracy is high and every cosine
    near 1.

    Args:
        cached: the activations.
        distributions: two or more.
        probe: as in `fit`.
        site: hook site to read, where it is not the probe's own; `token` alike.
        seed: of the sources' splits.
        allow_shared: as in `evaluate`.

    Raises:
        BadInput: fewer than two distributions; or as `evaluate`.
        UnknownName: no such probe or distribution.
        StoreError: what the probe reads was not captured.
    """
    data = opened(cached)
    named = probe_of(probe)
    if len(distributions) < 2:
        listing = ", ".join(distributions) or "none"
        raise BadInput(f"a transfer matrix needs 2 distributions or more; given {listing}")
    both = [(each, split) for each in distributions for split in ("train", "test")]
    check_probes(data, [named], both, site=site, token=token)
    fits = [fit(data, each, named, site=site, token=token, seed=seed) for each in distributions]
    place = int(np.mean([fitted.held_out_accuracy for fitted in fits], axis=0).argmax())
    accuracy: list[list[float]] = [[] for _ in distributions]
    figures = []
    for each in distributions:
        asked = [cached_target(fitted, data, each, allow_shared=allow_shared) for fitted in fits][0]
        question, labels = question_of(asked)
        figures.append(_figure(question))
        for row, fitted in zip(accuracy, fits, strict=True):
            found = FittedOnCache.alone(fitted, data.n_layers).unit_scores(question, [fitted.layer_units[place]])
            row.append(by_layer(found, question, labels).figures[0].accuracy)
        asked.forget()
    cosine = None
    units = [_unit_direction(fitted, place) for fitted in fits]
    if len({fitted.layer_heads[place] for fitted in fits}) == 1 and all(unit is not None for unit in units):
        stacked = np.stack([unit for unit in units if unit is not None])
        cosine = (stacked @ stacked.T).tolist()
    return Transfer(named.name, tuple(distributions), accuracy, cosine, fits[0].fitted_layers[place], tuple(figures))


def check_probes(
    data: CachedData,
    probes: Sequence[NamedProbe],
    splits: Sequence[tuple[str, str]],
    *,
    site: str | None,
    token: str | None,
) -> None:
    """Refuse activations that lack some of what probes read at all layers; see `check_captured`."""
    specs = [spec_of(named, site=site, token=token, seed=0, layers="auto") for named in probes]
    own = [stimulus for named in probes for stimulus in named.reads]
    check_captured(data, [parts_of(spec, data) for spec in specs], splits, own)


def _figure(question: Target) -> str:
    """What an accuracy of the answer to a question is."""
    return AUROC if question.as_texts else PAIR_ACCURACY


def _unit_direction(fitted: FittedProbe, place: int) -> Float[np.ndarray, " d"] | None:
    """The direction at a layer (and its best head), of length 1, towards what scores higher; None if there is none."""
    units = unit_directions(fitted.probe)
    head = fitted.layer_heads[place]
    return None if units is None else units[place if head == NO_HEAD else (place, head)]
