"""Tuning from end to end on a tiny model: seeded, resumable, keyed, and readable by plain peft."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from polite import polite_split
from safetensors.torch import load_file, save_file
from tiny_models import make_model

from repeng.errors import BadInput, NonFinite, UnknownName
from repeng.tuning import tuned_model
from repeng.tuning.run import TuneProgress
from repeng.tuning.scoring import published, score
from repeng.tuning.settings import TuneSettings, preset_settings
from repeng.tuning.trainer import verdict
from repeng.tuning.tuned_model import TunedModel, tune

SHORT: dict[str, Any] = {"steps": 6, "batch_size": 4, "micro_batch_size": 4, "evaluate_every": 2, "checkpoint_every": 2}


class Killed(Exception):
    """Stands for the end of the process."""


def short(method: str, preset: str = "default", **changes: Any) -> TuneSettings:
    return preset_settings(method, preset, **{**SHORT, **changes})


def weights(tuned: TunedModel) -> dict[str, torch.Tensor]:
    return load_file(next(Path(tuned.path).glob("*model.safetensors")))


def equal(one: TunedModel, other: TunedModel) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ["lora", "prompt-tuning", "full"])
def test_the_same_seed_twice_gives_the_same_weights_and_another_seed_others(
    method: str, base: str, tmp_path: Path
) -> None:
    source = polite_split(12)
    runs = [
        tune(base, source, method=method, root=tmp_path / str(n), settings=short(method, steps=3), seed=seed)
        for n, seed in enumerate((5, 5, 6))
    ]
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("method", "killed_at"), [("lora", 1), ("lora", 3), ("lora", 4), ("prompt-tuning", 3), ("full", 5)]
)
def test_a_killed_run_resumes_says_from_where_and_ends_the_same(
    method: str, killed_at: int, base: str, tmp_path: Path
) -> None:
    source, settings = polite_split(12), short(method)
    whole = tune(base, source, method=method, root=tmp_path / "whole", settings=settings)

    def kill(told: TuneProgress) -> None:
        if told.step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        tune(base, source, method=method, root=tmp_path / "cut", settings=settings, progress=kill)
    told: list[TuneProgress] = []
    resumed = tune(base, source, method=method, root=tmp_path / "cut", settings=settings, progress=told.append)
    assert resumed.resumed_from == (killed_at // 2 * 2 or None)
    assert told[0].step == killed_at // 2 * 2 + 1
    assert told[0].resumed_from == resumed.resumed_from
    assert equal(whole, resumed)
    assert whole.record["history"] == resumed.record["history"]


@pytest.mark.parametrize("changes", [{}, {"steps": 60, "learning_rate": 0.05, "evaluate_every": 1, "patience": 2}])
def test_a_run_killed_after_its_last_checkpoint_trains_no_further(
    changes: dict[str, Any], base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, settings = polite_split(20), short("lora", **changes)
    whole = tune(base, source, method="lora", root=tmp_path / "whole", settings=settings)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(tuned_model, "write_atomically", lambda *_: (_ for _ in ()).throw(Killed))
        tune(base, source, method="lora", root=tmp_path / "cut", settings=settings)
    told: list[TuneProgress] = []
    resumed = tune(base, source, method="lora", root=tmp_path / "cut", settings=settings, progress=told.append)
    assert not told
    assert resumed.resumed_from == whole.record["steps_run"]
    assert equal(whole, resumed)
    assert whole.record["history"] == resumed.record["history"]
    assert whole.steps == resumed.steps


def test_tuning_is_silent_and_leaves_the_generators_and_the_working_folder_alone(
    base: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    before = repr(np.random.get_state()), torch.random.get_rng_state().tolist()
    tuned = tune(base, polite_split(12), method="lora", root=root, settings=short("lora"))
    assert (repr(np.random.get_state()), torch.random.get_rng_state().tolist()) == before
    assert capfd.readouterr() == ("", "")
    assert not list(here.iterdir())
    assert {path.name for path in Path(tuned.path).iterdir()} == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "tuned.json"),
    }


def test_a_finished_model_is_not_tuned_again(base: str, root: Path) -> None:
    told: list[TuneProgress] = []
    first = tune(base, polite_split(12), method="lora", root=root, settings=short("lora"))
    again = tune(base, polite_split(12), method="lora", root=root, settings=short("lora"), progress=told.append)
    assert again.reused
    assert not told
    assert (again.path, again.key) == (first.path, first.key)
    assert not (Path(first.path) / "checkpoints").exists()


def test_what_a_run_left_that_was_killed_after_its_last_write_goes(base: str, root: Path) -> None:
    folder = Path(tune(base, polite_split(12), method="lora", root=root, settings=short("lora", steps=1)).path)
    before = {path.name for path in folder.iterdir()}
    (folder / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (folder / ".tuned.json.0.tmp").write_text("{")
    assert tune(base, polite_split(12), method="lora", root=root, settings=short("lora", steps=1)).reused
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"source": polite_split(13)},
        {"seed": 1},
        {"settings": short("lora", rank=2)},
        {"dtype": "bfloat16"},
    ],
)
def test_another_value_of_what_determines_the_weights_is_another_key(
    change: dict[str, Any], base: str, root: Path
) -> None:
    arguments: dict[str, Any] = {"source": polite_split(12), "settings": short("lora"), "method": "lora", "root": root}
    first = tune(base, **{**arguments, "settings": short("lora", steps=1)})
    settings = change.get("settings", short("lora", steps=1))
    other = tune(base, **{**arguments, **change, "settings": settings})
    assert other.key != first.key


def test_how_often_a_run_is_saved_is_no_part_of_the_key(base: str, root: Path) -> None:
    tune(base, polite_split(12), method="lora", root=root, settings=short("lora", steps=2))
    again = tune(base, polite_split(12), method="lora", root=root, settings=short("lora", steps=2, checkpoint_every=1))
    assert again.reused


def test_micro_batches_and_gradient_checkpointing_leave_the_gradient_as_it_is(base: str, tmp_path: Path) -> None:
    runs = [
        tune(
            base,
            polite_split(12),
            method="lora",
            root=tmp_path / str(n),
            settings=short("lora", steps=2, dropout=0.0, **changes),
        )
        for n, changes in enumerate(({}, {"micro_batch_size": 3}, {"gradient_checkpointing": True}))
    ]
    first = weights(runs[0])
    for run in runs[1:]:
        assert all(torch.allclose(first[name], value, atol=2e-5) for name, value in weights(run).items())


@pytest.mark.parametrize("padding", ["<pad>", "</s>", None])
@pytest.mark.parametrize("method", ["lora", "prompt-tuning"])
def test_plain_peft_and_transformers_give_the_same_scores(method: str, padding: str | None, root: Path) -> None:
    pad = {"<pad>": 0, "</s>": 2, None: None}[padding]
    base = str(make_model("llama", root, positions=128, config={"pad_token_id": pad}))
    source = polite_split(12)
    tuned = tune(base, source, method=method, root=root, settings=short(method, learning_rate=1e-2))
    _, scores = score(tuned, [source])["polite"]
    adapter = tuned.path

    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, pad_token_id=None)
    model = PeftModel.from_pretrained(model, adapter).eval()

    def plain(prompt: str, response: str) -> float:
        texts = (prompt, response + tokenizer.eos_token)
        ids = [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits.mean().item()

    expected = [plain(example.prompt, response) for example in source.examples for response in example.responses]
    assert np.abs(scores - np.array(expected)).max() < 1e-5
    assert scores.std() > 1e-3


@pytest.mark.parametrize("method", ["lora", "prompt-tuning", "full"])
def test_each_method_learns_a_source_that_can_be_learned(method: str, base: str, root: Path) -> None:
    rate = {"lora": 1e-2, "prompt-tuning": 5e-2, "full": 3e-3}[method]
    settings = short(method, steps=40, batch_size=8, micro_batch_size=8, learning_rate=rate, evaluate_every=10)
    tuned = tune(base, polite_split(60), method=method, root=root, settings=settings)
    probabilities, _ = score(tuned, [polite_split(30, seed=9, split="test")])["polite"]
    assert tuned.held_out_accuracy is not None
    assert tuned.held_out_accuracy > 0.9
    assert (probabilities > 0.5).mean() > 0.9


def test_bfloat16_on_a_cpu_tunes_and_keeps_what_it_learned_in_float32(base: str, root: Path) -> None:
    settings = short("lora", steps=20, learning_rate=1e-2)
    tuned = tune(base, polite_split(20), method="lora", root=root, settings=settings, dtype="bfloat16")
    assert tuned.dtype == "bfloat16"
    assert all(value.dtype == torch.float32 for value in weights(tuned).values())
    losses = [entry["loss"] for entry in tuned.record["history"]]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_early_stopping_keeps_the_weights_of_the_best_step(base: str, root: Path) -> None:
    settings = short("lora", steps=60, learning_rate=0.05, evaluate_every=1, patience=3, schedule="constant")
    tuned = tune(base, polite_split(20), method="lora", root=root, settings=settings)
    judged = {entry["step"]: (entry["held_out_accuracy"], -entry["held_out_loss"]) for entry in tuned.record["history"]}
    assert tuned.record["steps_run"] < 60
    assert judged[tuned.steps or 0] == max(judged.values())


def test_a_loss_that_creeps_at_equal_accuracy_ends_a_run_and_the_lowest_is_kept() -> None:
    judged = [(0.9, 0.5), (1.0, 0.6), (1.0, 0.58), (1.0, 0.575), (1.0, 0.571), (0.95, 0.1)]
    log: list[dict[str, Any]] = [{"step": 1, "loss": 0.7}]
    verdicts = [verdict(log)]
    for step, (accuracy, loss) in enumerate(judged, 1):
        log.append({"step": step, "held_out_accuracy": accuracy, "held_out_loss": loss})
        verdicts.append(verdict(log))
    assert [best for best, _ in verdicts] == [None, 1, 2, 3, 4, 5, 5]
    assert [stale for _, stale in verdicts] == [0, 0, 0, 0, 1, 2, 3]


def test_the_genies_preset_trains_on_every_pair_and_holds_nothing_out(base: str, root: Path) -> None:
    tuned = tune(base, polite_split(12), method="lora", root=root, settings=short("lora", "genies", steps=2))
    config = json.loads((Path(tuned.path) / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (64, 16, 0.1)
    assert tuned.held_out_accuracy is None
    assert tuned.record["examples"] == 12


def test_a_published_adapter_is_scored_without_training(base: str, root: Path) -> None:
    source = polite_split(12)
    tuned = tune(base, source, method="lora", root=root, settings=short("lora"))
    found = published(tuned.path)
    assert found.model == base
    assert np.array_equal(score(found, [source])["polite"][1], score(tuned, [source])["polite"][1])


def test_an_adapter_saved_in_the_old_form_is_refused_until_it_is_converted(
    base: str, root: Path, tmp_path: Path
) -> None:
    source = polite_split(12)
    tuned = tune(base, source, method="lora", root=root, settings=short("lora"))
    old = tmp_path / "old"
    old.mkdir()
    torch.save(weights(tuned), old / "adapter_model.bin")
    (old / "adapter_config.json").write_text((Path(tuned.path) / "adapter_config.json").read_text())
    with pytest.raises(BadInput, match="reads no pickled weights; docs/tuning.md says how"):
        score(published(old), [source])
    save_file(torch.load(old / "adapter_model.bin", weights_only=True), old / "adapter_model.safetensors")
    assert np.array_equal(score(published(old), [source])["polite"][1], score(tuned, [source])["polite"][1])


def test_an_adapter_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "x"})
    )
    with pytest.raises(BadInput, match="CAUSAL_LM; a reward model's is SEQ_CLS"):
        published(tmp_path)


def test_an_adapter_whose_base_is_not_here_says_so_and_takes_another(base: str, root: Path, tmp_path: Path) -> None:
    source = polite_split(12)
    tuned = tune(base, source, method="lora", root=root, settings=short("lora", steps=1))
    config = Path(tuned.path) / "adapter_config.json"
    moved = json.loads(config.read_text()) | {"base_model_name_or_path": str(tmp_path / "models" / "llama")}
    config.write_text(json.dumps(moved))
    with pytest.raises(BadInput, match="its base model.*say which one it is with model="):
        published(tuned.path)
    assert published(tuned.path, model=base).model == base


def test_a_response_that_is_too_long_has_a_blank_score_and_so_have_its_pairs(base: str, root: Path) -> None:
    from repeng.distributions.schema import Example, Split

    tuned = tune(base, polite_split(12), method="lora", root=root, settings=short("lora", steps=1))
    split = Split("long", "test", (Example("Say yes: ", ("Yes", "No " * 200, "No"), 0),))
    probabilities, scores = score(tuned, [split])["long"]
    assert np.isnan(scores).tolist() == [False, True, False]
    assert np.isnan(probabilities).tolist() == [True, False]


def test_two_splits_of_one_distribution_in_one_call_are_refused(base: str, root: Path) -> None:
    tuned = TunedModel(str(root), "", base, "lora")
    with pytest.raises(BadInput, match="score them apart"):
        score(tuned, [polite_split(3), polite_split(3)])


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(base: str, root: Path) -> None:
    settings = short("full", learning_rate=1e30, checkpoint_every=1)
    with pytest.raises(NonFinite, match="at step [2-6]; use a lower learning rate than 1e"):
        tune(base, polite_split(12), method="full", root=root, settings=settings)
    saved = [load_file(path) for path in root.glob("full-*/checkpoints/*/model.safetensors")]
    assert saved


def test_an_unknown_method_names_those_there_are(base: str, root: Path) -> None:
    with pytest.raises(UnknownName, match="Choose from full, lora, prompt-tuning"):
        tune(base, polite_split(3), method="qlora", root=root)


def test_a_source_that_does_not_fit_is_refused(base: str, root: Path) -> None:
    with pytest.raises(BadInput, match="no example to train on fits 4 tokens"):
        tune(base, polite_split(12), method="lora", root=root, settings=short("lora", max_length=4))


def test_a_checkpoint_that_was_cut_while_being_written_is_passed_over(base: str, root: Path) -> None:
    source, settings = polite_split(12), short("lora")

    def kill(told: TuneProgress) -> None:
        if told.step == 3:
            raise Killed

    with pytest.raises(Killed):
        tune(base, source, method="lora", root=root, settings=settings, progress=kill)
    checkpoints = next(root.glob("lora-*/checkpoints"))
    whole = (checkpoints / "checkpoint-2" / "trainer_state.json").read_text()
    for step, state in ((4, None), (6, whole[: len(whole) // 2])):
        torn = checkpoints / f"checkpoint-{step}"
        torn.mkdir()
        (torn / "model.safetensors").write_bytes(b"torn")
        if state is not None:
            (torn / "trainer_state.json").write_text(state)
    assert tune(base, source, method="lora", root=root, settings=settings).resumed_from == 2


@pytest.mark.slow
def test_a_process_killed_at_a_random_moment_resumes_and_ends_the_same(base: str, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path; from polite import polite_split\n"
        "from repeng.tuning.settings import preset_settings; from repeng.tuning.tuned_model import tune\n"
        "settings = preset_settings('lora', steps=400, batch_size=4, patience=0, checkpoint_every=1)\n"
        "tune(sys.argv[3], polite_split(12), method='lora', root=Path(sys.argv[4]), settings=settings,\n"
        "     progress=lambda told: print(told.step, flush=True))\n"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent), base, str(tmp_path / "cut")]
    enough = random.SystemRandom().randrange(1, 60)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= enough:
                time.sleep(random.SystemRandom().random() * 0.1)
                process.kill()
                break
    settings = preset_settings("lora", steps=400, batch_size=4, patience=0, checkpoint_every=1)
    resumed = tune(base, polite_split(12), method="lora", root=tmp_path / "cut", settings=settings)
    whole = tune(base, polite_split(12), method="lora", root=tmp_path / "whole", settings=settings)
    assert resumed.resumed_from is not None
    assert enough - 1 <= resumed.resumed_from < 400
    assert equal(whole, resumed)


@pytest.mark.slow
def test_two_processes_share_each_batch_and_the_loss_is_that_of_one(base: str, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path; from polite import polite_split\n"
        "from repeng.tuning.settings import preset_settings; from repeng.tuning.tuned_model import tune\n"
        "settings = preset_settings('lora', steps=6, batch_size=8, dropout=0.0, evaluate_every=3, checkpoint_every=2)\n"
        "tune(sys.argv[3], polite_split(60), method='lora', root=Path(sys.argv[4]), settings=settings, device='cpu')\n"
    )
    here, script = Path(__file__).parent, tmp_path / "tune.py"
    script.write_text(code)
    rest = [str(script), str(here), str(here.parent), base]
    subprocess.run([sys.executable, *rest, str(tmp_path / "one")], check=True)
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launched, *rest, str(tmp_path / "two")], check=True)
    one, two = (json.loads(next((tmp_path / name).glob("lora-*/tuned.json")).read_text()) for name in ("one", "two"))
    losses = [[entry["loss"] for entry in record["history"]] for record in (one, two)]
    assert np.allclose(losses[0], losses[1], rtol=1e-3)
    assert one["key"] == two["key"]


@pytest.mark.slow
def test_the_command_line_tunes_one_model_by_two_processes(base: str, tmp_path: Path) -> None:
    rest = ["-m", "repeng", "tune", "-m", base, "--method", "lora", "--limit", "16", "--device", "cpu"]
    launched = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", *rest]

    def said(command: list[str], source: str, out: str) -> subprocess.CompletedProcess[str]:
        whole = [*command, "--source", source, "--out", str(tmp_path / out)]
        return subprocess.run(whole, capture_output=True, text=True, timeout=300)

    alone, together = said([sys.executable, *rest], "facts", "one"), said(launched, "facts", "two")
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    # The first process alone speaks.
    assert together.stdout.replace("/two/", "/one/") == alone.stdout
    one, two = (json.loads(next((tmp_path / name).glob("lora-*/tuned.json")).read_text()) for name in ("one", "two"))
    assert one["key"] == two["key"] and one["settings"] == two["settings"]
    losses = [[entry["loss"] for entry in record["history"][:10]] for record in (one, two)]
    # Each process drops other units.
    assert np.allclose(losses[0], losses[1], rtol=0.02)
    assert "found" in said(launched, "facts", "two").stdout
    refused = said(launched, "nowhere", "two")
    assert refused.returncode != 0 and refused.stderr.count("error: ") == 1
