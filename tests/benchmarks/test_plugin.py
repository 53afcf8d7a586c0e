"""Methods as folders and as Python objects: the examples, a stranger's scripts, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import make_model

from repeng.benchmarks.plugin import FolderPlugin, read_output, train_arguments
from repeng.benchmarks.python_plugin import PythonPlugin
from repeng.distributions.schema import Distribution, Example, Split
from repeng.errors import BadInput, RepengError
from repeng.metrics import Evaluation

EXAMPLES = Path(__file__).parents[2] / "examples"

README_TRAIN = """
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--model_dir", type=str)
parser.add_argument("--train_distribution", type=str)
parser.add_argument("--output_dir", type=str)
args = parser.parse_args()
train = json.load(open(os.path.join(args.train_distribution, "train.json")))
lengths = {True: [], False: []}
for example in train:
    for response, score in example["responses"].items():
        lengths[score == 1.0].append(len(response))
longer = sum(lengths[True]) / len(lengths[True]) > sum(lengths[False]) / len(lengths[False])
os.makedirs(args.output_dir)
json.dump({"longer": longer}, open(os.path.join(args.output_dir, "state.json"), "w"))
"""
README_EVAL = """
import argparse, ast, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--model_dir", type=str)
parser.add_argument("--distribution_dirs", type=ast.literal_eval)
parser.add_argument("--output_paths", type=ast.literal_eval)
args = parser.parse_args()
longer = json.load(open(os.path.join(args.model_dir, "state.json")))["longer"]
for directory, path in zip(args.distribution_dirs, args.output_paths):
    right = []
    for example in json.load(open(os.path.join(directory, "test.json"))):
        best = [r for r, s in example["responses"].items() if s == 1.0][0]
        for worse in [r for r, s in example["responses"].items() if s == 0.0]:
            right.append((len(best) > len(worse)) == longer)
    json.dump({"eval_accuracy": sum(right) / len(right)}, open(path, "w"))
