"""repeng: run a language model once, cache what its layers said, and ask how probes generalise.

In a notebook:

    import repeng
    study = repeng.run(limit=40)          # or repeng.load("results/mini-mini")
    study.frame                           # results.csv as a pandas frame
    study.heat_map()                      # an Altair chart
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.version import __version__

if TYPE_CHECKING:
    from repeng.report.study import StudyResults

__all__ = ["__version__", "load", "run"]


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
        BadInput: a setting is wrong.
        RepengError: a method failed; what others found is in the results folder.
    """
    from contextlib import nullcontext

    from repeng.errors import RepengError
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
    return load(found.out)
