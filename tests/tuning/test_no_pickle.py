"""Pickles and code that come with models, adapters and checkpoints: refused in words, and nothing is run."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from polite import polite_split
from tiny_models import make_model

from repeng.errors import BadInput, RepengError
from repeng.methods import few_shot
from repeng.models.load import load_model
from repeng.models.pretrained import load_tokenizer
from repeng.tuning.loading import load_classifier
from repeng.tuning.run import TuneProgress
from repeng.tuning.scoring import load_tuned, published
from repeng.tuning.settings import preset_settings
from repeng.tuning.tuned_model import tune

SHORT: dict[str, Any] = {"steps": 6, "batch_size": 4, "micro_batch_size": 4, "evaluate_every": 2, "checkpoint_every": 2}


class Planted:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Appears where anything planted has run."""
    return tmp_path / "ran"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("llama", tmp_path_factory.mktemp("tiny"), positions=128)


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def plant(path: Path, mark: Path, *, plain: bool = False) -> None:
    """Write a planted pickle: as torch saves it, or `plain`."""
    path.write_bytes(pickle.dumps(Planted(mark))) if plain else torch.save(Planted(mark), path)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("loading", [load_model, lambda name: load_classifier(name, **CLASSIFIER)])
def test_a_model_of_pickled_weights_is_refused(
    tiny: Path, tmp_path: Path, mark: Path, loading: Callable[[str], Any], plain: bool
) -> None:
    folder = copied(tiny, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin", mark, plain=plain)
    with pytest.raises(BadInput, match="safetensors"):
        loading(str(folder))
    assert not mark.exists()


CLASSIFIER: dict[str, Any] = {"seed": 0, "device": torch.device("cpu"), "dtype": torch.float32}


def test_a_pickle_next_to_safetensors_is_never_read(tiny: Path, tmp_path: Path, mark: Path) -> None:
    folder = copied(tiny, tmp_path / "model")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
        plant(folder / name, mark)
    load_model(str(folder), device="cpu")
    assert not mark.exists()


def test_an_adapter_within_a_models_folder_that_is_pickled_is_refused(tiny: Path, tmp_path: Path, mark: Path) -> None:
    folder = copied(tiny, tmp_path / "model")
    adapter(tiny, folder)
    plant(folder / "adapter_model.bin", mark)
    with pytest.raises(BadInput, match=r"adapter_model.*safetensors"):
        load_model(str(folder), device="cpu")
    assert not mark.exists()


def adapter(base: Path, folder: Path) -> None:
    """The description of a LoRA adapter on a base."""
    from peft import LoraConfig

    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], base_model_name_or_path=str(base))
    config.save_pretrained(str(folder))


@pytest.mark.parametrize("content", ["planted", "harmless"])
def test_a_pickled_adapter_is_refused(tiny: Path, tmp_path: Path, mark: Path, content: str) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    adapter(tiny, folder)
    if content == "planted":
        plant(folder / "adapter_model.bin", mark)
    else:
        torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(BadInput, match="adapter_model.safetensors.*no pickled weights"):
        load_tuned(published(folder), device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt"])
def test_a_planted_checkpoint_is_refused_with_the_way_out(tiny: Path, tmp_path: Path, mark: Path, name: str) -> None:
    checkpoint = stopped(tiny, tmp_path)
    plant(checkpoint / name, mark)
    with pytest.raises(RepengError, match=rf"{re.escape(str(checkpoint))}.*remove this folder, and the run goes on"):
        tuned(tiny, tmp_path)
    assert not mark.exists()


def test_what_else_is_planted_in_a_checkpoint_is_never_read(tiny: Path, tmp_path: Path, mark: Path) -> None:
    checkpoint = stopped(tiny, tmp_path)
    for name in ("rng_state.pth", "rng_state_0.pth", "training_args.bin", "pytorch_model.bin", "scaler.pt"):
        plant(checkpoint / name, mark)
    assert tuned(tiny, tmp_path).resumed_from == 2
    assert not mark.exists()


class Killed(Exception):
    """Stands for the end of the process."""


def stopped(base: Path, place: Path) -> Path:
    """The checkpoint of a run that was killed."""

    def kill(told: TuneProgress) -> None:
        if told.step == 3:
            raise Killed

    with pytest.raises(Killed):
        tuned(base, place, progress=kill)
    return next(place.glob("tuned/lora-*/checkpoints/checkpoint-2"))


def tuned(base: Path, place: Path, **options: Any) -> Any:
    settings = preset_settings("lora", "default", **SHORT)
    return tune(str(base), polite_split(12), method="lora", root=place / "tuned", settings=settings, **options)


@pytest.mark.parametrize("loading", ["load_model", "load_classifier", "load_tokenizer", "few_shot"])
def test_code_that_comes_with_a_model_is_refused(
    tiny: Path, tmp_path: Path, mark: Path, loading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where someone at a terminal would say yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = copied(tiny, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    classes = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    config |= {"model_type": "own", "auto_map": {name: "own.Own" for name in classes}}
    (folder / "config.json").write_text(json.dumps(config))
    settings = folder / "tokenizer_config.json"
    held = json.loads(settings.read_text()) | {
        "tokenizer_class": "Own",
        "auto_map": {"AutoTokenizer": ["own.Own", None]},
    }
    settings.write_text(json.dumps(held))
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    calls = {
        "load_model": lambda: load_model(str(folder), device="cpu"),
        "load_classifier": lambda: load_classifier(str(folder), **CLASSIFIER),
        "load_tokenizer": lambda: load_tokenizer(str(folder)),
        "few_shot": lambda: few_shot._tokens_of(str(folder), 128),
    }
    with pytest.raises(BadInput, match="trust_remote_code|custom code"):
        calls[loading]()
    assert not mark.exists()
