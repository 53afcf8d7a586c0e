"""What is said of data: what it was taken for, with examples; and problems of one reason in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repeng.distributions.check import Problem, check_data, grouped
from repeng.distributions.load import load_distributions
from repeng.distributions.reading import Reading
from repeng.distributions.understood import understand, visible
from repeng.errors import BadInput

CHAT = [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Green."}]


def said(folder: Path, rows: list[dict[str, Any]], reading: Reading | None = None) -> tuple[str, tuple[str, ...]]:
    """The sentence and the examples of a distribution `d` with these rows as train and as test split."""
    (folder / "d").mkdir()
    for split in ("train", "test"):
        (folder / "d" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_distributions(folder, reading=reading)
    (found,) = understand(folder, list(loaded.values()), reading)
    return found.sentence, found.examples


@pytest.mark.parametrize(
    ("rows", "reading", "sentence"),
    [
        (
            [{"statement": "a", "label": 1}, {"statement": "b", "label": 0}, {"statement": "c", "label": 0}],
            None,
            "d: 6 statements, labelled by `label` (2 are 1, 4 are 0), no groups; "
            "asked about each text (train 3, test 3)",
        ),
        (
            [{"t": "a", "who": "x", "kind": "cat"}, {"t": "b", "who": "x", "kind": "dog"}],
            Reading.parse("text=t,label=kind", positive="cat", group="who"),
            "d: 4 texts, labelled by `kind` (2 are 1, 2 are 0; 1 is 'cat'), 1 group by `who`; asked about each text, "
            "and 2 pairs (train 2, test 2)",
        ),
        (
            [{"prompt": "p", "response": "r", "correct": True}],
            None,
            "d: 2 prompts with a response each, labelled by `correct` (2 are 1, 0 are 0; 1 is 'true'), no groups; "
            "asked about each text (train 1, test 1)",
        ),
        (
            [{"messages": CHAT, "deceptive": True}],
            None,
            "d: 2 conversations (up to the labelled turn), labelled by `deceptive` (2 are 1, 0 are 0; 1 is 'true'), "
            "no groups; asked about each text (train 1, test 1)",
        ),
        (
            [{"messages": CHAT, "deceptive": True}],
            Reading(turn="all"),
            "d: 2 conversations (as a whole), labelled by `deceptive` (2 are 1, 0 are 0; 1 is 'true'), no groups; "
            "asked about each text (train 1, test 1)",
        ),
        (
            [{"prompt": "p", "responses": {"a": 1, "b": 0, "c": 0}}],
            None,
            "d: 2 prompts, 6 responses, no groups; asked about 4 pairs (train 1, test 1)",
        ),
        (
            [{"prompt": "p", "chosen": ["a", "b"], "rejected": ["c"]}],
            None,
            "d: 2 prompts, some with several right responses, 6 responses, no groups; asked about 4 pairs "
            "(train 1, test 1)",
        ),
        (
            [{"text": "a", "honest": "deceptive"}, {"text": "b", "honest": "honest"}],
            None,
            "d: 4 texts, labelled by `honest` (2 are 1, 2 are 0; 1 is 'deceptive'), no groups; "
            "asked about each text (train 2, test 2)",
        ),
        (
            [{"question": "p", "answer": "r", "label": 1}, {"question": "p", "answer": "s", "label": 0}],
            None,
            "d: 4 prompts with a response each, labelled by `label` (2 are 1, 2 are 0), no groups; "
            "asked about each text (train 2, test 2)",
        ),
        (
            [{"answer": "r", "label": 1}, {"answer": "s", "label": 0}],
            None,
            "d: 4 responses without a prompt, labelled by `label` (2 are 1, 2 are 0), no groups; "
            "asked about each text (train 2, test 2)",
        ),
        (
            [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"prompt": "p", "chosen": "a", "rejected": "b"}],
            None,
            "d: 6 texts, labelled by `label` (4 are 1, 4 are 0), of two forms (train: 1 with several responses, "
            "2 of one text; test: 1 with several responses, 2 of one text), no groups; asked about each text, and "
            "2 pairs (train 3, test 3)",
        ),
    ],
)
def test_a_sentence_says_what_it_was_taken_for(tmp_path: Path, rows, reading, sentence) -> None:
    assert said(tmp_path, rows, reading)[0] == sentence


def test_an_example_of_each_label_is_shown_short_and_with_control_characters_visible(tmp_path: Path) -> None:
    rows = [{"text": "no\x1b[2J\n", "label": 0}, {"text": "x" * 500, "label": 1}, {"text": "y", "label": 1}]
    one, zero = said(tmp_path, rows)[1]
    assert one.startswith("1: xxx") and " ... " in one and len(one) < 200
    assert zero == "0: no\\x1b[2J\\n"
    assert visible("é\u202e\u200b🔷") == "é\\u202e\\u200b🔷"
    assert len(visible("z" * 161)) < 161 and visible("z" * 160) == "z" * 160


def test_problems_of_one_reason_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text('{"text": "t"}\n' * 80 + '{"text": 3, "label": 1}\n')
    problems = check_data(file)
    assert len(problems) == 81
    many, one = grouped(problems)
    assert many.startswith(f"{file}, 80 examples (0, 1, 2 and 77 more): no label; it has text.")
    assert one == f"{file}, example 80: text is a number; what is labelled is text or a list of messages"
    assert grouped([Problem("a", None, "x"), Problem("b", 1, "x"), Problem("b", 4, "x")]) == [
        "a: x",
        "b, 2 examples (1, 4): x",
    ]


def test_what_the_user_says_of_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text("text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(9)))
    with pytest.raises(BadInput, match=r"no label is 'c' \(--positive\); the labels are a, b"):
        load_distributions(file, reading=Reading(positive="c"))
    with pytest.raises(BadInput, match="--turn 1 says which message is labelled, and there is no conversation"):
        load_distributions(file, reading=Reading(positive="a", turn="1"))
