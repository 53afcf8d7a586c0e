"""Erasing a source's concept from cached activations: how much of it is left, and what else went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from repeng.errors import BadInput
from repeng.methods.named_probe import NamedProbe
from repeng.methods.probes import CachedSource
from repeng.probes.base import LinearProbe, Probe
from repeng.probes.fitted import NO_HEAD
from repeng.probes.fitting import ProbeSpec
from repeng.probes.own_file import named_in_errors
from repeng.probes.selection import LayerChoice, check_layers, parse_layers
from repeng.steering.eraser import LEACE, AffineMaps, Eraser
from repeng.steering.vector import SteeringVector, Unit
from repeng.study.cached_data import Cached, CachedData, opened
from repeng.study.cached_train import members_of_source, train_of
from repeng.study.erasure import FRESH, OWN, SAME, Erasure, ErasureRow
from repeng.study.erasure_splits import ListedOnce, TestSplit, learned, unit_blocks
from repeng.study.refits import (
    Learned,
    alone,
    concept_maps,
    fresh_scores,
    halves,
    random_maps,
    same_scores,
    scored,
    variance_removed,
)
from repeng.study.steps import cached_target, fit, probe_of, spec_of

REFITS = ("logistic", "mms", "mlp")
OTHER_PROBE = "lda"
"""What reads the other distributions' own labels before and after: linear, and in closed form, since it is fitted on
each of them once a random direction."""


def erase(
    cached: Cached,
    source: str | Sequence[str],
    *,
    targets: str | Sequence[str] = (),
    others: Sequence[str] | None = None,
    by: str = LEACE,
    layers: LayerChoice = "all",
    refits: Sequence[str] = REFITS,
    fits: int = 4,
    draws: int = 20,
    train_limit: int | None = None,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    allow_shared: bool = False,
) -> Erasure:
    """Erase a source's concept at each layer, fit probes again, and see what is left of it and what else went.

        found = repeng.erase(cached, "facts", targets=["myths"])
        found.frame                                  # before, after and their difference, a row a layer and probe
        found.eraser.save("erasers/facts")           # what `repeng steer --eraser` reads

    What is left is asked twice. `same` fits the probe on the very training responses that the eraser was fitted on,
    where after LEACE no linear one can learn a thing (Belrose et al. 2023, Theorem 3.1). `fresh` halves the training
    prompts: the eraser is fitted on one half and the probe on the other, which is erased by it; so it is with any data
    that an eraser is used on. What else went is asked of the other distributions: a linear probe is fitted and tested
    on each, before and after the source's concept is erased.

    Args:
        cached: the activations.
        source: the distribution whose concept (best against worse) is erased; `a+b` for the union of two. Its train
            split alone is seen by the eraser.
        targets: distributions on whose test splits the source's probes are tested too.
        others: distributions that may lose something; None for all others that have both splits here.
        by: `leace`; or a linear probe such as `mms`, whose one direction is projected out.
        layers: `all`, `3`, `4-8`, or a tuple of layers.
        refits: the probes that are fitted again.
        fits: halvings, each half once the eraser's; and starts of a probe that draws at random.
        draws: random directions, distributed as the source's activations, that are erased in its place; only linear
            probes are fitted again after these.
        train_limit: as in `repeng.fit`; `site`, `token`, `seed` and `allow_shared` alike.

    Raises:
        UnknownName: no such distribution or probe.
        BadInput: a probe that reads along no direction is to be erased; the source is too small; or as `evaluate`.
        StoreError: what is read was not captured.
    """
    data = ListedOnce.of(opened(cached))
    chosen = _layers(layers, data)
    how: dict[str, Any] = {"train_limit": train_limit, "site": site, "token": token, "seed": seed, "layers": chosen}
    named = probe_of("mms" if by == LEACE else by)
    _check_single(named.probe, "erased along", "mms, lat or logistic")
    probes = [probe_of(name) for name in refits]
    for one in probes:
        _check_single(one.probe, "fitted again", "mms, lat, logistic or mlp")
    if fits < 2 or draws < 0:
        raise BadInput(f"{fits} fit(s) and {draws} draws; give 2 fits or more, and 0 draws or more")
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    members = members_of_source(data, source)
    fitted = fit(data, source, named, **how)
    spec = spec_of(named, site=site, token=token, seed=seed, layers=chosen)
    train = train_of(data, source, train_limit)
    given = CachedSource.of(spec, data.n_layers, train.activations, train.labels)
    asked = [
        cached_target(fitted, data, name, allow_shared=allow_shared) for name in dict.fromkeys((*members, *targets))
    ]
    tests = [TestSplit.of(one, spec, given.readings) for one in asked]
    pairs = list(_other_splits(data, others, members, named, spec, how, allow_shared=allow_shared))
    if by == LEACE:
        noted = {**fitted.provenance, "token": spec.token, "stimuli": list(spec.stimuli)}
        eraser = Eraser.fit(given, site=spec.site, provenance=noted)
    else:
        eraser = Eraser.along(SteeringVector.of(fitted, fitted.fitted_layers))
    run = _Run(data.model, train.source, by, None if by == LEACE else named.probe, probes, fits, draws, seed)
    rows: list[ErasureRow] = []
    for block in unit_blocks(given, eraser.units):
        maps = eraser.at(block.units)
        own = learned(given, block)
        random = random_maps(own.x, draws=draws, seed=seed)
        rows += run.left(own, [(test, test.read(block)) for test in tests], maps, random, block.units)
        for other, test in pairs:
            rows += run.lost(learned(other, block), test, test.read(block), maps, random, block.units)
    rows.sort(key=lambda row: (row.layer, row.head or 0, row.rows == OWN))
    layer, head = fitted.layer_units[int(fitted.held_out_accuracy.argmax())]
    shown = None if head == NO_HEAD else head
    return Erasure(data.model, train.source, by, eraser, layer, shown, draws, tuple(rows))


@dataclass(frozen=True, eq=False)
class _Run:
    """What is the same at every layer.

    Attributes:
        probe: whose direction is erased; None for LEACE.
        refits: the probes that are fitted again.
    """

    model: str
    source: str
    by: str
    probe: Probe | None
    refits: Sequence[NamedProbe]
    fits: int
    draws: int
    seed: int

    def left(
        self,
        own: Learned,
        asked: Sequence[tuple[TestSplit, Float[Tensor, "unit _kept d"]]],
        maps: AffineMaps,
        random: AffineMaps,
        units: Sequence[Unit],
    ) -> Iterator[ErasureRow]:
        """How much is left of the source's concept, by each probe on each test split."""
        parts = halves(own, fits=self.fits, seed=self.seed)
        of_halves = [concept_maps(self.probe, own.take(erasers)) for erasers, _ in parts]
        tests = [x for _, x in asked]
        gone = [_variance(x, maps, random) for x in tests]
        for named in self.refits:
            with named_in_errors(named.probe):
                fresh = fresh_scores(named.probe, own, tests, parts, of_halves, seed=self.seed)
                same = same_scores(named.probe, own, tests, maps, fits=self.fits, seed=self.seed)
                drawn: list[Any] = [None] * len(tests)
                if self.draws and isinstance(named.probe, LinearProbe):
                    drawn = [scores[:, 1:] for scores in scored(named.probe, own, tests, random)]
            for place, (test, _) in enumerate(asked):
                linear = isinstance(named.probe, LinearProbe)
                names = {"fitted_on": self.source, "probe": named.name, "linear": linear}
                yield from self.rows(test, fresh[place], None, gone[place], units, rows=FRESH, **names)
                # Random directions are erased with all training responses at hand, as in `same`.
                yield from self.rows(test, same[place], drawn[place], gone[place], units, rows=SAME, **names)

    def lost(
        self,
        other: Learned,
        test: TestSplit,
        x: Float[Tensor, "unit kept d"],
        maps: AffineMaps,
        random: AffineMaps,
        units: Sequence[Unit],
    ) -> Iterator[ErasureRow]:
        """What another distribution loses of its own labels."""
        named = probe_of(OTHER_PROBE)
        (scores,) = scored(named.probe, other, [x], alone(maps).joined(random))
        names = {"fitted_on": test.name, "probe": named.name, "linear": True, "rows": OWN}
        drawn = scores[:, 2:] if self.draws else None
        yield from self.rows(test, scores[None, :, :2], drawn, _variance(x, maps, random), units, **names)

    def rows(
        self,
        test: TestSplit,
        scores: Float[np.ndarray, "fit unit 2 kept"],
        drawn: Float[np.ndarray, "unit draw kept"] | None,
        gone: tuple[Float[np.ndarray, " unit"], Float[np.ndarray, " unit"]],
        units: Sequence[Unit],
        **names: Any,
    ) -> Iterator[ErasureRow]:
        """The figures of one probe on one test split, unit by unit."""
        names |= {"model": self.model, "source": self.source, "by": self.by, "target": test.name}
        for at, (layer, head) in enumerate(units):
            null = None if drawn is None else test.evaluate(drawn[at]).fit_wins.mean(axis=1)
            before, after = (test.evaluate(scores[:, at, which]) for which in (0, 1))
            yield ErasureRow.of(
                before,
                after,
                null,
                layer=layer,
                head=None if head == NO_HEAD else head,
                variance_removed=float(gone[0][at]),
                variance_random=float(gone[1][at]) if self.draws else None,
                **names,
            )


