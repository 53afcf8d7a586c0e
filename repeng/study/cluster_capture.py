"""The workers of a cluster that capture for a study."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from repeng.activations.store.store import Store
from repeng.cluster.ray_cluster import RayCluster, WorkerNeeds, connected
from repeng.models.fingerprint import Identity
from repeng.models.source import EMBEDDED, find_model
from repeng.study.capture_plan import ModelSettings

if TYPE_CHECKING:
    from repeng.cluster.ray_pool import RayPool
    from repeng.models.load import LanguageModel

log = logging.getLogger(__name__)


@contextmanager
def pool_of(address: str, settings: ModelSettings, store: Path) -> Iterator[RayPool]:
    """Workers that hold the model, while the context is open.

    Args:
        address: of the cluster.
        settings: the model.
        store: the folder that they write to.
    """
    from repeng.cluster.ray_pool import RayPool

    with connected(address) as cluster:
        needs = needs_of(cluster, settings)
        root = Store(store.expanduser().absolute())
        root.root.mkdir(parents=True, exist_ok=True)
        load = partial(_load, everywhere(settings), settings.identity)
        pool = RayPool(cluster, needs, load, settings.identity, root, log.warning)
        with closing(pool):
            yield pool


def everywhere(settings: ModelSettings) -> ModelSettings:
    """The same model for a process elsewhere, by a name that finds it from any working directory."""
    model = settings.model if settings.model in EMBEDDED else find_model(settings.model).place
    return replace(settings, model=model, cluster=None, device=settings.computing_device, worker_gpus=1)


def needs_of(cluster: RayCluster, settings: ModelSettings, *, copies: int = 1) -> WorkerNeeds:
    """What a worker with the model takes of a machine.

    Args:
        cluster: that is connected to.
        settings: the model.
        copies: of its weights that are in memory.
    """
    outline = settings.outline()
    weights = sum(parameter.numel() for parameter in outline.model.parameters()) * outline.dtype.itemsize
    return cluster.needs(gpus=settings.worker_gpus, memory=copies * weights)


def _load(settings: ModelSettings, identity: Identity) -> LanguageModel:
    """The model, on a worker: a folder by its whole path, called as the user called it."""
    from repeng.models.load import LanguageModel

    lm = settings.load()
    return LanguageModel(lm.model, lm.tokenizer, replace(lm.identity, model=identity.model, slug=identity.slug))
