"""The report of a study: one HTML file that opens offline, and its pictures next to it.

Pictures stand in the page as SVG rather than as scripts that draw them: a page of some hundred kilobytes instead of
megabytes, no script at all, sharp in print, one colour scheme or the other by CSS, and named for screen readers, with
a table under each. Interactive ones are `save_chart(chart, "FILE.html")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from repeng.distributions.cautions import with_reasons
from repeng.distributions.schema import Distribution
from repeng.errors import BadInput
from repeng.metrics import TextEvaluation
from repeng.places import Place
from repeng.report.causal_section import causal_section
from repeng.report.contradictions import settle, stated_contradictions
from repeng.report.current import WITH_TEXTS, hash_of, is_settled, made_of, mark_settled
from repeng.report.data_section import data_section
from repeng.report.elicitation_chart import elicitation_plot
from repeng.report.fit_section import fit_pictures, tie_table
from repeng.report.form_section import TITLE, form_caption, form_rows, form_sentence
from repeng.report.frames import (
    accuracy_name,
    in_order,
    items_of,
    once_each,
    shift_frame,
    units_of,
)
from repeng.report.headline import (
    has_capability,
    headline,
    headline_caption,
    other_means,
    other_means_caption,
)
from repeng.report.layer_section import layer_pictures
from repeng.report.meaning import MEANING
from repeng.report.methods_text import methods_text
from repeng.report.mistakes import Mistake, wrong_pairs, wrong_texts
from repeng.report.opening import opening
from repeng.report.overlap_section import overlap_table
from repeng.report.page import Cell, Grid, Line, Picture, draw, figure, grid_of, write_page
from repeng.report.pictures import unchecked
from repeng.report.predictions import (
    Key,
    Prediction,
    evaluations_of,
    read_predictions,
    reliability_frame,
)
from repeng.report.published import MODEL, is_genies, published_table
from repeng.report.study_charts import heat_map, reliability_chart
from repeng.report.text_section import text_table, thresholds_note
from repeng.report.text_solved import text_cautions
from repeng.report.wording import capital
from repeng.results import AUROC, CAPABILITY, PAIR_ACCURACY, read_causal, read_layers, read_results
from repeng.study.cautions import read_cautions
from repeng.study.overlap import read_overlaps
from repeng.study.provenance import Provenance, read_provenance_of
from repeng.study.settings import Study

ACCURACIES = ("accuracy", "accuracy_low", "accuracy_high")
ELICITATIONS = (
    *("baseline_accuracy", "target_tuned_capability"),
    *("elicitation", "elicitation_low", "elicitation_high"),
)
RIGHT = {PAIR_ACCURACY: "the best response", AUROC: "their own label"}


def write_report(
    results: Place,
    out: Place | None = None,
    *,
    distributions: Mapping[str, Distribution] | None = None,
    predictions: Mapping[Key, Prediction] | None = None,
) -> Place:
    """Write the report of a results folder.

    Args:
        results: a study's folder: `results.csv`, and where there are, `layers.csv`, `causal.csv`, `doses.csv`,
            `cautions.json`, `overlap.json`, `provenance.json`, `predictions/` and `study.toml`.
        out: the HTML file; `results/report.html` by default. Its pictures go to a folder next to it, and the text for
            a paper to another.
        distributions: the texts of the targets, for the most confident mistakes.
        predictions: what `results.csv` has just been made of, so that neither is read again nor held against the other.

    Returns:
        The HTML file.

    Raises:
        BadInput: there is no results table, it has no row, or `out` is a folder.
    """
    table = results / "results.csv"
    # Over every prediction file, so taken once.
    table_hash = hash_of(table)
    made = made_of(results, table_hash=table_hash) + (WITH_TEXTS if distributions else "")
    stated = read_results(table)
    if all(row.method.startswith(CAPABILITY) for row in stated):
        raise BadInput(f"{table} has no row; run the study first")
    if predictions is None:
        shifts = {(row.source, row.target) for row in stated}
        asked = shifts | {(source, source) for source, _ in shifts}
        # A page shows no scores of pairs; they are for the figures, where these are made anew.
        scored = not is_settled(table, table_hash=table_hash)
        held = (results / "predictions").is_dir()
        predictions = read_predictions(results, shifts=asked, scored=scored) if held else {}
        rows, contradictions = settle(stated, predictions, table, table_hash=table_hash)
    else:
        rows, contradictions = stated, stated_contradictions(stated, table)
    frame = shift_frame(rows)
    page = out or results / "report.html"
    if not page.name or (page.exists() and not page.is_file()):
        raise BadInput(f"{page} is a folder or a device, and the page is a file; give the name of one, as report.html")
    folder = page.with_name(f"{page.stem}-pictures")
    shifts = set(zip(frame["source"], frame["target"], strict=True))
    layers = read_layers(results / "layers.csv") if (results / "layers.csv").is_file() else []
    with unchecked():
        charts = [
            *_shift_pictures(frame),
            *fit_pictures(frame, predictions),
            *layer_pictures(layers, frame),
            *_reliability(frame, predictions),
        ]
        causal = causal_section(*read_causal(results), rows)
    pictures = draw(charts, folder)
    if causal is not None:
        causal = replace(causal, pictures=tuple(draw(causal.pictures, folder)))
    study = results / "study.toml"
    settings = Study.read(study, {}) if study.is_file() else None
    provenance = read_provenance_of(results)
    cautions = with_reasons([*read_cautions(results), *text_cautions(rows)])
    dropped = read_overlaps(results).dropped
    overlap = overlap_table(frame, dropped=dropped)
    ties = tie_table(frame)
    texts = text_table(frame)
    known = evaluations_of(predictions)
    forms = form_rows(rows, known)
    figures = in_order(frame["figure"])
    first = opening(frame, known, _asked_of(settings, provenance))
    paper = methods_text(frame, settings, provenance)
    paper_folder = page.with_name(f"{page.stem}-paper")
    paper.write(paper_folder)
    sections = [
        (bool(cautions), "cautions", "Cautions"),
        (True, "headline", "Headline"),
        (True, "data", "The data"),
        (True, "again", "To make it again"),
        (bool(forms), "forms", "Plain and chat form"),
        (bool(texts), "texts", "Labelled texts"),
        (bool(contradictions), "contradictions", "Contradictions"),
        *((True, one.id, one.title) for one in pictures),
        (causal is not None, "causal", "Does the direction do anything?"),
        (True, "means", "Other means"),
        (bool(overlap), "overlap", "Overlap"),
        (bool(ties), "ties", "Ties between layers"),
        (True, "mistakes", "Mistakes"),
        (True, "paper", "For a paper"),
    ]
    write_page(
        page,
        "report.html",
        made_of=made,
        title=first.question,
        opening=first,
        cautions=cautions,
        sections=[(name, title) for is_there, name, title in sections if is_there],
        meaning=" ".join(MEANING[one] for one in MEANING if one in figures),
        over=units_of(figures),
        accuracy=accuracy_name(frame),
        items=items_of(figures),
        right=" or of ".join(RIGHT[one] for one in RIGHT if one in figures),
        headline=headline(frame, predictions),
        headline_caption=headline_caption(frame),
        means=other_means(frame),
        means_caption=other_means_caption(frame),
        data=data_section(frame, settings, provenance, study.read_text(encoding="utf-8") if settings else ""),
        forms=grid_of(forms) if forms else None,
        forms_title=TITLE,
        forms_sentence=form_sentence(forms),
        forms_caption=form_caption(figures),
        texts=texts,
        thresholds=thresholds_note(frame),
        published=published_table(frame) if is_genies(shifts) else None,
        published_model=MODEL,
        contradictions=grid_of([asdict(one) for one in contradictions]) if contradictions else None,
        overlap=overlap,
        overlap_dropped=dropped,
        pictures=pictures,
        causal=causal,
        ties=ties,
        repeated=bool(frame["n_fits"].max() > 1),
        mistakes=_mistakes(frame, predictions, distributions or {}),
        no_mistakes=_why_no_mistakes(predictions, distributions or {}),
        paper=paper,
        paper_lies=paper_folder.name,
        pictures_lie=f"as SVG in {folder.name}/",
        script="copy.js",
    )
    if page.parent == results and rows == stated and not is_settled(table, table_hash=table_hash):
        mark_settled(table, table_hash=table_hash)
    return page


def _asked_of(study: Study | None, provenance: Provenance | None) -> str:
    """The benchmark or the data of a study, by name."""
    if study is None or provenance is None:
        return ""
    return f"the {'benchmark' if study.benchmark or not study.data else 'data'} {provenance.benchmark}"


def _mistakes(
    frame: pd.DataFrame, predictions: Mapping[Key, Prediction], distributions: Mapping[str, Distribution]
) -> list[tuple[str, str, list[Mistake]]]:
    """Each method's surest mistakes: its name, how many there are, and these."""
    found = []
    for name, own in frame.groupby("name", sort=False):
        for what, wrong in (("pair", wrong_pairs), ("text", wrong_texts)):
            if mistakes := wrong(own, predictions, distributions):
                found.append((str(name), f"{len(mistakes)} {what}{'s' if len(mistakes) > 1 else ''}", mistakes))
    return found


