"""A study step by step: capture, fit, evaluate, sweep, transfer matrix. What `import repeng` and the commands call."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from repeng.activations.capture import capture as capture_activations
from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import SplitKey
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store, StoredCapture
from repeng.benchmarks.loaded import load_benchmark, load_named
from repeng.distributions.schema import Distribution, ResponseLabels, Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput, CaptureMismatch, UnknownName
from repeng.methods.answers import by_layer
from repeng.methods.answers import evaluate as judge
from repeng.methods.base import Target
from repeng.methods.names import parse_name, with_parameters
from repeng.methods.probes import CachedSource, FittedOnCache
from repeng.metrics import Evaluation
from repeng.models.fingerprint import slug
from repeng.probes.base import Probe
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.registry import get_probe
from repeng.probes.selection import LayerChoice, check_layers
from repeng.probes.source import BLOCK_BYTES
from repeng.results import LayerRow, layer_rows
from repeng.study.capture_plan import ModelSettings
from repeng.version import __version__

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel

log = logging.getLogger(__name__)

Data = str | Path | Distribution | Split | Sequence[Distribution | Split]


class CachedData(StoredCapture):
    """One model's cached activations, and which version of a split's data is meant where there are several.

    Attributes:
        versions: the data hash of some (distribution, split).
    """

    def __init__(
        self, folder: Path, versions: Mapping[tuple[str, str], str] | None = None, *, trust: bool = False
    ) -> None:
        super().__init__(folder, trust=trust)
        self.versions = versions or {}

    def find(self, distribution: str, split: str = "train", *, data_hash: str | None = None) -> SplitKey:
        """Which data a distribution's split means.

        Raises:
            UnknownName: nothing of that name is here.
            BadInput: what is here is of other data than is meant; or of several, and none is meant.
        """
        meant = data_hash or self.versions.get((distribution, split))
        here = [key for key in self.splits() if key[:2] == (distribution, split)]
        if meant and here and meant not in {key.data_hash for key in here}:
            raise BadInput(
                f"{self.id} holds {distribution}/{split} of other data than is meant ({meant}): "
                f"{'; '.join(map(self.described, here))}; capture it with: repeng cache"
            )
        return super().find(distribution, split, data_hash=meant)

    def split(self, distribution: str, split: str = "train", *, data_hash: str | None = None) -> CachedSplit:
        """The cached activations of a split, to be read layer by layer.

        Raises:
            UnknownName, BadInput: as `find`.
        """
        return CachedSplit(self, *self.find(distribution, split, data_hash=data_hash))


Cached = CachedData | StoredCapture | Store | str | Path
"""Cached activations: what `capture` gives, or a store (or its folder) that holds one model's."""


def capture(
    model: str | LanguageModel,
    data: Data,
    *,
    store: str | Path | Store = "store",
    limit: int | None = None,
    stimuli: Sequence[str | Stimulus] = ("plain", "contrast_yes", "contrast_no"),
    sites: Sequence[str] = ("resid_post",),
    tokens: Sequence[str] = ("last",),
    layers: Sequence[int] | None = None,
    logprob: bool = True,
    storage_dtype: str = "bfloat16",
    device: str = "auto",
) -> CachedData:
    """Run a model once over some data and keep its activations. What the store holds already is not done again.

    Args:
        model: hub id, folder or `mini`, loaded only where something is missing; or what `load_model` gives.
        data: `mini`, `genies`, a folder or file of data, or a hub dataset; or distributions or splits.
        store: folder that keeps the activations.
        limit: only the first so many examples of each split.
        stimuli: how prompt and response become text; `plain` is what most probes read, ccs and cra the contrasts.
        sites: hook sites: `resid_post`, `hook_z`, `mlp_out`, ...
        tokens: where a vector is taken: `last`, `response_mean`, `all` and others, by their names in docs/store.md.
        layers: 0-based blocks; None for all.
        logprob: also each response's log-probability in nats.
        storage_dtype: `bfloat16`, `float32` or `float16`.
        device: `auto`, `cpu`, `cuda`, ...; only where the model is a name.

    Raises:
        BadInput: there is no such model, or data; no such layer, or a text that cannot be tokenized.
        BadData: the data is wrong.
        UnknownName: no such stimulus, site or token.
        NonFinite: a value is infinite or not a number.
    """
    splits = _splits(data, limit)
    kept = store if isinstance(store, Store) else Store(store)
    request = Request(
        stimuli=tuple(get_stimulus(each) if isinstance(each, str) else each for each in stimuli),
        sites=tuple(sites),
        tokens=tuple(tokens),
        layers=None if layers is None else tuple(layers),
        logprob=logprob,
    )
    how: dict[str, Any] = {"storage_dtype": storage_dtype}
    if isinstance(model, str):
        named = ModelSettings(model, device)
        done = capture_activations(named.load, splits, request, kept, identity=named.identity, **how)
    else:
        done = capture_activations(model, splits, request, kept, **how)
    return CachedData(kept.root / done.capture_id, versions_of(splits))


