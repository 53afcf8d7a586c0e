"""Methods as Python objects: the example, an entry point, and everything that can go wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged import judged, unread
from plugin_samples import EXAMPLES, gone, split

from repeng.errors import BadInput, RepengError
from repeng.methods.base import MethodSettings, ResponseScores, Source
from repeng.methods.plugins.python_object import FittedObject, PythonObject


@pytest.fixture
def settings(model: str, tmp_path: Path) -> MethodSettings:
    return MethodSettings(model, 3, 256, "capture", tmp_path / "work", tmp_path / "tuned")


def python_object(settings: MethodSettings, body: str, time_limit: float = 60.0) -> PythonObject:
    file = settings.plugins.parent / "mine.py"
    file.write_text(body)
    return PythonObject.at(f"{file}:Mine", settings, time_limit=time_limit)


def fitted(method: PythonObject) -> FittedObject:
    source = split("easy", "train", 12)
    return method.fit(Source(source, lambda: pytest.fail("nothing is read")))


def test_the_example_class_learns_its_source(settings: MethodSettings) -> None:
    method = PythonObject.at(f"{EXAMPLES / 'python_method' / 'word_votes.py'}:WordVotes", settings)
    targets = [split(name, "test", 7) for name in ("easy", "hard")]
    for target, answer in zip(targets, fitted(method).answer_all([unread(one) for one in targets]), strict=True):
        assert isinstance(answer, ResponseScores)
        evaluation = judged(answer, target)
        assert evaluation.accuracy == 1.0
        assert evaluation.scores is not None
        assert (evaluation.scores[:, 0] > evaluation.scores[:, 1]).all()
        assert evaluation.n_pairs == len(target.pairs)


@pytest.mark.parametrize("group", ["repeng.methods", "repeng.interventions"])
def test_an_entry_point_is_a_method_by_its_name(
    settings: MethodSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    info = tmp_path / "word_votes-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: word-votes\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nword-votes = word_votes:WordVotes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES / "python_method"), prepend=":")
    method = PythonObject.at("word-votes", settings)
    assert (method.name, method.reference) == ("word-votes", "word_votes:WordVotes")
    target = split("hard", "test", 7)
    assert judged(fitted(method).answer(unread(target)), target).accuracy == 1.0


def test_an_edited_object_is_another_method(settings: MethodSettings) -> None:
    before = python_object(settings, "class Mine: ...").identity()
    assert python_object(settings, "class Mine: ...").identity() == before
    assert python_object(settings, "class Mine: pass").identity() != before


def test_a_target_is_shown_without_labels_and_in_no_telling_order(settings: MethodSettings) -> None:
    body = (
        "class Mine:\n"
        "    def fit(self, model, source, *, seed): assert source.examples[0].best == 1\n"
        "    def score(self, questions):\n"
        "        assert all(set(vars(q)) == {'prompt', 'responses'} for q in questions)\n"
        "        return [[-float(i) for i in range(len(q.responses))] for q in questions]\n"
    )
    target = split("hard", "test", 400)
    method = python_object(settings, body)
    always_the_first, again = (judged(fitted(method).answer(unread(target)), target) for _ in range(2))
    assert abs(always_the_first.accuracy - 0.5) < 0.1
    assert np.array_equal(again.scores, always_the_first.scores)


FAULTS = {
    "cannot be imported": ("import nothing_of_that_name", "fitting on easy failed: ModuleNotFoundError"),
    "is not there": ("class Yours: pass", "has no Mine"),
    "has no score": ("class Mine:\n def fit(self, *a, **k): pass", "no method score"),
    "raises in fit": (
        "class Mine:\n def fit(self, *a, **k): raise ValueError('too few')\n def score(self, q): return []",
        "fitting on easy failed: ValueError: too few",
    ),
    "ends its process": (
        "import os\nclass Mine:\n def fit(self, *a, **k): os._exit(3)\n def score(self, q): return []",
        "its process ended with exit code 3",
    ),
    "ends its process as if all were well": (
        "import os\nclass Mine:\n def fit(self, *a, **k): os._exit(0)\n def score(self, q): return []",
        "its process ended before it was fitted",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_class_that_cannot_be_fitted_is_reported(fault: str, settings: MethodSettings) -> None:
    body, message = FAULTS[fault]
    with pytest.raises(RepengError, match=message):
        fitted(python_object(settings, body)).answer(unread(split("hard", "test", 7)))


def test_wrong_answers_are_reported_and_the_next_target_is_still_answered(settings: MethodSettings) -> None:
    body = (
        "class Mine:\n"
        "    def fit(self, model, source, *, seed): self.asked = 0\n"
        "    def score(self, questions):\n"
        "        self.asked += 1\n"
        "        good = [[float(r.startswith('Yes')) for r in q.responses] for q in questions]\n"
        "        if self.asked == 1: return good[1:]\n"
        "        if self.asked == 2: return [row[1:] for row in good]\n"
        "        if self.asked == 3: return [[float('nan')] * len(row) for row in good]\n"
        "        if self.asked == 4: return ['ab' for row in good]\n"
        "        if self.asked == 5: raise KeyError('hm')\n"
        "        return good\n"
    )
    target = split("hard", "test", 7)
    messages = [
        "scores of 6 questions, and 7",
        "1 scores for the 2 responses",
        "not finite",
        "ValueError",
        "KeyError: 'hm'",
    ]
    *wrong, right = fitted(python_object(settings, body)).answer_all([unread(target)] * 6)
    for message, answer in zip(messages, wrong, strict=True):
        assert isinstance(answer, RepengError)
        assert message in str(answer)
    assert isinstance(right, ResponseScores)
    assert judged(right, target).accuracy == 1.0


def test_a_class_that_hangs_is_ended_and_what_it_said_before_counts(settings: MethodSettings) -> None:
    pid = settings.plugins.parent / "pid"
    body = (
        "import os, time\n"
        "class Mine:\n"
        f"    def fit(self, model, source, *, seed): open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "    def score(self, questions):\n"
        "        if 'hard' in questions[0].prompt: time.sleep(600)\n"
        "        return [[float(r.startswith('Yes')) for r in q.responses] for q in questions]\n"
    )
    easy, hard = split("easy", "test", 7), split("hard", "test", 7)
    method = replace(python_object(settings, body), time_limit=10.0)
    first, second, third = fitted(method).answer_all([unread(easy), unread(hard), unread(easy)])
    assert isinstance(first, ResponseScores)
    assert judged(first, easy).accuracy == 1.0
    assert "was ended: it had not finished after 10 s" in str(second)
    assert isinstance(third, RepengError)
    assert gone(int(pid.read_text()))


def test_a_name_that_is_no_plugin_is_refused(settings: MethodSettings) -> None:
    with pytest.raises(BadInput, match="no entry point of repeng.methods"):
        PythonObject.at("nothing", settings)
    with pytest.raises(BadInput, match="no such Python file"):
        PythonObject.at("nowhere/mine.py:Mine", settings)
