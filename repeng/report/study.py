"""A study in a notebook: its figures as a frame, its pictures as Altair charts that show themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from repeng.distributions.schema import Distribution
from repeng.errors import BadInput, UnknownName
from repeng.metrics import Evaluation
from repeng.places import Place, place
from repeng.report.answer import Answer
from repeng.report.causal_section import dose_chart
from repeng.report.compare import Comparison, compare_results
from repeng.report.contradictions import settle
from repeng.report.current import hash_of, is_settled
from repeng.report.elicitation_chart import elicitation_plot
from repeng.report.figures import Figure, make_figure
from repeng.report.frames import accuracy_name, shift_frame
from repeng.report.html import write_report
from repeng.report.layer_charts import sweep_chart
from repeng.report.predictions import Key, Prediction, evaluations_of, read_predictions, reliability_frame
from repeng.report.questions import answer_question
from repeng.report.sentences import summary_sentences
from repeng.report.study_charts import heat_map, reliability_chart
from repeng.report.study_matrix import StudyMatrix, study_matrix
from repeng.results import (
    ADD,
    CAPABILITY,
    CausalRow,
    DoseRow,
    ResultRow,
    figure_name,
    read_causal,
    read_layers,
    read_results,
    record_of,
    results_frame,
)

Names = str | Collection[str] | None
"""One name, several, or None for all there are."""


@dataclass(frozen=True)
class StudyResults:
    """Results of a study that has run.

    Attributes:
        folder: where they are.
        distributions: the texts of its targets, as far as they are at hand.
    """

    folder: Place
    distributions: Mapping[str, Distribution] = field(default_factory=dict, repr=False)

    @cached_property
    def rows(self) -> list[ResultRow]:
        """The rows of results.csv, those of target-tuned capability among them, as the predictions bear them out."""
        table = self.folder / "results.csv"
        table_hash, rows = hash_of(table), read_results(table)
        if is_settled(table, table_hash=table_hash):
            return rows
        return settle(rows, self.predictions, table, table_hash=table_hash)[0]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a method and shift, with the columns of results.csv, also those that are not ours.

        Means over its rows are the report's. What the best method reaches on each target is in `capability`.
        """
        return results_frame(self._shift_rows)

    @property
    def capability(self) -> pd.DataFrame:
        """One row a target reference: what the best method reaches that was fitted there, as `target-tuned:METHOD`."""
        return results_frame(row for row in self.rows if row.method.startswith(CAPABILITY))

    @cached_property
    def layers(self) -> pd.DataFrame:
        """layers.csv: one row a probe, source, target and layer.

        Raises:
            BadInput: the study has no such table, since no probe was fitted at several layers.
        """
        table = self.folder / "layers.csv"
        if not table.is_file():
            raise BadInput(f"{self.folder} has no layers.csv: no probe of the study was fitted at several layers")
        return pd.DataFrame([record_of(row) for row in read_layers(table)])

    @cached_property
    def causal(self) -> pd.DataFrame:
        """causal.csv: one row a probe, source, target, edit of the model and measure of its answers.

        Raises:
            BadInput: the study has no such table.
        """
        return pd.DataFrame([record_of(row) for row in self._causal[0]])

    @cached_property
    def doses(self) -> pd.DataFrame:
        """doses.csv: one row a probe, source, target, strength and measure.

        Raises:
            BadInput: the study has no such table.
        """
        return pd.DataFrame([record_of(row) for row in self._causal[1]])

    def dose_curves(self, method: str) -> Any:
        """A model's answers and perplexity over strengths of a probe's direction, a row of panels a source.

        Raises:
            UnknownName: nothing was tried of such a probe.
            BadInput: the study has no causal figures.
        """
        rows, doses = self._causal
        own = [row for row in doses if row.method == method]
        if not own:
            raise UnknownName("probe of doses.csv", method, {row.method for row in doses})
        return dose_chart(own, [row for row in rows if row.method == method and row.edit == ADD])

    @cached_property
    def _causal(self) -> tuple[list[CausalRow], list[DoseRow]]:
        rows, doses = read_causal(self.folder)
        if not rows:
            raise BadInput(f"{self.folder} has no causal figures; run the study again with --causal (causal=True)")
        return rows, doses

    @cached_property
    def predictions(self) -> Mapping[Key, Prediction]:
        """Every evaluation, by (model, method, source, target); none where the folder has no predictions."""
        return read_predictions(self.folder) if (self.folder / "predictions").is_dir() else {}

    def evaluation(self, method: str, source: str, target: str) -> Evaluation:
        """p(best) of each pair of one target; of labelled texts what is said of each.

        Raises:
            KeyError: the study has no such evaluation.
        """
        for (_, own, fitted_on, asked), prediction in self.predictions.items():
            if (own, fitted_on, asked) == (method, source, target):
                return prediction.evaluation
        raise KeyError(f"no evaluation of {method} from {source} to {target} in {self.folder}")

    @property
    def summary(self) -> str:
        """What the figures show, in sentences that intervals, nulls and paired tests allow."""
        return summary_sentences(self.rows, evaluations_of(self.predictions))

    def heat_map(self, **options: Any) -> Any:
        """Accuracy of every shift and method; of labelled texts the AUROC.

        Args:
            options: of `figure`: methods, source, target, shifts, style, width, height. So of the other charts.
        """
        return self.figure("heat-map", **options).chart if options else heat_map(shift_frame(self.rows))

    def elicitation(self, **options: Any) -> Any:
        """Accuracy of each method on each shift, between the zero-shot baseline and the target-tuned capability."""
        return self.figure("elicitation", **options).chart if options else elicitation_plot(shift_frame(self.rows))

    def reliability(self, **options: Any) -> Any:
        """How often a method is right against how sure it was."""
        if options:
            return self.figure("reliability", **options).chart
        return reliability_chart(reliability_frame(shift_frame(self.rows), self.predictions))

    def figure(self, kind: str, **options: Any) -> Figure:
        """A figure and its caption, as `repeng plot` writes it: `study.figure("sweep", source="facts", style="paper")`.

        Args:
            kind: `heat-map`, `sweep`, `matrix`, `elicitation`, `transfer` or `reliability`.
            options: of `repeng.report.figures.make_figure`: methods, source, target, shifts, style, width, height.

        Raises:
            UnknownName: no such kind, style, method, source, target, label or category.
            BadInput: the results do not hold what the figure is made of; a length is none, or too little to be legible.
        """
        return make_figure(kind, self.folder, **options)

    def report(self, out: Place | str | None = None) -> Place:
        """Write the HTML report; returns its path."""
        return write_report(self.folder, None if out is None else place(out), distributions=self.distributions)

    def sweep(self, methods: Names = None, source: Names = None, target: Names = None) -> Any:
        """Accuracy by layer, one line a probe and one panel a shift, as `repeng sweep` draws it: an Altair chart.

        Args:
            methods: one or several probes; None for every one. `source` and `target` alike.

        Raises:
            UnknownName: layers.csv has no such probe, source or target.
            BadInput: the study has no layers.csv, or what is asked for is in none of its rows.
        """
        rows = self.layers
        for column, asked in (("probe", methods), ("source", source), ("target", target)):
            if asked is not None:
                wanted, known = [asked] if isinstance(asked, str) else list(asked), set(self.layers[column])
                for name in wanted:
                    if name not in known:
                        raise UnknownName(f"{column} of layers.csv", name, known)
                rows = rows[rows[column].isin(wanted)]
        return sweep_chart(rows)

    def matrix(self, method: str) -> StudyMatrix:
        """One method from each source to each target, where the study asked: a table with `.chart()`.

        Raises:
            UnknownName: the study has no such method.
        """
        return study_matrix(self._shift_rows, method)

    def compare(
        self, *others: StudyResults | str | Place, question: str | None = None, against: str | None = None
    ) -> Comparison | Answer:
        """The methods of this study and of others next to each other, as `repeng compare` does.

        Args:
            others: studies, results folders or tables, or folders of evaluations; none compares this study's methods.
            question: answer one question alone: `perplexity`, `scale` or `elicited`.
            against: the method that every other is tested against; None tests every two.

        Returns:
            Tables as `.frames`, charts as `.charts`, both by name; in a notebook it shows its tables.

        Raises:
            BadInput: a folder holds nothing to compare, the question cannot be answered; question and against.
            UnknownName: no such question, or no such method to compare against.
        """
        paths = [self.folder, *(one.folder if isinstance(one, StudyResults) else place(one) for one in others)]
        if question is None:
            return compare_results(paths, against=against)
        if against is not None:
            raise BadInput("question and against: two options conflict; give only one")
        return answer_question(question, paths)

    @property
    def _shift_rows(self) -> list[ResultRow]:
        return [row for row in self.rows if not row.method.startswith(CAPABILITY)]

    def _repr_html_(self) -> str:
        frame = shift_frame(self.rows)
        shown = frame.assign(figure=frame["figure"].map(figure_name))
        of_pairs = accuracy_name(frame) == "accuracy"
        index = ["label", *([] if of_pairs else ["figure"]), "source", "target"]
        wide = shown.pivot_table(index=index, columns="method", values="accuracy")
        return f"<p>{self.summary}</p>{wide.round(3).to_html()}"
