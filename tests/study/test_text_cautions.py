"""What is said of labelled texts before and after a study; and what a benign distribution may be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_world import silent

from repeng.distributions.overlap import Match, Overlap
from repeng.distributions.schema import Example, Split
from repeng.errors import BadInput, UnknownName
from repeng.study.overlap import _stored
from repeng.study.settings import Study
from repeng.study.study import plan_study, run_study

BOTH = ("train", "test")


def write(
    folder: Path, name: str, texts: Sequence[tuple[str, int]], *, splits: Sequence[str] = ("train", "test")
) -> None:
    (folder / name).mkdir(parents=True)
    for split in splits:
        rows = [{"text": f"{text} ({split})", "label": label} for text, label in texts]
        (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows(word: str, count: int = 40) -> list[tuple[str, int]]:
    """Every second pair of them has some words more."""
    said = [f"{word} {number} is {'odd' if number % 2 else 'even'}" for number in range(count)]
    return [(text + " or so it seems to me" * (n % 4 > 1), n % 2) for n, text in enumerate(said)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    write(data, "numbers", rows("number"))
    write(data, "held", rows("letter"), splits=("test",))
    write(data, "chat", [(f"hello {number}", 0) for number in range(120)], splits=("test",))
    write(data, "bad", [(f"harm {number}", 1) for number in range(20)], splits=("test",))
    write(data, "copied", [*rows("number")[:4], *rows("other")], splits=("test",))
    return data


def study(folder: Path, shifts: Sequence[dict[str, str]], **settings: object) -> Study:
    (folder.parent / "shifts.json").write_text(json.dumps(list(shifts)))
    return Study(
        benchmark=str(folder.parent / "shifts.json"),
        data=str(folder),
        store=str(folder.parent / "store"),
        out=str(folder.parent / f"out{len(list(folder.parent.iterdir()))}"),
        fits=1,
        nulls=0,
        **{"methods": ("mms",), **settings},
    )


SHIFT = {"source": "numbers", "target": "held"}


def test_a_distribution_of_a_test_split_alone_is_a_target_without_a_capability(folder: Path) -> None:
    found = run_study(plan_study(study(folder, [SHIFT])), progress=silent, note=lambda _: None)
    (row,) = [row for row in found.rows if row.method == "mms"]
    assert not found.failures and row.accuracy is not None and row.target_tuned_capability is None


def test_few_shot_of_labelled_texts_fails_alone(folder: Path) -> None:
    plan = plan_study(study(folder, [SHIFT], methods=("mms", "few-shot")))
    assert {failure.method for failure in plan.impossible} == {"few-shot"}
    assert "goes by pairs of responses" in plan.impossible[0].reason


def test_thresholds_that_few_texts_set_are_a_caution(folder: Path) -> None:
    kinds = {c.kind: c for c in plan_study(study(folder, [SHIFT])).cautions}
    assert kinds["few_negatives"].place == "numbers (about 6)"
    assert "few_negatives" not in {c.kind for c in plan_study(study(folder, [SHIFT], benign="chat")).cautions}


def test_methods_that_were_asked_about_different_texts_are_a_caution(folder: Path) -> None:
    methods = ("mms", "mms(token=last:-14)")
    found = run_study(plan_study(study(folder, [SHIFT], methods=methods)), progress=silent, note=lambda _: None)
    caution = next(c for c in found.found if c.kind == "unequal_texts")
    assert caution.where == "numbers -> held" and "40: mms" in caution.text and "last:-14" in caution.text


@pytest.mark.parametrize(
    ("benign", "shift", "error", "reason"),
    [
        ("nowhere", SHIFT, UnknownName, "--benign.*nowhere"),
        ("held", SHIFT, BadInput, "thresholds must not be set on what is asked about"),
        ("bad", SHIFT, BadInput, "bad/test has no text of label 0"),
    ],
)
def test_what_is_no_benign_distribution_is_refused_before_anything_runs(
    folder: Path, benign: str, shift: dict[str, str], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        plan_study(study(folder, [shift], benign=benign))


def test_thresholds_are_not_set_on_texts_that_a_target_has_too(folder: Path) -> None:
    plan = plan_study(study(folder, [{"source": "numbers", "target": "numbers"}], benign="copied"))
    assert plan.runner.benign is not None and len(plan.runner.benign.examples) == 40
    assert ("benign_shared", "copied (4 left out)") in {(c.kind, c.place) for c in plan.cautions}
    assert not run_study(plan, progress=silent, note=lambda _: None).failures


def test_a_benign_distribution_without_labelled_texts_to_ask_about_is_refused(small_world: Path, folder: Path) -> None:
    with pytest.raises(BadInput, match="no target holds such"):
        plan_study(
            Study(
                benchmark=str(small_world / "shifts.json"),
                data=str(small_world / "data"),
                benign="easy",
                out=str(folder.parent / "pairs"),
            )
        )


def test_an_overlap_takes_the_whole_named_group_with_it() -> None:
    examples = tuple(Example("", (f"text {n}",), (0,) if n % 2 else (), group=f"g{n // 3}") for n in range(9))
    test, train = Split("d", "test", examples), Split("d", "train", examples[:1])
    overlap = Overlap(train, test, (Match(test=4, train=0, kind="exact", similarity=1.0, response=False),))
    assert _stored(overlap).numbers == {3}
    alone = replace(test, examples=tuple(replace(example, group=None) for example in examples))
    assert _stored(replace(overlap, test=alone)).numbers == {4}
