"""`rescore`, `compare`, `report`, `browse`: looking at evaluations and results that are there already."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.errors import BadInput
from repeng.places import Place


def rescore(
    evaluations: Annotated[
        Place, typer.Argument(parser=o.place, help="Folder METHOD/MODEL-SOURCE/TARGET.json, ours or published.")
    ],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="Whose shifts to score.")] = "genies",
    model: Annotated[str, typer.Option("--model", "-m", help="Model, as the folder names have it.")] = "",
    methods: Annotated[str | None, typer.Option("--methods", help="Comma-separated. [default: all there are]")] = None,
    data: o.Data = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Figures from evaluation files, ours or published, with no model.

    `../target_tuned_capability` next to the evaluations is used where it is there. With --data the pairs' prompts are
    known, so that accuracies get intervals.
    """
    from dataclasses import asdict

    from repeng.report.contradictions import stated_contradictions
    from repeng.report.page import grid_of
    from repeng.report.sentences import summary_sentences
    from repeng.report.tables import grid_table, study_table
    from repeng.report.text_section import text_means
    from repeng.results import record_of, write_results
    from repeng.study.rescore import rescore as rescore_files
    from repeng.study.rescore import target_groups, write_published

    talk = Talk(json=json, quiet=quiet)
    groups = target_groups(data, benchmark, o.reading(columns, positive, turn, group, chat)) if data else {}
    found = rescore_files(
        evaluations, benchmark, model or None, methods=o.names(methods) if methods else None, groups=groups
    )
    rows = [one.row for one in found]
    if out is not None:
        write_results(rows, out / "results.csv")
        for method in dict.fromkeys(row.method for row in rows):
            write_published([one for one in found if one.row.method == method], out / "published" / f"{method}.csv")
        talk.note(f"wrote {out / 'results.csv'} and {out / 'published'}")
    plain = [record_of(one.row) | {"published_columns": one.published()} for one in found]
    denied = [asdict(one) for one in stated_contradictions(rows, evaluations)]
    shown: list[Any] = [grid_table("Contradictions", grid_of(denied)), ""] if denied else []
    known = {(one.row.model, one.row.method, one.row.source, one.row.target): one.evaluation for one in found}
    held = {key: evaluation for key, evaluation in known.items() if evaluation is not None}
    texts = text_means(rows)
    shown += [] if texts is None else [texts, ""]
    talk.result(plain, study_table(rows), "", *shown, summary_sentences(rows, held))


def compare(
    results: Annotated[
        list[Place],
        typer.Argument(parser=o.place, help="Results folders, results.csv files, or folders of released evaluations."),
    ],
    against: Annotated[
        str | None, typer.Option("--against", help="Test every method against this one alone, as lora.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            "--question",
            help="Answer one question alone: perplexity (does zero-shot foretell generalization?), scale (does a small "
            "model foretell a large one?), elicited (are a probe's directions and mistakes the same under another "
            "stimulus?).",
        ),
    ] = None,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare models, studies, or the methods of one study.

    Correlations across shifts, agreement of mistakes, paired tests between methods.

    With --out also as one HTML page, with pictures and CSV tables next to it.

    One study's folder compares its methods: repeng compare RESULTS --against lora
    """
    from repeng.report.compare import compare_results

    talk = Talk(json=json, quiet=quiet)
    if question is not None:
        if against is not None:
            raise BadInput("--against and --question conflict: give only one")
        # It draws, and what it draws with takes a quarter of a second to import.
        from repeng.report.questions import answer_question

        answer = answer_question(question, results, out)
        talk.result(answer.as_dict(), *answer.renderables())
        return
    found = compare_results(results, out, against=against)
    talk.result(found.as_dict(), *found.renderables())


def report(
    results: Annotated[Place, typer.Argument(parser=o.place, help="Results folder of a study.")],
    out: Annotated[
        Place | None,
        typer.Option("--out", **o.AT, help="HTML file to write. [default: RESULTS/report.html]"),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write a study as one HTML file that opens offline.

    Its pictures are written next to it. A page that was made of these very results is left as it is.
    """
    from repeng.report.current import is_current

    talk = Talk(json=json, quiet=quiet)
    page = out or results / "report.html"
    current = is_current(page, results, with_texts=True)
    if not current:
        from repeng.report.html import write_report
        from repeng.study.texts import texts_of

        write_report(results, page, distributions=texts_of(results))
    paper = page.with_name(f"{page.stem}-paper")
    said = f"{page} is current" if current else f"wrote {page}"
    talk.result({"report": str(page), "paper": str(paper)}, f"{said}; for a paper, methods and BibTeX are in {paper}")


def browse(
    data: Annotated[str | None, typer.Argument(help="Distributions to look at. [default: mini]")] = None,
    results: Annotated[
        Place | None,
        typer.Option("--results", **o.AT, help="Results folder, to see predictions too."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="With --probe: the model, to score a pair token by token.")
    ] = None,
    probe: Annotated[
        Place | None,
        typer.Option("--probe", **o.AT, help="Folder of a fitted probe for token scores."),
    ] = None,
    export: Annotated[
        Place | None,
        typer.Option("--export", **o.AT, help="Write static files there instead of serving."),
    ] = None,
    trust_code: o.TrustCode = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8417,
    limit: o.Limit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    quiet: o.Quiet = False,
) -> None:
    """Open a local page over pairs and predictions.

    Search, filter, and read what a method got right and wrong.
    """
    from repeng.benchmarks.loaded import load_named
    from repeng.report.browse import create_app, serve
    from repeng.report.browse import export as export_pages
    from repeng.report.predictions import PredictionsByTarget
    from repeng.study.texts import texts_of

    talk = Talk(quiet=quiet)
    if data is None and results is not None:
        distributions = texts_of(results) or load_named(None, limit=limit)
    else:
        distributions = load_named(data, limit=limit, reading=o.reading(columns, positive, turn, group, chat))
    predictions = PredictionsByTarget.of([]) if results is None else PredictionsByTarget.stored(results)
    if (model is None) != (probe is None):
        raise BadInput("token scores need both --model and --probe")
    scores = None
    if model is not None and probe is not None:
        from repeng.methods.token_scores import token_scorer
        from repeng.models.load import load_model
        from repeng.probes.io import load

        scores = token_scorer(load_model(model), load(probe, trust_code=trust_code))
    if export is not None:
        page = export_pages(export, distributions, predictions, token_scores=scores)
        talk.result(None, f"wrote {page}")
        return
    app = create_app(distributions, predictions, token_scores=scores)
    serve(app, port=port, announce=lambda address: talk.result(None, f"{address}  (Ctrl-C ends it)"))
