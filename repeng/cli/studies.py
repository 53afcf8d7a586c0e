"""`run`, `cache` and `tune`: the commands that run a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.places import Place

if TYPE_CHECKING:
    from repeng.distributions.cautions import Caution
    from repeng.study.study import StudyOutcome

MOST_FAILURES = 10


def run(
    study: Annotated[
        Place | None, typer.Argument(parser=o.place, help="Study as TOML; flags beat it. [default: the embedded one]")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Hub id, a folder, a GGUF file, mini or smollm2. [default: mini]"),
    ] = None,
    benchmark: o.BenchmarkName = None,
    data: o.Data = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Comma-separated names, all, or folders with train.py and eval.py; parameters as in logistic(C=0.1), "
            "and where a probe reads, as in mms(token=mean:assistant, stimulus=did_you_lie).",
        ),
    ] = None,
    stimuli: Annotated[
        str | None,
        typer.Option(
            "--stimuli",
            help="Ask each method with its texts as they are (plain), with the model's chat template (chat), or both, "
            "in one table: plain,chat. [default: as the methods are named]",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help=f"{o.LAYER_RULES} [default: auto]"),
    ] = None,
    store: Annotated[
        Place | None,
        typer.Option("--store", **o.AT, help="Folder that keeps the activations. [default: store]"),
    ] = None,
    out: Annotated[
        Place | None,
        typer.Option(
            "--out",
            **o.AT,
            help="Results folder. [default: results/BENCHMARK-MODEL, or DATA-MODEL]",
        ),
    ] = None,
    partial: o.Partial = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            "--shift",
            help="A shift in place of the benchmark's, as SOURCE:TARGET; may be given again. A source a+b is the union "
            "of two, all-but-a that of all others.",
        ),
    ] = None,
    leave_one_out: Annotated[
        bool | None,
        typer.Option(
            "--leave-one-out/--as-listed",
            help="In place of the benchmark's shifts: on each distribution every other one alone, and the union of all "
            "the others. [default: as-listed]",
        ),
    ] = None,
    limit: o.Limit = None,
    train_limit: o.TrainLimit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    fits: Annotated[
        int | None,
        typer.Option("--fits", help="Fit each probe so often, with other splits, draws and starts. [default: 5]"),
    ] = None,
    nulls: Annotated[
        int | None,
        typer.Option("--nulls", help="Shuffled fits and random directions to hold a probe against. [default: 20]"),
    ] = None,
    augment: Annotated[
        str | None, typer.Option("--augment", help="Also fit with this share of target train examples mixed in: 1%.")
    ] = None,
    capability: Annotated[
        bool | None,
        typer.Option(
            "--capability/--no-capability",
            help="Fit on every target's own train split too, for elicitation. [default: capability]",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Every random choice follows from it. [default: 0]")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, mps. [default: auto]")] = None,
    device_map: o.DeviceMap = None,
    cluster: o.Cluster = None,
    worker_gpus: o.WorkerGpus = None,
    tensor_parallel: o.TensorParallel = None,
    quantization: o.Quantization = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="auto, float32, bfloat16, float16. [default: auto]")
    ] = None,
    too_long: Annotated[str | None, typer.Option("--too-long", help="skip, refuse or cut. [default: skip]")] = None,
    tune_preset: Annotated[
        str | None,
        typer.Option("--tune-preset", help="default or genies, for lora and prompt-tuning. [default: default]"),
    ] = None,
    drop_overlap: Annotated[
        bool | None,
        typer.Option(
            "--drop-overlap/--keep-overlap",
            help="Leave out test examples whose prompt stands in the source's train split. [default: keep-overlap]",
        ),
    ] = None,
    benign: Annotated[
        str | None,
        typer.Option(
            "--benign",
            help="Distribution whose texts of label 0 set the thresholds of 1 % and 5 % false positives for labelled "
            "texts. [default: the source's held-out ones]",
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict/--no-strict", help="Take every caution for an error. [default: no-strict]"),
    ] = None,
    trust_store: Annotated[
        bool | None, typer.Option("--trust-store", help="Do not check cached activations against their checksums.")
    ] = None,
    causal: Annotated[
        bool | None,
        typer.Option(
            "--causal/--no-causal",
            help="Also add each probe's direction to the model, and take it away: do its answers move? [default: "
            "no-causal]",
        ),
    ] = None,
    causal_examples: Annotated[
        int | None,
        typer.Option("--causal-examples", help="Of each test split, the first so many for --causal. [default: 40]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done and what of it would fail, and stop.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """The main job: capture what is missing, fit, score and report.

    With no argument: the embedded model on the embedded benchmark. Running it again does only what is not done yet.
    """
    from repeng.cli.show import caution_lines, plan_lines
    from repeng.distributions.cautions import refuse, sentences
    from repeng.errors import BadInput, RepengError
    from repeng.study.cautions import failure_cautions
    from repeng.study.settings import Study
    from repeng.study.study import plan_study, run_study

    given: dict[str, Any] = {
        "model": model,
        "benchmark": benchmark,
        "data": data,
        "methods": methods,
        "stimuli": stimuli,
        "layers": layers,
        "store": str(store) if store else None,
        "out": str(out) if out else None,
        "partial": partial,
        "shift": shift or None,
        "leave_one_out": leave_one_out,
        "limit": limit,
        "train_limit": train_limit,
        "columns": columns,
        "positive": positive,
        "turn": turn,
        "chat": chat,
        "group": group,
        "fits": fits,
        "nulls": nulls,
        "augment": augment,
        "capability": capability,
        "seed": seed,
        "device": device,
        "device_map": device_map,
        "cluster": cluster,
        "worker_gpus": worker_gpus,
        "tensor_parallel": tensor_parallel,
        "quantization": quantization,
        "dtype": dtype,
        "too_long": too_long,
        "tune_preset": tune_preset,
        "drop_overlap": drop_overlap,
        "benign": benign,
        "strict": strict,
        "trust_store": trust_store,
        "causal": causal,
        "causal_examples": causal_examples,
    }
    settings = Study.read(study, {key: value for key, value in given.items() if value is not None})
    if o.only_follows(settings.tensor_parallel):
        return
    talk = Talk(json=json, quiet=quiet)
    plan = plan_study(settings, trial=dry_run)
    lines = plan_lines(plan)
    if not settings.strict:
        lines += caution_lines(plan.cautions)
    if dry_run:
        failed = failure_cautions(plan.impossible)
        talk.result(plan.as_dict(), *lines, *sentences(failed))
        if settings.strict:
            refuse(plan.cautions, BadInput)
        if failed:
            raise typer.Exit(1)
        return
    for line in lines:
        talk.note(line)
    result = run_study(plan, progress=talk.progress, note=talk.note)
    found = _write_outputs(result, talk)
    if result.failures:
        raise typer.Exit(1)
    if settings.strict:
        refuse(found, RepengError)


def cache(
    model: o.Model = "mini",
    benchmark: o.BenchmarkName = None,
    data: o.Data = None,
    distributions: Annotated[
        str,
        typer.Option("--distributions", help="Of the data or benchmark these alone: comma-separated names, or all."),
    ] = "all",
    store: o.Store = o.DEFAULT_STORE,
    sites: Annotated[str, typer.Option("--sites", help="resid_post, hook_z, mlp_out or any hook site.")] = "resid_post",
    stimuli: Annotated[
        list[str],
        typer.Option(
            "--stimuli",
            help="plain, contrast_yes, did_you_lie, ...; chat and chat_NAME write the same with the model's chat "
            "template; may be given again, also as a template name={prompt}{response}..., or a follow-up question "
            "name?=QUESTION.",
        ),
    ] = ["plain,contrast_yes,contrast_no"],  # noqa: B006  (typer copies it)
    tokens: Annotated[
        str,
        typer.Option(
            "--tokens",
            help="last, last:-K (K tokens before it), response_mean, prompt_last, first_response, turn_end (what "
            "closes the response's turn), mean:ROLE (over a role's turns, as mean:user+assistant), all (every token of "
            "the response) or all:ROLE.",
        ),
    ] = "last",
    layers: Annotated[str, typer.Option("--layers", help=f"all, or these: {o.THESE_LAYERS}.")] = "all",
    logprob: Annotated[bool, typer.Option(help="Keep each response's log-probability too.")] = True,
    partial: o.Partial = None,
    limit: o.Limit = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    turn: o.Turn = None,
    chat: o.Chat = None,
    group: o.Group = None,
    device: o.Device = "auto",
    device_map: o.DeviceMap = None,
    cluster: o.Cluster = None,
    worker_gpus: o.WorkerGpus = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            help="Do one share of the work, as 0/8 (the first) to 7/8, where seven other jobs with the same command do "
            "theirs in the same store; the last to end makes it whole.",
        ),
    ] = None,
    tensor_parallel: o.TensorParallel = None,
    quantization: o.Quantization = None,
    dtype: o.Dtype = "auto",
    too_long: o.TooLong = "skip",
    max_bytes: Annotated[
        str, typer.Option("--max-bytes", help="What --tokens all may take on disk: 200G, 800M.")
    ] = "50G",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print tokens, bytes on disk, memory and time of what is asked for, and stop."),
    ] = False,
    trial: Annotated[
        bool,
        typer.Option(
            help="With --dry-run, run the model on a few texts, for memory and time. Else no weights are read."
        ),
    ] = True,
    strict: o.Strict = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run the model once over a benchmark and keep its activations.

    What the store already holds is not computed again; a stopped run goes on where it was.
    """
    from dataclasses import asdict

    from repeng.activations.sizes import check_size, parse_bytes
    from repeng.activations.store.writing import Share
    from repeng.benchmarks.loaded import load_benchmark
    from repeng.cli.show import (
        cache_line,
        captured_lines,
        caution_lines,
        chat_form_lines,
        estimate_lines,
        size_lines,
    )
    from repeng.distributions.cautions import refuse
    from repeng.distributions.mixture import members_of
    from repeng.distributions.stimuli import get_stimulus
    from repeng.errors import BadInput
    from repeng.probes.selection import parse_layers
    from repeng.study.capture_plan import cache_needs, plan_cache
    from repeng.study.cautions import benchmark_cautions, version_cautions
    from repeng.study.model_settings import ModelSettings

    if o.only_follows(bool(tensor_parallel)):
        return
    talk = Talk(json=json, quiet=quiet)
    limit_bytes = parse_bytes(max_bytes)
    chosen = None if layers == "all" else parse_layers(layers)
    if isinstance(chosen, str):
        raise BadInput(f"layers is {layers!r}, which a fit chooses by; to capture give all, or {o.THESE_LAYERS}")
    needs = cache_needs(
        [get_stimulus(name) for name in o.stimuli(stimuli)], o.names(sites), o.names(tokens), logprob=logprob
    )
    reading = o.reading(columns, positive, turn, group, chat)
    world = load_benchmark(benchmark, data, limit=limit, reading=reading, partial=bool(partial))
    if distributions != "all":
        world = world.only(o.names(distributions))
    splits = [
        member
        for distribution in world.distributions.values()
        for split in distribution.splits.values()
        for member in members_of(split)
    ]
    share = None if shard is None else Share.parse(shard)
    if share is not None and cluster is not None:
        raise BadInput("--shard is for jobs without a coordinator, and --cluster has one; give only one")
    settings = ModelSettings(
        model,
        device,
        dtype,
        too_long,
        device_map,
        quantization or "auto",
        tensor_parallel=bool(tensor_parallel),
        cluster=cluster,
        worker_gpus=worker_gpus or 1,
    )
    plan = plan_cache(settings, store, dict.fromkeys(splits, needs), layers=chosen)
    for line in (cache_line(plan), *chat_form_lines(plan)):
        talk.note(line)
    cautions = [*benchmark_cautions(world), *version_cautions(store, settings.capture_id)]
    if strict:
        refuse(cautions, BadInput)
    for line in caution_lines(cautions):
        talk.note(line)
    if dry_run:
        sizes = plan.sizes()
        plan = plan.estimated(sizes, trial=trial)
        shown = [*size_lines(sizes), *estimate_lines(plan)]
        talk.result({**plan.as_dict(), "sizes": [asdict(size) for size in sizes]}, *shown)
        check_size(sizes, limit_bytes)
        return
    summary = plan.carry_out(talk.progress, max_bytes=limit_bytes, share=share)
    if summary is not None:
        plain = {**asdict(summary), "cautions": [asdict(caution) for caution in cautions]}
        talk.result(plain, *captured_lines(summary))


