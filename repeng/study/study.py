"""A study from its settings to its results: plan, capture what is missing, ask every method, put figures together."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from repeng.activations.capture import CaptureSummary
from repeng.activations.store.files import LOGPROB
from repeng.activations.store.store import Store
from repeng.atomic import write_atomically
from repeng.benchmarks.loaded import LoadedBenchmark, load_benchmark
from repeng.distributions.cautions import Caution, data_cautions, own_sources, refuse
from repeng.distributions.mixture import members_of
from repeng.distributions.overlap import Overlap, find_overlaps
from repeng.distributions.schema import Shift, Split
from repeng.errors import BadInput, RepengError, sentence
from repeng.methods.base import Kind, Method, MethodSettings, RequiredActivations
from repeng.methods.registry import make_method, make_methods
from repeng.metrics import Evaluation
from repeng.models.fingerprint import slug
from repeng.places import Place, place
from repeng.probes.selection import check_layers
from repeng.progress import ProgressBar
from repeng.results import (
    CAPABILITY,
    CausalRow,
    ResultRow,
    layer_rows,
    row_from,
    with_verdicts,
    write_causal,
    write_layers,
    write_results,
)
from repeng.study.augment import augment
from repeng.study.capability import Capability, target_tuned_capability, write_capability
from repeng.study.capture_estimate import fit_memory
from repeng.study.capture_plan import CachePlan, Job, plan_cache
from repeng.study.causal import CausalOutcome, CausalPlan, CausalRunner
from repeng.study.cautions import (
    Failure,
    failure_cautions,
    left_out_cautions,
    null_cautions,
    version_cautions,
    write_cautions,
)
from repeng.study.cluster_tuning import tune_elsewhere
from repeng.study.evaluations import (
    MethodEvaluation,
    Runner,
    StudyEvaluations,
    Task,
    names_of,
)
from repeng.study.evaluations_beside import evaluate_beside
from repeng.study.model_settings import ModelSettings
from repeng.study.overlap import with_overlap, with_overlap_figures, write_overlaps
from repeng.study.provenance import Provenance, write_provenance
from repeng.study.results_folder import CAPABILITIES, CAUSAL, PREDICTIONS, STUDY, TABLE, joined, written_alone
from repeng.study.settings import Study
from repeng.study.text_cautions import benign_split, threshold_cautions, unequal_texts
from repeng.study.text_forms import baseline_method, methods_in_forms
from repeng.study.tuning_plan import TuningPlan, plan_tunings


@dataclass(frozen=True)
class Plan:
    """What a study will do, before it does it.

    Attributes:
        methods: the methods asked for, and the baseline.
        asked: names of the methods asked for.
        tasks: every evaluation.
        known: those of them that lie on disk already.
        tunings: what must be tuned for the others.
        cache: what is wanted of the store, and missing.
        mixed: for each shift the augmented source, where the study asks for one.
        impossible: methods that cannot answer about a source, and why.
        overlaps: what of a target stands in the train split of a source that is fitted on.
        cautions: what to know of the data and the store.
        fit_memory: bytes that fitting and scoring probes take, after a trial; None where no probe reads the store.
        causal: which probes' directions are tried on the model; None where that is not asked for.
    """

    study: Study
    world: LoadedBenchmark
    methods: tuple[Method, ...]
    asked: tuple[str, ...]
    tasks: tuple[Task, ...]
    known: Mapping[Task, MethodEvaluation]
    tunings: tuple[TuningPlan, ...]
    cache: CachePlan
    runner: Runner
    mixed: Mapping[Shift, Split]
    impossible: tuple[Failure, ...]
    overlaps: tuple[Overlap, ...]
    cautions: tuple[Caution, ...]
    fit_memory: int | None = None
    causal: CausalPlan | None = None

    @cached_property
    def baseline(self) -> str:
        """The method whose accuracy on a target is everybody's baseline."""
        return baseline_method(self.asked)

    def kind_of(self, method: str) -> Kind:
        """What the method of a name works with."""
        return next(one.kind for one in self.methods if one.name == method)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {
            "model": self.study.model,
            "benchmark": self.world.benchmark.name,
            "shifts": len(self.world.benchmark.shifts),
            "methods": list(self.asked),
            "evaluations": len(self.tasks),
            "evaluations_done": len(self.known),
            "tuned_models": {one.method: one.sources for one in self.tunings},
            "tuned_models_done": {one.method: one.found for one in self.tunings},
            "tuning_seconds_estimate": {one.method: one.seconds for one in self.tunings},
            **self.cache.as_dict(),
            "fit_memory_estimate": self.fit_memory,
            "causal": None if self.causal is None else self.causal.as_dict(),
            "impossible": [asdict(failure) for failure in self.impossible],
            "cautions": [asdict(caution) for caution in self.cautions],
        }