def _why_no_mistakes(predictions: Mapping[Key, Prediction], distributions: Mapping[str, Distribution]) -> str:
    if not predictions:
        return "There are no predictions with these results, so single pairs are unknown."
    if not distributions:
        return "The texts of these distributions are not at hand; make the report where the data are."
    texts_too = any(isinstance(one.evaluation, TextEvaluation) for one in predictions.values())
    return f"No method is wrong about a pair{' or labelled text' if texts_too else ''} whose texts are known."


def _shift_pictures(frame: pd.DataFrame) -> list[Picture]:
    if frame["accuracy"].isna().all():
        return []
    names = in_order(frame["name"])

    def accuracies(own: np.ndarray) -> list[Cell]:
        return [figure(*row) for row in own]

    def elicitations(own: np.ndarray) -> list[Cell]:
        marks = (own[~np.isnan(own[:, place]), place] for place in (0, 1))
        return [*(figure(known[0] if len(known) else None) for known in marks), *(figure(*row) for row in own[:, 2:])]

    pictures = [
        Picture(
            "heat-map",
            f"{capital(accuracy_name(frame))} by shift and method",
            f"Orange is below chance, blue above; every cell holds its {accuracy_name(frame)}.",
            heat_map(frame),
            _grid_of_shifts(frame, names, ACCURACIES, accuracies),
        )
    ]
    if has_capability(frame):
        heads = ["baseline", "capability", *(f"elicitation, {name}" for name in names)]
        pictures.append(
            Picture(
                "elicitation",
                "Elicitation",
                _elicitation_caption(frame),
                elicitation_plot(frame),
                _grid_of_shifts(frame, heads, ELICITATIONS, elicitations),
            )
        )
    return pictures


