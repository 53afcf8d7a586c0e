"""`erase`: a source's concept taken out of cached activations, and what that leaves and takes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.places import Place


def erase(
    store: o.Store,
    source: Annotated[
        str,
        typer.Option("--source", help="Distribution whose concept, best against worse, is erased; a+b for a union."),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Test the source's probes on these too: comma-separated, may be given again."),
    ] = None,
    others: Annotated[
        str, typer.Option("--others", help="Distributions that may lose something: all, none, or a,b.")
    ] = "all",
    by: Annotated[
        str, typer.Option("--by", help="Comma-separated: leace, or linear probes whose one direction is erased.")
    ] = "leace",
    refit: Annotated[str, typer.Option("--refit", help="Comma-separated probes that are fitted again.")] = (
        "logistic,mms,mlp"
    ),
    layers: Annotated[str, typer.Option("--layers", help=f"all, or of these: {o.THESE_LAYERS}.")] = "all",
    fits: Annotated[
        int, typer.Option("--fits", min=2, max=100, help="Random halvings of the source, and starts of a network.")
    ] = 4,
    draws: Annotated[
        int, typer.Option("--draws", min=0, max=1000, help="Random directions that are erased in its place.")
    ] = 20,
    train_limit: o.TrainLimit = None,
    out: Annotated[
        Place | None,
        typer.Option("--out", **o.AT, help="Folder to save the eraser in; of several a folder each in it."),
    ] = None,
    csv: Annotated[Place | None, typer.Option("--csv", **o.AT, help="Table to write, with every figure.")] = None,
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
    """Erase a source's concept from cached activations, fit probes again: what is left of it, and what else went.

    The eraser is fitted on the source's train split alone.
    """
    from repeng.activations.store.store import Store as Cache
    from repeng.methods.names import split_names
    from repeng.report.erasure_tables import erasure_tables, verdict
    from repeng.results import write_csv
    from repeng.study.cached_data import open_data, open_store
    from repeng.study.cached_erasure import erase as erase_from

    talk = Talk(json=json, quiet=quiet)
    if plot:
        from repeng.report.pictures import picture_format

        picture_format(plot)
    opened = open_store(Cache(store, trust=trust_store), model)
    meaning = o.reading(columns, positive, turn, group, chat)
    cached = open_data(opened, data=data, benchmark=benchmark, limit=limit, hashes=data_hash or (), reading=meaning)
    how: dict[str, Any] = {
        "targets": o.several(target or []),
        "others": {"all": None, "none": ()}.get(others, o.names(others)),
        "refits": split_names(refit),
        "train_limit": train_limit,
        "allow_shared": allow_shared,
        **{"layers": layers, "fits": fits, "draws": draws, "site": site, "token": token, "seed": seed},
    }
    names = split_names(by)
    found = [erase_from(cached, source, by=name, **how) for name in names]
    for one in found if out else ():
        assert out is not None
        path = one.eraser.save(out if len(found) == 1 else out / one.by)
        talk.note(f"wrote {path}")
    records = [record for one in found for record in one.records]
    if csv:
        write_csv(records, csv)
        talk.note(f"wrote {csv}")
    if plot:
        from repeng.report.charts import save_chart
        from repeng.report.erasure_chart import erasure_chart

        save_chart(erasure_chart(records), plot)
        talk.note(f"wrote {plot}")
    plain = {"verdicts": {one.by: verdict(one) for one in found}, "rows": records}
    shown: list[Any] = []
    for one in found:
        shown += [*([""] if shown else []), *erasure_tables(one)]
    talk.result(plain, *shown)
