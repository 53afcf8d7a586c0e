"""repeng: run a language model once, cache its activations, and ask how probes generalise.

On texts of one's own, with scikit-learn:

    import repeng
    acts = repeng.capture("mini", texts, layers=[2, 4])      # acts[4] is a tensor [text, d_model]
    probe = repeng.probes.MMS().fit(acts[4], labels)
    print(repeng.evaluate(probe, test_rows, test_labels))    # AUROC and accuracies with intervals

On distributions of pairs, step by step:

    model = repeng.load_model("mini")
    cached = repeng.capture(model, "mini", store="store", limit=40)
    probe = repeng.fit(cached, "facts", "mms")
    print(repeng.evaluate(probe, cached, "myths").accuracy)

or a whole study:

    study = repeng.run(limit=40)          # or repeng.load("results/mini-mini")
    study.frame                           # a row a method and shift, as a pandas frame
    study.heat_map()                      # an Altair chart; study.sweep("mms"), study.matrix("mms"), study.compare()

`repeng.sweep` is every layer of several probes, `repeng.transfer_matrix` every distribution against every one,
`repeng.erase` what erasing a concept leaves and takes, `repeng.probes` the probes as scikit-learn estimators,
`repeng.Store` a folder of captures. `repeng.watch` has a fitted probe's score at every token of a text, or of what a
model writes; `repeng.Watcher` goes with transformers' `generate`.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

from repeng.places import Place
from repeng.version import __version__

if TYPE_CHECKING:
    from repeng import probes
    from repeng.activations.store.store import Store
    from repeng.handing.export import export
    from repeng.handing.pull import pull
    from repeng.handing.push import push
    from repeng.models.load import load_model
    from repeng.progress import Told
    from repeng.report.layer_results import sweep, transfer_matrix
    from repeng.report.pictures import save_chart
    from repeng.report.study import StudyResults
    from repeng.steering.steer import steer
    from repeng.study.cached_erasure import erase
    from repeng.study.doors import capture, evaluate
    from repeng.study.steps import fit
    from repeng.watching.watch import watch
    from repeng.watching.watcher import Watcher

__all__ = [
    "Store",
    "Watcher",
    "__version__",
    "capture",
    "erase",
    "evaluate",
    "export",
    "fit",
    "load",
    "load_model",
    "probes",
    "pull",
    "push",
    "run",
    "save_chart",
    "steer",
    "sweep",
    "transfer_matrix",
    "watch",
]

_LAZY = {
    "load_model": "repeng.models.load",
    "Store": "repeng.activations.store.store",
    "save_chart": "repeng.report.pictures",
    "fit": "repeng.study.steps",
    "export": "repeng.handing.export",
    "pull": "repeng.handing.pull",
    "push": "repeng.handing.push",
    "steer": "repeng.steering.steer",
    "erase": "repeng.study.cached_erasure",
    "watch": "repeng.watching.watch",
    "Watcher": "repeng.watching.watcher",
    **dict.fromkeys(("capture", "evaluate"), "repeng.study.doors"),
    **dict.fromkeys(("sweep", "transfer_matrix"), "repeng.report.layer_results"),
}
"""Where a name lies whose room is loaded when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name == "probes":
        return import_module("repeng.probes")
    if name in _LAZY:
        found = getattr(import_module(_LAZY[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'repeng' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(results: str | Place) -> StudyResults:
    """The results of a study that has run.

    Args:
        results: its folder.

    Raises:
        BadInput: there is no results table there.
    """
    from repeng.errors import BadInput
    from repeng.places import place
    from repeng.report.study import StudyResults
    from repeng.study.texts import texts_of

    folder = place(results)
    if not (folder / "results.csv").is_file():
        raise BadInput(f"{folder}: no results.csv here; give the folder that `repeng run` wrote (its --out)")
    return StudyResults(folder, texts_of(folder))


def run(*, progress: bool | Told | None = None, **settings: Any) -> StudyResults:
    """Run a study, as `repeng run` does, and load its results. What is done already is not done again.

        study = repeng.run(limit=40)
        study = repeng.run(model="ORG/MODEL", progress=lambda what, done, total: ...)

    Args:
        progress: True for bars, notes and cautions on stderr; False for none; None for them in a terminal and in a
            notebook alone; or a function that is told what is going on, how much is done, and of how much. The logger
            `repeng` has notes and cautions at INFO.
        settings: any of `repeng.study.settings.Study`: model, benchmark, data, methods, layers, limit, ...

    Raises:
        BadInput: a setting is wrong, or `strict=True` and there is a caution about the data or the store.
        RepengError: a method failed, or `strict=True` and the figures give a caution; the results folder has them.
    """
    from repeng.distributions.cautions import refuse, sentences
    from repeng.errors import RepengError
    from repeng.progress import shown
    from repeng.report.text_solved import text_cautions
    from repeng.study.settings import Study
    from repeng.study.study import plan_study, run_study

    bars, note = shown(progress)
    plan = plan_study(Study.read(None, settings))
    for line in () if plan.study.strict else sentences(plan.cautions):
        note(f"caution: {line}")
    found = run_study(plan, progress=bars, note=note)
    note(f"{found.evaluations_made} evaluations made, {found.evaluations_reused} read back: {found.out}")
    later = [*found.found, *text_cautions(found.rows)]
    # What failed is raised.
    for line in sentences(caution for caution in later if caution.kind != "failed"):
        note(f"caution: {line}")
    if found.failures:
        first = found.failures[0]
        raise RepengError(f"{len(found.failures)} evaluations failed, the first of {first.method}: {first.reason}")
    if found.plan.study.strict:
        refuse(later, RepengError)
    return load(found.out)


for _namesake in distributions(name="repeng"):
    warnings.warn(
        f"another package that is imported as `repeng` is installed here, PyPI's repeng {_namesake.version} (control "
        "vectors): it and repeng-toolkit write over each other's files. Give each an environment of its own: "
        "pip uninstall repeng repeng-toolkit, then install one of them again",
        stacklevel=2,
    )
