"""A study step by step: capture, fit, evaluate. What `import repeng` and the commands call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from repeng.activations.capture import capture as capture_activations
from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import ActivationKey, SplitKey
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store
from repeng.benchmarks.loaded import load_named
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Distribution, ResponseLabels, Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput
from repeng.methods.answers import evaluate as judge
from repeng.methods.base import Target
from repeng.methods.named_probe import NamedProbe, check_token
from repeng.methods.probes import CachedSource, FittedOnCache
from repeng.metrics import Evaluation
from repeng.models.sites import named_site
from repeng.places import Place
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.own_file import named_in_errors
from repeng.probes.selection import LayerChoice, check_layers
from repeng.probes.sklearn_probe import as_probe
from repeng.probes.source import BLOCK_BYTES
from repeng.progress import Told, capture_bar
from repeng.study.cached_data import Cached, CachedData, open_for, opened, versions_of
from repeng.study.cached_train import members_of_source, train_of
from repeng.study.lacking import check_captured, parts_read
from repeng.study.model_settings import ModelSettings
from repeng.version import __version__

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel

log = logging.getLogger(__name__)

Data = str | Place | Distribution | Split | Sequence[Distribution | Split]


def capture(
    model: str | LanguageModel,
    data: Data,
    *,
    store: str | Place | Store = "store",
    limit: int | None = None,
    stimuli: Sequence[str | Stimulus] = ("plain", "contrast_yes", "contrast_no"),
    sites: Sequence[str] = ("resid_post",),
    tokens: Sequence[str] = ("last",),
    layers: Sequence[int] | None = None,
    logprob: bool = True,
    storage_dtype: str = "bfloat16",
    device: str = "auto",
    reading: Reading | None = None,
    progress: bool | Told | None = None,
) -> CachedData:
    """Run a model once over some data and keep its activations. What the store holds already is not done again.

    Args:
        model: hub id, folder, GGUF file, `mini` or `smollm2`, loaded only where something is missing; or what
            `load_model` gives.
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
        reading: what columns and labels of a file or hub dataset mean, where their names do not say it.
        progress: a bar, once it has taken a second: True, False, None for one in a terminal and in a notebook alone, or
            a function that is told what is going on, how much is done, and of how much.

    Raises:
        BadInput: there is no such model, or data; no such layer, or a text that cannot be tokenized.
        BadData: the data is wrong.
        UnknownName: no such stimulus, site or token.
        NonFinite: a value is infinite or not a number.
    """
    splits = _splits(data, limit, reading)
    kept = store if isinstance(store, Store) else Store(store)
    request = Request(
        stimuli=tuple(get_stimulus(each) if isinstance(each, str) else each for each in stimuli),
        sites=tuple(sites),
        tokens=tuple(tokens),
        layers=None if layers is None else tuple(layers),
        logprob=logprob,
    )
    how: dict[str, Any] = {"storage_dtype": storage_dtype}
    with capture_bar(progress) as how["progress"]:
        if isinstance(model, str):
            named = ModelSettings(model, device)
            done = capture_activations(named.load, splits, request, kept, identity=named.identity, **how)
        else:
            done = capture_activations(model, splits, request, kept, **how)
    versions = versions_of(splits)
    return CachedData(kept.root / done.capture_id, versions, meant={name for name, _ in versions})


def fit(
    cached: Cached,
    source: str | Sequence[str],
    probe: Any,
    *,
    layers: LayerChoice = "auto",
    train_limit: int | None = None,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    block_bytes: int = BLOCK_BYTES,
) -> FittedProbe:
    """Fit a probe on a source's train split: every layer, then layer and calibration on held-out prompts of it.

    Args:
        cached: the activations.
        source: a distribution; `a+b`, or a list of several, for the union of their train splits; `all-but-a` for that
            of all others that are here.
        probe: `mms`, `lat`, `ccs`, `cra`, `logistic(C=0.1)`, `FILE.py:NAME`, ...; or an unfitted probe, or any unfitted
            classifier of scikit-learn's. Where it reads may stand in its parentheses:
            `mms(token='response_mean', stimulus='did_you_lie')`.
        layers: `auto`, `all`, `top-k:N`, `one-se`, `average`, `3`, `4-8`, or a tuple of layers; see
            `repeng.probes.ProbeSpec`.
        train_limit: fit on at most so many train examples, the first; of a union so many in all, evenly of its members.
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
    data = opened(cached)
    if isinstance(layers, str):
        check_layers(layers, data.n_layers, data.model)
    named = probe_of(probe)
    spec = spec_of(named, site=site, token=token, seed=seed, layers=layers)
    check_token(named.probe, spec.token)
    check_captured(
        data, [parts_of(spec, data)], [(one, "train") for one in members_of_source(data, source)], named.reads
    )
    train = train_of(data, source, train_limit)
    provenance = {
        "capture_id": data.id,
        "model": data.model,
        "weights": data.record.model.weights,
        **train.provenance(data),
        "repeng_version": __version__,
    }
    labelled = CachedSource.of(spec, data.n_layers, train.activations, train.labels)
    with named_in_errors(named.probe):
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
    path = isinstance(cached, str | Place | Store)
    data = open_for(fitted, cached) if path else opened(cached)  # type: ignore[arg-type]
    fitted.check_capture(data.id)
    return evaluate_cached(fitted, cached_target(fitted, data, target, split=split, allow_shared=allow_shared))


