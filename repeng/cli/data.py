"""`data ls|check|fetch|export` and `store ls|verify|rm`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.limits import LARGEST_SEED

if TYPE_CHECKING:
    from repeng.report.wide_table import WideTable


def data_ls(
    data: Annotated[str | None, typer.Argument(help="Data to list. [default: the embedded benchmark]")] = None,
    known: Annotated[
        bool, typer.Option("--known", help="List the public sets that known:NAME reads, with licence and size.")
    ] = False,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    json: o.Json = False,
) -> None:
    """List distributions, and how much there is of each split.

    With --known the public sets that have a name.
    """
    from dataclasses import asdict

    from repeng.benchmarks.loaded import load_named
    from repeng.cli.show import table_of
    from repeng.distributions.check import summarise
    from repeng.errors import BadInput

    meaning = o.reading(columns, positive, turn, group, chat)
    if known:
        if data is not None or meaning is not None:
            raise BadInput("--known lists the sets that have a name; it takes no data and no columns or labels")
        Talk(json=json).result(*_known_sets())
        return
    found = summarise(load_named(data, reading=meaning))
    columns_shown = ("distribution", "split", "examples", "responses", "label 1", "pairs", "distinct prompts")
    rows = [
        (line.distribution, line.split, line.examples, line.responses, line.positives, line.pairs, line.prompts)
        for line in found
    ]
    Talk(json=json).result([asdict(line) for line in found], table_of(columns_shown, rows, names=2))


def data_check(
    data: Annotated[str, typer.Argument(help="Data to check.")],
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    strict: o.Strict = False,
    json: o.Json = False,
) -> None:
    """Say what data is taken for, and list its problems.

    Also what to be cautious of. A sentence for each distribution, with an example of each label. The exit code is 2
    where there is a problem.
    """
    from dataclasses import asdict

    from repeng.cli.show import caution_lines
    from repeng.distributions.cautions import all_cautions, all_overlaps, overlap_examples
    from repeng.distributions.check import check_data, grouped
    from repeng.distributions.load import list_distributions, load_distributions
    from repeng.distributions.understood import understand

    talk = Talk(json=json)
    meaning = o.reading(columns, positive, turn, group, chat)
    problems = check_data(data, meaning)
    distributions = [] if problems else list(load_distributions(data, reading=meaning).values())
    taken_for = understand(data, distributions, meaning)
    overlaps = all_overlaps(distributions)
    cautions = all_cautions(distributions, overlaps)
    lines = caution_lines(cautions)
    examples = overlap_examples(overlaps)
    verdict = (
        f"{len(problems)} problem(s)" if problems else f"no problem, {len(lines)} caution(s)" if lines else "all good"
    )
    talk.result(
        {
            "understood": [asdict(one) for one in taken_for],
            "problems": [asdict(one) for one in problems],
            "cautions": [asdict(one) for one in cautions],
            "overlap_examples": examples,
        },
        *(line for one in taken_for for line in (one.sentence, *(f"  {example}" for example in one.examples))),
        *grouped(problems),
        *lines,
        *(f"  {example}" for example in examples),
        f"{len(list_distributions(data))} distribution(s): {verdict}",
    )
    if problems or (strict and cautions):
        raise typer.Exit(2)


def data_fetch(
    name: Annotated[str, typer.Argument(help="What to fetch: genies.")],
    out: o.Out = None,
    url: Annotated[str | None, typer.Option("--url", help="Where from, if not the public archive.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Hash that the archive must have.")] = None,
    quiet: o.Quiet = False,
) -> None:
    """Bring a benchmark's public data here.

    Every command then finds it by name. A stopped download resumes.
    """
    from repeng.benchmarks.fetch import fetch

    talk = Talk(quiet=quiet)
    with talk.progress(f"fetching {name}") as advance:
        folder = fetch(name, folder=out, url=url, sha256=sha256, progress=advance)
    talk.result(None, f"{name} is in {folder}")


def data_export(
    data: Annotated[str, typer.Argument(help="What to write out: mini, genies, or any data.")],
    directory: Annotated[
        Path | None, typer.Argument(help="Folder for distributions/NAME, and the shifts.json of mini.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--as",
            help="genies (train.json and test.json with prompts and responses) or statements (train.jsonl and "
            "test.jsonl: each response a labelled text of its own).",
        ),
    ] = "genies",
    out: Annotated[Path | None, typer.Option("--out", help="The folder, in place of the second argument.")] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Generator seed of mini; 0 is the shipped one.")
    ] = 0,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
) -> None:
    """Write distributions as GENIES folders or as labelled texts.

    --data takes them, and --benchmark mini's shifts.
    """
    from repeng.benchmarks.loaded import export
    from repeng.errors import BadInput

    folders = [given for given in (directory, out) if given is not None]
    if len(folders) != 1:
        raise BadInput("name one folder to write to, as the second argument or with --out")
    folder = folders[0]
    meaning = o.reading(columns, positive, turn, group, chat)
    count = export(data, folder, form=form, seed=seed, reading=meaning)
    shifts = f", shifts to {folder / 'shifts.json'}" if data == "mini" else ""
    Talk().result(None, f"wrote {count} distributions to {folder / 'distributions'}{shifts}")


def _known_sets() -> tuple[list[dict[str, str]], WideTable]:
    """The public sets that have a name, as plain values and as a table."""
    from repeng.cli.show import table_of
    from repeng.distributions.known_sets import KNOWN_SETS

    plain = [
        {
            "name": f"known:{known.name}",
            "hub": " and ".join(known.hub),
            "home": known.home,
            "asks": known.asks,
            "fields": known.fields,
            "licence": known.licence,
            "size": known.size,
        }
        for known in KNOWN_SETS.values()
    ]
    rest = ("asks", "fields", "licence", "size")
    rows = [(row["name"], row["hub"] or row["home"], *(row[key] for key in rest)) for row in plain]
    return plain, table_of(("name", "hub", "asks", "fields", "licence", "examples"), rows)


def store_ls(place: o.StorePlace = None, store: o.StoreOption = None, json: o.Json = False) -> None:
    """List captures, what each holds, and the megabytes that it takes on disk."""
    from repeng.cli.show import store_listing

    plain, shown = store_listing(o.store(place, store))
    Talk(json=json).result(plain, *shown)


def store_verify(
    place: o.StorePlace = None,
    store: o.StoreOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged, and nothing else; a capture makes it anew.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Check every file of a store against its checksum.

    The exit code is 1 where one is damaged.
    """
    from repeng.activations.store.store import Store

    folder = o.store(place, store)
    found = Store(folder).verify(repair=repair)
    removed = sorted({str(damage.bad) for damage in found if damage.bad}) if repair else []
    lines = [f"removed {place}" for place in removed]
    lines += ["the command that captured it makes it anew"] if removed else []
    kept = sum(damage.bad is None for damage in found)
    lines += [f"{kept} left as they are: they may be whole, and cannot be read here and now"] if repair and kept else []
    Talk(json=json).result(
        [str(damage) for damage in found], *(map(str, found) if found else [f"{folder}: every part is whole"]), *lines
    )
    if kept or (found and not repair):
        raise typer.Exit(1)


def store_rm(
    capture: Annotated[str, typer.Argument(help="Id of a capture, as `repeng store ls` lists it.")],
    place: o.StorePlace = None,
    store: o.StoreOption = None,
    distribution: Annotated[
        str | None, typer.Option("--distribution", help="Only this distribution's activations.")
    ] = None,
) -> None:
    """Remove a capture, or one distribution of it."""
    from repeng.activations.store.store import Store

    freed = Store(o.store(place, store)).remove(capture, distribution)
    Talk().result(None, f"removed {capture}{f' of {distribution}' if distribution else ''}: {freed / 1e6:.1f} MB")
