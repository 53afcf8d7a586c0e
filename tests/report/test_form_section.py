"""What the chat template changes: the paired table, its sentence, and how the forms are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_study import make_row, make_rows
from test_sentences import study
from test_tables import text_of

from repeng.metrics import holm, mean_paired_difference
from repeng.report.form_section import form_rows, form_sentence
from repeng.report.frames import shift_frame, shown_methods
from repeng.report.html import write_report
from repeng.report.sentences import summary_sentences
from repeng.report.tables import study_table
from repeng.results import evaluation_path, write_evaluation, write_results

CHAT = "mms(stimulus='chat')"
CRA = "cra(stimulus='chat_contrast_yes+chat_contrast_no')"
METHODS = {"mms": [0.6] * 4, CHAT: [0.8] * 4, "cra": [0.7] * 4, CRA: [0.7] * 4, "length": [0.5] * 4}


def test_the_forms_of_each_method_are_paired_and_corrected_over_the_methods() -> None:
    rows, known = study(METHODS)
    found = form_rows(rows, known)
    assert [row["method"] for row in found] == ["mms", "cra"]
    raw = []
    for row, (plain, chat) in zip(found, (("mms", CHAT), ("cra", CRA)), strict=True):
        keys = [key for key in known if key[1] == plain]
        ones, others = ([known[key[0], name, *key[2:]] for key in keys] for name in (chat, plain))
        expected = mean_paired_difference(ones, others, [key[3] for key in keys])
        assert (row["difference"], row["low"], row["high"]) == (expected.value, expected.low, expected.high)
        assert row["plain"] == pytest.approx(np.mean([one.accuracy for one in others]))
        assert row["chat"] - row["plain"] == pytest.approx(row["difference"])
        assert row["shifts"] == 4
        raw.append(expected.p)
    assert [row["p_holm"] for row in found] == list(holm(raw))
    assert form_sentence(found).startswith(
        "By paired tests (Holm) the chat form changes 1 of 2 methods: mms by +0.20 ("
    )


def test_nothing_is_said_where_no_method_is_there_in_both_forms_or_none_differs() -> None:
    rows, known = study({"mms": [0.6] * 4, "mms(stimulus='lat2')": [0.7] * 4, CRA: [0.7] * 4})
    assert form_rows(rows, known) == [] and form_sentence([]) == ""
    rows, known = study({"mms": [0.6] * 4, CHAT: [0.6] * 4})
    assert form_sentence(form_rows(rows, known)) == (
        "Paired tests (Holm) do not tell the chat form from the plain one for any of 1 method."
    )


def test_a_shift_that_one_form_lacks_is_left_out_of_both_means() -> None:
    rows, known = study({"mms": [0.6, 0.6, 0.6, 0.9], CHAT: [0.8] * 4})
    lost = next(key for key in known if key[1] == CHAT and key[2] == "s3")
    del known[lost]
    (row,) = form_rows(rows, known)
    assert row["shifts"] == 3 and row["plain"] == pytest.approx(0.6)


def test_a_chat_form_is_named_after_its_plain_form_and_others_go_by_their_names() -> None:
    names = ["mms", CHAT, "cra", CRA, "logistic(stimulus='chat')", "zero-shot"]
    assert shown_methods(names) == {CHAT: "mms (chat)", CRA: "cra (chat)"}
    rows, known = study(METHODS)
    assert set(shift_frame(rows)["name"]) == {"mms", "mms (chat)", "cra", "cra (chat)", "length"}
    assert "mms (chat) has the highest mean accuracy" in summary_sentences(rows, known)


def test_the_heads_of_the_columns_are_folded_and_no_line_is_longer_than_100() -> None:
    names = ("mms", CHAT, "cra", CRA, "zero-shot", "zero-shot(stimulus='chat')", "logistic(C=0.1)")
    lines = text_of(study_table(make_rows({name: (0.91, 0.95, 0.49, 1.0) for name in names})))
    head = "\n".join(lines[: next(place for place, line in enumerate(lines) if line.startswith("shift")) + 1])
    assert head.split() == [
        *("zero-", "mms", "cra", "zero-", "shot", "logistic"),
        *("shift", "mms", "(chat)", "cra", "(chat)", "shot", "(chat)", "(C=0.1)"),
    ]
    assert max(map(len, lines)) <= 100 and "(chat): texts written with the model's chat" in " ".join(lines)
    assert "(chat)" not in " ".join(text_of(study_table([make_row(accuracy=0.9)])))


def test_the_page_has_the_table_where_there_are_both_forms(tmp_path: Path) -> None:
    for name, methods in (("both", METHODS), ("one", {"mms": [0.6] * 4})):
        rows, known = study(methods)
        write_results(rows, tmp_path / name / "results.csv")
        for (model, method, source, target), one in known.items():
            write_evaluation(evaluation_path(tmp_path / name / "predictions", method, model, source, target), one, {})
        page = write_report(tmp_path / name).read_text()
        assert ('id="forms"' in page) == (name == "both")
        assert ("the chat form changes 1 of 2 methods: mms by +0.20" in page) == (name == "both")