def versions_of(data: Iterable[Distribution | Split]) -> dict[tuple[str, str], str]:
    """The data hash of every split of some data, by distribution and split."""
    splits = [split for each in data for split in (each.splits.values() if isinstance(each, Distribution) else (each,))]
    return {(split.distribution, split.name): split.data_hash for split in splits}


def open_data(
    cached: CachedData,
    *,
    data: str | None = None,
    benchmark: str | None = None,
    limit: int | None = None,
    hashes: Sequence[str] = (),
) -> CachedData:
    """Cached activations of which it is said which data is meant.

    Args:
        cached: the activations.
        data: where the data is, as it was captured.
        benchmark: whose data it is.
        limit: only the first so many examples of each split.
        hashes: data hashes, each of which also means what was read together with it.

    Raises:
        BadInput, BadData: there is no such data, or it is wrong.
        UnknownName: nothing here has such a hash.
    """
    versions: dict[tuple[str, str], str] = {}
    if benchmark is not None:
        versions = versions_of(load_benchmark(benchmark, data, limit=limit).distributions.values())
    elif data is not None or limit is not None:
        versions = versions_of(load_named(data, limit=limit).values())
    keys = cached.splits()
    for data_hash in hashes:
        named = [key for key in keys if key.data_hash == data_hash]
        if not named:
            raise UnknownName(f"data hash in {cached.id}", data_hash, {key.data_hash for key in keys})
        for key in named:
            for name, siblings in _siblings(cached, key).items():
                if len(siblings) == 1:
                    versions.setdefault((key.distribution, name), siblings[0])
            versions[key.distribution, key.split] = data_hash
    return CachedData(cached.folder, versions, trust=cached.trust)


def open_store(store: str | Path | Store, model: str | None = None) -> CachedData:
    """A store's activations of a model; of its only one where no model is named.

    Raises:
        BadInput: the store holds none, or several that the name does not tell apart.
    """
    opened = store if isinstance(store, Store) else Store(store)
    found = [each for each in opened.captures() if model in (None, each.model, each.id, slug(each.model))]
    if not found:
        raise BadInput(
            f"{opened.root}: no capture{f' of {model}' if model else ''} here; make one with: "
            f"repeng cache --store {opened.root} --model {model or 'MODEL'}"
        )
    if len(found) > 1:
        listing = ", ".join(f"{each.id} ({each.model}, {each.dtype})" for each in found)
        raise BadInput(f"{opened.root} holds several captures: {listing}; choose one with --model, by its id")
    return CachedData(found[0].folder, trust=opened.trust)


def open_for(fitted: FittedProbe, store: str | Path | Store, model: str | None = None) -> CachedData:
    """A store's activations of the capture that a probe was fitted on.

    Raises:
        BadInput: the store holds no capture, or none of the model that was asked for.
        CaptureMismatch: it holds others alone, or another was asked for.
    """
    opened = store if isinstance(store, Store) else Store(store)
    own = fitted.provenance.get("capture_id")
    held = [each.id for each in opened.captures()]
    if model is None and own is not None and held:
        if own in held:
            return CachedData(opened.root / str(own), trust=opened.trust)
        raise CaptureMismatch(
            f"probe {fitted.name!r} was fitted on capture {own!r}, which is not in {opened.root}; "
            f"there are {', '.join(held)}"
        )
    chosen = open_store(opened, model)
    fitted.check_capture(chosen.id)
    return chosen


