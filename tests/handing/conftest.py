"""A hub on loopback, and what is handed on: a store and a probe that was fitted on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from handed import CAPTURE
from loopback_hub import TOKEN, Hub, loopback_hub
from planted_store import planted, write_store

import repeng
from repeng.activations.store.store import Store
from repeng.probes import io


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that huggingface_hub takes for its own, and is logged in at."""
    with loopback_hub() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two distributions."""
    parts = {
        (name, split, "plain", "resid_post"): planted({2: (seed, 4.0)}, seed=seed, pairs=8)
        for seed, (name, split) in enumerate([("near", "train"), ("near", "test"), ("far", "train")])
    }
    return write_store(tmp_path / "store", parts)


@pytest.fixture
def probe(store: Path, tmp_path: Path) -> Path:
    """A probe that was fitted on it."""
    fitted = repeng.fit(Store(store).capture(CAPTURE), "near", "mms")
    io.save(fitted, tmp_path / "probe")
    return tmp_path / "probe"


@pytest.fixture(params=["hub", "folder", "object store"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where something is pushed to."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    if request.param == "object store":
        return f"memory://{tmp_path.name}/shared"
    request.getfixturevalue("hub")
    return "hf://user/things"