@dataclass(frozen=True)
class StudyOutcome:
    """What a study found, and what it did for it.

    Attributes:
        found: cautions that were not known before, failures among them.
        evaluations: by model, method, source and target.
        captured: None where the store held everything.
        causal: rows of causal.csv; none where they were not asked for.
    """

    plan: Plan
    rows: tuple[ResultRow, ...]
    failures: tuple[Failure, ...]
    found: tuple[Caution, ...]
    evaluations: Mapping[tuple[str, str, str, str], Evaluation]
    captured: CaptureSummary | None
    causal: tuple[CausalRow, ...]
    evaluations_made: int
    evaluations_reused: int

    @property
    def out(self) -> Place:
        """The results folder."""
        return place(self.plan.study.out)


def plan_study(study: Study, *, trial: bool = False) -> Plan:
    """Find out what is there and what is missing. Nothing is written, and no weights are loaded but for a trial.

    The methods that the results folder holds figures of are planned for too.

    Args:
        study: the settings.
        trial: also time the model on a few of the missing texts, for an estimate of the whole; and try the user's own
            methods.

    Raises:
        BadInput, BadData, UnknownName: the settings name something that is wrong or not there, or the results folder
            holds another study.
    """
    study = joined(_in_forms(study))
    world = load_benchmark(
        study.benchmark,
        study.data,
        limit=study.limit,
        benign=study.benign,
        reading=study.reading,
        partial=study.partial,
        **study.shifts_asked,
    )
    if not world.benchmark.shifts:
        raise BadInput(f"{study.data}: no distribution has a train split, so there is nothing to fit on")
    benign = benign_split(world, study.benign) if study.benign else None
    settings = ModelSettings(
        study.model,
        study.device,
        study.dtype,
        study.too_long,
        study.device_map,
        study.quantization,
        study.tensor_parallel,
        study.cluster,
        study.worker_gpus,
    )
    n_layers = settings.identity.n_layers
    check_layers(study.layers, n_layers, study.model)

    shared = MethodSettings(
        model=study.model,
        n_layers=n_layers,
        max_length=settings.identity.max_length,
        capture_id=settings.capture_id,
        plugins=place(study.out) / "plugins",
        tuned=place(study.store) / "tuned",
        seed=study.seed,
        layers=study.layers,
        fits=study.fits,
        nulls=study.nulls,
        device=study.device,
        dtype=study.dtype,
        tune_preset=study.tune_preset,
    )
    asked = make_methods(study.methods, shared)
    names = tuple(method.name for method in asked)
    baseline = baseline_method(names)
    methods = asked if baseline in names else (*asked, make_method(baseline, shared))
    broken = _broken(methods) if trial else {}
    mixed = _mixtures(world, study) if study.augment else {}
    tasks = _tasks(world, methods, mixed, capability=study.capability)
    wanted, possible, impossible = _wanted(tasks, methods, benign, broken)
    cache = plan_cache(settings, place(study.store), wanted, trial=trial)
    runner = Runner(shared, Store(study.store, trust=study.trust_store), place(study.out) / PREDICTIONS, benign)
    known = runner.known(possible, methods)
    tunings = plan_tunings((task for task in possible if task not in known), methods, trial=trial)
    of_name = {method.name: method for method in methods}
    learns = [task for task in tasks if (m := of_name[task.method]).uses_source or m.reads_of(task.source)]
    fitted = list(dict.fromkeys((task.source, task.target) for task in learns))
    overlaps = tuple(find_overlaps(fitted))
    trying, of = _causal_runner(study, runner, settings), world.distributions
    own_tests = {of[shift.source].train: of[shift.source].test for shift in world.benchmark.shifts}
    cautions = (
        *left_out_cautions(world),
        *data_cautions([train for train, _ in fitted], list(dict.fromkeys(task.target for task in tasks)), overlaps),
        *own_sources(() if world.every_pair else world.benchmark.shifts, world.distributions),
        *threshold_cautions(world, benign),
        *version_cautions(place(study.store), settings.capture_id),
    )
    sources = list(dict.fromkeys(task.source for task in possible if of_name[task.method].reads_of(task.source)))
    return Plan(
        study,
        world,
        methods,
        names,
        possible,
        known,
        tunings,
        cache,
        runner,
        mixed,
        impossible,
        overlaps,
        cautions,
        # Two stimuli are the most that a probe reads together.
        fit_memory(sources, settings.identity.d_model, 2) if trial and sources else None,
        None if trying is None else trying.plan(possible, methods, own_tests, trial=trial),
    )


