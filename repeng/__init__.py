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
    study.frame                           # results.csv as a pandas frame
    study.heat_map()                      # an Altair chart

`repeng.sweep` is every layer of several probes, `repeng.transfer_matrix` every distribution against every one,
`repeng.probes` the probes as scikit-learn estimators, `repeng.Store` a folder of captures.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.version import __version__

if TYPE_CHECKING:
    from repeng import probes
    from repeng.activations.store.store import Store
    from repeng.models.load import load_model
    from repeng.report.layer_results import sweep, transfer_matrix
    from repeng.report.pictures import save_chart
    from repeng.report.study import StudyResults
    from repeng.study.doors import capture, evaluate
    from repeng.study.steps import fit

__all__ = [
    "Store",
    "__version__",
    "capture",
    "evaluate",
    "fit",
    "load",
    "load_model",
    "probes",
    "run",
    "save_chart",
    "sweep",
    "transfer_matrix",
]

_LAZY = {
    "load_model": "repeng.models.load",
    "Store": "repeng.activations.store.store",
    "save_chart": "repeng.report.pictures",
    "fit": "repeng.study.steps",
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


def load(results: str | Path) -> StudyResults:
    """The results of a study that has run.

    Args:
        results: its folder.

    Raises:
        BadInput: there is no results table there.
    """
    from repeng.report.study import StudyResults
    from repeng.study.texts import texts_of

    return StudyResults(Path(results), texts_of(Path(results)))


def run(**settings: Any) -> StudyResults:
    """Run a study, as `repeng run` does, and load its results. What is done already is not done again.

    Args:
        settings: any of `repeng.study.settings.Study`: model, benchmark, data, methods, layers, limit, ...

    Raises:
        BadInput: a setting is wrong, or `strict=True` and there is a caution about the data or the store.
        RepengError: a method failed, or `strict=True` and the figures give a caution; the results folder has them.
    """
    from contextlib import nullcontext

    from repeng.distributions.cautions import refuse
    from repeng.errors import RepengError
    from repeng.report.text_solved import text_cautions
    from repeng.study.settings import Study
    from repeng.study.study import plan_study, run_study

    found = run_study(
        plan_study(Study.read(None, settings)),
        progress=lambda _what: nullcontext(lambda _done, _total: None),
        note=lambda _line: None,
    )
    if found.failures:
        first = found.failures[0]
        raise RepengError(f"{len(found.failures)} evaluations failed, the first of {first.method}: {first.reason}")
    if found.plan.study.strict:
        refuse([*found.found, *text_cautions(found.rows)], RepengError)
    return load(found.out)


for _namesake in distributions(name="repeng"):
    warnings.warn(
        f"another package that is imported as `repeng` is installed here, PyPI's repeng {_namesake.version} (control "
        "vectors): it and repeng-toolkit write over each other's files. Give each an environment of its own: "
        "pip uninstall repeng repeng-toolkit, then install one of them again",
        stacklevel=2,
    )
