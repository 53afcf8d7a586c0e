"""How results of commands look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from repeng.errors import BadInput
from repeng.places import Place
from repeng.report.wide_table import WideTable

if TYPE_CHECKING:
    from repeng.activations.capture import CaptureSummary
    from repeng.activations.sizes import ActivationsSize
    from repeng.distributions.cautions import Caution
    from repeng.results import CausalRow, LayerRow
    from repeng.study.cached_sweep import Transfer
    from repeng.study.capture_plan import CachePlan
    from repeng.study.causal import CausalPlan
    from repeng.study.study import Plan

INTERVALS_ACROSS = 6
"""Up to so many targets of a transfer matrix have their intervals in the table."""
MOST_CAUSAL = 12
"""Lines of causal figures."""


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, names: int = 1) -> WideTable:
    """A plain table; numbers to the right. A row of one cell is a title; `names` columns name a row together."""
    first = next((row for row in rows if len(row) > 1), ())
    left = frozenset(range(len(columns))) - {
        place for place, cell in enumerate(first) if isinstance(cell, (int, float))
    }
    return WideTable(tuple(columns), tuple(tuple(map(_text, row)) for row in rows), left, names=names)


def _text(cell: Any) -> Text:
    return Text(f"{cell:.3f}" if isinstance(cell, float) else "" if cell is None else str(cell))


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cache_line(cache: CachePlan) -> str:
    """What is cached and what must be captured."""
    if not cache.missing:
        return f"activations: all {cache.n_parts} parts are in {cache.store}"
    return (
        f"activations: {len(cache.missing)} of {cache.n_parts} parts to capture into {cache.store}: "
        f"{cache.n_texts:,} texts, computed in {cache.settings.identity.dtype}"
    )


def estimate_lines(cache: CachePlan) -> list[str]:
    """What the capture will take, and what of it is not there."""
    from repeng.activations.sizes import bytes_text

    found = cache.estimate
    if found is None:
        return []
    disk = f"{bytes_text(found.n_bytes)} to write"
    disk += "" if found.free_bytes is None else f", {bytes_text(found.free_bytes)} free on that disk"
    lines = [f"capture: {found.n_tokens:,} tokens, {disk}"]
    if found.seconds is not None and found.seconds_low is not None and found.seconds_high is not None:
        where = (
            "here" if found.workers is None else f"on a worker, shared out among the {found.workers} there is room for"
        )
        lines.append(
            f"by a short trial {where}: about {duration(found.seconds)} ({duration(found.seconds_low)} to "
            f"{duration(found.seconds_high)}, as the splits that were tried differ)"
        )
    memory = [] if found.memory_bytes is None else [f"about {bytes_text(found.memory_bytes)} of memory"]
    if memory and found.available_bytes is not None:
        memory[0] += f", {bytes_text(found.available_bytes)} free"
    memory += [] if found.device_bytes is None else [f"{bytes_text(found.device_bytes)} of the GPU's"]
    lines += [f"the capture takes {'; '.join(memory)}"] if memory else []
    lines += [f"no trial, so neither time nor memory: {found.no_trial}"] if found.no_trial else []
    return lines + [f"caution: {sentence}" for sentence in found.lacking]


def chat_form_lines(cache: CachePlan) -> list[str]:
    """What the chat form makes of the prompts, where texts are wanted in it."""
    counts = cache.chat_form
    return [] if counts is None else [counts.sentence]


def size_lines(sizes: Sequence[ActivationsSize]) -> list[Any]:
    """What activations take on disk: a table with a row for each stimulus, site and token, and the sum."""
    from repeng.activations.sizes import bytes_text

    rows = []
    for key in dict.fromkeys(size.key for size in sizes):
        here = [size for size in sizes if size.key == key]
        numbers = (sum(counted) for counted in zip(*((s.n_texts, s.n_tokens, s.n_vectors) for s in here), strict=True))
        byte_sums = sum(size.n_bytes for size in here), sum(size.held_bytes for size in here)
        rows.append((str(key), *(f"{number:,}" for number in numbers), *map(bytes_text, byte_sums)))
    columns = ("stimulus.site.token", "texts", "tokens read", "vectors a layer", "to write", "there already")
    total, held = sum(size.n_bytes for size in sizes), sum(size.held_bytes for size in sizes)
    return [table_of(columns, rows), f"to write: {bytes_text(total)}; there already: {bytes_text(held)}"]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def plan_lines(plan: Plan) -> list[str]:
    """A study's plan, as some lines."""
    benchmark = plan.world.benchmark
    return [
        f"{benchmark.name}: {_counted(len(benchmark.shifts), 'shift')} over "
        f"{_counted(len(benchmark.distributions), 'distribution')}; "
        f"model {plan.study.model}; methods {', '.join(plan.asked)}",
        cache_line(plan.cache),
        *estimate_lines(plan.cache),
        *fit_lines(plan),
        *chat_form_lines(plan.cache),
        f"evaluations: {len(plan.tasks) - len(plan.known)} to make, {len(plan.known)} done already",
        *(
            f"tuning: {one.method} on {one.sources} sources, {one.found} of them tuned already"
            + (f"; about {duration(one.seconds)} at most" if one.seconds is not None else "")
            for one in plan.tunings
        ),
        *causal_lines(plan.causal),
    ]