def run_study(plan: Plan, *, progress: ProgressBar, note: Callable[[str], None]) -> StudyOutcome:
    """Carry a plan out and write OUT/results.csv, OUT/layers.csv, OUT/predictions and OUT/study.toml.

    A failed method costs its own rows alone; what failed is in the result. One run at a time writes a results folder.

    Raises:
        BadInput: the study is strict, and there are cautions before it begins; it tunes under tensor parallelism; the
            results folder holds another study, or a run of one writes there.
    """
    if plan.study.strict:
        refuse(plan.cautions, BadInput)
    if plan.study.tensor_parallel and (tuned := [name for name in plan.asked if plan.kind_of(name) == "tuned"]):
        raise BadInput(
            f"{' and '.join(tuned)}: a model that several processes hold together is not tuned; leave these methods "
            "out, and ask for them in one process once the activations are captured"
        )
    with written_alone(plan.study, note) as waited:
        if waited or joined(plan.study) != plan.study:
            plan = plan_study(plan.study)
        return _run(plan, progress=progress, note=note)


def _run(plan: Plan, *, progress: ProgressBar, note: Callable[[str], None]) -> StudyOutcome:
    out = place(plan.study.out)
    if not (out / TABLE).is_file():
        write_atomically(out / STUDY, plan.study.to_toml())
    captured = None
    refused: dict[tuple[Split, str], Exception] = {}

    def keep(job: Job, error: Exception) -> None:
        refused.update({(split, part.site): error for split in job.splits for part in job.request.only or ()})

    if plan.cache.missing:
        captured = plan.cache.carry_out(progress, refused=keep)
    else:
        note("every activation is in the store; the model is not run for them")
        plan.cache.keep_house()
    known = plan.known if captured is None else plan.runner.known(plan.tasks, plan.methods)
    uncaptured = _uncaptured(plan, known, refused)
    tasks = [task for task in plan.tasks if task not in uncaptured]
    plan.runner.check((task for task in tasks if task not in known), plan.methods)
    whole = _evaluated(plan, tasks, known, progress, note)
    causal = _causal(plan, progress)
    answers, nothing_left = with_overlap(whole, plan.overlaps, drop=plan.study.drop_overlap)
    references = sorted({shift.target_reference for shift in plan.world.benchmark.shifts})
    able = [one.name for one in plan.methods if plan.study.capability and one.counts_towards_capability]
    competing = [name for name in able if name in plan.asked]
    capable = target_tuned_capability(answers, competing, references)
    rows = with_verdicts(_rows(plan, answers, capable))
    failures = [*plan.impossible, *uncaptured.values(), *answers.failures, *causal.failures]
    known_causes = {failure.cause for failure in failures}
    for (split, _), error in refused.items():
        alone = Failure("capture", split.distribution, split.distribution, sentence(error))
        if alone.cause not in known_causes:
            failures.append(alone)
    at_home = {
        (method, source): one.evaluation for (method, source, target), one in whole.found.items() if source == target
    }
    unread = {name: found.unread for (_, _, name), found in answers.found.items() if found.unread}
    found_out = (
        *nothing_left,
        *null_cautions(at_home),
        *unequal_texts(answers.found),
        *(Caution("unread_layers", name, reason) for name, reason in unread.items()),
        *failure_cautions(failures),
    )
    write_atomically(out / STUDY, plan.study.to_toml())
    write_cautions([*plan.cautions, *found_out], out)
    write_overlaps(plan.overlaps, out, dropped=plan.study.drop_overlap)
    write_provenance(_provenance(plan), out)
    write_results(rows, out / TABLE)
    _write_layers(plan, answers, out / "layers.csv")
    if plan.causal is not None:
        write_causal(causal.rows, causal.doses, out)
    for found in capable.values():
        write_capability(found, out / CAPABILITIES / slug(plan.study.model))
    evaluations = {(plan.study.model, *names): one.evaluation for names, one in answers.found.items()}
    return StudyOutcome(
        plan,
        tuple(rows),
        tuple(failures),
        found_out,
        evaluations,
        captured,
        causal.rows,
        answers.computed,
        answers.reused,
    )


