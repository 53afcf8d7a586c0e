"""The methods paragraph of a paper about a study, from what was in fact run, with the works that it cites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from repeng.atomic import write_atomically
from repeng.places import Place
from repeng.report.analysis_text import Sentence, fitting, intervals, measures, nulls
from repeng.report.citations import ENTRIES, SOFTWARE, bibtex, model_entry, software
from repeng.report.cited_text import Cite, Name, Piece, Yours, keys_of, latex, listed, markdown
from repeng.report.frames import in_order, model_name
from repeng.report.method_sentences import GENIES, described
from repeng.report.wording import many
from repeng.results import AUROC
from repeng.study.provenance import Provenance, asks_genies
from repeng.study.settings import Study

FILES = ("methods.tex", "methods.md", "references.bib")
GROUPS = (
    ("probe", "Probes"),
    ("tuned", "Tuned reward models"),
    ("prompted", "The model, prompted"),
    ("text", "Baselines that read words alone"),
    ("plugin", "Plug-ins"),
    ("published", "From published files"),
    ("chance", "Chance"),
)
"""Kinds of methods, in the order of the text."""
WHERE = " (on the residual stream at a text's last token, where nothing else is said)"


@dataclass(frozen=True)
class MethodsText:
    """What is pasted into a paper.

    Attributes:
        latex: the paragraph, with `\\cite{key}`.
        markdown: the same, each work by authors and year.
        bibtex: exactly the works that it cites.
        yours: methods, models and data whose citation only the user knows.
    """

    latex: str
    markdown: str
    bibtex: str
    yours: tuple[str, ...]

    def write(self, folder: Place) -> None:
        """FOLDER/methods.tex, methods.md and references.bib."""
        for name, text in zip(FILES, (self.latex, self.markdown, self.bibtex), strict=True):
            write_atomically(folder / name, text.rstrip("\n") + "\n")


def methods_text(frame: pd.DataFrame, study: Study | None, provenance: Provenance | None) -> MethodsText:
    """The paragraph of a study.

    Args:
        frame: its rows, as `shift_frame` gives them.
        study: its settings; None where they are not recorded.
        provenance: of its model and data; None where that is not recorded.
    """
    version = provenance.repeng_version if provenance else ""
    models = {model: model_entry(provenance, model) for model in in_order(frame["model"])}
    entries = {**ENTRIES, SOFTWARE: software(version), **dict(found for found in models.values() if found)}
    yours: list[str] = []
    sentences = [
        *_question({model: found[0] if found else "" for model, found in models.items()}, provenance, yours),
        *_data(frame, study, provenance, yours),
        *_methods(frame, study, yours),
        *fitting(frame, study),
        *nulls(frame, study),
        *measures(frame),
        *intervals(frame),
    ]
    pieces = [piece for number, one in enumerate(sentences) for piece in ([" "] * bool(number) + one)]
    return MethodsText(
        latex(pieces), markdown(pieces, entries), bibtex(entries, keys_of(pieces)), tuple(dict.fromkeys(yours))
    )


def _question(keys: Mapping[str, str], provenance: Provenance | None, yours: list[str]) -> list[Sentence]:
    named: list[Sentence] = []
    for model, key in keys.items():
        yours += [] if key else [model_name(model)]
        named.append([Name(model_name(model)), Cite((key,)) if key else Yours()])
    version = f" {provenance.repeng_version}" if provenance else ""
    asked: Sentence = [
        f"We ask whether what is learned on one distribution from the model{'s' if len(named) > 1 else ''} ",
        *listed(named, comma=", "),
        f" holds on another, with repeng{version}",
        Cite((SOFTWARE,)),
        ".",
    ]
    if provenance is None:
        return [asked]
    one = provenance.model
    size = f"The model has {one.n_layers} layers of width {one.d_model} and computes in {one.dtype}"
    return [asked, [f"{size}; its activations are kept in {provenance.storage_dtype}."]]


def _data(frame: pd.DataFrame, study: Study | None, provenance: Provenance | None, yours: list[str]) -> list[Sentence]:
    shifts = frame[["source", "target", "label"]].drop_duplicates()
    labels = in_order(shifts["label"])
    by_label = [f"{int((shifts['label'] == label).sum())} {label or 'other'}" for label in labels]
    counted = many(len(shifts), "shift") + (f" ({', '.join(by_label)})" if any(labels) else "")
    sources, targets = (set(shifts[column]) for column in ("source", "target"))
    asked = f" {counted}, from {many(len(sources), 'source')} to {many(len(targets), 'target')}"
    if provenance is not None:
        train = [one.examples for one in provenance.of_splits("train") if one.distribution in sources]
        test = [one.examples for one in provenance.of_splits("test") if one.distribution in targets]
        asked += f", with {_span(train)} train examples a source and {_span(test)} test examples a target"
    of_texts = frame["figure"].eq(AUROC)
    counts = (("pairs", frame.loc[~of_texts, "n_pairs"]), ("labelled texts", frame.loc[of_texts, "n_texts"]))
    scored = [f"{_span(known.dropna().astype(int))} {items}" for items, known in counts if known.notna().any()]
    asked += f" ({' or '.join(scored)} a target)" if scored else ""
    found: list[Sentence] = [[*_benchmark(study, yours), f"{asked}."]]
    if study is not None and study.limit:
        found.append([f"Only the first {study.limit} examples of each split were taken."])
    if study is not None and study.augment:
        share = f"{study.augment * 100:g} %"
        found.append([f"Each method was also fitted on sources with {share} of the target's train examples mixed in."])
    if study is not None and study.drop_overlap:
        found.append(["Test examples whose prompt stands in the source's train split were left out."])
    return found


def _benchmark(study: Study | None, yours: list[str]) -> Sentence:
    if study is None:
        return ["The study asks about"]
    asked = study.benchmark or study.data or "mini"
    if asked == "mini":
        return [
            "The benchmark that comes with repeng",
            Cite((SOFTWARE,)),
            ", modelled on GENIES",
            Cite((GENIES,)),
            ", asks about",
        ]
    if asks_genies(study):
        part = "" if asked == "genies" else " (all its shifts)" if asked == "genies-all" else f" (its {asked} shifts)"
        return ["The benchmark GENIES", Cite((GENIES,)), f"{part} asks about"]
    name = model_name(asked)
    yours.append(name)
    return ["The data ", Name(name), Yours(), " ask about"]


def _methods(frame: pd.DataFrame, study: Study | None, yours: list[str]) -> list[Sentence]:
    """A sentence a kind of method, each method in half a sentence with its works."""
    found: list[Sentence] = []
    for kind, title in GROUPS:
        names = in_order(re.sub(r"\+[\d.e-]+%$", "", name) for name in frame.loc[frame["kind"] == kind, "method"])
        items: list[Sentence] = []
        for name in names:
            known = described(name) if kind != "plugin" else None
            yours += [] if known else [name]
            works: list[Piece] = [Cite(known.cites)] if known and known.cites else []
            items.append([Name(name), f", {known.says}", *works] if known else [Name(name), Yours()])
        # Of results without settings nobody knows where their probes read.
        reads = WHERE if kind == "probe" and study is not None else ""
        if items:
            found.append([f"{title}{reads}: ", *listed(items), "."])
    if study is not None and study.tune_preset == "genies" and frame["kind"].eq("tuned").any():
        found.append(["Reward models are tuned with the settings released with GENIES", Cite((GENIES,)), "."])
    if frame["method"].str.contains("(", regex=False).any():
        found.append(["Parameters in a method's name differ from its defaults."])
    return found


def _span(counts: Iterable[int]) -> str:
    """`150`, or `120 to 300`; a dash where nothing is known."""
    known: Sequence[int] = sorted(counts)
    if not known:
        return "an unknown number of"
    return f"{known[0]}" if known[0] == known[-1] else f"{known[0]} to {known[-1]}"