"""


def split(name: str, split_name: str, n: int, good: str = "Yes, certainly") -> Split:
    examples = []
    for number in range(n):
        responses = (f"No {number}", f"{good} {number}", f"Never {number}")[: 2 + number % 2]
        examples.append(Example(f"{name} {split_name} {number}? ", responses, 1))
    return Split(name, split_name, tuple(examples))


def distribution(name: str, good: str = "Yes, certainly") -> Distribution:
    return Distribution(name, {part: split(name, part, n, good) for part, n in (("train", 12), ("test", 7))})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model("llama", tmp_path_factory.mktemp("plugin-model")))


def folder_plugin(tmp_path: Path, train: str = "", evaluate: str = "", *, time_limit: float = 60.0) -> FolderPlugin:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "train.py").write_text(train)
    (folder / "eval.py").write_text(evaluate)
    return FolderPlugin.at(folder, time_limit=time_limit)


def run(plugin: FolderPlugin, model: str, work: Path) -> dict[str, Evaluation | RepengError]:
    source, target = distribution("easy"), distribution("hard")
    return plugin.train(model, source, [target], work).evaluate([source, target], work)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed process that nobody has waited for yet is dead all the same.
    return " Z " not in Path(f"/proc/{pid}/stat").read_text()


def test_the_example_folder_learns_its_source(model: str, tmp_path: Path) -> None:
    found = run(FolderPlugin.at(EXAMPLES / "genies_plugin"), model, tmp_path)
    for name in ("easy", "hard"):
        evaluation = found[name]
        assert isinstance(evaluation, Evaluation)
        assert evaluation.accuracy == 1.0
        assert evaluation.example is not None
        assert evaluation.example.tolist() == [pair.example for pair in split(name, "test", 7).pairs]


def test_scripts_written_from_the_readme_alone_run_unchanged(model: str, tmp_path: Path) -> None:
    found = run(folder_plugin(tmp_path, README_TRAIN, README_EVAL), model, tmp_path / "work")
    assert isinstance(found["hard"], Evaluation)
    assert found["hard"].accuracy == 1.0
    assert found["hard"].probabilities is None


def test_the_arguments_are_those_of_the_runner_or_of_the_readme() -> None:
    places = {
        "model_dir": "m",
        "source": Path("/d/s"),
        "targets": [Path("/d/s"), Path("/d/t")],
        "output_dir": Path("/o"),
    }
    assert train_arguments("def main(training_distribution_dir): ...", **places) == [
        *("--model_dir", "m", "--training_distribution_dir", "/d/s"),
        *("--test_distribution_dirs", "['/d/s', '/d/t']", "--output_dir", "/o"),
    ]
    readme = ["--model_dir", "m", "--train_distribution", "/d/s", "--output_dir", "/o"]
    assert train_arguments("def main(train_distribution): ...", **places) == readme
    assert train_arguments("import fire", **places)[2] == "--training_distribution_dir"
    both = "main(train_distribution, test_distribution_dirs)"
    assert train_arguments(both, **places)[2:6] == [*readme[2:4], "--test_distribution_dirs", "['/d/s', '/d/t']"]


def test_a_source_is_trained_once_and_again_where_the_script_changed(model: str, tmp_path: Path) -> None:
    train = f"open({str(tmp_path / 'count')!r}, 'a').write('x')"
    plugin = folder_plugin(tmp_path, train)
    source = distribution("easy")
    first = plugin.train(model, source, [], tmp_path / "work")
    assert plugin.train(model, source, [], tmp_path / "work") == first
    assert (tmp_path / "count").read_text() == "x"
    plugin.train(model, distribution("easy", "Indeed"), [], tmp_path / "work")
    (plugin.directory / "train.py").write_text(train + "  # better")
    plugin.train(model, source, [], tmp_path / "work")
    assert (tmp_path / "count").read_text() == "xxx"


def test_a_failing_script_is_reported_with_its_last_words(model: str, tmp_path: Path) -> None:
    plugin = folder_plugin(tmp_path, "print('so far'); raise SystemExit('no GPU here')")
    with pytest.raises(
        RepengError, match=r"(?s)theirs: train.py on easy ended with exit code 1; its last words.*no GPU here"
    ) as e:
        run(plugin, model, tmp_path / "work")
    assert "so far" in str(e.value)


def test_a_script_that_dies_of_a_signal_is_reported(model: str, tmp_path: Path) -> None:
    plugin = folder_plugin(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(RepengError, match="was killed by signal 9"):
        run(plugin, model, tmp_path / "work")


def test_a_hanging_script_is_ended_with_all_that_it_started(model: str, tmp_path: Path) -> None:
    train = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    plugin = folder_plugin(tmp_path, train, time_limit=1.5)
    started = time.monotonic()
    with pytest.raises(RepengError, match="was ended: it had not finished after 1.5 s"):
        run(plugin, model, tmp_path / "work")
    assert time.monotonic() - started < 30
    assert not alive(int((tmp_path / "pid").read_text()))


def test_what_a_finished_script_left_running_is_ended(model: str, tmp_path: Path) -> None:
    train = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    )
    folder_plugin(tmp_path, train).train(model, distribution("easy"), [], tmp_path / "work")
    assert not alive(int((tmp_path / "pid").read_text()))


def test_one_bad_file_leaves_the_other_targets_their_evaluations(model: str, tmp_path: Path) -> None:
    evaluate = (
        "import ast, sys\n"
        "easy, hard = ast.literal_eval(sys.argv[sys.argv.index('--output_paths') + 1])\n"
        "open(easy, 'w').write('{\"eval_accuracy\": 0.75}')\n"
    )
    found = run(folder_plugin(tmp_path, "", evaluate), model, tmp_path / "work")
    assert isinstance(found["easy"], Evaluation)
    assert found["easy"].accuracy == 0.75
    assert isinstance(found["hard"], RepengError)
    assert "wrote nothing" in str(found["hard"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nonsense"),
        ("not json", "nonsense"),
        ("[1, 2]", "no eval_accuracy"),
        ('{"accuracy": 1}', "no eval_accuracy"),
        ('{"eval_accuracy": null, "eval_probabilities": [0.5]}', "null"),
        ('{"eval_accuracy": "0.9"}', "nonsense.*'0.9'"),
        ('{"eval_accuracy": 1.7}', "nonsense.*1.7"),
        ('{"eval_accuracy": NaN}', "nonsense"),
        ('{"eval_accuracy": true}', "nonsense"),
        ('{"eval_accuracy": 0.5, "eval_probabilities": [0.5, 2.0]}', "nonsense.*2.0"),
        ('{"eval_accuracy": 0.5, "eval_probabilities": [NaN]}', "nonsense"),
    ],
)
def test_nonsense_is_reported_as_such(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(text)
    with pytest.raises(RepengError, match=f"theirs.*{message}"):
        read_output(tmp_path / "out.json", split("hard", "test", 7), "theirs")


def test_binary_rubbish_is_nonsense_too(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(RepengError, match="nonsense"):
        read_output(tmp_path / "out.json", split("hard", "test", 7), "theirs")


def test_probabilities_of_some_pairs_only_belong_to_no_known_example(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps({"eval_accuracy": 1.0, "eval_probabilities": [0.9, 0.8]}))
    evaluation = read_output(tmp_path / "out.json", split("hard", "test", 7), "theirs")
    assert evaluation.n_pairs == 2
    assert evaluation.example is None


def test_a_folder_without_the_scripts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    with pytest.raises(BadInput, match="no eval.py here"):
        FolderPlugin.at(tmp_path)


def python_plugin(tmp_path: Path, body: str) -> PythonPlugin:
    (tmp_path / "mine.py").write_text(body)
    return PythonPlugin.at(f"{tmp_path / 'mine.py'}:Mine", time_limit=60.0)


def test_the_example_class_learns_its_source(model: str, tmp_path: Path) -> None:
    plugin = PythonPlugin.at(f"{EXAMPLES / 'python_intervention' / 'word_votes.py'}:WordVotes")
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
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES / "python_intervention"))
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
    assert not alive(int((tmp_path / "pid").read_text()))
    with pytest.raises(RepengError, match="ended after an earlier failure"):
        fitted.evaluate(split("hard", "test", 7))


def test_a_name_that_is_no_plugin_is_refused() -> None:
    with pytest.raises(BadInput, match="no entry point of repeng.interventions"):
        PythonPlugin.at("nothing")
    with pytest.raises(BadInput, match="no such Python file"):
        PythonPlugin.at("nowhere/mine.py:Mine")


def test_closing_a_session_leaves_no_process(model: str, tmp_path: Path) -> None:
    plugin = PythonPlugin.at(f"{EXAMPLES / 'python_intervention' / 'word_votes.py'}:WordVotes")
    fitted = plugin.fit(model, split("easy", "train", 12), tmp_path)
    pid = fitted.pid
    assert alive(pid)
    fitted.close()
    assert not alive(pid)
