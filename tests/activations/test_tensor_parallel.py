from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from held_together import every_site
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from repeng.errors import BadInput
from repeng.models import parallel
from repeng.models.load import LanguageModel, load_model
from repeng.models.parallel import Processes, check_plan
from repeng.models.pretrained import read_outline
from repeng.models.sites import HookPoint
from repeng.models.source import find_model

HERE = Path(__file__).parent
ALLOWED = 1e-5
"""Sums are taken in another order where rows of a matrix are shared out."""


def start_together(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    paths = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    code = [str(HERE / "held_together.py"), *arguments]
    return subprocess.run(
        [*launcher, *code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**_environment(), "PYTHONPATH": ":".join(paths)},
    )


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}


def furthest(one: Path, two: Path) -> float:
    """How far the tensors of two stores are from each other, as a share of the largest value."""
    files = sorted(file.relative_to(one) for file in one.rglob("*.safetensors"))
    assert files and files == sorted(file.relative_to(two) for file in two.rglob("*.safetensors"))
    found = [0.0]
    for file in files:
        first, second = load_file(one / file), load_file(two / file)
        assert first.keys() == second.keys()
        for name, values in first.items():
            assert values.shape == second[name].shape
            far = (values.double() - second[name].double()).abs().max()
            found.append(float(far / values.double().abs().max().clamp_min(1e-12)))
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["packed", "batched"])
def test_every_site_of_a_model_held_by_two_processes_is_that_of_one(
    method: str, folder_of: Callable[[str], Path], model_of: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    # Qwen2 has biases, Qwen3 norms within heads, Mixtral experts, Phi-3 its projections in one, GPT-NeoX its own names.
    architectures = ("llama", "qwen2", "qwen3", "mixtral", "phi3", "gpt_neox")
    folders = [str(folder_of(name)) for name in architectures]
    done = start_together(method, str(tmp_path / "two"), *folders)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [method] * len(folders)
    for name in architectures:
        assert every_site(model_of(name), str(tmp_path / "one"), method) == method
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )
    assert furthest(tmp_path / "one", tmp_path / "two") < ALLOWED


@pytest.mark.slow
def test_a_layout_that_every_process_refuses_is_left_and_another_taken(
    folder_of: Callable[[str], Path], llama: LanguageModel, tmp_path: Path
) -> None:
    done = start_together("all fail in trees", str(tmp_path / "two"), str(folder_of("llama")))
    assert (done.returncode, done.stdout.split()) == (0, ["packed"]), done.stderr
    every_site(llama, str(tmp_path / "one"))
    assert furthest(tmp_path / "one", tmp_path / "two") < ALLOWED


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_all_of_them(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    done = start_together("one fails", str(tmp_path / "two"), str(folder_of("llama")))
    assert done.returncode != 0
    assert "process 1 of 2 failed alone: ValueError: this GPU is broken" in done.stderr
    assert not list((tmp_path / "two").rglob("index.json"))


@pytest.mark.slow
def test_the_command_line_captures_by_two_processes_what_it_captures_by_one(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    rest = ["-m", "repeng", "cache", "-m", str(folder_of("llama")), "--limit", "2", "--distributions", "facts"]
    rest += ["--dtype", "float32", "--sites", "resid_post,hook_z"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options: Any = {"capture_output": True, "text": True, "timeout": 300, "env": _environment()}
    two = subprocess.run([*launcher, *rest, "--store", str(tmp_path / "two"), "--tensor-parallel"], **options)
    assert two.returncode == 0, two.stderr
    # The first process alone speaks.
    assert two.stdout.count("parts written") == 1
    one = subprocess.run([sys.executable, *rest, "--store", str(tmp_path / "one"), "--device", "cpu"], **options)
    assert one.returncode == 0, one.stderr
    assert furthest(tmp_path / "one", tmp_path / "two") < ALLOWED
    again = subprocess.run([*launcher, *rest, "--store", str(tmp_path / "two")], **options)
    assert "2 processes were started together, which would all do the same; add --tensor-parallel" in again.stderr


@pytest.mark.parametrize(
    ("architecture", "world", "message"),
    [
        ("gpt2", 2, "no plan of tensor parallelism for gpt2 models; spread it by --device-map auto"),
        ("gpt_oss", 2, "no plan of tensor parallelism for gpt_oss models"),
        ("llama", 4, "4 processes cannot share 2 key-value heads evenly; start as many as divide 2"),
        ("llama", 3, "3 processes cannot share 4 attention heads evenly"),
        ("gpt_neox", 3, "3 processes cannot share 4 attention heads evenly"),
    ],
)
def test_a_model_that_cannot_be_shared_out_is_refused_before_it_is_loaded(
    architecture: str, world: int, message: str, folder_of: Callable[[str], Path]
) -> None:
    outline = read_outline(AutoModelForCausalLM, find_model(str(folder_of(architecture))))
    with pytest.raises(BadInput, match=message):
        check_plan(outline, world)
    if architecture == "llama":
        check_plan(outline, 2)


def test_one_process_alone_is_no_tensor_parallelism(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(BadInput, match="needs several processes; start the command by torchrun"):
        load_model(str(folder_of("llama")), tensor_parallel=True)


@pytest.mark.parametrize("width", [1, 5, 6, 8])
def test_runs_of_features_that_do_not_divide_evenly_are_put_together(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, world = torch.randn(3, width), 3
    shares = list(whole.tensor_split([-(-width // world) * number for number in range(1, world)], dim=1))
    padded = [nn.functional.pad(share, (0, -(-width // world) - share.shape[1])) for share in shares]

    def all_gather(found: list[torch.Tensor], own: torch.Tensor) -> None:
        for into, share in zip(found, padded, strict=True):
            into.copy_(share)

    monkeypatch.setattr(parallel.dist, "all_gather", all_gather)
    for share in shares:
        assert torch.equal(parallel.gather(share, width, world), whole)


def test_a_module_of_which_no_plan_speaks_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    others: list[torch.Tensor] = []

    def all_gather(found: list[torch.Tensor], own: torch.Tensor) -> None:
        asked.append(1)
        for into, values in zip(found, [own, *others], strict=True):
            into.copy_(values)

    monkeypatch.setattr(parallel.dist, "all_gather", all_gather)
    held, values = Processes(0, 2, None, None), torch.randn(2, 4)
    others[:] = [values.clone()]
    for _ in range(2):
        assert torch.equal(held.whole(HookPoint(nn.ReLU(), "output", "blocks.0.same"), values), values)
    assert len(asked) == 1
    others[:] = [torch.randn(2, 4)]
    with pytest.raises(BadInput, match=r"blocks.0.mlp.hook_act cannot be captured under tensor parallelism"):
        held.whole(HookPoint(nn.ReLU(), "output", "blocks.0.mlp.hook_act"), values)
