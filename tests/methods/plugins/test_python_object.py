"""Methods as Python objects: the example, an entry point, and everything that can go wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plugin_samples import EXAMPLES, alive, gone, split

from repeng.errors import BadInput, RepengError
from repeng.methods.plugins.python_object import PythonPlugin


def python_plugin(tmp_path: Path, body: str) -> PythonPlugin:
    (tmp_path / "mine.py").write_text(body)
    return PythonPlugin.at(f"{tmp_path / 'mine.py'}:Mine", time_limit=60.0)


def test_the_example_class_learns_its_source(model: str, tmp_path: Path) -> None:
    plugin = PythonPlugin.at(f"{EXAMPLES / 'python_method' / 'word_votes.py'}:WordVotes")
    with plugin.fit(model, split("easy", "train", 12), tmp_path) as fitted:
        for name in ("easy", "hard"):
            target = split(name, "test", 7)
            evaluation = fitted.evaluate(target)
            assert evaluation.accuracy == 1.0
            assert evaluation.scores is not None
            assert (evaluation.scores[:, 0] > evaluation.scores[:, 1]).all()
            assert evaluation.n_pairs == len(target.pairs)


def test_an_entry_point_is_a_method_by_its_name(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "word_votes-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: word-votes\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[repeng.interventions]\nword-votes = word_votes:WordVotes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES / "python_method"))
    plugin = PythonPlugin.at("word-votes")
    assert (plugin.name, plugin.reference) == ("word-votes", "word_votes:WordVotes")
    with plugin.fit(model, split("easy", "train", 12), tmp_path / "work") as fitted:
        assert fitted.evaluate(split("hard", "test", 7)).accuracy == 1.0


def test_a_target_is_shown_without_labels_and_in_no_telling_order(model: str, tmp_path: Path) -> None:
    body = (
        "class Mine:\n"
        "    def fit(self, model, source, *, seed): assert source.examples[0].best == 1\n"
        "    def score(self, questions):\n"
        "        assert all(set(vars(q)) == {'prompt', 'responses'} for q in questions)\n"
        "        return [[-float(i) for i in range(len(q.responses))] for q in questions]\n"
    )
    target = split("hard", "test", 400)
    with python_plugin(tmp_path, body).fit(model, split("easy", "train", 12), tmp_path) as fitted:
        always_the_first = fitted.evaluate(target)
        assert abs(always_the_first.accuracy - 0.5) < 0.1
        assert np.array_equal(fitted.evaluate(target).scores, always_the_first.scores)


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
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_class_that_cannot_be_fitted_is_reported(fault: str, model: str, tmp_path: Path) -> None:
    body, message = FAULTS[fault]
    with pytest.raises(RepengError, match=message):
        python_plugin(tmp_path, body).fit(model, split("easy", "train", 12), tmp_path)


def test_wrong_answers_are_reported_and_the_next_target_is_still_answered(model: str, tmp_path: Path) -> None:
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
    with python_plugin(tmp_path, body).fit(model, split("easy", "train", 12), tmp_path) as fitted:
        for message in messages:
            with pytest.raises(RepengError, match=message):
                fitted.evaluate(target)
        assert fitted.evaluate(target).accuracy == 1.0


def test_a_class_that_hangs_is_ended(model: str, tmp_path: Path) -> None:
    body = (
        "import os, time\n"
        "class Mine:\n"
        f"    def fit(self, model, source, *, seed): open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    def score(self, questions): time.sleep(600)\n"
    )
    fitted = python_plugin(tmp_path, body).fit(model, split("easy", "train", 12), tmp_path)
    fitted.plugin = replace(fitted.plugin, time_limit=1.0)
    with pytest.raises(RepengError, match="scoring hard was ended: it had not finished after 1 s"):
        fitted.evaluate(split("hard", "test", 7))
    assert gone(int((tmp_path / "pid").read_text()))
    with pytest.raises(RepengError, match="ended after an earlier failure"):
        fitted.evaluate(split("hard", "test", 7))


def test_a_name_that_is_no_plugin_is_refused() -> None:
    with pytest.raises(BadInput, match="no entry point of repeng.interventions"):
        PythonPlugin.at("nothing")
    with pytest.raises(BadInput, match="no such Python file"):
        PythonPlugin.at("nowhere/mine.py:Mine")


def test_closing_a_session_leaves_no_process(model: str, tmp_path: Path) -> None:
    plugin = PythonPlugin.at(f"{EXAMPLES / 'python_method' / 'word_votes.py'}:WordVotes")
    fitted = plugin.fit(model, split("easy", "train", 12), tmp_path)
    pid = fitted.pid
    assert alive(pid)
    fitted.close()
    assert gone(pid)
