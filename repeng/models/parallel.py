"""One model held by several processes together: transformers' tensor parallelism, under torchrun.

Every process holds a share of the large matrices, so all of them must run every forward pass, and in the same order.
The first one leads: it alone reads data, chooses layouts and writes to the store, and tells the others what it is about
to run. They follow: they wait to be told, run the same, and throw away what comes of it.

Nothing is left to hang: a process that fails where the others do not ends with a message, and what started them ends
the others.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from repeng.errors import BadInput, RepengError, first_line
from repeng.models.launch import LAUNCH, launched, rank
from repeng.models.sites import HookPoint

FOREVER = timedelta(days=365)
"""How long a process waits to be told what to run: the first may be fitting probes meanwhile. That it died is known at
once, since its connections close."""
COLLECTIVE = timedelta(hours=2)
"""How long processes wait for each other within a forward pass, or while they load; transformers waits as long."""
TOGETHER = 20.0
"""Seconds that a process that failed waits to hear that all others failed alike."""
LOOK = 0.2
"""Seconds between two looks meanwhile: Python answers a signal in between."""
GATHERED = {("colwise", "output"), ("rowwise", "input")}
"""Styles of transformers' plans, and sides of a module, at which each process has a run of the features."""
WHOLE = {
    *((style, "output") for style in ("rowwise", "rowwise_rep", "rowwise_split_input", "colwise_rep")),
    *((style, "output") for style in ("colwise_gather_output", "embedding_rowwise", "embedding_colwise")),
    *((style, "input") for style in ("colwise", "colwise_rep", "colwise_gather_output", "rowwise_rep")),
    *((style, "input") for style in ("rowwise_split_input", "packed_colwise", "moe_tp_experts")),
    *((style, "output") for style in ("all_reduce", "moe_tp_experts")),
}
"""Those at which each process has all of them."""
SAME = 1e-2
"""Processes that have one tensor have the same to this share of its largest value; shares of a tensor are not alike."""


class OutOfStep(RepengError):
    """One of the processes that hold a model together did not do what the others did; none can go on."""


@dataclass(frozen=True)
class Load:
    """To be told: load this model. The arguments of `load_model`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class CheckLogits:
    """To be told: check the model's logits."""


class Processes:
    """The processes that hold one model together.

    Args:
        rank: the number of this process; 0 leads.
        world: how many there are.
        control: the group in which the first tells the others what to run; on CPUs, so that no GPU waits in it.
        store: torch's, where each process says that it failed.
    """

    def __init__(self, rank: int, world: int, control: Any, store: Any) -> None:
        self.rank, self.world, self._control, self._store = rank, world, control, store
        self._failures = 0
        self._styles: dict[nn.Module, str] = {}
        self._widths: dict[nn.Module, tuple[int, int]] = {}
        self._seen: set[str] = set()
        self._broken = False

    @property
    def leads(self) -> bool:
        """Whether this is the process that tells the others."""
        return self.rank == 0

    @contextmanager
    def leading(self, order: Any) -> Iterator[None]:
        """While the first process does something, the others do it too. On these, nothing: they were told.

        Args:
            order: what is done; any object that can be pickled.

        Raises:
            OutOfStep: one process failed, and not all of them did.
        """
        if not self.leads:
            yield
            return
        if self._broken:
            raise OutOfStep("the processes that hold the model are no longer in step; start the command again")
        self._tell(order)
        with self.in_step():
            yield

    def hear(self) -> Any:
        """What the first process is about to do; None when it ends.

        Raises:
            OutOfStep: the first process is gone.
        """
        told: list[Any] = [None]
        try:
            dist.broadcast_object_list(told, src=0, group=self._control)
        except RuntimeError as error:
            raise OutOfStep(f"process {self.rank} of {self.world}: the first process ended early") from error
        return told[0]

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """What all processes do, and may fail in: where all fail alike the error is raised, else none can go on.

        Raises:
            OutOfStep: this process failed, and not all others did in the same way; or memory ran out, after which
                nobody knows what the others still wait for.
        """
        try:
            yield
        except OutOfStep:
            self._broken = True
            raise
        except Exception as error:
            self._agree(error)
            raise

    def dismiss(self) -> None:
        """The first process is done: the others end."""
        with suppress(RuntimeError):
            self._tell(None)
        if not self._broken and dist.is_initialized():
            dist.destroy_process_group()

    def own(self, model: Any) -> None:
        """Note which modules of a model hold a share, and of how many features."""
        plan: Mapping[str, str] = model.tp_plan
        for name, module in model.named_modules():
            if style := plan.get(re.sub(r"\.\d+(?=\.|$)", ".*", name)):
                self._styles[module] = style
                # What the layer was made with; its weight shows the share.
                self._widths[module] = (getattr(module, "in_features", 0), getattr(module, "out_features", 0))

    def whole(self, point: HookPoint, values: Float[Tensor, "*batch share"]) -> Float[Tensor, "*batch feature"]:
        """What a hook saw with all features, from what each process saw: all of them call this in the same order.

        Raises:
            BadInput: the processes do not hold the whole of it there, and not each a run of its features.
        """
        style = self._styles.get(point.module, "")
        if (style, point.side) in GATHERED:
            wide = self._widths[point.module][point.side == "output"]
            return gather(values, wide, self.world)
        if (style, point.side) not in WHOLE and point.name not in self._seen and len(values):
            # No plan says what a module between two layers that are shared out sees; they are compared once.
            found = [torch.empty_like(values) for _ in range(self.world)]
            dist.all_gather(found, values.contiguous())
            first = found[0].float()
            if any((other.float() - first).abs().max() > SAME * first.abs().max() for other in found[1:]):
                raise BadInput(
                    f"{point.name} cannot be captured under tensor parallelism: its features are shared out among the "
                    "processes in an order that is not known; leave it out, or take --device-map auto"
                )
            self._seen.add(point.name)
        return values

    def _tell(self, order: Any) -> None:
        dist.broadcast_object_list([order], src=0, group=self._control)

    def _agree(self, error: Exception) -> None:
        """Return where all processes failed in the same way.

        Raises:
            OutOfStep: they did not.
        """
        who = f"process {self.rank} of {self.world}"
        if isinstance(error, torch.OutOfMemoryError):
            self._broken = True
            raise OutOfStep(
                f"{who}: out of memory; take more processes, a smaller dtype, or --device-map auto, which goes on with "
                "smaller batches"
            ) from error
        # Not by a collective: who did not fail is in another, or waits for the next order.
        self._failures += 1
        keys = [f"failure {self._failures} of {number}" for number in range(self.world)]
        kinds: set[str] = set()
        others_failed = False
        with suppress(RuntimeError):
            others_failed = any(self._store.check([key]) for key in keys)
            self._store.set(keys[self.rank], type(error).__name__)
            end = time.monotonic() + TOGETHER
            while not self._store.check(keys) and time.monotonic() < end:
                time.sleep(LOOK)
            kinds = {self._store.get(key).decode() if self._store.check([key]) else "" for key in keys}
        if kinds != {type(error).__name__}:
            self._broken = True
            if others_failed:
                raise OutOfStep(f"{who} ended, since another failed; that one says why") from error
            raise OutOfStep(f"{who} failed alone: {type(error).__name__}: {first_line(error)}") from error