def _variance(
    x: Float[Tensor, "unit kept d"], maps: AffineMaps, random: AffineMaps
) -> tuple[Float[np.ndarray, " unit"], Float[np.ndarray, " unit"]]:
    """The share that goes, and its mean over random directions; NaN of none."""
    found = variance_removed(x, alone(maps).joined(random))
    return found[:, 0], found[:, 1:].mean(axis=1) if found.shape[1] > 1 else np.full(len(found), np.nan)


def _layers(layers: LayerChoice, data: CachedData) -> LayerChoice:
    """All, or some layers by number; a rule that chooses among them is refused."""
    if isinstance(layers, str):
        check_layers(layers, data.n_layers, data.model)
        layers = parse_layers(layers)
        if layers != "all" and not isinstance(layers, tuple):
            raise BadInput(f"layers {layers!r} chooses among layers; name those that are erased at: all, 3 or 4-8")
    return layers


def _check_single(probe: Probe, what: str, others: str) -> None:
    """Refuse a probe that reads more than one vector a response."""
    if len(probe.stimuli) > 1 or probe.ragged or probe.rule == "genies":
        raise BadInput(
            f"probe {probe.name!r} cannot be {what}: it reads several stimuli, every token, or chooses as released; "
            f"take one of one vector a response, as {others}"
        )


def _other_splits(
    data: CachedData,
    others: Sequence[str] | None,
    members: Sequence[str],
    named: NamedProbe,
    spec: ProbeSpec,
    how: dict[str, Any],
    *,
    allow_shared: bool,
) -> Iterator[tuple[CachedSource, TestSplit]]:
    """The train and test split of each other distribution."""
    if others is None:
        tested = {key.distribution for key in data.splits() if key.split == "test"}
        others = [name for name in data.trained() if name in tested and name not in members]
    if known := sorted({*others} & {*members}):
        raise BadInput(f"{known[0]} is the source itself, whose loss is what is left of it; name others")
    # What it was fitted on and where it reads is all that is asked of this probe.
    plain = replace(probe_of("mms"), site=named.site, token=named.token, stimuli=named.stimuli)
    for name in others:
        fitted = fit(data, name, plain, **how)
        train = train_of(data, name, how["train_limit"])
        source = CachedSource.of(spec, data.n_layers, train.activations, train.labels)
        yield source, TestSplit.of(cached_target(fitted, data, name, allow_shared=allow_shared), spec, source.readings)
