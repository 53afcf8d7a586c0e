"""Writing out and showing what a study or a rescoring found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from repeng.cli.show import captured_lines
from repeng.tuning.settings import METHODS as TUNING

if TYPE_CHECKING:
    from repeng.cli.console import Talk
    from repeng.study.rescore import Rescored
    from repeng.study.study import StudyOutcome

MOST_FAILURES = 10


def write_outputs(result: StudyOutcome, talk: Talk) -> None:
    """Write the report of a study that found something new; show its table, what it says, and where the files are."""
    from repeng.report.html import write_report
    from repeng.report.tables import study_table, summary_sentence
    from repeng.report.text_solved import text_solved_sentence, text_solved_sources
    from repeng.results import record_of

    if result.captured is not None:
        for line in captured_lines(result.captured):
            talk.note(line)
    page = result.out / "report.html"
    if result.changed or result.evaluations_made or not page.is_file():
        page = write_report(result.out, distributions=result.plan.world.distributions)
    rows = [record_of(row) for row in result.rows]
    failed = [asdict(failure) for failure in result.failures]
    text_solved = [asdict(source) for source in text_solved_sources(result.rows)]
    plain = {"out": str(result.out), "rows": rows, "failures": failed, "surface_sources": text_solved}
    shown: list[Any] = [study_table(result.rows), "", summary_sentence(result.rows)]
    shown += [text_solved_sentence(result.rows)] if text_solved else []
    shown.append("")
    shown.append(f"results: {result.out / 'results.csv'}  report: {page}  predictions: {result.plan.predictions}")
    talk.result(plain, *shown)
    talk.note(f"{result.evaluations_made} evaluations made, {result.evaluations_reused} read back")
    if len(result.plan.asked) > 1:
        against = next((name for name in TUNING if name in result.plan.asked), result.plan.asked[0])
        talk.note(f"paired tests of every method: repeng compare {quote(str(result.out))} --against {against}")
    for line in failure_lines(result):
        talk.err.print(line, markup=False)


def failure_lines(result: StudyOutcome) -> list[str]:
    """What failed, one line a method and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for failure in result.failures:
        reasons.setdefault((failure.method, failure.reason), []).append(f"{failure.source} -> {failure.target}")
    lines = [
        f"failed: {method} on {len(shifts)} evaluation(s), as {shifts[0]}: {reason}"
        for (method, reason), shifts in reasons.items()
    ]
    hidden = len(lines) - MOST_FAILURES
    return lines[:MOST_FAILURES] + ([f"and {hidden} more kinds of failure"] if hidden > 0 else [])


def rescore_outputs(found: Sequence[Rescored], out: Path | None, talk: Talk) -> None:
    """Show rescored figures; with a folder, keep them as our table and as GENIES' own, one file a method."""
    from repeng.report.tables import study_table, summary_sentence
    from repeng.results import record_of, write_results
    from repeng.study.rescore import write_published

    rows = [one.row for one in found]
    if out is not None:
        write_results(rows, out / "results.csv")
        for method in dict.fromkeys(row.method for row in rows):
            write_published([one for one in found if one.row.method == method], out / "published" / f"{method}.csv")
        talk.note(f"wrote {out / 'results.csv'} and {out / 'published'}")
    plain = [record_of(one.row) | {"published_columns": one.published()} for one in found]
    talk.result(plain, study_table(rows), "", summary_sentence(rows))


def report_of(results: Path, out: Path | None) -> Path:
    """The report of a results folder, with the pairs' texts where its data can be found again."""
    from repeng.report.html import write_report
    from repeng.study.texts import texts_of

    return write_report(results, out, distributions=texts_of(results))
