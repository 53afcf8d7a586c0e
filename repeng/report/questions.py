"""Questions that compared studies answer one at a time: `repeng compare RESULTS --question NAME`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repeng.errors import UnknownName
from repeng.places import Place
from repeng.report.answer import Answer
from repeng.report.compared_studies import ComparedMethod, ComparedStudy, compared_methods, read_compared_studies
from repeng.report.elicited import elicited_answer
from repeng.report.perplexity import perplexity_answer
from repeng.report.scale import scale_answer

Asked = Callable[[Sequence[ComparedStudy], Sequence[ComparedMethod], Sequence[Place]], Answer]
"""Answers a question about studies, their methods, and the paths that they were read from."""

ASKED: dict[str, Asked] = {"perplexity": perplexity_answer, "elicited": elicited_answer, "scale": scale_answer}
"""By the name that `--question` takes."""


def answer_question(name: str, paths: Sequence[Place], out: Place | None = None) -> Answer:
    """Answer one question about studies, results tables and folders of evaluations.

    Args:
        name: of the question, one of `ASKED`.
        paths: each a study's folder, a results.csv, or a folder METHOD/MODEL-SOURCE/TARGET.json.
        out: a folder for NAME.html, NAME.json, one CSV a table, and the pictures as SVG and PNG.

    Raises:
        UnknownName: no such question.
        BadInput: a path is none of these, or they cannot answer the question.
    """
    if name not in ASKED:
        raise UnknownName("question", name, ASKED)
    studies = read_compared_studies(paths)
    answer = ASKED[name](studies, compared_methods(studies), paths)
    if out is not None:
        answer.write(out)
    return answer
