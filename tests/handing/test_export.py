"""Directions written for other tools, read back by those tools' own readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from planted_store import planted, write_store
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

import repeng
from repeng.activations.store.store import Store
from repeng.errors import BadInput, UnknownName
from repeng.handing import control_vector
from repeng.handing.adapter import TRIED, write_adapter
from repeng.handing.control_vector import HINTS, control_tensors, model_hint
from repeng.handing.directions import Directions
from repeng.models.load import LanguageModel
from repeng.models.source import MINI
from repeng.probes import io
from repeng.probes.fitted import FittedProbe
from repeng.steering.vector import SteeringVector

CAPTURE = "toy-000000000000"
IDS = torch.arange(3, 15)[None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = {
        ("near", "train", "plain", "resid_post"): planted({1: (0, 4.0), 2: (1, 4.0)}, seed=0),
        ("near", "train", "plain", "hook_z"): planted({2: (0, 4.0)}, seed=1, heads=3),
    }
    return write_store(tmp_path_factory.mktemp("export") / "store", parts, model="mini")


@pytest.fixture(scope="module")
def fit(store: Path) -> Callable[..., FittedProbe]:
    return lambda probe="mms", **how: repeng.fit(Store(store).capture(CAPTURE), "near", probe, **how)


def directions(d: int, site: str = "resid_post", layers: tuple[int, ...] = (1, 2), model: str = "") -> Directions:
    drawn = torch.randn(len(layers), d, generator=torch.Generator().manual_seed(3))
    vector = SteeringVector(
        site=site,
        units=tuple((layer, -1) for layer in layers),
        directions=drawn / drawn.norm(dim=1, keepdim=True),
        spread=np.linspace(2.0, 3.0, len(layers)),
        centre=np.zeros(len(layers)),
        provenance={"model": model},
    )
    return Directions(vector, 1, "last")


def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, use_cache=False).logits
    return found


def test_a_control_vector_is_read_back_bit_by_bit(fit: Callable[..., FittedProbe], tmp_path: Path) -> None:
    fitted = fit(layers="1-3")
    io.save(fitted, tmp_path / "probe")
    done = repeng.export(tmp_path / "probe", to="gguf", out=tmp_path / "v.gguf")
    reader = GGUFReader(done.path)
    said = {name: reader.fields[name].contents() for name in ("general.architecture", "controlvector.model_hint")}
    assert said == {"general.architecture": "controlvector", "controlvector.model_hint": "llama"}
    assert reader.fields["controlvector.layer_count"].contents() == 3
    vector = SteeringVector.of(fitted)
    assert [tensor.name for tensor in reader.tensors] == [f"direction.{layer}" for layer in vector.layers]
    for tensor, direction, spread in zip(reader.tensors, vector.directions.numpy(), vector.spread, strict=True):
        assert tensor.tensor_type.name == "F32" and tensor.data.shape == direction.shape
        assert tensor.data.tobytes() == (direction * np.float32(spread)).tobytes()


def test_llama_cpp_counts_the_block_after_which_a_vector_is_added() -> None:
    assert list(control_tensors(directions(8, layers=(1, 2)))) == [1, 2]
    before = control_tensors(directions(8, "resid_pre", layers=(2, 5)))
    assert list(before) == [1, 4]
    assert np.array_equal(before[4], directions(8, layers=(2, 5)).by_layer()[5])
    with pytest.raises(BadInput, match="layer 0 of resid_post asks for; leave it out: --layers 1,2"):
        control_tensors(directions(8, layers=(0, 1, 2)))
    with pytest.raises(BadInput, match="layer 1 of resid_pre asks for; choose a later one with --layers"):
        control_tensors(directions(8, "resid_pre", layers=(1,)))
    with pytest.raises(BadInput, match="reads mlp_out.*fit it at resid_post or resid_pre, or take --to safetensors"):
        control_tensors(directions(8, "mlp_out"))


def test_a_model_hint_is_llama_cpps_name_where_the_model_is_known(folder_of: Callable[[str], Path]) -> None:
    from gguf import MODEL_ARCH_NAMES

    assert {*HINTS.values()} <= {*MODEL_ARCH_NAMES.values()}
    assert model_hint(str(folder_of("gpt_neox")), "mini") == "gptneox"
    assert model_hint(None, "mini") == "llama"
    assert model_hint(None, "/nowhere/at/all") == model_hint(None, "org/model") == model_hint(None, "") == "unknown"
    with pytest.raises(BadInput, match="no such folder"):
        model_hint("/nowhere/at/all", "mini")


def test_a_hub_models_hint_is_of_its_cached_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = tmp_path / "models--org--known"
    (held / "snapshots" / "abc").mkdir(parents=True)
    (held / "snapshots" / "abc" / "config.json").write_text('{"model_type": "phi"}')
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert model_hint(None, "org/known") == "phi2"
    assert model_hint(None, "org/unknown") == "unknown"


def test_without_the_package_gguf_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_vector, "find_spec", lambda _name: None)
    with pytest.raises(BadInput, match=r"pip install 'repeng-toolkit\[gguf\]'"):
        control_vector.control_vector_bytes(directions(8))


@pytest.mark.parametrize("to", ["safetensors", "numpy"])
def test_arrays_have_their_hooks_names_and_say_what_they_are(
    to: str, fit: Callable[..., FittedProbe], tmp_path: Path
) -> None:
    fitted = fit(layers="0-1")
    done = repeng.export(fitted, to=to, out=tmp_path / f"v.{'npz' if to == 'numpy' else to}")
    arrays, said = read_arrays(Path(done.path))
    vector = SteeringVector.of(fitted)
    assert list(arrays) == ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    for values, added in zip(arrays.values(), vector.scaled(1.0).numpy(), strict=True):
        assert values.dtype == np.float32 and np.array_equal(values, added)
    assert said["format"] == "repeng-directions-1" and said["repeng_version"] == repeng.__version__
    assert (said["site"], said["token"], said["probe"], said["model"]) == ("resid_post", "last", "mms", "mini")
    assert (said["source"], said["data_hash"], said["capture_id"]) == ("near", "0123456789ab", CAPTURE)
    assert json.loads(said["units"]) == [[0, -1], [1, -1]]
    assert json.loads(said["spread"]) == list(vector.spread) and json.loads(said["centre"]) == list(vector.centre)


@pytest.mark.parametrize("to", ["safetensors", "numpy"])
def test_heads_that_a_probe_does_not_read_are_zeros(to: str, fit: Callable[..., FittedProbe], tmp_path: Path) -> None:
    fitted = fit(site="hook_z", layers="2")
    (unit,) = fitted.units
    done = repeng.export(fitted, to=to, out=tmp_path / f"v.{'npz' if to == 'numpy' else to}")
    arrays, said = read_arrays(Path(done.path))
    values = arrays["blocks.2.attn.hook_z"]
    assert values.shape == (3, 16) and json.loads(said["units"]) == [list(unit)]
    assert np.array_equal(values[unit[1]], SteeringVector.of(fitted).scaled(1.0)[0].numpy())
    assert np.count_nonzero(values.any(axis=1)) == 1


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop("metadata")))
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata()


@pytest.mark.parametrize("architecture", sorted(TRIED))
def test_an_adapter_gives_what_steering_gives(
    architecture: str, model_of: Callable[[str], LanguageModel], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    lm, folder = model_of(architecture), str(folder_of(architecture))
    for site, layers in (("resid_post", (0, 2)), ("mlp_out", (1, 2)), ("resid_pre", (1, 2))):
        along = directions(lm.d_model, site, layers, folder)
        plain = logits(lm.model)
        with repeng.steer(lm, along.vector, alpha=-1.5):
            steered = logits(lm.model)
        write_adapter(along, tmp_path / site, alpha=-1.5)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        adapted = logits(PeftModel.from_pretrained(base, str(tmp_path / site)).eval())
        assert (steered - plain).abs().max() > 1e-2
        assert torch.allclose(adapted, steered, atol=1e-4), (site, (adapted - steered).abs().max())


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text", "gpt_oss", "mamba", "mixtral", "olmo2"])
def test_an_adapter_for_another_architecture_is_refused(
    architecture: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="an adapter was not tried on models of type.*take --to gguf"):
        write_adapter(directions(32, model=str(folder_of(architecture))), tmp_path / "a", alpha=1.0)
    assert not (tmp_path / "a").exists()


def test_an_adapter_of_the_embedded_model_is_steering_it(tmp_path: Path) -> None:
    lm = repeng.load_model("mini", device="cpu")
    along = directions(lm.d_model, layers=(2, 3), model="mini")
    with repeng.steer(lm, along.vector, alpha=2.0):
        steered = logits(lm.model)
    write_adapter(along, tmp_path / "adapter", alpha=2.0)
    base = AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32)
    adapted = logits(PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval())
    assert torch.allclose(adapted, steered, atol=1e-4)


def test_what_an_adapter_cannot_be_is_told(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = str(folder_of("llama"))
    for along, said in (
        (directions(32, "hook_z", model=model), "the probe reads hook_z.*fit it at resid_post, mlp_out, resid_pre"),
        (directions(32, "resid_pre", (0, 1), model), "leave out layer 0"),
        (directions(32, layers=(1, 9), model=model), "has layers 0 to 2, and the probe has a direction at 9"),
        (directions(16, model=model), "the directions have 16 dimensions, and .* has 32"),
        (directions(32), "does not say which model it was fitted on; name it with --model"),
    ):
        with pytest.raises(BadInput, match=said):
            write_adapter(along, tmp_path / "a", alpha=1.0)


def test_what_cannot_be_exported_is_told(fit: Callable[..., FittedProbe], tmp_path: Path) -> None:
    fitted = fit(layers="2")
    with pytest.raises(UnknownName, match="unknown format to export to 'guff'; did you mean gguf?"):
        repeng.export(fitted, to="guff", out=tmp_path / "v")
    with pytest.raises(BadInput, match="end the file's name in .gguf"):
        repeng.export(fitted, to="gguf", out=tmp_path / "v.bin")
    with pytest.raises(BadInput, match="an adapter has a strength in it; give it with --alpha"):
        repeng.export(fitted, to="peft", out=tmp_path / "v")
    with pytest.raises(BadInput, match="numpy holds a strength of 1, to be scaled where it is used"):
        repeng.export(fitted, to="numpy", out=tmp_path / "v.npz", alpha=2.0)
    with pytest.raises(BadInput, match="alpha is nan; it must be a finite number"):
        repeng.export(fitted, to="peft", out=tmp_path / "v", alpha=float("nan"))
    with pytest.raises(BadInput, match="was not fitted at layer 9"):
        repeng.export(fitted, to="numpy", out=tmp_path / "v.npz", layers=[2, 9])
    with pytest.raises(BadInput, match="'mlp' reads along no direction"):
        repeng.export(fit("mlp", layers="2"), to="numpy", out=tmp_path / "v.npz")
    assert not list(tmp_path.iterdir())


def test_layers_are_chosen_of_those_that_were_fitted(fit: Callable[..., FittedProbe], tmp_path: Path) -> None:
    fitted = fit()
    assert fitted.layers != (1, 3)
    done = repeng.export(fitted, to="numpy", out=tmp_path / "v.npz", layers=[3, 1])
    assert done.units == ((1, -1), (3, -1))
    assert list(read_arrays(Path(done.path))[0]) == ["blocks.1.hook_resid_post", "blocks.3.hook_resid_post"]