def _causal_runner(study: Study, runner: Runner, settings: ModelSettings) -> CausalRunner | None:
    """What tries directions on the model, where the study asks for it."""
    if not study.causal:
        return None
    elsewhere = {"--tensor-parallel": study.tensor_parallel, "--cluster": study.cluster is not None}
    return CausalRunner(
        runner,
        settings,
        place(study.out) / CAUSAL,
        study.causal_examples,
        study.too_long,
        elsewhere=next((flag for flag, holds in elsewhere.items() if holds), ""),
    )


def _causal(plan: Plan, progress: ProgressBar) -> CausalOutcome:
    """What the model's answers do when directions are added, or taken away; nothing where that is not asked for."""
    if plan.causal is None:
        return CausalOutcome()
    with progress("causal figures") as advance:
        return plan.causal.runner.run(plan.causal, progress=advance)


def _evaluated(
    plan: Plan,
    tasks: Sequence[Task],
    known: Mapping[Task, MethodEvaluation],
    progress: ProgressBar,
    note: Callable[[str], None],
) -> StudyEvaluations:
    """Every task's evaluation.

    On a cluster, where there is one, those of what is tuned are made one source a worker; here those of probes on small
    sources, one source a process.
    """
    todo, settings = [task for task in tasks if task not in known], plan.cache.settings
    if plan.study.cluster is not None:
        with progress("tuning") as advance:
            there = tune_elsewhere(settings, plan.runner, todo, plan.methods, progress=advance, note=note)
    else:
        with progress("evaluations") as advance:
            there = evaluate_beside(
                plan.runner, todo, plan.methods, d_model=settings.identity.d_model, progress=advance
            )
    failed = {(failure.method, failure.source, failure.target) for failure in there.failures}
    done = {task: made for task in tasks if (made := there.found.get(names_of(task))) is not None}
    left = [task for task in tasks if names_of(task) not in failed]
    with progress("evaluations") as advance:
        whole = plan.runner.evaluate(left, plan.methods, known={**known, **done}, progress=advance, note=note)
    return replace(
        whole,
        failures=[*there.failures, *whole.failures],
        causes=there.causes | whole.causes,
        computed=whole.computed + len(done),
        reused=whole.reused - len(done),
    )


