"""Which model a study or a command reads, and how it computes and stores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

from repeng.activations.store.request import capture_record
from repeng.cluster.ray_cluster import RayCluster, WorkerNeeds, check_address, device_of
from repeng.errors import BadInput
from repeng.models.fingerprint import Identity, identify, resolve_device
from repeng.models.quantised import check_quantisation, quantisation_of
from repeng.models.source import EMBEDDED, find_model
from repeng.study.capture_estimate import weight_bytes

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how it computes and stores: everything that a capture's id follows from.

    Attributes:
        device: of a cluster's workers, where there is one.
        device_map: how transformers spreads the weights over devices; in place of `device`.
        quantization: `auto` (as the checkpoint holds the weights), `none`, `int8` or `nf4`; see `load_model`.
        tensor_parallel: whether the processes that torchrun started hold the model together; in place of `device`.
        cluster: address of the Ray cluster whose workers capture; None for this machine.
        worker_gpus: GPUs of one worker of the cluster.

    Raises:
        BadInput: two of device, device map and tensor parallelism; a device map without accelerate, which it needs; a
            wrong address, or without Ray; several GPUs a worker, and no device map to spread the model over them; a
            cluster, and tensor parallelism, which has processes of its own.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    too_long: str = "skip"
    device_map: str | None = None
    quantization: str = "auto"
    tensor_parallel: bool = False
    cluster: str | None = None
    worker_gpus: int = 1

    def __post_init__(self) -> None:
        if self.cluster is not None:
            check_address(self.cluster)
            if self.tensor_parallel:
                raise BadInput(
                    "--cluster and --tensor-parallel both say who computes; on a cluster spread a model over several "
                    "GPUs with --worker-gpus N --device-map auto"
                )
        if self.worker_gpus > 1 and self.device_map is None:
            raise BadInput(
                f"worker_gpus is {self.worker_gpus}, and the model would use one of them; spread it with "
                "--device-map auto"
            )
        if self.tensor_parallel and (self.device_map is not None or self.device != "auto"):
            where = f"device {self.device!r}" if self.device_map is None else f"device_map {self.device_map!r}"
            raise BadInput(
                f"tensor parallelism gives each process a device of its own, and not {where}; give one of them"
            )
        if self.device_map is None:
            return
        if self.device != "auto":
            raise BadInput(f"device is {self.device!r} and device_map is {self.device_map!r}; give one of them")
        if find_spec("accelerate") is None:
            raise BadInput(f"device_map {self.device_map!r} needs accelerate; pip install accelerate, or leave it out")

    @property
    def storage_dtype(self) -> str:
        """What vectors are stored in: bfloat16, unless a dtype was asked for."""
        return "bfloat16" if self.dtype == "auto" else self.dtype

    @cached_property
    def identity(self) -> Identity:
        """The model by its files."""
        return identify(self.model, dtype=self.dtype, device=self.computing_device, quantization=self.quantization)

    @cached_property
    def computing_device(self) -> str:
        """The device; of a cluster's workers where it is left to us: their GPUs, if there are any."""
        if self.cluster is None or self.device != "auto":
            return self.device
        return device_of(self.cluster)

    @cached_property
    def capture_id(self) -> str:
        """Where its activations go in a store."""
        record = capture_record(self.identity, storage_dtype=self.storage_dtype, too_long=self.too_long)
        return record.id

    def load(self) -> LanguageModel:
        """The model, with its weights."""
        from repeng.models.load import load_model

        return load_model(
            self.model,
            device=self.computing_device,
            dtype=self.dtype,
            device_map=self.device_map,
            tensor_parallel=self.tensor_parallel,
            quantization=self.quantization,
        )

    def outline(self) -> LanguageModel:
        """The model without its weights."""
        from repeng.models.outline import load_outline

        return load_outline(self.model, dtype=self.dtype, device=self.computing_device, quantization=self.quantization)

    def elsewhere(self) -> ModelSettings:
        """The same model for a process on another machine, by a name that finds it from any working directory."""
        model = self.model if self.model in EMBEDDED else find_model(self.model).place
        device = self.computing_device if self.device_map is None else "auto"
        return replace(self, model=model, cluster=None, device=device, worker_gpus=1)

    def load_as(self, identity: Identity) -> LanguageModel:
        """The model, with its weights, called as the user called it where `elsewhere` was asked for."""
        from repeng.models.load import LanguageModel

        lm = self.load()
        return LanguageModel(lm.model, lm.tokenizer, replace(lm.identity, model=identity.model, slug=identity.slug))

    def needs(self, cluster: RayCluster, *, copies: int = 1) -> WorkerNeeds:
        """What a worker with the model takes of a machine.

        Args:
            cluster: that is connected to.
            copies: of the weights that are in memory.
        """
        memory = copies * weight_bytes(self.outline())
        return cluster.needs(self.computing_device, gpus=self.worker_gpus, memory=memory)

    def check(self) -> None:
        """See that the model can be computed with here, before any weight is read.

        Raises:
            BadInput: its device is not here, or what its quantised weights need. A cluster's workers see for
                themselves.
        """
        if self.cluster is not None:
            return
        if self.device_map is None:
            resolve_device(self.device)
        source = find_model(self.model)
        if (quantised := quantisation_of(source, self.quantization)) is not None:
            check_quantisation(source, quantised, self.device_map)