def causal_lines(plan: CausalPlan | None) -> list[str]:
    """What is to be tried on the model, and about how long that takes."""
    if plan is None:
        return []
    about = "" if plan.seconds is None else f"; about {duration(plan.seconds)}"
    lines = [
        f"causal: up to {plan.n_edits} edits of the model for each of {_counted(len(plan.asked), 'probe and source')}, "
        f"asked about {plan.runner.examples} examples of a split: {plan.count - plan.done} targets to do, {plan.done} "
        f"done already{about}"
        if plan.asked
        else "causal: nothing to try: no probe of the study reads along a direction and is asked about pairs"
    ]
    if plan.directionless:
        lines.append(f"causal: left out, since they read along no direction: {', '.join(plan.directionless)}")
    return lines


def causal_shown(rows: Sequence[CausalRow]) -> list[str]:
    """What was found of each probe's direction, a line a target."""
    from repeng.report.causal_sentences import causal_sentences

    lines = [f"causal: {one.where}: {one.conclusion}" for one in causal_sentences(rows)]
    hidden = f"and {len(lines) - MOST_CAUSAL} more; " if len(lines) > MOST_CAUSAL else ""
    return [*lines[:MOST_CAUSAL], f"causal: {hidden}the figures are in causal.csv and the report"]


def fit_lines(plan: Plan) -> list[str]:
    """What fitting and scoring take of memory, where the capture's share is shown too."""
    from repeng.activations.sizes import bytes_text

    if plan.fit_memory is None:
        return []
    return [f"probes are fitted and scored in {bytes_text(plan.fit_memory)} or less, besides what Python itself takes"]


def caution_lines(cautions: Iterable[Caution]) -> list[str]:
    """What to know of the data and the figures, a line a kind."""
    from repeng.distributions.cautions import sentences

    return [f"caution: {sentence}" for sentence in sentences(cautions)]


def captured_lines(summary: CaptureSummary) -> list[str]:
    """What a capture did."""
    lines = [
        f"{summary.parts_written} parts written, {summary.parts_reused} there already, in {summary.capture_id}",
    ]
    if summary.n_texts:
        lines.append(
            f"{summary.n_texts:,} texts, {summary.n_tokens:,} tokens in {duration(summary.seconds)} ({summary.method})"
        )
    if summary.parts_left:
        lines.append(
            f"{summary.parts_left} parts are begun and wait for the other shares; whoever ends last makes them whole"
        )
    if summary.skipped:
        lines.append(f"{summary.skipped} texts were longer than the model takes and were skipped (see --too-long)")
    return lines