def _provenance(plan: Plan) -> Provenance:
    """The model, and every split that is fitted on or asked about but for the mixtures that are made of others."""
    made = set(plan.mixed.values())
    used = {split for task in plan.tasks for split in (task.source, task.target)} - made
    benign = plan.runner.benign
    settings, benchmark = plan.cache.settings, plan.world.benchmark.name
    return Provenance.of(settings, benchmark, used if benign is None else {*used, benign})


def _in_forms(study: Study) -> Study:
    """The study with the methods of each form of the texts by their own names, so that those of several runs add up."""
    if study.stimuli is None:
        return study
    return replace(study, methods=methods_in_forms(study.methods, study.stimuli), stimuli=None)


def _rows(plan: Plan, answers: StudyEvaluations, capable: Mapping[str, Capability]) -> list[ResultRow]:
    """One row a method and shift, those of mixed sources after them, then the capability of each reference."""
    shifts = plan.world.benchmark.shifts
    return [
        *(_row(name, shift, plan, answers, capable) for name in plan.asked for shift in shifts),
        *(
            _row(name, shift, plan, answers, capable, plan.mixed[shift])
            for name in plan.asked
            for shift in plan.mixed
            if any(task.method == name and task.source == plan.mixed[shift] for task in plan.tasks)
        ),
        *(_capability_row(found, plan) for found in capable.values()),
    ]


def _train(world: LoadedBenchmark, name: str) -> Split:
    return world.distributions[name].train


def _mixtures(world: LoadedBenchmark, study: Study) -> dict[Shift, Split]:
    """The augmented source of each shift; none where source and target are the same, and there is nothing to mix."""
    return {
        shift: augment(_train(world, shift.source), _train(world, shift.target), study.augment, seed=study.seed)
        for shift in world.benchmark.shifts
        if shift.source != shift.target
    }


def _tasks(
    world: LoadedBenchmark, methods: Sequence[Method], mixed: Mapping[Shift, Split], *, capability: bool
) -> tuple[Task, ...]:
    """Each method on each shift, on its source's own test split, and where capability is wanted, on each reference."""
    of = world.distributions
    tasks: dict[Task, None] = {}
    for method in methods:
        for shift in world.benchmark.shifts:
            sources = [of[shift.source].train]
            if shift in mixed and method.uses_source:
                sources.append(mixed[shift])
            for source in sources:
                tasks[Task(method.name, source, of[shift.target].test)] = None
                tasks[Task(method.name, source, of[shift.source].test)] = None
            reference = of[shift.target_reference]
            # What has only a test split can be asked about, and not tuned on.
            if capability and method.counts_towards_capability and "train" in reference.splits:
                tasks[Task(method.name, reference.train, reference.test)] = None
    return tuple(tasks)


def _wanted(
    tasks: Sequence[Task],
    methods: Sequence[Method],
    benign: Split | None,
    broken: Mapping[str, BadInput],
) -> tuple[dict[Split, frozenset[RequiredActivations]], tuple[Task, ...], tuple[Failure, ...]]:
    """The parts that each split must have in the store; and the tasks that can be done, and those that cannot."""
    by_name = {method.name: method for method in methods}
    needs: dict[Split, set[RequiredActivations]] = {}
    known: dict[tuple[str, Split], tuple[RequiredActivations, ...]] = {}
    found: tuple[RequiredActivations, ...] | BadInput
    possible, impossible = [], []
    for task in tasks:
        method, key = by_name[task.method], (task.method, task.source)
        try:
            if task.method in broken:
                raise broken[task.method]
            method.check_splits(task.source, task.target)
            if key not in known:
                known[key] = method.requires(task.source)
            found = known[key]
        except BadInput as error:
            found = error
        if isinstance(found, BadInput):
            impossible.append(Failure(task.method, task.source.distribution, task.target.distribution, str(found)))
            continue
        possible.append(task)
        splits = [*members_of(task.target)]
        if benign is not None and task.target.as_texts:
            splits.append(benign)
        if method.reads_of(task.source):
            splits += members_of(task.source)
        for split in splits:
            needs.setdefault(split, set()).update(found)
    return {split: frozenset(found) for split, found in needs.items() if found}, tuple(possible), tuple(impossible)


