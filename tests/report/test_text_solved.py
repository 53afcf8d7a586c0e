from __future__ import annotations

import pytest
from made_up_study import make_row

from repeng.report import text_solved
from repeng.report.text_solved import text_cautions, text_solved_sources
from repeng.results import ResultRow


def sentence_of(rows: list[ResultRow]) -> str:
    return text_solved.text_solved_sentence(rows, text_solved_sources(rows))


def rows_of(source: str, **accuracies: float) -> list[ResultRow]:
    """A row a method, by its accuracy on the source's own test split."""
    return [
        make_row(source=source, method=method.replace("_", "-"), source_id_accuracy=accuracy)
        for method, accuracy in accuracies.items()
    ]


def test_a_source_whose_words_suffice_is_named_with_both_figures() -> None:
    rows = rows_of("short", mms=0.8, lora=0.9, length=0.5, tfidf=0.95) + rows_of("easy", mms=0.9, tfidf=0.6)
    (found,) = text_solved_sources(rows)
    assert (found.source, found.baseline, found.method) == ("short", "tfidf", "lora")
    assert sentence_of(rows).endswith(": short (tfidf 0.95, lora 0.90).")


def test_doing_as_well_as_the_words_is_not_beating_them() -> None:
    assert text_solved_sources(rows_of("easy", mms=0.75, length=0.75))
    assert not text_solved_sources(rows_of("easy", mms=0.76, length=0.75))


@pytest.mark.parametrize("method", ["random", "zero_shot_mean", "few_shot", "truthfulness", "mms+10%"])
def test_only_what_was_fitted_on_the_source_competes(method: str) -> None:
    (found,) = text_solved_sources(rows_of("easy", mms=0.7, length=0.8, **{method: 0.99}))
    assert found.method == "mms"


def test_what_competes_is_told_by_the_kind_of_a_method() -> None:
    rows = rows_of("easy", mms=0.7, length=0.8)
    asked = make_row(source="easy", method="zero-shot-calibrated", kind="prompted", source_id_accuracy=0.99)
    plugin = make_row(source="easy", method="zero-shot", kind="plugin", source_id_accuracy=0.75)
    (found,) = text_solved_sources([*rows, asked, plugin])
    assert (found.baseline, found.method) == ("length", "zero-shot")
    words = make_row(source="easy", method="mine", kind="text", source_id_accuracy=0.9)
    assert text_solved_sources([*rows, words])[0].baseline == "mine"


def test_without_text_baselines_or_fitted_methods_nothing_is_said() -> None:
    assert sentence_of(rows_of("easy", mms=0.5, zero_shot=0.6)) == ""
    assert sentence_of(rows_of("easy", zero_shot=0.5, tfidf=0.6)) == ""


def test_a_study_of_two_models_says_which() -> None:
    other = [make_row(model="big", source="easy", method="mms", source_id_accuracy=0.9)]
    assert "easy on tiny (length" in sentence_of(rows_of("easy", mms=0.7, length=0.8) + other)


def test_methods_that_lose_to_the_words_are_cautions_where_others_beat_them() -> None:
    rows = rows_of("easy", mms=0.9, ccs=0.55, cra=0.6, zero_shot=0.3, length=0.5, tfidf=0.6)
    rows += rows_of("short", mms=0.7, length=0.8) + rows_of("plain", mms=0.7)
    assert [(found.kind, found.place) for found in text_cautions(rows)] == [
        ("text_solved", "short (length 0.80, mms 0.70)"),
        ("loses_to_text", "ccs on easy (0.55, tfidf 0.60)"),
        ("loses_to_text", "cra on easy (0.60, tfidf 0.60)"),
    ]