def sweep_tables(rows: Sequence[LayerRow]) -> list[Any]:
    """A table for each source and target: layers down, probes across, the source's choice and the target's best marked.

    Where the site has heads, a table for each of them and probe: layers down, heads across.
    """
    from repeng.report.frames import units_of
    from repeng.results import figure_name

    shown: list[Any] = []
    for source, target in dict.fromkeys((row.source, row.target) for row in rows):
        here = [row for row in rows if (row.source, row.target) == (source, target)]
        probes = list(dict.fromkeys(row.probe for row in here))
        title = f"{figure_name(here[0].figure)} on {target}, fitted on {source}{_scored(here)}"
        if here[0].head is None:
            shown += [title, _layer_table({(row.layer, row.probe): row for row in here}, probes), ""]
            continue
        for probe in probes:
            heads = {(row.layer, row.head): row for row in here if row.probe == probe}
            numbers = sorted({head for _, head in heads if head is not None})
            shown += [f"{probe}: {title}; layers down, heads across", _layer_table(heads, numbers), ""]
    what = "layer" if rows[0].head is None else "head"
    if any(row.accuracy_low is not None for row in rows):
        shown.append(f"after each figure its 95 % interval over {units_of(row.figure for row in rows)}, of one fit")
    return [*shown, f"* a {what} that the source chose    o the target's own best, an oracle"]


def _scored(rows: Sequence[LayerRow]) -> str:
    """`: 276 pairs, 138 prompts`, or `: 60 texts, 30 groups`; the range where the probes differ."""
    texts = rows[0].n_texts is not None
    counted = {
        "texts" if texts else "pairs": {row.n_texts if texts else row.n_pairs for row in rows},
        "groups" if texts else "prompts": {row.n_prompts for row in rows},
    }
    known = {name: sorted(filter(None, counts)) for name, counts in counted.items()}
    said = [f"{_from_to(counts)} {name}" for name, counts in known.items() if counts]
    return ": " + ", ".join(said) if said else ""


def _from_to(counts: Sequence[int]) -> str:
    return f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"


def _layer_table(cells: Mapping[tuple[int, Any], LayerRow], across: Sequence[Any]) -> WideTable:
    heads = tuple(str(column).replace("(", "\n(", 1) for column in across)
    rows = tuple(
        (Text(str(layer)), *(_sweep_cell(cells.get((layer, column))) for column in across))
        for layer in sorted({layer for layer, _ in cells})
    )
    return WideTable(("layer", *heads), rows, frozenset(range(1, len(heads) + 1)))


def _sweep_cell(row: LayerRow | None) -> Text:
    from repeng.report.tables import short_figure

    if row is None:
        return Text("")
    figure = f"{short_figure(row.accuracy):>4}{'*' if row.chosen else ' '}{'o' if row.oracle else ' '}"
    if row.accuracy_low is None or row.accuracy_high is None:
        return Text(figure)
    return Text.assemble(figure, (f" {short_figure(row.accuracy_low)}-{short_figure(row.accuracy_high)}", "dim"))


def matrix_tables(found: Transfer) -> list[Any]:
    """Accuracy and cosine, source by target. Columns are numbered, so that many distributions fit a screen."""
    from repeng.maths import in_ranges
    from repeng.results import AUROC, figure_names

    known = dict.fromkeys((*found.names, *found.targets))
    numbers = {name: str(number) for number, name in enumerate(known, 1)}
    names = [f"{numbers[name]} {name}" for name in found.names]
    across = [numbers[name] for name in found.targets]
    few = len(found.targets) <= INTERVALS_ACROSS
    rows = [
        [name, in_ranges(layers), *(_matrix_cell(found, i, j, few=few) for j in range(len(across)))]
        for i, (name, layers) in enumerate(zip(names, found.layers, strict=True))
    ]
    counts = ["n", "", *map(str, found.n)]
    head = f"{found.probe} on {found.model}: {figure_names(found.figures)}, fitted on the row and tested on the column"
    shown: list[Any] = [head, _of_words(["", "layers", *across], [*rows, counts])]
    if alone := [f"{numbers[name]} {name}" for name in found.targets if name not in found.names]:
        shown.append(f"tested on alone: {', '.join(alone)}")
    if len(set(found.figures)) > 1:
        texts = [
            f"{numbers[name]} {name}"
            for name, figure in zip(found.targets, found.figures, strict=True)
            if figure == AUROC
        ]
        shown.append(f"AUROC of labelled texts in the columns of {', '.join(texts)}; pair accuracy in the others")
    if not few:
        shown.append(
            "95 % intervals: with --json, on hover in --plot FILE.html, or here for six distributions or fewer"
        )
    if found.cosine is not None:
        own = [numbers[name] for name in found.names]
        cosines = [[name, *row] for name, row in zip(names, found.cosine, strict=True)]
        title = f"cosine similarity of the fitted directions at layer {found.cosine_layer}"
        best = " (of the highest mean held-out accuracy)" if found.chosen_layers else ""
        shown += ["", f"{title}{best}", table_of(["", *own], cosines)]
    return shown


