"""`fit`, `score`, `sweep`, `matrix`: probes from the cache alone; and `tune`, which needs the model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.places import Place

PROBE = (
    "mms, lat, ccs, cra, logistic(C=0.1), attention, ..., also with where it reads, as mms(token=response_mean); "
    "FILE.py:NAME, a probe of your own; or sklearn:MODULE.CLASS."
)
Targets = Annotated[
    list[str], typer.Option("--target", help="Distributions to score, comma-separated; may be given again.")
]


def fit(
    store: o.Store,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="Distribution whose cached train split is fitted on; a+b or a,b for the union of two, all-but-a for "
            "that of all others.",
        ),
    ],
    probe: Annotated[str, typer.Option("--probe", help=PROBE)],
    out: Annotated[Place, typer.Option("--out", **o.AT, help="Folder to save the fitted probe in.")],
    layers: o.Layers = "auto",
    train_limit: o.TrainLimit = None,
    model: o.MaybeModel = None,
    site: o.Site = None,
    token: o.Token = None,
    seed: o.Seed = 0,
    data: o.CachedDataPlace = None,
    benchmark: o.CachedBenchmark = None,
    limit: o.CachedLimit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    data_hash: o.DataHash = None,
    trust_store: o.TrustStore = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fit a probe on a source's cached activations.

    Every layer is fitted; held-out prompts of the source then choose layers and calibrate.
    """
    from repeng.activations.store.store import Store as Cache
    from repeng.probes.io import save
    from repeng.study.cached_data import open_data, open_store
    from repeng.study.steps import fit as fit_on

    talk = Talk(json=json, quiet=quiet)
    opened = open_store(Cache(store, trust=trust_store), model)
    meaning = o.reading(columns, positive, turn, group, chat)
    cached = open_data(opened, data=data, benchmark=benchmark, limit=limit, hashes=data_hash or (), reading=meaning)
    how: dict[str, Any] = {"layers": layers, "train_limit": train_limit, "site": site, "token": token, "seed": seed}
    fitted = fit_on(cached, o.names(source), probe, **how)
    source = fitted.provenance["source"]
    save(fitted, out)
    held_out = dict(zip(fitted.fitted_layers, map(float, fitted.held_out_accuracy), strict=True))
    plain = {
        "probe": fitted.name,
        "source": source,
        "layers": list(fitted.layers),
        "heads": [[layer, head] for layer, head in fitted.units] if fitted.has_heads else None,
        "held_out_accuracy_by_layer": {str(layer): value for layer, value in held_out.items()},
        "temperature": fitted.temperature,
        "out": str(out),
    }
    units = [f"{layer} head {head}" if fitted.has_heads else str(layer) for layer, head in fitted.units]
    curve = "  ".join(f"{layer}: {value:.3f}" for layer, value in held_out.items())
    talk.result(
        plain,
        f"{fitted.name} on {source}, {cached.id}: layer(s) {', '.join(units)}",
        f"held-out accuracy by layer  {curve}",
        f"saved in {out}",
    )


