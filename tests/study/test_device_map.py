from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repeng.errors import BadInput
from repeng.models import load as models
from repeng.study import model_settings
from repeng.study.model_settings import ModelSettings
from repeng.study.settings import Study


def test_a_device_map_goes_where_the_weights_are_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(models, "load_model", lambda _name, **options: asked.append(options))
    ModelSettings(str(tiny_model), device_map="auto").load()
    ModelSettings(str(tiny_model), tensor_parallel=True, quantization="none").load()
    plain = {"device": "auto", "dtype": "auto", "device_map": None, "tensor_parallel": False, "quantization": "auto"}
    assert asked == [{**plain, "device_map": "auto"}, {**plain, "tensor_parallel": True, "quantization": "none"}]


def test_a_model_spread_over_devices_is_the_same_capture(tiny_model: Path) -> None:
    spread = ModelSettings(str(tiny_model), dtype="float32", device_map="cpu")
    assert spread.capture_id == ModelSettings(str(tiny_model), dtype="float32").capture_id
    assert spread.load().device.type == "cpu"


def test_a_device_map_beside_a_device_or_without_accelerate_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="device is 'cpu' and device_map is 'auto'; give one of them"):
        ModelSettings(str(tiny_model), device="cpu", device_map="auto")
    with pytest.raises(BadInput, match="gives each process a device of its own, and not device 'cpu'"):
        ModelSettings(str(tiny_model), device="cpu", tensor_parallel=True)
    with pytest.raises(BadInput, match="and not device_map 'auto'; give one of them"):
        ModelSettings(str(tiny_model), device_map="auto", tensor_parallel=True)
    monkeypatch.setattr(model_settings, "find_spec", lambda _name: None)
    with pytest.raises(BadInput, match="device_map 'auto' needs accelerate; pip install accelerate, or leave it out"):
        ModelSettings(str(tiny_model), device_map="auto")


def test_a_study_file_holds_its_device_map(tmp_path: Path) -> None:
    study = Study(device_map="balanced")
    (tmp_path / "study.toml").write_text(study.to_toml())
    assert Study.read(tmp_path / "study.toml", {}) == study