def _of_words(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> WideTable:
    """A table whose first two columns name the row; the others are figures."""
    lines = tuple(tuple(map(Text, row)) for row in rows)
    return WideTable(tuple(heads), lines, frozenset({0, 1}), names=2)


def _matrix_cell(found: Transfer, row: int, column: int, *, few: bool) -> str:
    """An accuracy, with its interval where there is room."""
    accuracy, low, high = (of[row][column] for of in (found.accuracy, found.accuracy_low, found.accuracy_high))
    return f"{accuracy:.3f}" + (f" [{low:.3f}, {high:.3f}]" if few and low is not None else "")


def store_listing(store: Place) -> tuple[list[dict[str, Any]], list[Any]]:
    """Captures of a store and what each holds on disk: by distribution and split, and by part; and the whole."""
    from itertools import groupby

    from repeng.activations.store.store import Store

    if not store.is_dir():
        raise BadInput(f"{store}: there is no such folder")
    plain: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    by_part: list[tuple[str, ...]] = []
    whole = 0
    for capture in Store(store).captures():
        contents = capture.contents()
        sizes = {key: {str(each.key): each.n_bytes for each in held} for key, held in contents.items()}
        total = sum(map(_total, sizes.values()))
        names = sorted({name for own in sizes.values() for name in own})
        whole += total
        quantization = capture.record.model.quantization
        rows.append((f"{capture.id}  {_megabytes(total)} MB in all" + (quantization and f"  {quantization}"),))
        by_part.append((capture.id,))
        by_part += [(name, _megabytes(sum(own.get(name, 0) for own in sizes.values()))) for name in names]
        for distribution, group in groupby(contents, key=lambda key: key.distribution):
            keys = list(group)
            for key in keys:
                known = capture.data_of(key)
                sources = [source.model_dump() for source in known.sources] if known is not None else []
                responses = contents[key][0].n_responses
                plain.append(
                    {
                        "capture": capture.id,
                        "model": capture.model,
                        "quantization": quantization,
                        "split": list(key),
                        "responses": responses,
                        "sources": sources,
                        "parts": sorted(sizes[key]),
                        "bytes": _total(sizes[key]),
                        "part_bytes": sizes[key],
                    }
                )
                where = (known.place, known.sources[-1].when[:10]) if known is not None else ("not noted", "")
                counts = (str(responses), _megabytes(_total(sizes[key])))
                held = f"{len(sizes[key])} of {len(names)}"
                rows.append((f"{distribution}/{key.split}", key.data_hash, *counts, held, *reversed(where)))
            if len(keys) > 1:
                together = _megabytes(sum(_total(sizes[key]) for key in keys))
                rows.append((f"{distribution} in all", "", "", together, "", "", ""))
    if not plain:
        return plain, [f"{store}: nothing is captured here"]
    table = table_of(("split", "data hash", "responses", "MB", "parts", "when", "source"), rows)
    return plain, [table, "", table_of(("part", "MB"), by_part), "", f"{store}: {_megabytes(whole)} MB of activations"]


def _total(of_parts: Mapping[str, int]) -> int:
    return sum(of_parts.values())


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"