def fit(
    cached: Cached,
    source: str,
    probe: str | Probe,
    *,
    layers: LayerChoice = "auto",
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    block_bytes: int = BLOCK_BYTES,
) -> FittedProbe:
    """Fit a probe on a source's train split: every layer, then layer and calibration on held-out prompts of it.

    Args:
        cached: the activations.
        source: a distribution.
        probe: `mms`, `lat`, `ccs`, `cra`, `logistic(C=0.1)`, `FILE.py:NAME`, ...; or an unfitted probe.
        layers: `auto`, `all`, `top-k:N`, `one-se`, `average`, `3`, `4-8`, or a tuple of layers; see
            `repeng.probes.ProbeSpec`.
        site: hook site to read, where it is not the probe's own; `token` alike.
        seed: of the split into training and held-out prompts.
        block_bytes: of float32 activations that are in memory at a time (one layer's, if it has more).

    Returns:
        What scores and ranks responses; `held_out_accuracy` is `[layer]`. `repeng.probes.save` writes it to a folder.

    Raises:
        UnknownName: no such probe or source.
        BadInput: no such layer, or a source that is too small.
        StoreError: what the probe reads was not captured.
        NonFinite: an activation is infinite or not a number.
    """
    data = _opened(cached)
    if isinstance(layers, str):
        check_layers(layers, data.n_layers, data.model)
    _, made = _probe(probe)
    spec = ProbeSpec(made, layers, site=site or "", token=token or "", seed=seed)
    split = data.split(source, "train")
    record = data.data_of(split.key)
    provenance = {
        "capture_id": split.capture.id,
        "model": split.capture.model,
        "source": split.distribution,
        "data_hash": split.data_hash,
        **({} if record is None else {"place": record.place, "siblings": _siblings(data, split.key)}),
        **({} if record is None else {"prompts": list(record.prompts)}),
        "repeng_version": __version__,
    }
    labelled = CachedSource.of(spec, split.capture.n_layers, split, _labels(split))
    return fit_probe(spec, labelled, provenance=provenance, block_bytes=block_bytes)


def evaluate(
    fitted: FittedProbe, cached: Cached, target: str, *, split: str = "test", allow_shared: bool = False
) -> Evaluation:
    """Score a fitted probe on a target: p(best) of each pair whose texts were not too long.

    Args:
        fitted: what `fit` gives, or `repeng.probes.load`.
        cached: activations of the capture that it was fitted on.
        target: a distribution.
        split: of the target.
        allow_shared: also where the probe was fitted on some of the target's prompts; a warning says how many.

    Returns:
        `accuracy`, `probabilities` `[pair]`, `example` and `group` of each pair; `repeng.metrics` has intervals.

    Raises:
        UnknownName: nothing of the target is here.
        BadInput: several versions of the target are here, or the one that is meant is not the source's own test split;
            or the probe was fitted on some of its prompts.
        CaptureMismatch: the activations are of another capture.
        RepengError: no pair is left.
    """
    path = isinstance(cached, str | Path | Store)
    data = open_for(fitted, cached) if path else _opened(cached)  # type: ignore[arg-type]
    fitted.check_capture(data.id)
    return evaluate_cached(fitted, cached_target(fitted, data, target, split=split, allow_shared=allow_shared))


def evaluate_cached(fitted: FittedProbe, asked: CachedSplit) -> Evaluation:
    """Score a fitted probe on what `cached_target` found."""
    question, labels = _question(asked)
    return judge(FittedOnCache.alone(fitted, asked.capture.n_layers).answer(question), question, labels)