def _broken(methods: Sequence[Method]) -> dict[str, BadInput]:
    """The methods that a trial of their own code shows to fail."""
    found = {}
    for method in methods:
        try:
            method.trial()
        except RepengError as error:
            found[method.name] = BadInput(str(error))
    return found


def _uncaptured(
    plan: Plan, known: Container[Task], refused: Mapping[tuple[Split, str], Exception]
) -> dict[Task, Failure]:
    """The tasks that lack what could not be captured: they fail for the reason that the capture gave.

    Args:
        plan: the study's.
        known: tasks that need nothing more.
        refused: for a split and site why it could not be captured.
    """
    by_name = {method.name: method for method in plan.methods}
    found = {}
    for task in plan.tasks if refused else ():
        lacking = [] if task in known else plan.runner.lacking(task, by_name[task.method])
        reasons = [refused[key] for split, need in lacking if (key := (split, need.site or LOGPROB)) in refused]
        if reasons:
            names = (task.method, task.source.distribution, task.target.distribution)
            found[task] = Failure(*names, sentence(reasons[0]))
    return found


def _row(
    method: str,
    shift: Shift,
    plan: Plan,
    answers: StudyEvaluations,
    capable: Mapping[str, Capability],
    mixture: Split | None = None,
) -> ResultRow:
    source = mixture.distribution if mixture else shift.source
    answer = answers.get(method, source, shift.target)
    source_id = answers.get(method, source, shift.source)
    baseline = answers.get(plan.baseline, shift.source, shift.target)
    capability = capable.get(shift.target_reference)
    row = row_from(
        answer.evaluation if answer else None,
        model=plan.study.model,
        method=f"{method}+{plan.study.augment * 100:g}%" if mixture else method,
        layers=answer.layers if answer else "",
        shift=shift,
        source_id=source_id.evaluation if source_id else None,
        baseline=baseline.evaluation if baseline else None,
        capability=capability.answer.evaluation if capability else None,
        kind=plan.kind_of(method),
    )
    row = with_overlap_figures(row, answer)
    if answer is None or answer.by_layer.tied is None:
        return row
    lowest, highest = answer.by_layer.tied
    layers = " ".join(str(figure.layer) for figure in answer.by_layer.figures if figure.tied_share > 0)
    return replace(row, tied_layers=layers, tied_lowest=lowest, tied_highest=highest)


def _write_layers(plan: Plan, answers: StudyEvaluations, path: Place) -> None:
    """Write how every layer does alone, wherever a method was fitted at several; no file where none was."""
    rows = []
    for task in plan.tasks:
        source, target = task.source.distribution, task.target.distribution
        answer = answers.get(task.method, source, target)
        if answer is not None and answer.by_layer.figures:
            names = {"model": plan.study.model, "probe": task.method, "source": source, "target": target}
            rows += layer_rows(answer.by_layer.figures, **names, figure=answer.evaluation.figure)
    if rows:
        write_layers(rows, path)
    else:
        path.unlink(missing_ok=True)


def _capability_row(found: Capability, plan: Plan) -> ResultRow:
    """The winner on one reference; its name stands in the method."""
    row = row_from(
        found.answer.evaluation,
        model=plan.study.model,
        method=f"{CAPABILITY}{found.method}",
        layers=found.answer.layers,
        shift=Shift(found.reference, found.reference),
        source_id=found.answer.evaluation,
        capability=found.answer.evaluation,
        kind=plan.kind_of(found.method),
    )
    return with_overlap_figures(row, found.answer)
