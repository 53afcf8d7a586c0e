"""Stores and results at s3://, against moto's server through a proxy that fails as networks and services do."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dying_store import Died, client
from made_up import made_up
from object_store import FAULTS, Proxy, content, environment, s3_server
from small_world import world, write_world

from repeng import lease, places
from repeng.activations.capture import Request, capture
from repeng.activations.store import files as parts
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import RemoteError
from repeng.models.load import LanguageModel
from repeng.places import Place, place

QUICK = ("cut answer", "lost answer")
REQUEST = Request((get_stimulus("plain"),), tokens=("last", "all"))


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    import s3fs

    found = Proxy(server)
    for name, value in environment(found.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(places, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)
    # Each proxy has an address of its own, and s3fs keeps its clients for good.
    s3fs.S3FileSystem.clear_instance_cache()
    yield found
    s3fs.S3FileSystem.clear_instance_cache()
    found.close()


@pytest.fixture
def root(request: pytest.FixtureRequest, proxy: Proxy) -> Any:
    """A place of the test's own."""
    name = request.node.name.replace("[", "-").replace("]", "")
    return place(f"s3://bucket/{name}")


def held(root: Place) -> dict[str, bytes]:
    """Every file but what says when a split was captured."""
    return {name: file for name, file in content(root).items() if not name.endswith(parts.SPLIT)}


@pytest.mark.parametrize(
    "fault", [*QUICK, *(pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS if fault not in QUICK)]
)
def test_a_request_that_fails_once_is_made_again(fault: str, proxy: Proxy, root: Any) -> None:
    root.joinpath("x").write_bytes(b"before")
    failed: set[str] = set()

    def once(_number: int, method: str, path: str) -> str:
        kind = f"{method} {path.partition('?')[0].rpartition('/')[2]}"
        return "" if kind in failed else failed.add(kind) or fault

    proxy.fault = once
    big = bytes(range(256)) * 400
    root.joinpath("x").write_bytes(big)
    assert root.joinpath("x").read_bytes() == big and root.joinpath("x").read_range(100, 5000) == big[100:5000]
    assert root.joinpath("made").create(b"mine") and not root.joinpath("made").create(b"theirs")
    assert sorted(root.children()) == ["made", "x"] and root.joinpath("x").is_file()
    root.joinpath("x").unlink()
    proxy.fault = lambda _number, _method, _path: ""
    assert sorted(root.children()) == ["made"] and proxy.failed >= 3


@pytest.mark.slow
def test_a_service_that_is_down_is_told_by_name(proxy: Proxy, root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TRIES", 1)
    proxy.fault = lambda _number, _method, _path: "503"
    with pytest.raises(RemoteError, match=r"s3://bucket/test_a_service.*/x: could not be read in 1 tries"):
        root.joinpath("x").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_through_failures_a_store_comes_to_the_same_bytes_and_answers(
    seed: int, llama: LanguageModel, proxy: Proxy, root: Any, tmp_path: Path
) -> None:
    """One request in eight fails in some way; one in fifty twice."""
    split, draw = made_up(12), random.Random(seed)
    capture(llama, [split], REQUEST, Store(tmp_path))
    proxy.fault = lambda _number, _method, _path: draw.choice(FAULTS) if draw.random() < 0.125 else ""
    store = Store(str(root))
    done = capture(llama, [split], REQUEST, store)
    one, other = (each.capture(done.capture_id) for each in (store, Store(tmp_path)))
    for layer in range(llama.n_layers):
        assert (one.tokens("made_up", layer=layer)[0] == other.tokens("made_up", layer=layer)[0]).all()
    vectors = [each.open(split, "plain", "resid_post", "last").read() for each in (one, other)]
    assert (vectors[0] == vectors[1]).all() and store.verify() == []
    assert proxy.failed > 20
    proxy.fault = lambda _number, _method, _path: ""
    assert held(root) == held(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_a_capture_killed_at_any_put_goes_on_to_the_same_bytes(
    after: bool, llama: LanguageModel, root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whole seconds, as the service's clock has them.
    monkeypatch.setattr(lease, "TERM", 4.0)
    monkeypatch.setattr(lease, "MARGIN", 0.0)
    monkeypatch.setattr(lease, "LOOK", 0.2)
    split, request = made_up(9), Request((get_stimulus("plain"),))
    capture(llama, [split], request, Store(tmp_path))
    with client() as whole:
        capture(llama, [split], request, Store(str(root / "whole")))
    wanted = held(tmp_path)
    assert held(root / "whole") == wanted
    for at in range(0, len(whole.writes), 5):
        store = Store(str(root / f"{at}"))
        with pytest.raises(Died), client(at, after=after):
            capture(llama, [split], request, store)
        time.sleep(lease.TERM + 1.1)
        capture(llama, [split], request, store)
        assert held(store.root) == wanted, whole.writes[at]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_there_is_what_it_is_on_a_disk(root: Any, tmp_path: Path) -> None:
    import repeng

    folder = write_world(tmp_path / "world", world())
    settings: dict[str, Any] = {
        "data": str(folder / "data"),
        "benchmark": str(folder / "shifts.json"),
        "methods": ("mms", "zero-shot"),
        "progress": False,
        "fits": 2,
        "nulls": 2,
    }
    here = repeng.run(store=str(tmp_path / "store"), out=str(tmp_path / "out"), **settings)
    there = repeng.run(store=str(root / "store"), out=str(root / "out"), **settings)
    assert held(root / "store") == held(tmp_path / "store")
    for name in ("results.csv", "layers.csv"):
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    assert there.predictions.keys() == here.predictions.keys()
    page = there.report()
    assert page.read_text().count("<table") == here.report().read_text().count("<table")
    again = repeng.load(str(root / "out"))
    assert again.frame.equals(there.frame)