def cached_target(
    fitted: FittedProbe, cached: CachedData, target: str, *, split: str = "test", allow_shared: bool = False
) -> CachedSplit:
    """The target that a fitted probe is to be scored on: of the right version, and with prompts that it never saw.

    Raises:
        UnknownName, BadInput: as `evaluate`.
    """
    own = fitted.provenance
    together = own.get("siblings", {}).get(split, []) if own.get("source") == target else []
    here = [key.data_hash for key in cached.splits() if key[:2] == (target, split) and key.data_hash in together]
    undecided = (target, split) not in cached.versions and len(here) == 1
    key = cached.find(target, split, data_hash=here[0] if undecided else None)
    if together and key.data_hash not in together:
        raise BadInput(
            f"{fitted.name} was fitted on {target}/train of {own.get('place')} ({own.get('data_hash')}), and "
            f"{target}/{split} {cached.described(key)} is of another version of it; score the one that was read with "
            f"it ({', '.join(together)}), or fit on that version"
        )
    shared, total = _shared_prompts(fitted, cached, key)
    if shared is None:
        log.warning(
            "which prompts %s was fitted on is not known, so it may have seen those of %s/%s; fit it anew to know",
            *(fitted.name, target, split),
        )
    if shared:
        found = f"{fitted.name} was fitted on {shared} of the {total} prompts of {target}/{split}"
        if not allow_shared:
            raise BadInput(
                f"{found}, so a score says how well it remembers them; score other data, or allow it (--allow-shared; "
                "in Python allow_shared=True)"
            )
        log.warning("%s; its score there is no measure of how it generalises", found)
    return CachedSplit(cached, *key)


def evaluation_provenance(fitted: FittedProbe, cached: CachedData, target: CachedSplit) -> dict[str, Any]:
    """What an evaluation file says of a fitted probe's answer about a target."""
    return {
        "model": cached.model,
        "capture": cached.id,
        "method": fitted.name,
        "source": fitted.provenance.get("source", ""),
        "target": target.distribution,
        "layers": " ".join(map(str, fitted.layers)),
        "seed": fitted.seed,
        "source_data_hash": fitted.provenance.get("data_hash", ""),
        "target_data_hash": target.data_hash,
        "repeng_version": __version__,
    }


