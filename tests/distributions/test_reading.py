"""What the user may say of columns, labels and turns, and how a field is looked up."""

from __future__ import annotations

import pytest

from repeng.distributions.reading import Fields, Reading, class_name, is_label, label_of
from repeng.errors import BadData, BadInput, UnknownName


def test_columns_are_parsed_as_on_the_command_line() -> None:
    reading = Reading.parse("text=claim, label=truth", positive="yes", turn="-1", group="city")
    assert reading.columns == {"text": "claim", "label": "truth", "group": "city"}
    assert (reading.positive, reading.turn, reading.group) == ("yes", "-1", None)
    assert reading == Reading({"group": "city", "label": "truth", "text": "claim"}, "yes", "-1")
    assert str(reading) == "--columns text=claim,label=truth,group=city --positive yes --turn -1"
    assert Reading.parse().says_nothing and not reading.says_nothing


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ("text", {}, "write OURS=THEIRS"),
        ("text=a,text=b", {}, "names text twice"),
        ("text=", {}, "no column for text"),
        (None, {"turn": "1.5"}, "a number from 0"),
        (None, {"turn": ""}, "a number from 0"),
        ("group=a", {"group": "b"}, "give only one"),
    ],
)
def test_what_cannot_be_meant_is_refused(columns, options, said) -> None:
    with pytest.raises(BadInput, match=said):
        Reading.parse(columns, **options)


def test_a_field_that_is_not_ours_is_refused_with_ours() -> None:
    with pytest.raises(UnknownName, match="unknown field 'sentence'; choose from chosen, group, label"):
        Reading.parse("sentence=claim")


def test_what_the_user_says_goes_before_what_is_known_of_a_set() -> None:
    known = Reading({"text": "a", "label": "b"}, positive="x")
    assert Reading({"label": "c"}, turn="0").over(known) == Reading({"text": "a", "label": "c"}, "x", "0")


def test_a_path_leads_into_objects_and_lists_and_a_column_of_that_very_name_goes_before() -> None:
    row = {"a": {"b": [{"c": "deep"}, {"c": "last"}]}, "a.b.0.c": "flat"}
    look = lambda path: Fields(row, Reading({"text": path})).value("text")  # noqa: E731
    assert (look("a.b.0.c"), look("a.b.1.c"), look("a.b.-1.c")) == ("flat", "last", "last")
    for path in ("a.b.2.c", "a.x", "a.b.c", "x", "a.b.0.c.d"):
        with pytest.raises(BadData, match="is not there or empty; the example has a"):
            look(path)


def test_two_known_columns_for_one_field_must_be_told_apart() -> None:
    row = {"statement": "s", "claim": "c", "label": 1}
    with pytest.raises(BadData, match="statement and claim may each be the text; say which with --columns text=stat"):
        Fields(row, Reading()).column("text")
    assert Fields(row, Reading({"text": "claim"})).value("text") == "c"
    assert Fields(row, Reading({"prompt": "claim"})).value("text") == "s"


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *((one, 1.0) for one in (1, 1.0, True, "1", "true", "True", " yes ", "correct", "deceptive", "harmful")),
        *((zero, 0.0) for zero in (0, 0.0, False, "0", "FALSE", "no", "incorrect", "honest", "harmless")),
        *((neither, None) for neither in (2, 0.5, -1, "maybe", "")),
    ],
)
def test_labels_that_need_no_explanation(value, label) -> None:
    assert label_of(value, None) == label


def test_a_named_class_is_one_against_the_rest() -> None:
    assert [label_of(value, "cat") for value in ("cat", "Cat", "dog", 1)] == [1.0, 1.0, 0.0, 0.0]
    assert [label_of(value, "2") for value in (2, 2.0, "2", 1)] == [1.0, 1.0, 1.0, 0.0]
    assert [label_of(value, "false") for value in (False, "False", True)] == [1.0, 1.0, 0.0]
    assert [class_name(value) for value in (True, 1.0, 0.5, " x ")] == ["true", "1", "0.5", "x"]
    assert [is_label(value) for value in (0, False, "x", " ", None, [], {})] == [True, True, True, *[False] * 4]
