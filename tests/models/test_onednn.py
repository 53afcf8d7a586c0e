from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import make_model
from torch import nn

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Run, TextRequest
from repeng.activations.layouts.padded import padded_batches
from repeng.models import onednn as linear
from repeng.models.load import load_model
from repeng.models.onednn import cpu_vendor, favours_onednn, onednn_linear, using_fast_linear

has_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    favours_onednn.cache_clear()
    yield
    favours_onednn.cache_clear()


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a processor of AMD's."""
    monkeypatch.setattr(linear, "cpu_vendor", lambda: linear.AMD)


def how(module: nn.Module) -> str:
    return "own" if "forward" not in vars(module) else "changed"


@has_onednn
@pytest.mark.parametrize("shape", [(7,), (0, 7), (5, 7), (2, 3, 7), (1, 1, 1, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_onednn_gives_what_the_layer_gives(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer, values = nn.Linear(7, 5, bias=bias), torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(onednn_linear(layer, values), layer(values), rtol=1e-5, atol=1e-6)


@has_onednn
@pytest.mark.usefixtures("amd")
def test_float32_layers_on_the_cpu_are_changed_and_changed_back() -> None:
    wanted, rough, elsewhere, taken = (nn.Linear(4, 4) for _ in range(4))
    rough.to(torch.bfloat16)
    elsewhere.to("meta")
    taken.forward = lambda values: values  # type: ignore[method-assign]
    model = nn.ModuleList([wanted, rough, elsewhere, taken])
    with pytest.raises(ZeroDivisionError), using_fast_linear(model):
        assert [how(module) for module in model] == ["changed", "own", "own", "changed"]
        assert taken(3) == 3
        raise ZeroDivisionError
    assert [how(module) for module in model] == ["own", "own", "own", "changed"]


@pytest.mark.parametrize("vendor", ["GenuineIntel", ""])
def test_no_other_processor_is_bothered(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "cpu_vendor", lambda: vendor)
    layer = nn.Linear(4, 4)
    with using_fast_linear(layer):
        assert how(layer) == "own"


def test_the_vendor_is_read_where_linux_or_windows_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(linear, "CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD")
    assert linear.AMD in cpu_vendor()
    file.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\nprocessor\t: 1\nvendor_id\t: GenuineIntel\n")
    assert cpu_vendor() == "GenuineIntel"
    file.write_text("processor\t: 0\nBogoMIPS\t: 100.00\nCPU implementer\t: 0x41\n")
    assert cpu_vendor() == ""


@has_onednn
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_a_pass_through_onednn_gives_what_a_pass_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load_model(str(make_model(name, tmp_path / name)))
    texts = tuple(TextRequest((1, *range(5, 5 + n)), (n - 1,), logprobs=((1, n),)) for n in (2, 9, 30))
    plan = Run(texts, tuple(("resid_post", layer) for layer in range(lm.n_layers)), 40, torch.float32)
    calls: list[nn.Linear] = []

    def counted(module: nn.Linear, values: torch.Tensor) -> torch.Tensor:
        calls.append(module)
        return onednn_linear(module, values)

    monkeypatch.setattr(linear, "onednn_linear", counted)
    monkeypatch.setattr(linear, "favours_onednn", lambda: True)
    fast = list(run(lm, plan, padded_batches))
    assert lm.unembed in calls
    monkeypatch.setattr(linear, "favours_onednn", lambda: False)
    slow = list(run(lm, plan, padded_batches))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one.vectors, other.vectors, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.logprobs, other.logprobs, rtol=1e-5, atol=1e-5)
