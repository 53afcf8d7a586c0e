"""Linear layers of a float32 model through oneDNN, on the CPUs where PyTorch's own choice, MKL, is the slower one.

MKL was written for Intel's processors. On AMD's, oneDNN, which PyTorch carries for bfloat16, takes less time for the
float32 products that a capture is made of (`perf/linear.py` measures it). The values are the same to rounding.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

AMD = "AuthenticAMD"
CPUINFO = Path("/proc/cpuinfo")


@contextmanager
def using_fast_linear(model: nn.Module) -> Iterator[None]:
    """Let oneDNN compute the float32 linear layers that a model has on the CPU, where `favours_onednn` says so.

    For inference alone: no gradient goes through. Layers whose forward is somebody else's already are left alone.
    """
    changed: list[nn.Linear] = []
    try:
        if favours_onednn():
            for module in model.modules():
                if type(module) is nn.Linear and "forward" not in vars(module) and _is_float32_on_cpu(module.weight):
                    module.forward = partial(onednn_linear, module)  # type: ignore[method-assign]
                    changed.append(module)
        yield
    finally:
        for module in changed:
            vars(module).pop("forward", None)


def onednn_linear(module: nn.Linear, values: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
    """What the layer gives, computed by oneDNN."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(values, module.weight, module.bias, "none", [], "")
    return result


@cache
def favours_onednn() -> bool:
    """Whether this machine's CPU is AMD's and this PyTorch has oneDNN's linear layer."""
    has_it = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_it and bool(torch.backends.mkldnn.enabled) and AMD in cpu_vendor()


def cpu_vendor() -> str:
    """The CPU's maker as Linux or Windows names it; empty where neither does."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def _is_float32_on_cpu(weight: Tensor) -> bool:
    # A subclass of a parameter may be quantized, or spread over machines, and call itself float32 all the same.
    return type(weight) is nn.Parameter and weight.dtype == torch.float32 and weight.device.type == "cpu"
