"""Reward models on a GGUF file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf_files import make_gguf_folder, write_gguf
from polite import polite_split
from safetensors.torch import load_file

from repeng.errors import BadInput
from repeng.models.load import load_model
from repeng.tuning.scoring import score
from repeng.tuning.settings import TuneSettings, preset_settings
from repeng.tuning.tuned_model import tune


def short(method: str) -> TuneSettings:
    return preset_settings(method, "default", steps=3, batch_size=4, micro_batch_size=4, evaluate_every=2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return write_gguf(make_gguf_folder(tmp_path / "tiny", positions=128), tmp_path / "models" / "q.gguf", kind="Q8_0")


@pytest.mark.parametrize("method", ["lora", "prompt-tuning", "full"])
def test_a_file_is_tuned_as_the_folder_saved_from_it(method: str, file: Path, tmp_path: Path) -> None:
    lm = load_model(str(file), device="cpu", dtype="float32")
    lm.model.save_pretrained(tmp_path / "saved")
    lm.tokenizer.save_pretrained(tmp_path / "saved")
    source, target = polite_split(12), polite_split(6, split="test")
    ours, theirs = (
        tune(str(model), source, method=method, root=tmp_path / "t", settings=short(method), device="cpu")
        for model in (file, tmp_path / "saved")
    )
    assert ours.key != theirs.key
    one, other = (load_file(next(Path(each.path).glob("*model.safetensors"))) for each in (ours, theirs))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    scores = [score(each, [target], device="cpu")[target.distribution] for each in (ours, theirs)]
    for mine, yours in zip(*scores, strict=True):
        assert np.array_equal(mine, yours) and np.isfinite(mine).all()


def test_an_adapter_is_found_again_and_scores_from_another_working_directory(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = polite_split(12), polite_split(6, split="test")
    monkeypatch.chdir(file.parent)
    first = tune("q.gguf", source, method="lora", root=tmp_path / "t", settings=short("lora"), device="cpu")
    assert not first.reused and first.model == str(file)
    _, before = score(first, [target], device="cpu")[target.distribution]
    monkeypatch.chdir("/")
    again = tune(str(file), source, method="lora", root=tmp_path / "t", settings=short("lora"), device="cpu")
    assert again.reused and again.path == first.path
    _, after = score(again, [target], device="cpu")[target.distribution]
    assert np.array_equal(before, after)
    # Another file is another base, under whatever name.
    shutil.copy(write_gguf(tmp_path / "tiny", tmp_path / "other.gguf", kind="Q4_0"), file)
    other = tune(str(file), source, method="lora", root=tmp_path / "t", settings=short("lora"), device="cpu")
    assert not other.reused and other.key != first.key


def test_four_bits_of_a_file_are_refused_before_anything_is_tuned(file: Path, tmp_path: Path) -> None:
    settings = preset_settings("lora", "default", quantization="nf4")
    with pytest.raises(BadInput, match="use quantization 'none'"):
        tune(str(file), polite_split(4), method="lora", root=tmp_path / "t", settings=settings, device="cpu")
