"""What a dtype of `auto` means, by processor and by what the weights are stored in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import make_model

from repeng.activations.store.request import capture_record
from repeng.errors import BadInput
from repeng.models import fingerprint
from repeng.models.fingerprint import identify, resolve_dtype
from repeng.models.load import load_model


def test_a_dtype_of_auto_is_the_stored_one_elsewhere_than_on_a_cpu_and_never_float16() -> None:
    assert resolve_dtype("auto", "cuda", "bfloat16") == "bfloat16"
    assert resolve_dtype("auto", "cuda:1", "float16") == "bfloat16"
    assert resolve_dtype("auto", "cuda", "float32") == resolve_dtype("auto", "cuda", None) == "float32"
    assert resolve_dtype("float16", "cpu", "float32") == "float16"
    with pytest.raises(BadInput, match="unknown dtype 'half'; choose from auto, bfloat16, float16"):
        resolve_dtype("half", "cpu", None)


@pytest.mark.parametrize("has", [True, False])
def test_on_a_cpu_bfloat16_weights_are_computed_in_bfloat16_where_it_has_instructions_for_it(
    has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "cpu_has_bfloat16", lambda: has)
    taken = "bfloat16" if has else "float32"
    assert resolve_dtype("auto", "cpu", "bfloat16") == resolve_dtype("auto", "cpu:0", "bfloat16") == taken
    for stored in ("float32", "float16", None):
        assert resolve_dtype("auto", "cpu", stored) == "float32"
    for asked in ("float32", "bfloat16"):
        assert resolve_dtype(asked, "cpu", "bfloat16") == asked
    folder = str(make_model("llama", tmp_path / "narrow", dtype=torch.bfloat16))
    lm = load_model(folder, device="cpu")
    assert lm.identity.dtype == taken and lm.dtype == getattr(torch, taken) == next(lm.model.parameters()).dtype
    assert load_model(folder, device="cpu", dtype="float32").dtype == torch.float32
    # What a store of one processor holds is found on another by naming the dtype.
    assert capture_record(lm.identity).id == capture_record(identify(folder, device="cpu", dtype=taken)).id
    assert identify("mini", device="cpu").dtype == "float32"


@pytest.mark.parametrize(
    ("instructions", "has"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_a_processor_says_whether_it_has_instructions_for_bfloat16(
    instructions: dict[str, bool], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert fingerprint.cpu_has_bfloat16.__wrapped__() is has