def _write_outputs(result: StudyOutcome, talk: Talk) -> list[Caution]:
    """Write the report of a study that found something new; show its table, what it says, and where the files are.

    Returns:
        Cautions that were not known before the study ran.
    """
    from dataclasses import asdict
    from shlex import quote

    from repeng.cli.show import captured_lines, causal_shown, caution_lines
    from repeng.report.current import is_current
    from repeng.report.form_section import TITLE, form_rows, form_sentence
    from repeng.report.page import grid_of
    from repeng.report.sentences import summary_sentences
    from repeng.report.tables import grid_table, study_table
    from repeng.report.text_section import text_means
    from repeng.report.text_solved import text_cautions, text_solved_sentence, text_solved_sources
    from repeng.results import record_of
    from repeng.study.results_folder import written_alone

    if result.captured is not None:
        for line in captured_lines(result.captured):
            talk.note(line)
    page = result.out / "report.html"
    with written_alone(result.plan.study):
        if result.evaluations_made or not is_current(page, result.out):
            # They draw charts with a library that is slow to load.
            from repeng.report.html import write_report
            from repeng.report.predictions import predictions_from

            write_report(
                result.out,
                distributions=result.plan.world.distributions,
                predictions=predictions_from(result.evaluations),
            )
    rows = [record_of(row) for row in result.rows]
    failed = [asdict(failure) for failure in result.failures]
    text_solved = text_solved_sources(result.rows)
    found = [*result.found, *text_cautions(result.rows, text_solved)]
    cautions = [asdict(caution) for caution in (*result.plan.cautions, *found)]
    forms = form_rows(result.rows, result.evaluations)
    plain = {
        "out": str(result.out),
        "rows": rows,
        "forms": forms,
        "failures": failed,
        "surface_sources": [asdict(source) for source in text_solved],
        "cautions": cautions,
        "causal": [record_of(row) for row in result.causal],
    }
    texts = text_means(result.rows)
    shown: list[Any] = [study_table(result.rows), "", *([] if texts is None else [texts, ""])]
    shown += [grid_table(f"{TITLE} (chat minus plain, paired)", grid_of(forms)), ""] if forms else []
    shown.append(" ".join(filter(None, [summary_sentences(result.rows, result.evaluations), form_sentence(forms)])))
    shown += [text_solved_sentence(result.rows, text_solved)] if text_solved else []
    shown += ["", *causal_shown(result.causal)] if result.causal else []
    shown.append("")
    shown.append(
        f"results: {result.out / 'results.csv'}  report: {page}  predictions: {result.plan.runner.predictions}"
    )
    talk.result(plain, *shown)
    talk.note(f"{result.evaluations_made} evaluations made, {result.evaluations_reused} read back")
    if len(result.plan.asked) > 1:
        asked = result.plan.asked
        against = next((name for name in asked if result.plan.kind_of(name) == "tuned"), asked[0])
        talk.note(f"paired tests of every method: repeng compare {quote(str(result.out))} --against {quote(against)}")
    # Failures have their own lines, and the sources that a text-only baseline solves theirs under the table.
    for line in caution_lines(caution for caution in found if caution.kind not in ("failed", "text_solved")):
        talk.note(line)
    for line in _failure_lines(result):
        talk.err.print(line, markup=False)
    return found


def _failure_lines(result: StudyOutcome) -> list[str]:
    """What failed, one line a cause."""
    from repeng.distributions.cautions import sentences

    lines = sentences(caution for caution in result.found if caution.kind == "failed")
    hidden = len(lines) - MOST_FAILURES
    return lines[:MOST_FAILURES] + ([f"and {hidden} more kinds of failure"] if hidden > 0 else [])
