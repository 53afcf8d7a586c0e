"""Cached activations layer by layer: every layer of several probes, and every source against every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.methods.answers import by_layer, evaluate
from repeng.methods.base import Target
from repeng.methods.named_probe import NamedProbe
from repeng.methods.probes import FittedOnCache
from repeng.metrics import Evaluation, TextEvaluation, accuracy_interval
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.probes.projection import unit_directions
from repeng.probes.selection import LayerChoice
from repeng.probes.source import BLOCK_BYTES
from repeng.results import AUROC, PAIR_ACCURACY, LayerRow, layer_rows
from repeng.study.cached_data import Cached, CachedData, opened
from repeng.study.cached_train import members_of_source
from repeng.study.lacking import check_captured
from repeng.study.steps import cached_target, fit, parts_of, probe_of, question_of, spec_of


def sweep(
    cached: Cached,
    source: str | Sequence[str],
    targets: str | Sequence[str],
    probes: Any = ("mms", "lat", "ccs", "cra"),
    *,
    train_limit: int | None = None,
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
        source: the distribution to fit on, or several, each for itself; `a+b` is the union of two.
        targets: the distributions to score.
        probes: as in `fit`.
        train_limit: as in `fit`.
        site: hook site to read, where it is not a probe's own; `token` alike.
        seed: of the source's split.
        block_bytes: as in `fit`.
        allow_shared: as in `evaluate`.

    Returns:
        One row a probe, source, target, layer and head, with accuracy and its 95 % interval: `pandas.DataFrame(rows)`
        is a table. `chosen` marks what the source alone chose, `oracle` what the target's labels would: not to use.

    Raises:
        UnknownName: no such probe, source or target.
        BadInput: as `evaluate`.
        StoreError: what a probe reads was not captured.
    """
    data = opened(cached)
    sources, targets = ((given,) if isinstance(given, str) else given for given in (source, targets))
    named = [probe_of(probe) for probe in (list(probes) if isinstance(probes, tuple | list) else [probes])]
    trains = [(member, "train") for each in sources for member in members_of_source(data, each)]
    tests = [(target, "test") for target in targets]
    check_probes(data, named, [*trains, *tests], site=site, token=token)
    how: dict[str, Any] = {"train_limit": train_limit, "site": site, "token": token, "seed": seed}
    rows: list[LayerRow] = []
    for each, one in product(sources, named):
        fitted = fit(data, each, one, **how, block_bytes=block_bytes)
        units = [unit for layer in fitted.fitted_layers for unit in fitted.heads_of(layer)]
        for target in targets:
            asked = cached_target(fitted, data, target, allow_shared=allow_shared)
            question, labels = question_of(asked)
            found = FittedOnCache.alone(fitted, data.n_layers).unit_scores(question, units)
            asked.forget()
            figures = by_layer(found, question, labels).figures
            names = {
                "model": data.model,
                "probe": one.name,
                "source": fitted.provenance["source"],
                "target": target,
            }
            rows += layer_rows(figures, **names, figure=_figure(question))
    return rows


@dataclass(frozen=True)
class Transfer:
    """One probe fitted on each of some sources and tested on each of some targets.

    Attributes:
        model: whose activations.
        names: of the sources.
        targets: the distributions that are tested on: every source, of a union its members.
        layers: those that each source chose, or all were given.
        accuracy: `[source][target]`; `accuracy_low` and `accuracy_high` are the ends of its 95 % interval over the
            target's prompts, None where there is one prompt only.
        n: pairs, or labelled texts, of each target.
        n_prompts: over how many prompts.
        figures: what the accuracies on each target are: `pair accuracy`, or `auroc` of labelled texts.
        cosine: `[source][source]`, of the directions at one layer that all sources share; None where the probe has
            no direction, and where sources chose different heads.
        cosine_layer: that layer: of those that were fitted the one of highest mean held-out accuracy over the sources.
    """

    model: str
    probe: str
    names: tuple[str, ...]
    targets: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]
    accuracy: list[list[float]]
    accuracy_low: list[list[float | None]]
    accuracy_high: list[list[float | None]]
    n: tuple[int, ...]
    n_prompts: tuple[int, ...]
    figures: tuple[str, ...]
    cosine: list[list[float]] | None
    cosine_layer: int

    @property
    def chosen_layers(self) -> bool:
        """Whether the sources were fitted at several layers, rather than at one given layer."""
        return set(self.layers) != {(self.cosine_layer,)}


def transfer_matrix(
    cached: Cached,
    distributions: Sequence[str],
    probe: Any = "mms",
    *,
    layers: LayerChoice = "auto",
    train_limit: int | None = None,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    allow_shared: bool = False,
) -> Transfer:
    """Fit on each distribution's train split, test on each one's test split, each source at the layers it chose.

    Each cell is what `fit` and `evaluate` give. Is it one truth direction (Marks and Tegmark 2023, arXiv:2310.06824)?
    Then every accuracy is high and every cosine near 1.

    Args:
        cached: the activations.
        distributions: two or more; a union, as `a+b`, is a source, and its members are targets.
        probe: as in `fit`.
        layers: as in `fit`: each source chooses; `4` is one layer for all of them.
        train_limit: as in `fit`.
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
    targets = tuple(dict.fromkeys(name for each in distributions for name in members_of_source(data, each)))
    both = [(each, split) for each in targets for split in ("train", "test")]
    check_probes(data, [named], both, site=site, token=token)
    how: dict[str, Any] = {"layers": layers, "train_limit": train_limit, "site": site, "token": token, "seed": seed}
    fits = [fit(data, each, named, **how) for each in distributions]
    columns = [_column(fits, data, each, allow_shared=allow_shared) for each in targets]
    place = int(np.mean([fitted.held_out_accuracy for fitted in fits], axis=0).argmax())
    intervals = [[accuracy_interval(one) or (None, None) for one in row] for row in zip(*columns, strict=True)]
    first = [column[0] for column in columns]
    return Transfer(
        data.model,
        named.name,
        names=tuple(str(fitted.provenance["source"]) for fitted in fits),
        targets=targets,
        layers=tuple(fitted.layers for fitted in fits),
        accuracy=[[one.accuracy for one in row] for row in zip(*columns, strict=True)],
        accuracy_low=[[low for low, _ in row] for row in intervals],
        accuracy_high=[[high for _, high in row] for row in intervals],
        n=tuple(one.n_texts if isinstance(one, TextEvaluation) else one.n_pairs or 0 for one in first),
        n_prompts=tuple(one.n_prompts or 0 for one in first),
        figures=tuple(one.figure for one in first),
        cosine=_cosines(fits, place),
        cosine_layer=fits[0].fitted_layers[place],
    )


def _column(fits: Sequence[FittedProbe], data: CachedData, target: str, *, allow_shared: bool) -> list[Evaluation]:
    """Every fit's evaluation on one target, whose activations are read once."""
    asked = [cached_target(fitted, data, target, allow_shared=allow_shared) for fitted in fits][0]
    question, labels = question_of(asked)
    alone = [FittedOnCache.alone(fitted, data.n_layers) for fitted in fits]
    found = [evaluate(one.answer(question), question, labels) for one in alone]
    asked.forget()
    return found


def _cosines(fits: Sequence[FittedProbe], place: int) -> list[list[float]] | None:
    """Of the fits' directions at one layer; None where one has none, or they are of different heads."""
    units = [unit for fitted in fits if (unit := _unit_direction(fitted, place)) is not None]
    if len(units) < len(fits) or len({fitted.layer_heads[place] for fitted in fits}) > 1:
        return None
    stacked = np.stack(units)
    return (stacked @ stacked.T).tolist()


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
