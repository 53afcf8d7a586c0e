from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import made_up
from safetensors.torch import load_file, save_file

from repeng.activations.capture import Request, capture
from repeng.activations.layouts.batch import Batches, Run, TextRequest
from repeng.activations.layouts.packed import TREES, as_batch, attending
from repeng.activations.layouts.packing import pack
from repeng.activations.layouts.selfcheck import Check
from repeng.activations.layouts.tree_attention import compact_mask
from repeng.activations.store.files import ActivationKey, MissingActivations, split_key
from repeng.activations.store.request import capture_record
from repeng.activations.store.store import Store
from repeng.cli.show import store_listing
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, UnknownName
from repeng.models import quantised
from repeng.models.fingerprint import identify
from repeng.models.load import LanguageModel, load_model
from repeng.study.capture_plan import cache_needs, plan_cache
from repeng.study.model_settings import ModelSettings

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed; pip install --no-deps bitsandbytes"
)
BLOCK = 16


@pytest.fixture
def folder(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model's folder that may be changed."""
    return Path(shutil.copytree(folder_of("llama"), tmp_path / "model"))


def configure(folder: Path, **settings: Any) -> str:
    """Say in a model's config.json how its weights are quantised."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": settings}))
    return str(folder)


def capture_id(name: str, quantization: str = "auto") -> str:
    return capture_record(identify(name, dtype="float32", quantization=quantization)).id


def fp8_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """Make a checkpoint in FP8 of a model's folder, as DeepSeek writes them; the weights that its numbers stand for."""
    weights, meant = load_file(folder / "model.safetensors"), {}
    for name in [name for name in weights if name.endswith("_proj.weight")]:
        blocks = weights[name].unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK)).transpose(1, 2)
        scale = blocks.abs().amax((2, 3)) / torch.finfo(torch.float8_e4m3fn).max
        small = (blocks / scale[:, :, None, None]).to(torch.float8_e4m3fn)
        meant[name] = (small.float() * scale[:, :, None, None]).transpose(1, 2).flatten(2).flatten(0, 1)
        weights[name] = small.float().transpose(1, 2).flatten(2).flatten(0, 1).to(torch.float8_e4m3fn).contiguous()
        weights[f"{name}_scale_inv"] = scale.contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    configure(folder, quant_method="fp8", weight_block_size=[BLOCK, BLOCK], activation_scheme="dynamic")
    return meant


def test_each_quantisation_of_a_model_is_another_capture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "_installed", lambda _name: True)
    monkeypatch.setattr(quantised, "version", lambda _name: "0.50.2")
    name = str(folder)
    ids = {asked: capture_id(name, asked) for asked in quantised.QUANTIZATIONS}
    assert ids["none"] == ids["auto"] and len(set(ids.values())) == 3
    found = identify(name, quantization="nf4")
    assert (found.quantization, found.quantizer) == ("bitsandbytes nf4", "bitsandbytes 0.50.2")
    # What a library makes of the weights may change with its version.
    monkeypatch.setattr(quantised, "version", lambda _name: "0.51.0")
    assert capture_id(name, "nf4") != ids["nf4"] and capture_id(name) == ids["auto"]


@pytest.mark.parametrize(
    ("settings", "name", "package"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq 4-bit", "pip install optimum gptqmodel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq 4-bit", "pip install gptqmodel"),
        (
            {"quant_method": "compressed-tensors", "format": "float-quantized"},
            "compressed-tensors float-quantized",
            "pip install compressed-tensors",
        ),
        ({"quant_method": "torchao", "quant_type": "int8"}, "torchao", "pip install torchao"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes nf4", "pip install bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes int8", "pip install bitsandbytes"),
    ],
)
def test_a_checkpoint_whose_library_is_missing_is_refused_before_it_is_loaded(
    settings: dict[str, Any], name: str, package: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "_installed", lambda _name: False)
    model = configure(folder, **settings)
    found = identify(model, dtype="float32")
    assert (found.quantization, found.quantizer) == (name, "")
    (folder / "model.safetensors").write_bytes(b"not to be read")
    needs = cache_needs([get_stimulus("plain")], ["resid_post"], ["last"], logprob=False)
    with pytest.raises(BadInput, match=f"is quantised \\({name}\\), and needs .*{package}, or take the model that"):
        plan_cache(ModelSettings(model, device="cpu"), tmp_path / "store", {made_up(2): needs})
    with pytest.raises(BadInput, match=package):
        load_model(model, device="cpu")


def test_what_cannot_be_quantised_or_unpacked_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="unknown quantization 'int4'; did you mean int8"):
        identify(str(folder), quantization="int4")
    monkeypatch.setattr(quantised, "_installed", lambda _name: False)
    with pytest.raises(BadInput, match="quantization 'nf4' needs bitsandbytes; pip install bitsandbytes, or leave it"):
        identify(str(folder), quantization="nf4")
    model = configure(folder, quant_method="gptq", bits=4)
    with pytest.raises(BadInput, match=r"is quantised already \(gptq 4-bit\), whose weights cannot be quantised anew"):
        identify(model, quantization="int8")
    with pytest.raises(BadInput, match="which transformers does not unpack while it loads; leave out"):
        identify(model, quantization="none")
    with pytest.raises(BadInput, match="names no quant_method"):
        identify(configure(folder, bits=4))