def score(
    store: o.Store,
    probe: Annotated[Place, typer.Option("--probe", **o.AT, help="Folder of a fitted probe.")],
    target: Targets,
    out: o.Out = None,
    model: o.MaybeModel = None,
    allow_shared: o.AllowShared = False,
    data: o.CachedDataPlace = None,
    benchmark: o.CachedBenchmark = None,
    limit: o.CachedLimit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    data_hash: o.DataHash = None,
    trust_store: o.TrustStore = False,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Score a fitted probe on targets' cached test splits. With --out the evaluations are kept as files."""
    from repeng.activations.store.store import Store as Cache
    from repeng.probes.io import load
    from repeng.report.score_table import score_row, score_tables
    from repeng.results import evaluation_path, write_evaluation
    from repeng.study.cached_data import open_data, open_for
    from repeng.study.steps import cached_target, evaluate_cached, evaluation_provenance

    talk = Talk(json=json, quiet=quiet)
    fitted = load(probe, trust_code=trust_code)
    opened = open_for(fitted, Cache(store, trust=trust_store), model)
    meaning = o.reading(columns, positive, turn, group, chat)
    cached = open_data(opened, data=data, benchmark=benchmark, limit=limit, hashes=data_hash or (), reading=meaning)
    plain = []
    for name in o.several(target):
        asked = cached_target(fitted, cached, name, allow_shared=allow_shared)
        evaluation = evaluate_cached(fitted, asked)
        plain.append(score_row(name, evaluation))
        if out:
            provenance = evaluation_provenance(fitted, cached, asked)
            path = evaluation_path(out, fitted.name, cached.model_slug, provenance["source"], name)
            write_evaluation(path, evaluation, provenance)
            talk.note(f"wrote {path}")
    talk.result(plain, *score_tables(plain))


def sweep(
    store: o.Store,
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            help="Distributions to fit on, comma-separated, each for itself; may be given again. a+b is the union of "
            "two.",
        ),
    ],
    target: Targets,
    probe: Annotated[str, typer.Option("--probe", help=f"Comma-separated probes. {PROBE}")] = "mms,lat,ccs,cra",
    train_limit: o.TrainLimit = None,
    plot: o.Plot = None,
    csv: Annotated[Place | None, typer.Option("--csv", **o.AT, help="Table to write.")] = None,
    model: o.MaybeModel = None,
    site: o.Site = None,
    token: o.Token = None,
    seed: o.Seed = 0,
    allow_shared: o.AllowShared = False,
    data: o.CachedDataPlace = None,
    benchmark: o.CachedBenchmark = None,
    limit: o.CachedLimit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    data_hash: o.DataHash = None,
    trust_store: o.TrustStore = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Every layer of several probes, from each source to each target: a table and a picture.

    At --site hook_z, every head too. `*` marks the layer (and head) that the source alone would have chosen, `o` the
    one that the target's labels would have: an oracle, to look at and not to use.
    """
    from repeng.activations.store.store import Store as Cache
    from repeng.cli.show import sweep_tables
    from repeng.methods.names import split_names
    from repeng.results import record_of, write_csv
    from repeng.study.cached_data import open_data, open_store
    from repeng.study.cached_sweep import sweep as sweep_over

    talk = Talk(json=json, quiet=quiet)
    _check_picture(plot)
    opened = open_store(Cache(store, trust=trust_store), model)
    meaning = o.reading(columns, positive, turn, group, chat)
    cached = open_data(opened, data=data, benchmark=benchmark, limit=limit, hashes=data_hash or (), reading=meaning)
    found = sweep_over(
        cached,
        o.several(source),
        o.several(target),
        split_names(probe),
        train_limit=train_limit,
        site=site,
        token=token,
        seed=seed,
        allow_shared=allow_shared,
    )
    rows = [record_of(row) for row in found]
    if csv:
        write_csv(rows, csv)
        talk.note(f"wrote {csv}")
    if plot:
        from repeng.report.charts import save_chart, sweep_chart

        save_chart(sweep_chart(rows), plot)
        talk.note(f"wrote {plot}")
    talk.result(rows, *sweep_tables(found))


def matrix(
    store: o.Store,
    distributions: Annotated[
        str,
        typer.Option(
            "--distributions", help="Comma-separated names, or all. A union, as a+b, is fitted on and not tested on."
        ),
    ] = "all",
    probe: Annotated[str, typer.Option("--probe", help=PROBE)] = "mms",
    layers: o.Layers = "auto",
    train_limit: o.TrainLimit = None,
    plot: o.Plot = None,
    model: o.MaybeModel = None,
    site: o.Site = None,
    token: o.Token = None,
    seed: o.Seed = 0,
    allow_shared: o.AllowShared = False,
    data: o.CachedDataPlace = None,
    benchmark: o.CachedBenchmark = None,
    limit: o.CachedLimit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    data_hash: o.DataHash = None,
    trust_store: o.TrustStore = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fit on each of N distributions, test on each; and the cosine similarity of the fitted directions.

    Each source is read at the layers that it chose, as by `fit` and `score`; with --layers 4 all are read at layer 4.
    Is it one truth direction? Then every cell is high and every cosine near 1.
    """
    from repeng.activations.store.store import Store as Cache
    from repeng.cli.show import matrix_tables
    from repeng.study.cached_data import open_data, open_store
    from repeng.study.cached_sweep import transfer_matrix

    talk = Talk(json=json, quiet=quiet)
    _check_picture(plot)
    opened = open_store(Cache(store, trust=trust_store), model)
    meaning = o.reading(columns, positive, turn, group, chat)
    cached = open_data(opened, data=data, benchmark=benchmark, limit=limit, hashes=data_hash or (), reading=meaning)
    chosen = cached.trained() if distributions == "all" else o.names(distributions)
    how: dict[str, Any] = {"layers": layers, "train_limit": train_limit, "site": site, "token": token, "seed": seed}
    found = transfer_matrix(cached, chosen, probe, **how, allow_shared=allow_shared)
    if plot:
        from repeng.report.charts import save_chart, transfer_chart

        save_chart(transfer_chart(found), plot)
        talk.note(f"wrote {plot}")
    talk.result(asdict(found), *matrix_tables(found))


