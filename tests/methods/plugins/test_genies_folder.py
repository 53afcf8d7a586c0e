"""Methods as folders: the example, a stranger's scripts, and everything that can go wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from plugin_samples import EXAMPLES, distribution, gone, split

from repeng.errors import BadInput, RepengError
from repeng.methods.plugins.genies_folder import FolderPlugin, read_output, train_arguments
from repeng.metrics import Evaluation

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


def folder_plugin(tmp_path: Path, train: str = "", evaluate: str = "", *, time_limit: float = 60.0) -> FolderPlugin:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "train.py").write_text(train)
    (folder / "eval.py").write_text(evaluate)
    return FolderPlugin.at(folder, time_limit=time_limit)


def run(plugin: FolderPlugin, model: str, work: Path) -> dict[str, Evaluation | RepengError]:
    source, target = distribution("easy"), distribution("hard")
    return plugin.train(model, source, [target], work).evaluate([source, target], work)


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
    (plugin.directory / "settings.json").write_text("{}")
    plugin.train(model, source, [], tmp_path / "work")
    assert (tmp_path / "count").read_text() == "xxxx"


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
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_a_finished_script_left_running_is_ended(model: str, tmp_path: Path) -> None:
    train = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    )
    folder_plugin(tmp_path, train).train(model, distribution("easy"), [], tmp_path / "work")
    assert gone(int((tmp_path / "pid").read_text()))


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
