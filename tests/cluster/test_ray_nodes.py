"""A capture on Ray: the shards of one process, whatever nodes are lost. Three nodes on one machine stand for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_files import store_files

from repeng.activations.dispatch import Dispatch
from repeng.benchmarks.loaded import load_benchmark
from repeng.cluster import ray_pool
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput, RepengError
from repeng.progress import no_bar
from repeng.study.capture_plan import CachePlan, cache_needs, plan_cache
from repeng.study.model_settings import ModelSettings

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
NEEDS = cache_needs([get_stimulus("plain"), get_stimulus("contrast_yes")], ["resid_post"], ["last"], logprob=True)


def plan(store: Path, splits: list[Split], cluster: str | None = None, model: str = "mini") -> CachePlan:
    settings = ModelSettings(model, device="cpu", cluster=cluster)
    return plan_cache(settings, store, dict.fromkeys(splits, NEEDS))


def embedded(limit: int) -> list[Split]:
    world = load_benchmark("mini", None, limit=limit)
    return [split for distribution in world.distributions.values() for split in distribution.splits.values()]


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, str]]:
    """Every piece that was given to a worker, in order."""
    given: list[tuple[object, str]] = []
    give = Dispatch.give

    def noted(self: Dispatch[Any], worker: object) -> object:
        piece = give(self, worker)  # type: ignore[arg-type]
        if piece is not None:
            given.append((worker, str(piece)))
        return piece

    monkeypatch.setattr(Dispatch, "give", noted)
    return given


def test_two_local_workers_make_the_store_of_one_process(
    tmp_path: Path, handed_out: list[tuple[object, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = embedded(4)[:6]
    plan(tmp_path / "alone", splits).carry_out(no_bar)
    # A relative place and a relative name mean the same folder to every worker.
    monkeypatch.chdir(tmp_path)
    summary = plan(Path("ray"), splits, "local:2").carry_out(no_bar)
    assert summary is not None and summary.parts_written == 3 * 6
    assert store_files(tmp_path / "ray") == store_files(tmp_path / "alone")
    assert len(handed_out) == len({piece for _, piece in handed_out}) == 6
    assert plan(Path("ray"), splits, "local:2").missing == ()


def test_what_is_no_address_and_what_nobody_answers_at_is_said(tmp_path: Path) -> None:
    for wrong in ("local", "local:0", "ray:/host", "somewhere"):
        with pytest.raises(BadInput, match="local:4"):
            plan(tmp_path, embedded(2)[:1], wrong)
    with pytest.raises(BadInput, match="--device-map auto"):
        ModelSettings("mini", cluster="local:2", worker_gpus=2)


@pytest.mark.slow
def test_no_cluster_at_an_address_is_an_error_that_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(RepengError, match="ray start --head"):
        plan(tmp_path, embedded(2)[:1], "auto").carry_out(no_bar)


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Three nodes of one CPU each, and a head that computes nothing."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield cluster
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()


def kill_in_the_middle(cluster: Any, held: list[Any], handed_out: list[Any], at: tuple[int, ...]) -> threading.Thread:
    """Kill a node each time that so many pieces are handed out; then have a new one join."""

    def kill() -> None:
        for number in at:
            while len(handed_out) < number:
                time.sleep(0.02)
            cluster.remove_node(held.pop(0), allow_graceful=False)
        held.append(cluster.add_node(num_cpus=1))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("data", ["embedded", "real"])
def test_nodes_that_are_killed_cost_what_they_had_in_hand_and_no_more(
    data: str,
    nodes: Any,
    tmp_path: Path,
    handed_out: list[tuple[object, str]],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if data == "embedded":
        splits = embedded(120)
    else:
        root = request.getfixturevalue("genies_root")
        found = load_distributions(root / "distributions", ("us_history", "alpaca_mmlu", "alpaca_easy"))
        splits = [split.first(400) for distribution in found.values() for split in distribution.splits.values()]
    again: list[int] = []
    lost = Dispatch.lost

    def noted(self: Dispatch[Any], worker: object) -> list[Any]:
        pieces = lost(self, worker)  # type: ignore[arg-type]
        again.append(len(pieces))
        return pieces

    monkeypatch.setattr(Dispatch, "lost", noted)
    held = [nodes.add_node(num_cpus=1) for _ in range(3)]
    n_pieces = len({(split, number) for split in splits for number in range(len(_blocks(split)))})
    killer = kill_in_the_middle(nodes, held, handed_out, (n_pieces // 5, 2 * n_pieces // 5))
    summary = plan(tmp_path / "ray", splits, nodes.address).carry_out(no_bar)
    killer.join()
    assert summary is not None
    assert len(again) == 2 and all(count >= 1 for count in again)
    assert len({piece for _, piece in handed_out}) == n_pieces
    assert len(handed_out) == n_pieces + sum(again)
    plan(tmp_path / "alone", splits).carry_out(no_bar)
    assert store_files(tmp_path / "ray") == store_files(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_command_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from repeng.cli import main; main()", "cache", "--limit", "40"]
    command += ["--cluster", "local:2", "--store", "ray"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("ray/*/*/*/*/index.json"))) < 20:
        time.sleep(0.1)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    n_before = len(list(tmp_path.glob("ray/*/*/*/*/index.json")))
    subprocess.run(command, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*command[:6], "--store", "alone"], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    assert 20 <= n_before < len(list(tmp_path.glob("ray/*/*/*/*/index.json")))
    assert store_files(tmp_path / "ray") == store_files(tmp_path / "alone")


def _blocks(split: Split) -> list[range]:
    from repeng.activations.store.files import SHARD_CHARACTERS, blocks

    return blocks(split, SHARD_CHARACTERS)


@pytest.mark.slow
def test_a_worker_that_sees_no_store_or_another_model_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_of: Callable[[str], Path]
) -> None:
    splits = embedded(2)[:1]
    monkeypatch.setattr(ray_pool, "__version__", "0.0.1")
    with pytest.raises(BadInput, match="install the same"):
        plan(tmp_path, splits, "local:1").carry_out(no_bar)