def sweep(
    cached: Cached,
    source: str,
    targets: str | Sequence[str],
    probes: str | Probe | Sequence[str | Probe] = ("mms", "lat", "ccs", "cra"),
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
    data = _opened(cached)
    targets = (targets,) if isinstance(targets, str) else targets
    for target in targets:
        data.find(target, "test")
    named = [_probe(probe) for probe in ((probes,) if isinstance(probes, str | Probe) else probes)]
    rows: list[LayerRow] = []
    for name, probe in named:
        fitted = fit(data, source, probe, site=site, token=token, seed=seed, block_bytes=block_bytes)
        units = [unit for layer in fitted.fitted_layers for unit in fitted.heads_of(layer)]
        for target in targets:
            asked = cached_target(fitted, data, target, allow_shared=allow_shared)
            question, labels = _question(asked)
            found = FittedOnCache.alone(fitted, data.n_layers).unit_scores(question, units)
            asked.forget()
            figures = by_layer(found, question, labels).figures
            rows += layer_rows(figures, model=data.model, probe=name, source=source, target=target)
    return rows


@dataclass(frozen=True)
class Transfer:
    """One probe fitted on each of some distributions and tested on each.

    Attributes:
        accuracy: `[source][target]`.
        cosine: `[source][source]`, of the directions at one layer that all sources share; None where the probe has
            no direction, and where sources chose different heads.
        layer: that layer: the one of highest mean held-out accuracy over the sources.
    """

    probe: str
    names: tuple[str, ...]
    accuracy: list[list[float]]
    cosine: list[list[float]] | None
    layer: int


def transfer_matrix(
    cached: Cached,
    distributions: Sequence[str],
    probe: str | Probe = "mms",
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
    data = _opened(cached)
    name, made = _probe(probe)
    if len(distributions) < 2:
        listing = ", ".join(distributions) or "none"
        raise BadInput(f"a transfer matrix needs 2 distributions or more; given {listing}")
    for each in distributions:
        data.find(each, "test")
    fits = [fit(data, each, made, site=site, token=token, seed=seed) for each in distributions]
    place = int(np.mean([fitted.held_out_accuracy for fitted in fits], axis=0).argmax())
    accuracy: list[list[float]] = [[] for _ in distributions]
    for each in distributions:
        asked = [cached_target(fitted, data, each, allow_shared=allow_shared) for fitted in fits][0]
        question, labels = _question(asked)
        for row, fitted in zip(accuracy, fits, strict=True):
            found = FittedOnCache.alone(fitted, data.n_layers).unit_scores(question, [fitted.layer_units[place]])
            row.append(by_layer(found, question, labels).figures[0].accuracy)
        asked.forget()
    cosine = None
    units = [_unit_direction(fitted, place) for fitted in fits]
    if len({fitted.layer_heads[place] for fitted in fits}) == 1 and all(unit is not None for unit in units):
        stacked = np.stack([unit for unit in units if unit is not None])
        cosine = (stacked @ stacked.T).tolist()
    return Transfer(name, tuple(distributions), accuracy, cosine, fits[0].fitted_layers[place])


def _opened(cached: Cached) -> CachedData:
    if isinstance(cached, CachedData):
        return cached
    return CachedData(cached.folder, trust=cached.trust) if isinstance(cached, StoredCapture) else open_store(cached)


def _siblings(cached: CachedData, key: SplitKey) -> dict[str, list[str]]:
    """Of every split that was read together with one, itself among them, the data hashes that it had."""
    found: dict[str, list[str]] = {}
    record = cached.data_of(key)
    for source in record.sources if record is not None else ():
        for name, data_hash in source.siblings.items():
            if data_hash not in found.setdefault(name, []):
                found[name].append(data_hash)
    return found


def _shared_prompts(fitted: FittedProbe, cached: CachedData, target: SplitKey) -> tuple[int | None, int]:
    """How many of a target's prompts a probe was fitted on, None where nothing tells; and of how many.

    Where an earlier version of repeng captured either, and noted no prompts, whole texts are compared.
    """
    own, record = fitted.provenance, cached.data_of(target)
    if record is not None and "prompts" in own:
        return len({*record.prompts} & {*own["prompts"]}), len(record.prompts)
    source = SplitKey(str(own.get("source")), "train", str(own.get("data_hash")))
    if source not in cached.splits():
        return None, 0
    # Texts compare under one stimulus alone, and the two splits may have been captured under different ones.
    own_rows, rows = (
        cached.open(key, fitted.stimuli[0], fitted.site, fitted.token).index.responses for key in (source, target)
    )
    seen = {row.get("text_hash") for row in own_rows} - {None, ""}
    groups = {row["group"] for row in rows if row.get("text_hash") in seen}
    return len(groups) if seen else None, len({row["group"] for row in rows})


def _probe(given: str | Probe) -> tuple[str, Probe]:
    """A probe and its name, with the parameters that the user gave."""
    if isinstance(given, Probe):
        return given.name, given
    name, parameters = parse_name(given)
    probe = get_probe(name, **parameters)
    return with_parameters(probe.name, parameters), probe


def _splits(data: Data, limit: int | None) -> list[Split]:
    """The splits that some data means, each cut to `limit` examples."""
    if isinstance(data, str | Path):
        data = tuple(load_named(str(data), limit=limit).values())
    elif isinstance(data, Distribution | Split):
        data = (data,)
    found = [split for each in data for split in (each.splits.values() if isinstance(each, Distribution) else (each,))]
    return [split.first(limit) for split in found]


def _labels(cached: CachedSplit) -> ResponseLabels:
    """The labels of a split that is only known from a store."""
    return cached.capture.labels(cached.distribution, cached.split, data_hash=cached.data_hash)


def _question(cached: CachedSplit) -> tuple[Target, ResponseLabels]:
    """A split that is only known from a store, without its labels; and its labels."""
    labels = _labels(cached)
    structure = (labels.units, labels.rivals, labels.as_texts)
    return Target(cached.distribution, cached.data_hash, *structure, (), lambda: cached), labels


def _unit_direction(fitted: FittedProbe, place: int) -> Float[np.ndarray, " d"] | None:
    """The direction at a layer (and its best head), of length 1, towards what scores higher; None if there is none."""
    state = fitted.probe.state()
    if "direction_" not in state:
        return None
    head = fitted.layer_heads[place]
    index = (place,) if head == NO_HEAD else (place, head)
    # CCS keeps the sign that labels gave it apart from a direction that knew none.
    direction = state["direction_"][index] * (state["sign_"][index] if "sign_" in state else 1)
    values: Float[np.ndarray, " d"] = direction.double().numpy()
    return values / max(float(np.linalg.norm(values)), 1e-12)
