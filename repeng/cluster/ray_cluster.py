"""A Ray cluster by its address: how to reach it, and how many workers fit on its machines."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from repeng.errors import BadInput, RepengError, first_line

log = logging.getLogger(__name__)

LOCAL = re.compile(r"local:([1-9]\d{0,3})")
ELSEWHERE = re.compile(r"(?!local:)(ray://)?[^/\s]+:\d+")
ADDRESSES = "auto (the cluster of this machine), local:4 (four workers on this machine) or ray://HOST:10001"
ASKED_MORE = 8
"""Workers that are asked for where there is no room yet. They wait for machines that join, or that others let go of."""
SECONDS_TO_REACH = 10.0
HOST_BYTES = 2 << 30
"""Of the machine's memory what a worker takes besides a model that computes there: Python, libraries, texts, shards."""


def check_address(address: str) -> None:
    """See that an address is written as it should be, and that Ray is installed.

    Raises:
        BadInput: it is not, or it is not.
    """
    if address != "auto" and not LOCAL.fullmatch(address) and not ELSEWHERE.fullmatch(address):
        raise BadInput(f"cluster is {address!r}; give {ADDRESSES}")
    if find_spec("ray") is None:
        raise BadInput('--cluster needs Ray; pip install "repeng-toolkit[ray]", on every machine of the cluster')


@dataclass(frozen=True)
class WorkerNeeds:
    """What one worker takes of a machine, as it is told to Ray.

    Attributes:
        gpus: GPUs.
        cpus: CPUs.
        memory: bytes of the machine's memory.
    """

    gpus: int
    cpus: int
    memory: int

    def fits(self, resources: dict[str, float]) -> int:
        """How many such workers a machine of some resources holds."""
        shares = [(resources.get("CPU", 0.0), self.cpus), (resources.get("memory", 0.0), float(self.memory))]
        shares.append((resources.get("GPU", 0.0), self.gpus))
        return int(min(have / need for have, need in shares if need))

    @property
    def options(self) -> dict[str, Any]:
        """As Ray takes them."""
        return {"num_gpus": self.gpus, "num_cpus": self.cpus, "memory": self.memory}

    def __str__(self) -> str:
        gpus = f"{self.gpus} GPU{'s' if self.gpus != 1 else ''}, " if self.gpus else ""
        return f"{gpus}{self.cpus} CPU{'s' if self.cpus != 1 else ''} and {self.memory / (1 << 30):.1f} GiB"


class RayCluster:
    """A cluster that is connected to.

    Args:
        address: `auto`, `local:N`, `ray://...`, or HOST:PORT of a cluster that this machine belongs to.

    Attributes:
        address: that.
        n_local: of `local:N` that number; None of others.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        found = LOCAL.fullmatch(address)
        self.n_local = int(found[1]) if found else None

    @property
    def nodes(self) -> list[dict[str, float]]:
        """The resources of each machine that is alive."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    @cached_property
    def has_gpus(self) -> bool:
        """Whether any machine has a GPU."""
        return any(resources.get("GPU") for resources in self.nodes)

    def needs(self, device: str, *, gpus: int, memory: int) -> WorkerNeeds:
        """What a worker takes: so many GPUs, or a CPU.

        Args:
            device: that the model computes on; of `auto` GPUs where the cluster has any.
            gpus: that a worker's model is spread over.
            memory: bytes of the model's weights.
        """
        if device.startswith("cuda") or (device == "auto" and self.has_gpus):
            return WorkerNeeds(gpus, 1, HOST_BYTES)
        # On CPUs two processes of one thread each are faster than one process of two.
        return WorkerNeeds(0, 1, HOST_BYTES + int(1.2 * memory))

    def n_workers(self, needs: WorkerNeeds) -> int:
        """How many workers the machines that are alive hold, other work left out of account."""
        found = sum(needs.fits(resources) for resources in self.nodes)
        return found if self.n_local is None else min(found, self.n_local)

    def n_asked_for(self, needs: WorkerNeeds) -> int:
        """How many workers to ask for: some more than there is room for, so that a cluster that grows does."""
        return self.n_workers(needs) + (ASKED_MORE if self.n_local is None else 0)


@contextmanager
def connected(address: str) -> Iterator[RayCluster]:
    """A cluster that is connected to while the context is open; one of `local:N` is started, and stopped.

    Raises:
        BadInput: the address is wrong, or Ray is not installed.
        RepengError: there is no cluster at the address, or it runs other versions of Python or Ray.
    """
    check_address(address)
    # What it will do one day, and warns of now.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    cluster = RayCluster(address)
    options: dict[str, Any] = {"address": address}
    if cluster.n_local is not None:
        # The machine may have fewer cores than that, or do other work: each worker is a process of one thread.
        options = {"address": "local", "num_cpus": cluster.n_local, "include_dashboard": False}
    mine = not ray.is_initialized()
    if mine:
        _check_reached(address)
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, namespace="repeng")
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            hint = "start one with: ray start --head" if address == "auto" else f"give {ADDRESSES}"
            raise RepengError(f"no Ray cluster can be reached at {address!r}: {first_line(error)}; {hint}") from error
    try:
        yield cluster
    finally:
        if mine:
            ray.shutdown()


def _check_reached(address: str) -> None:
    """See that somebody listens at an address: Ray itself would try for a minute.

    Raises:
        RepengError: nobody does.
    """
    found = ELSEWHERE.fullmatch(address)
    if found is None:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_REACH).close()
    except (OSError, OverflowError) as error:
        raise RepengError(
            f"nothing answers at {address}: {error}; a cluster's clients are taken at port 10001 of its head "
            "(ray://HOST:10001), and its own machines at 6379 (HOST:6379)"
        ) from error


def device_of(address: str) -> str:
    """The device of a cluster's workers: `cuda` where any machine has a GPU, else `cpu`; on this machine `auto`."""
    if LOCAL.fullmatch(address):
        return "auto"
    with connected(address) as cluster:
        return "cuda" if cluster.has_gpus else "cpu"
