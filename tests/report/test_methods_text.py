"""The methods paragraph says what was run, with the numbers of results.csv, and cites exactly what it lists."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_study import make_provenance, make_row, make_rows, write_study

from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.methods.plugins.python_object import entry_point_references
from repeng.methods.registry import ALL, method_names
from repeng.probes.registry import PROBES
from repeng.report.citations import ENTRIES, bibtex, tex
from repeng.report.cited_text import Cite, Name, Yours, latex, markdown
from repeng.report.frames import shift_frame
from repeng.report.method_sentences import METHODS, described
from repeng.report.methods_text import MethodsText, methods_text
from repeng.results import AUROC, read_results, write_results
from repeng.study.settings import Study

OURS = {*method_names(), *PROBES, *ALL} - {*entry_point_references()}
ENTRY = re.compile(r"@(\w+)\{([^,]+),\n((?:  \w+ = \{.*\},\n)+)\}\n?")


def parsed(text: str) -> dict[str, dict[str, str]]:
    """The entries of a BibTeX file by key; whatever is no entry is a fault."""
    found = {}
    for block in filter(None, text.split("\n\n")):
        entry = ENTRY.fullmatch(block.strip() + "\n")
        assert entry is not None, block
        fields = dict(re.findall(r"  (\w+) = \{(.*)\},\n", entry[3]))
        bare = re.sub(r"\\[{}]", "", block)
        assert bare.count("{") == bare.count("}")
        assert entry[2] not in found
        found[entry[2]] = fields
    return found


def cited(text: str) -> set[str]:
    return {key for keys in re.findall(r"\\cite\{([^}]*)\}", text) for key in keys.split(",")}


def text_of(methods: tuple[str, ...], study: Study | None = None, **values: object) -> MethodsText:
    rows = [replace(row, **values) for row in make_rows(dict.fromkeys(methods, (0.9, 0.8, 0.5, 0.4)))]
    return methods_text(shift_frame(rows), study or Study(benchmark="genies"), make_provenance())


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_registered_method_has_half_a_sentence_and_works_that_exist_or_none(name: str) -> None:
    found = described(name)
    assert found is not None and len(found.says) > 10
    assert set(found.cites) <= set(ENTRIES)
    assert described(f"{name}(x=1)") == described(f"{name}+1%") == found


def test_no_sentence_is_of_a_method_that_is_not_there() -> None:
    assert set(METHODS) <= OURS
    assert {name for name in OURS if name.startswith("ask:")} == {f"ask:{name}" for name in FOLLOW_UPS}


@pytest.mark.parametrize("study", [None, Study(), Study(benchmark="genies-all", tune_preset="genies"), Study(data="x")])
def test_every_work_that_is_cited_is_listed_and_no_other(study: Study | None) -> None:
    methods = tuple(sorted(OURS)) + ("mine.py:Mine", "sklearn:sklearn.svm.SVC", "mms+1%")
    text = text_of(methods, study, null_sd=0.1, selectivity=0.2, p_corrected=0.01, rms_calibration_error=0.1)
    entries = parsed(text.bibtex)
    assert cited(text.latex) == set(entries)
    assert text.latex.count("{") == text.latex.count("}")
    assert all({"title"} <= fields.keys() for fields in entries.values())
    assert "mine.py:Mine" in text.yours
    assert r"\texttt{mine.py:Mine}~\textbf{[cite: yours]}" in text.latex
    assert r"`mine.py:Mine` **\[cite: yours\]**" in text.markdown


def test_all_entries_parse_and_have_what_a_list_of_works_needs() -> None:
    found = parsed(bibtex(ENTRIES, ENTRIES))
    assert set(found) == set(ENTRIES)
    for key, fields in found.items():
        assert fields.keys() >= {"author", "title", "year"}
        assert re.search(r"\d{4}", key)[0] == fields["year"]  # type: ignore[index]
        assert fields.keys() & {"eprint", "journal", "booktitle"}
        assert fields["author"].isascii() and fields["title"].isascii()
        if "eprint" in fields:
            assert re.fullmatch(r"\d{4}\.\d{5}", fields["eprint"])


def test_its_numbers_are_those_of_the_table(tmp_path: Path) -> None:
    write_study(tmp_path, {"mms": (0.9, 0.8, 0.5, 0.4), "length": (0.5, 0.5, 0.6, 0.5)})
    rows = [
        replace(row, n_fits=5, p_corrected=0.01, n_pairs=70 + place, null_sd=0.1)
        for place, row in enumerate(read_results(tmp_path / "results.csv"))
    ]
    write_results(rows, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    shifts = {(row["source"], row["target"], row["label"]) for row in table}
    extreme = sum(label == "extreme" for *_, label in shifts)
    pairs = [int(row["n_pairs"]) for row in table]
    train = [
        one.examples for one in make_provenance().of_splits("train") if one.distribution in {s for s, *_ in shifts}
    ]
    test = [
        one.examples for one in make_provenance().of_splits("test") if one.distribution in {t for _, t, _ in shifts}
    ]
    said = methods_text(
        shift_frame(read_results(tmp_path / "results.csv")), Study(nulls=7, limit=40), make_provenance()
    ).markdown
    for expected in (
        f"asks about {len(shifts)} shifts ({extreme} extreme, {len(shifts) - extreme} probing)",
        f"from {len({s for s, *_ in shifts})} sources to {len({t for _, t, _ in shifts})} targets",
        f"with {min(train)} to {max(train)} train examples a source",
        f"and {min(test)} to {max(test)} test examples a target",
        f"({min(pairs)} to {max(pairs)} pairs a target)",
        "the first 40 examples",
        f"fitted {table[0]['n_fits']} times",
        "against 7 fits",
        f"over all {len(table)} results",
        "with repeng 9.8.7",
        "6 layers of width 192",
    ):
        assert expected in said


def test_labelled_texts_are_told_by_their_own_figures() -> None:
    text = text_of(("mms", "zero-shot"), figure=AUROC, n_pairs=None, n_texts=80, accuracy_low=0.8)
    assert "80 labelled texts a target" in text.latex and "area under the ROC curve" in text.latex
    assert {"delong1988", "platt1999probabilistic"} <= cited(text.latex)
    assert "korn1998intervals" not in cited(text.latex) and "best response of a pair" not in text.latex


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("one-se", "the earliest layer within one standard error"),
        ("top-k:3", "the 3 best layers there"),
        ("top-k:1", "choose the best layer there"),
        ("5", "fitted at layer 5 on 70 % of"),
        ("4-8", "fitted at layers 4-8, whose scores are averaged, on 70 % of"),
    ],
)
def test_the_rule_of_layers_is_the_studys(layers: str, said: str) -> None:
    assert said in text_of(("mms",), Study(layers=layers)).markdown
    assert "layer" not in text_of(("length",), Study(layers=layers)).markdown.replace("6 layers of width", "")


def test_a_model_is_cited_by_its_paper_its_page_or_not_at_all() -> None:
    def of(model: str, weights: str) -> MethodsText:
        return methods_text(
            shift_frame([make_row(model=model, accuracy=0.5)]), Study(), make_provenance(weights, model)
        )

    hub = of("org/the_model", "org/the_model@1a2b3c")
    assert "hub:org-the-model" in cited(hub.latex)
    fields = parsed(hub.bibtex)["hub:org-the-model"]
    assert fields["url"] == "https://huggingface.co/org/the_model" and fields["note"] == "Revision 1a2b3c"
    assert fields["title"] == r"{org/the\_model}"
    assert "allal2025smollm2" in cited(of("smollm2", "gguf-sha256:0").latex)
    assert of("/home/ada/models/mine", "sha256:0").yours == ("mine",)
    assert "/home/ada" not in of("/home/ada/models/mine", "sha256:0").latex


def test_what_is_not_recorded_is_not_said() -> None:
    text = methods_text(shift_frame([make_row(accuracy=0.5)]), None, None)
    for unknown in ("layer", "train examples", "residual stream", "70", "target's labels"):
        assert unknown not in text.latex
    assert "How the methods were fitted is not recorded with these results~" in text.latex
    assert "version" not in parsed(text.bibtex)["repeng"]


def test_names_that_mean_harm_stay_names() -> None:
    name = "}\\input{/etc/passwd}%$x$ `_*[a](javascript:1)*_` \x1b[31m\n\n<b>"
    assert "\\input" not in latex([Name(name)]) and "\n" not in latex([Name(name)])
    assert latex([Name("a_b & 5%")]) == r"\texttt{a\_b \& 5\%}"
    shown = markdown([Name(name)], {})
    assert shown.startswith("`` ") and shown.endswith(" ``") and "\x1b" not in shown
    assert markdown(["a *b* [c]", Yours()], {}) == r"a \*b\* \[c\] **\[cite: yours\]**"
    assert latex(["100 %", Cite(("a", "b"))]) == r"100 \%~\cite{a,b}"
    assert tex("Kramár Kydlíček") == r"Kram{\'{a}}r Kydl{\'{i}}{\v {c}}ek"
