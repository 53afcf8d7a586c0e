"""A report opens on its question, then the answer with its uncertainty, then the data and how to make it again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_study import HOSTILE, make_provenance, make_row, make_rows, write_study

from repeng.report.data_section import data_section
from repeng.report.frames import shift_frame
from repeng.report.html import write_report
from repeng.report.opening import opening, question
from repeng.report.predictions import evaluations_of, read_predictions
from repeng.results import read_results, with_verdicts, write_results
from repeng.study.provenance import write_provenance
from repeng.study.settings import Study

ACCURACIES = {"mms": (0.91, 0.95, 0.49, 0.2), "zero-shot": (0.7, 0.72, 0.5, 0.48)}


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        (("probe",), "Does what 1 probe learns on one distribution from tiny's activations hold on another?"),
        (
            ("probe", "probe", "text"),
            "Does what 2 probes learn on one distribution from tiny's activations hold on another?",
        ),
        (
            ("probe", "tuned", "plugin"),
            "Does what 1 probe, 1 tuned reward model and 1 plug-in of tiny learn on one distribution hold on another?",
        ),
        (("prompted", "text"), "How often do a0 and a1 prefer the right response?"),
        (("prompted",), "How often does a0 prefer the right response?"),
    ],
)
def test_the_question_is_of_what_was_asked(kinds: tuple[str, ...], asked: str) -> None:
    rows = [make_row(method=f"a{place}", kind=kind, accuracy=0.5) for place, kind in enumerate(kinds)]
    assert question(shift_frame(rows)) == asked


def test_a_path_of_a_model_is_its_last_name() -> None:
    assert "from mine's activations" in question(shift_frame([make_row(model="/home/ada/mine", accuracy=0.5)]))
    assert "from org/model's activations" in question(shift_frame([make_row(model="org/model", accuracy=0.5)]))


def test_the_answer_has_the_leaders_interval_and_counts_what_is_not_told(tmp_path: Path) -> None:
    write_study(tmp_path, ACCURACIES | {"lat": (0.9, 0.94, 0.5, 0.2)})
    rows = with_verdicts(read_results(tmp_path / "results.csv"))
    first = opening(shift_frame(rows), evaluations_of(read_predictions(tmp_path)), "the benchmark mine")
    assert first.asked == "Asked over 4 shifts of the benchmark mine (2 extreme, 2 probing), next to zero-shot."
    (where, said), (_, probing) = first.answers
    assert where == "On the 2 extreme shifts"
    assert re.search(r"mms has 0\.93 \(0\.\d\d to 0\.\d\d\) and is above chance on all of them", said)
    assert re.search(r"0\.3\d \(0\.\d\d to 0\.\d\d\)", probing)
    told = [row.verdict for row in rows if row.method != "zero-shot"]
    above, below = (told.count(side) for side in ("above chance", "below chance"))
    assert (above, below) == (4, 2)
    assert first.notes[0] == (
        f"Of 8 results {above} are above chance, {8 - above - below} are not told from chance or from the method's "
        f"null and {below} are below chance: something else was learned there."
    )


def test_nothing_measured_is_said_to_be_nothing() -> None:
    first = opening(shift_frame([make_row(accuracy=None)]), {})
    assert (first.answers, first.notes) == ((), ("No accuracy was measured.",))


def test_the_data_are_told_by_hash_and_place() -> None:
    known = make_provenance()
    found = data_section(shift_frame(make_rows({"mms": (0.9,) * 4})), Study(fits=3), known, "x")
    facts = dict(found.facts)
    assert facts["capture"] == "tiny-1" and facts["tokenizer"] == "t"
    assert facts["read from"] == "~/data" and facts["fits"].startswith("3 ")
    assert facts["computed in"] == "float32, activations kept in bfloat16"
    assert found.splits is not None and "read from" not in found.splits.columns
    row = next(line for line in found.splits.rows if line.name == "hard")
    train, test = (next(s for s in known.of_splits(name) if s.distribution == "hard") for name in ("train", "test"))
    assert [cell.text for cell in row.cells] == [
        *(str(train.examples), str(train.prompts), train.data_hash),
        *(str(test.examples), str(test.prompts), str(test.pairs), test.data_hash),
    ]
    elsewhere = (replace(known.splits[0], place="org/set"), *known.splits[1:])
    apart = data_section(shift_frame(make_rows({"mms": (0.9,) * 4})), None, replace(known, splits=elsewhere)).splits
    assert apart is not None and apart.rows[0].cells[-1].text == "org/set"


def test_names_with_markup_stay_text(tmp_path: Path) -> None:
    hostile = HOSTILE.split("\x00")[0]
    rows = [make_row(model=hostile, method=hostile, kind="plugin", source=hostile, target=hostile, accuracy=0.5)]
    write_results(rows, tmp_path / "results.csv")
    (tmp_path / "study.toml").write_text('model = "<script>window.pwned = 2</script>"\n')
    (place,) = [replace(one, distribution=hostile, place=hostile) for one in make_provenance().splits[:1]]
    write_provenance(replace(make_provenance(), benchmark=hostile, splits=(place,)), tmp_path)
    text = write_report(tmp_path).read_text()
    assert text.count("<script") == 1 and "<img" not in text
