"""Calls that do not depend on one another, each on some machine of a Ray cluster: as Ray tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from repeng.activations.dispatch import MOST_LOSSES
from repeng.cluster.ray_cluster import RayCluster, WorkerNeeds
from repeng.cluster.ray_pool import Lost, result_of
from repeng.errors import RepengError

log = logging.getLogger(__name__)


def call_elsewhere(
    cluster: RayCluster, needs: WorkerNeeds, calls: Sequence[Callable[[], Any]]
) -> Iterator[tuple[int, Any]]:
    """Make calls on the machines of a cluster, each where it finds room, the first ones first.

    Ray makes a call again whose machine is lost.

    Args:
        cluster: that is connected to.
        needs: what each call takes of a machine.
        calls: functions that can be pickled, the longest first.

    Yields:
        The number of a call, and what it gave, or the exception that it raised, as they come.
    """
    if cluster.n_local is not None and not cluster.n_workers(needs):
        raise RepengError(f"{cluster.address}: this machine has no room for a worker, which takes {needs}")
    remote = ray.remote(_call).options(max_retries=MOST_LOSSES, **needs.options)
    waiting = {remote.remote(call, needs.cpus): number for number, call in enumerate(calls)}
    try:
        while waiting:
            (ref,), _ = ray.wait([*waiting])
            number = waiting.pop(ref)
            try:
                yield number, result_of(ref)
            except Lost as error:
                yield number, RepengError(f"{MOST_LOSSES + 1} workers were lost with this in hand: {error}")
    finally:
        for ref in waiting:
            ray.cancel(ref, force=True)


def _call(call: Callable[[], Any], n_threads: int) -> Any:
    import torch

    torch.set_num_threads(n_threads)
    return call()