def _elicitation_caption(frame: pd.DataFrame) -> str:
    """What the marks of the picture mean, and where they are the other way round."""
    shifts = frame.drop_duplicates(["section", "shift", "model"])
    both = shifts.dropna(subset=["baseline_accuracy", "target_tuned_capability"])
    beyond = int((both["baseline_accuracy"] > both["target_tuned_capability"]).sum())
    said = (
        "Solid line: the target-tuned capability, which the method reaches that did best when fitted on the target "
        "itself. The nearer a point comes to it from the left, the more of that was elicited; a point to its right "
        "has an elicitation above 1."
    )
    if beyond < len(both):
        said += " Grey: from the zero-shot baseline up to the capability."
    if beyond:
        said += (
            f" Outlined: on {beyond} of {len(both)} shifts zero-shot itself is above the capability, which therefore "
            "understates what the model can do there."
        )
    return said


def _grid_of_shifts(
    frame: pd.DataFrame,
    columns: Sequence[str],
    figures: Sequence[str],
    cells_of: Callable[[Float[np.ndarray, "name figure"]], Sequence[Cell]],
) -> Grid:
    """Shifts down, by section; `cells_of` gets a shift's figures by name, nan where unknown, in the frame's order."""
    names, lines = in_order(frame["name"]), []
    for section, chosen in once_each(frame).groupby("section", sort=False):
        shifts = in_order(chosen["shift"])
        known = np.full((len(shifts), len(names), len(figures)), np.nan)
        places = (chosen["shift"].map(shifts.index), chosen["name"].map(names.index))
        known[places] = chosen[list(figures)].to_numpy()
        lines.append(Line(str(section)))
        lines += [Line(str(shift), tuple(cells_of(own))) for shift, own in zip(shifts, known, strict=True)]
    return Grid(("shift", *columns), tuple(lines))


def _reliability(frame: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> list[Picture]:
    bins = reliability_frame(frame, predictions)
    if bins.empty:
        return []
    lines = tuple(
        Line(f"{method}, {label}", (figure(confidence), figure(accuracy), Cell(str(pairs))))
        for method, label, confidence, accuracy, pairs in bins.to_numpy().tolist()
    )
    caption = "Ten bins of equal mass a label. Under the diagonal a method is surer than it is right."
    table = Grid(("method", "mean confidence", "share right", items_of(frame["figure"])), lines)
    return [Picture("reliability", "Reliability", caption, reliability_chart(bins), table)]