@cache
def processes() -> Processes:
    """The processes that torchrun started, joined into one group; once a process, as torch has one group.

    Raises:
        BadInput: nothing started several processes.
        RepengError: this process has no GPU, where there are some.
    """
    if launched() < 2:
        raise BadInput(f"tensor parallelism needs several processes; start the command by {LAUNCH}")
    accelerator = torch.accelerator.current_accelerator()
    options: dict[str, Any] = {}
    if accelerator is not None and accelerator.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", rank()))
        if local >= torch.cuda.device_count():
            raise RepengError(
                f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}; start as many "
                "processes as there are GPUs"
            )
        torch.cuda.set_device(local)
        options["device_id"] = torch.device("cuda", local)
    store, number, world = next(rendezvous("env://"))
    backend = "nccl" if options else "gloo"
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=number,
        world_size=world,
        timeout=COLLECTIVE,
        **options,
    )
    control = dist.new_group(backend="gloo", timeout=FOREVER)
    return Processes(number, world, control, dist.PrefixStore("failures", store))


def gather(values: Float[Tensor, "*batch share"], width: int, world: int) -> Float[Tensor, "*batch width"]:
    """The runs of features of all processes side by side.

    Where they do not divide evenly each process has the larger share, rounded up, until none are left, as torch cuts.
    """
    share = -(-width // world)
    padded = torch.nn.functional.pad(values, (0, share - values.shape[-1])).contiguous()
    found = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(found, padded)
    return torch.cat(found, dim=-1)[..., :width]


def check_plan(model: Any, world: int) -> None:
    """See that a model's layers can be shared out among some processes.

    Args:
        model: of any transformers class, with or without weights.
        world: how many processes.

    Raises:
        BadInput: it has no plan for its blocks, or its heads cannot be dealt out evenly.
    """
    config = model.config.get_text_config()
    plan: Mapping[str, str] = getattr(model, "tp_plan", None) or {}
    inside = {name: style for name, style in plan.items() if "*" in name}
    if not inside:
        raise BadInput(
            f"transformers has no plan of tensor parallelism for {config.model_type} models; spread it by "
            "--device-map auto, in one process"
        )
    if not any(
        style == "colwise" and re.search(r"\.(q_proj|k_proj|query_key_value)$", n) for n, style in inside.items()
    ):
        return
    heads = int(config.num_attention_heads)
    key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    for count, kind in ((heads, "attention heads"), (key_heads, "key-value heads")):
        if count % world:
            raise BadInput(
                f"{world} processes cannot share {count} {kind} evenly; start as many as divide {count}, or take "
                "--device-map auto in one process"
            )
