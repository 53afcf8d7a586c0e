"""The workers of a cluster that capture for a study."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from repeng.activations.store.store import Store
from repeng.cluster.ray_cluster import connected
from repeng.cluster.ray_pool import RayPool
from repeng.models.fingerprint import Identity
from repeng.models.load import LanguageModel
from repeng.models.source import EMBEDDED, find_model
from repeng.study.capture_plan import ModelSettings

log = logging.getLogger(__name__)


@contextmanager
def pool_of(address: str, settings: ModelSettings, store: Path) -> Iterator[RayPool]:
    """Workers that hold the model, while the context is open.

    Args:
        address: of the cluster.
        settings: the model.
        store: the folder that they write to.
    """
    with connected(address) as cluster:
        outline = settings.outline()
        weights = sum(parameter.numel() for parameter in outline.model.parameters()) * outline.dtype.itemsize
        needs = cluster.needs(gpus=settings.worker_gpus, memory=weights)
        root = Store(store.expanduser().absolute())
        root.root.mkdir(parents=True, exist_ok=True)
        everywhere = settings.model if settings.model in EMBEDDED else find_model(settings.model).place
        there = replace(settings, model=everywhere, cluster=None, device=settings.computing_device, worker_gpus=1)
        load = partial(_load, there, settings.identity)
        pool = RayPool(cluster, needs, load, settings.identity, root, log.warning)
        with closing(pool):
            yield pool


def _load(settings: ModelSettings, identity: Identity) -> LanguageModel:
    """The model, on a worker: a folder by its whole path, called as the user called it."""
    lm = settings.load()
    return LanguageModel(lm.model, lm.tokenizer, replace(lm.identity, model=identity.model, slug=identity.slug))
