"""Loading what a reward model is made of, without the noise and the seeding of the libraries that do it."""

from __future__ import annotations

import contextlib
import importlib.util
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from repeng.errors import BadInput, first_line
from repeng.models.fingerprint import resolve_device
from repeng.models.load import LOADING
from repeng.models.pretrained import REFUSALS, quiet_transformers, read_model
from repeng.models.source import find_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_classifier(
    source: str, *, seed: int, device: torch.device, dtype: torch.dtype, quantization: str = "none"
) -> nn.Module:
    """A base model with a head of two logits, randomly initialised from the seed where the weights hold none.

    Args:
        source: as `find_model` takes it.
        seed: of the head.
        device: where to put it.
        dtype: of its weights.
        quantization: `none` or `nf4`.

    Raises:
        BadInput: the model cannot be loaded so, or 4 bits are asked for where they cannot be had.
    """
    from transformers import AutoModelForSequenceClassification

    found = find_model(source)
    # False and not left out: transformers would ask at a terminal.
    options: dict[str, Any] = {"num_labels": 2, "dtype": dtype, "trust_remote_code": False}
    if quantization == "nf4":
        require_bitsandbytes(device)
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options["device_map"] = {"": device}
    with forked_rng(seed), quiet_transformers(), LOADING:
        try:
            model = read_model(AutoModelForSequenceClassification, found, **options)
        except REFUSALS as error:
            raise BadInput(f"{source}: cannot be loaded as a reward model: {first_line(error)}") from error
    if quantization == "nf4":
        from peft import prepare_model_for_kbit_training

        return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return model.to(device)


def torch_device(device: str) -> torch.device:
    """The device of a name; `auto` is the best that is here."""
    return torch.device(resolve_device(device))


def require_bitsandbytes(device: torch.device) -> None:
    """Raise unless 4-bit weights can be had.

    Raises:
        BadInput: bitsandbytes is not installed, or the device is no CUDA GPU.
    """
    if device.type != "cuda":
        raise BadInput(
            f"quantization 'nf4' needs a CUDA GPU and the device is {device.type!r}; use quantization 'none'"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput("quantization 'nf4' needs bitsandbytes; pip install bitsandbytes, or use quantization 'none'")


def compute_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in: `auto` is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        BadInput: neither `auto`, `float32` nor `bfloat16` (float16 overflows on massive activations).
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise BadInput(f"dtype is {dtype!r}; reward models compute in {' or '.join(DTYPES)}")
    return DTYPES[dtype]


@contextlib.contextmanager
def forked_rng(seed: int) -> Iterator[None]:
    """Seed torch for a library that reads its global generator; then put that, Python's and numpy's back."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