def evaluate_cached(fitted: FittedProbe, asked: CachedSplit) -> Evaluation:
    """Score a fitted probe on what `cached_target` found."""
    question, labels = question_of(asked)
    return judge(FittedOnCache.alone(fitted, asked.capture.n_layers).answer(question), question, labels)


def cached_target(
    fitted: FittedProbe, cached: CachedData, target: str, *, split: str = "test", allow_shared: bool = False
) -> CachedSplit:
    """The target that a fitted probe is to be scored on: of the right version, and with prompts that it never saw.

    Raises:
        UnknownName, BadInput: as `evaluate`.
    """
    own = next((one for one in fitted_on(fitted) if one.get("source") == target), {})
    parts = parts_read(fitted.stimuli, fitted.token, fitted.reads(cached.n_layers))
    together = own.get("siblings", {}).get(split, [])
    here = [key.data_hash for key in cached.splits() if key[:2] == (target, split) and key.data_hash in together]
    undecided = (target, split) not in cached.versions and len(here) == 1
    key = cached.find(target, split, data_hash=here[0] if undecided else None)
    if together and key.data_hash not in together:
        raise BadInput(
            f"{fitted.name} was fitted on {target}/train of {own.get('place')} ({own.get('data_hash')}), and "
            f"{target}/{split} {cached.described(key)} is of another version of it; score the one that was read with "
            f"it ({', '.join(together)}), or fit on that version"
        )
    check_captured(CachedData(cached.folder, {key[:2]: key.data_hash}, trust=cached.trust), [parts], [key[:2]])
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


def fitted_on(fitted: FittedProbe) -> list[Mapping[str, Any]]:
    """What is noted of each train split that a probe was fitted on: `source`, `data_hash`, and where it was read."""
    own = fitted.provenance
    return list(own.get("members", [own]))


def parts_of(spec: ProbeSpec, data: CachedData) -> dict[ActivationKey, tuple[int, ...]]:
    """What is read of each split to fit a probe."""
    return parts_read(spec.stimuli, spec.token, spec.readings(data.n_layers))


def spec_of(named: NamedProbe, *, site: str | None, token: str | None, seed: int, layers: LayerChoice) -> ProbeSpec:
    """What is to be fitted, with a site and token in place of the probe's own."""
    spec = named.spec(layers, seed=seed)
    return replace(spec, site=named_site(site) if site else spec.site, token=token or spec.token)


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
        **(
            {"source_members": [[one["source"], one["data_hash"], one["examples"]] for one in fitted_on(fitted)]}
            if "members" in fitted.provenance
            else {}
        ),
        "target_data_hash": target.data_hash,
        "repeng_version": __version__,
    }


def _shared_prompts(fitted: FittedProbe, cached: CachedData, target: SplitKey) -> tuple[int | None, int]:
    """How many of a target's prompts a probe was fitted on, None where nothing tells; and of how many.

    Where an earlier version of repeng captured either, and noted no prompts, whole texts are compared; and so are they
    where all examples have one prompt.
    """
    own, record = fitted.provenance, cached.data_of(target)
    one_for_all = record is not None and len(record.prompts) == len(own.get("prompts", ())) == 1
    if record is not None and "prompts" in own and not one_for_all:
        return len({*record.prompts} & {*own["prompts"]}), len(record.prompts)
    source = SplitKey(str(own.get("source")), "train", str(own.get("data_hash")))
    if source not in cached.splits():
        return None, 0
    # Texts compare under one stimulus alone, and the two splits may have been captured under different ones.
    own_rows, rows = (
        cached.open(key, fitted.stimuli[0], fitted.site, fitted.token).index.responses for key in (source, target)
    )
    seen = {row.get("text_hash") for row in own_rows} - {None, ""}
    groups = [row["example"] if one_for_all else row["group"] for row in rows]
    found = {group for group, row in zip(groups, rows, strict=True) if row.get("text_hash") in seen}
    return len(found) if seen else None, len({*groups})


def probe_of(given: Any) -> NamedProbe:
    """A probe, or a classifier of scikit-learn's, with its name and where it reads."""
    if isinstance(given, NamedProbe):
        return given
    if isinstance(given, str):
        return NamedProbe.of(given)
    probe = as_probe(given)
    return NamedProbe(probe.name, probe)


def _splits(data: Data, limit: int | None, reading: Reading | None) -> list[Split]:
    """The splits that some data means, each cut to `limit` examples."""
    if isinstance(data, str | Place):
        data = tuple(load_named(str(data), limit=limit, reading=reading).values())
    elif isinstance(data, Distribution | Split):
        data = (data,)
    found = [split for each in data for split in (each.splits.values() if isinstance(each, Distribution) else (each,))]
    return [split.first(limit) for split in found]


def labels_of(cached: CachedSplit) -> ResponseLabels:
    """The labels of a split that is only known from a store."""
    return cached.capture.labels(cached.distribution, cached.split, data_hash=cached.data_hash)


def question_of(cached: CachedSplit) -> tuple[Target, ResponseLabels]:
    """A split that is only known from a store, without its labels; and its labels."""
    labels = labels_of(cached)
    structure = (labels.units, labels.rivals, labels.as_texts)
    return Target(cached.distribution, cached.data_hash, *structure, (), lambda: cached), labels