def test_fp8_weights_are_unpacked_where_asked_and_else_need_a_gpu(folder: Path, tmp_path: Path) -> None:
    plain = capture_id(str(folder))
    meant = fp8_checkpoint(folder)
    model = str(folder)
    assert len({plain, capture_id(model), capture_id(model, "none")}) == 3
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="compute capability 8.9 or more .*; .* unpack it by quantization 'none'"):
            load_model(model, device="cpu", dtype="float32")
    lm = load_model(model, device="cpu", dtype="float32", quantization="none")
    assert (lm.identity.quantization, lm.identity.quantizer) == ("fp8", "unpacked")
    held = lm.model.state_dict()
    for name, values in meant.items():
        assert torch.allclose(held[name], values, atol=1e-6)


class Unmasked:
    """A packed layout whose texts see those before them."""

    kind = "trees"

    def __call__(self, lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Batches:
        with attending("trees", lm.model):
            for row in pack([text.ids for text in texts], batch_tokens):
                blind = replace(row, ends=np.full_like(row.ends, row.n_tokens))
                yield as_batch(blind, compact_mask(blind))


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_model_is_captured_with_weights_that_are_quantised_while_they_are_loaded(
    quantization: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, request = Store(tmp_path / "store"), Request((get_stimulus("plain"),), sites=("resid_post", "hook_z"))
    settings = ModelSettings(str(folder), device="cpu", dtype="float32", quantization=quantization)
    lm = settings.load()
    kind = type(lm.hook_point("hook_z", 0).module).__name__
    assert kind == {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[quantization]
    split = made_up(8)
    done = capture(lm, [split], request, store, storage_dtype="float32")
    assert done.capture_id != ModelSettings(str(folder), device="cpu", dtype="float32").capture_id
    record = store.capture(done.capture_id).record
    assert record.model.quantization == f"bitsandbytes {quantization}"
    assert record.model.quantizer == f"bitsandbytes {record.versions['bitsandbytes']}"
    plain, _ = store_listing(tmp_path / "store")
    assert {row["quantization"] for row in plain} == {f"bitsandbytes {quantization}"}
    lacking = MissingActivations(split_key(split), ActivationKey("plain", "resid_post", "response_mean"), (0,))
    assert f"--quantization {quantization}" in store.capture(done.capture_id).way_out([lacking])
    # In 8 bits a value depends on what else is in its batch: packed rows are no further off than plain batches.
    assert (done.method, caplog.records) == ("packed", [])
    # A layout that is wrong is found out all the same.
    texts = tuple(TextRequest((1, 30, *range(40 + 9 * number, 46 + 9 * number)), positions=(7,)) for number in range(4))
    check = Check(lm, Run(texts, (("resid_post", 2),), 1000))
    assert check.fault(TREES) == "" != check.fault(Unmasked())


@needs_bitsandbytes
def test_a_checkpoint_that_was_saved_in_four_bits_is_loaded_as_it_is(folder: Path, tmp_path: Path) -> None:
    made = load_model(str(folder), device="cpu", dtype="float32", quantization="nf4")
    made.model.save_pretrained(tmp_path / "small")
    made.tokenizer.save_pretrained(tmp_path / "small")
    lm = load_model(str(tmp_path / "small"), device="cpu", dtype="float32")
    assert (lm.identity.quantization, lm.identity.quantizer) == ("bitsandbytes nf4", "")
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(lm.base(ids)[0], made.base(ids)[0])
    with pytest.raises(BadInput, match=r"is quantised already \(bitsandbytes nf4\)"):
        load_model(str(tmp_path / "small"), device="cpu", quantization="int8")