def _check_picture(plot: Place | None) -> None:
    """Refuse a file that cannot be drawn before there is anything to draw."""
    if plot:
        from repeng.report.pictures import picture_format

        picture_format(plot)


def tune(
    source: Annotated[str, typer.Option("--source", help="Distribution to tune on; a+b is the union of two.")],
    method: Annotated[str, typer.Option("--method", help="lora, prompt-tuning or full.")],
    out: Annotated[Place, typer.Option("--out", **o.AT, help="Folder for the tuned model.")],
    model: o.Model = "mini",
    data: o.Data = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Also score on their test splits: comma-separated, may be given again."),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="default or genies.")] = "default",
    limit: o.Limit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    cluster: o.Cluster = None,
    dtype: o.Dtype = "auto",
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tune a reward model on a source. A stopped run goes on from its last checkpoint; a finished one is reused.

    On several GPUs: accelerate launch --num-processes N -m repeng tune ...
    """
    from functools import partial

    from repeng.benchmarks.loaded import load_source
    from repeng.methods.base import refuse_texts
    from repeng.methods.weight_tuning import tell, tune_and_score
    from repeng.models.launch import rank
    from repeng.models.source import find_model
    from repeng.results import figure_name

    # Of processes that train together the first speaks.
    talk = Talk(json=json, quiet=quiet or rank() > 0)
    meaning = o.reading(columns, positive, turn, group, chat)
    targets = o.several(target or [])
    source, distributions = load_source(data, source, targets, limit=limit, reading=meaning)
    refuse_texts([distributions[source].train, *(distributions[name].test for name in targets)], method)
    tuning = partial(
        tune_and_score,
        find_model(model).place,
        distributions[source].train,
        {name: distributions[name].test for name in targets},
        method=method,
        root=out if cluster is None else out.absolute(),
        preset=preset,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    if cluster is None:
        found, found_on = tuning(progress=tell(method, source, talk.note))
    else:
        from repeng.study.cluster_tuning import call_on_worker
        from repeng.study.model_settings import ModelSettings

        found, found_on = call_on_worker(ModelSettings(model, device, dtype, cluster=cluster), tuning)
    if rank() > 0:
        return
    plain = {
        "path": found.path,
        "held_out_accuracy": found.held_out_accuracy,
        "steps": found.steps,
        "reused": found.reused,
        "accuracy": {name: one.accuracy for name, one in found_on.items()},
        "figure": {name: one.figure for name, one in found_on.items()},
    }
    held_out = "" if found.held_out_accuracy is None else f", held-out accuracy {found.held_out_accuracy:.3f}"
    talk.result(
        plain,
        f"{method} on {source}: {'found' if found.reused else 'tuned'}, {found.steps} steps{held_out}",
        *(f"{name}: {figure_name(one.figure)} {one.accuracy:.3f}" for name, one in found_on.items()),
        f"saved in {found.path}",
    )
