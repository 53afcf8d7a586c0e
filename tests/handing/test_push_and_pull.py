"""Pushing and pulling: through a hub on loopback, through a folder and an object store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from handed import CAPTURE, probe_files
from loopback_hub import Hub
from planted_store import planted, write_store
from store_files import store_files

import repeng
from repeng.activations.store.files import file_name
from repeng.activations.store.store import Store
from repeng.errors import BadInput, RepengError
from repeng.handing.hub import HubName, is_hub
from repeng.places import place
from repeng.probes import io


def test_a_pushed_probe_is_pulled_as_it_was(probe: Path, there: str, tmp_path: Path) -> None:
    pushed = repeng.push(probe, there)
    pulled = repeng.pull(there, tmp_path / "pulled")
    assert (pushed.kind, pulled.kind) == ("probe", "probe")
    assert sorted(pulled.new) == sorted(probe_files(probe))
    assert probe_files(tmp_path / "pulled") == probe_files(probe)
    assert io.load(tmp_path / "pulled").provenance == io.load(probe).provenance
    assert repeng.push(probe, there).new == repeng.pull(there, tmp_path / "pulled").new == ()


def test_a_pushed_store_is_pulled_as_it_was(store: Path, there: str, tmp_path: Path) -> None:
    pushed = repeng.push(store, there)
    pulled = repeng.pull(there, tmp_path / "pulled")
    assert pushed.kind == pulled.kind == "store" and len(pulled.new) == len(pushed.new) == 3
    assert store_files(tmp_path / "pulled") == store_files(store)
    assert Store(tmp_path / "pulled").verify() == []
    assert repeng.push(store, there).new == repeng.pull(there, tmp_path / "pulled").new == ()
    assert not [entry for entry in tmp_path.iterdir() if ".pull-" in entry.name]


def test_chosen_distributions_are_handed_on_and_merged(store: Path, there: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert repeng.push(store, there, distributions=["near"]).new == tuple(
        f"{CAPTURE}/near/{split}.0123456789ab/plain.resid_post.last" for split in ("test", "train")
    )
    assert len(repeng.pull(there, out, capture=CAPTURE).new) == 2
    again = repeng.push(store, there)
    assert [path.split("/")[1] for path in again.new] == ["far"] and len(again.there) == 2
    assert [path.split("/")[1] for path in repeng.pull(there, out, distributions=["far"]).new] == ["far"]
    assert store_files(out) == store_files(store)


def test_an_object_store_takes_what_the_hub_has(store: Path, probe: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(store, "hf://user/a-store")
    repeng.push(probe, "hf://user/a-probe")
    out = f"memory://{tmp_path.name}"
    repeng.pull("hf://user/a-store", f"{out}/s")
    repeng.pull("hf://user/a-probe", f"{out}/p")
    assert len(Store(f"{out}/s").capture(CAPTURE).splits()) == 3 and Store(f"{out}/s").verify() == []
    assert io.load(f"{out}/p").units == io.load(probe).units
    with pytest.raises(BadInput, match="the hub is given files of a disk"):
        repeng.push(f"{out}/s", "hf://user/again")


def test_what_is_there_is_not_brought_again(store: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(store, "hf://user/things")
    out = tmp_path / "out"
    repeng.pull("hf://user/things", out, distributions=["near"])
    hub.requests.clear()
    repeng.pull("hf://user/things", out)
    brought = {path.split("/resolve/")[1].split("/")[2] for _, path in hub.requests if path.endswith(".safetensors")}
    assert brought == {"far"}


def test_a_probe_is_replaced_where_that_is_asked_for(store: Path, probe: Path, there: str, tmp_path: Path) -> None:
    repeng.push(probe, there)
    io.save(repeng.fit(Store(store).capture(CAPTURE), "far", "mms"), tmp_path / "other")
    assert len(repeng.push(tmp_path / "other", there, replace=True).new) == 2
    repeng.pull(there, tmp_path / "pulled")
    assert probe_files(tmp_path / "pulled") == probe_files(tmp_path / "other")
    with pytest.raises(BadInput, match="activations are not replaced"):
        repeng.push(store, there, replace=True)


def test_the_hub_gets_it_in_one_commit_with_a_card(store: Path, probe: Path, hub: Hub) -> None:
    repeng.push(probe, "hf://user/a-probe")
    repeng.push(store, "hf://user/a-store", capture=CAPTURE)
    model, dataset = hub.repositories["model", "user/a-probe"], hub.repositories["dataset", "user/a-store"]
    assert model.private and dataset.private
    assert len(model.commits) == len(dataset.commits) == 2
    card = model.files["README.md"].decode()
    assert (
        "| model | toy |" in card
        and "near (data 0123456789ab)" in card
        and "repeng pull hf://models/user/a-probe" in card
    )
    fitted = io.load(probe)
    assert all(f"{fitted.held_out_accuracy[layer]:.3f} (layer {layer})" in card for layer in fitted.layers)
    assert "| near | train | 0123456789ab | plain.resid\\_post.last |" in dataset.files["README.md"].decode()


def test_a_card_that_is_there_stays(probe: Path, hub: Hub, tmp_path: Path) -> None:
    hub.add("model", "user/a-probe", {"README.md": b"mine"})
    repeng.push(probe, "hf://user/a-probe")
    assert hub.repositories["model", "user/a-probe"].files["README.md"] == b"mine"
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "README.md").write_text("mine")
    repeng.push(probe, tmp_path / "shared")
    assert (tmp_path / "shared" / "README.md").read_text() == "mine"


def test_a_card_of_ours_says_what_is_there_now(store: Path, probe: Path, there: str, tmp_path: Path, hub: Hub) -> None:
    def card() -> str:
        if not is_hub(there):
            return (place(there) / "README.md").read_text()
        return hub.repositories["dataset", "user/things"].files["README.md"].decode()

    repeng.push(store, there, distributions=["far"])
    assert "| far | train |" in card() and "| near |" not in card()
    repeng.push(store, there, distributions=["near"])
    assert "| far | train |" in card() and "| near | test |" in card()


def test_a_public_repository_is_one_that_was_asked_for(probe: Path, hub: Hub) -> None:
    repeng.push(probe, "hf://user/open", public=True)
    assert not hub.repositories["model", "user/open"].private


def test_a_branch_is_made_and_read(store: Path, probe: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(probe, "hf://user/a-probe")
    io.save(repeng.fit(Store(store).capture(CAPTURE), "far", "mms"), tmp_path / "other")
    repeng.push(tmp_path / "other", "hf://user/a-probe@better", replace=True)
    repeng.push(store, "hf://user/a-store@new")
    assert hub.repositories["dataset", "user/a-store"].files == {}
    repeng.pull("hf://user/a-probe@better", tmp_path / "one")
    repeng.pull("hf://datasets/user/a-store@new", tmp_path / "two")
    assert probe_files(tmp_path / "one") == probe_files(tmp_path / "other")
    assert store_files(tmp_path / "two") == store_files(store)


def test_a_download_that_stopped_goes_on(store: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(store, "hf://user/a-store")
    hub.fault = lambda method, path: 404 if method == "GET" and "near/train" in path and "shard" in path else 0
    with pytest.raises(RepengError):
        repeng.pull("hf://user/a-store", tmp_path / "out")
    assert store_files(tmp_path / "out") == {}
    hub.fault = lambda _method, _path: 0
    hub.requests.clear()
    repeng.pull("hf://user/a-store", tmp_path / "out")
    assert store_files(tmp_path / "out") == store_files(store)
    assert not [path for method, path in hub.requests if method == "GET" and path.endswith("capture.json")]


def test_what_an_unfinished_download_of_an_earlier_commit_left_is_removed(
    store: Path, probe: Path, hub: Hub, tmp_path: Path
) -> None:
    repeng.push(store, "hf://user/a-store")
    hub.fault = lambda method, path: 404 if method == "GET" and "shard" in path else 0
    with pytest.raises(RepengError):
        repeng.pull("hf://user/a-store", tmp_path / "out")
    assert list(tmp_path.glob(".out.pull-*"))
    hub.fault = lambda _method, _path: 0
    hub.add("dataset", "user/a-store", {"NOTES.md": b"more"})
    repeng.pull("hf://user/a-store", tmp_path / "out")
    assert not list(tmp_path.glob(".out.pull-*"))


def test_names_that_no_file_may_have_come_through(there: str, tmp_path: Path) -> None:
    parts = {("x", "train", "plain", "resid_post"): planted({}, seed=1, pairs=4)}
    made = write_store(tmp_path / "odd", parts)
    name = "a/b: c%3A [d]"
    (made / CAPTURE / "x").rename(made / CAPTURE / file_name(name))
    index = next(made.glob("*/*/*/*/index.json"))
    index.write_text(json.dumps(json.loads(index.read_text()) | {"distribution": name}))
    repeng.push(made, there)
    assert len(repeng.pull(there, tmp_path / "back", distributions=[name]).new) == 1
    assert store_files(tmp_path / "back") == store_files(made)
    assert Store(tmp_path / "back").capture(CAPTURE).splits()[0].distribution == name


def test_a_shard_that_the_hub_has_without_an_index_is_sent_anew(store: Path, hub: Hub, tmp_path: Path) -> None:
    path = f"{CAPTURE}/far/train.0123456789ab/plain.resid_post.last/shard-00000.safetensors"
    hub.add("dataset", "user/a-store", {path: b"half"})
    repeng.push(store, "hf://user/a-store")
    repeng.pull("hf://user/a-store", tmp_path / "out")
    assert store_files(tmp_path / "out") == store_files(store)


def test_a_name_says_repository_revision_and_kind() -> None:
    assert HubName.parse("hf://a/b") == HubName("a/b")
    assert HubName.parse("hf://datasets/a/b@refs/pr/1") == HubName("a/b", "refs/pr/1", "dataset")
    assert str(HubName.parse("hf://models/a/b@v1")) == "hf://models/a/b@v1"


def test_what_a_stopped_run_left_is_replaced(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "out")
    folder = next((tmp_path / "out").glob("*/far/*/plain.resid_post.last"))
    (folder / "index.json").unlink()
    (folder / "shard-00000.safetensors").write_bytes(b"half")
    assert [path.split("/")[1] for path in repeng.pull(store, tmp_path / "out").new] == ["far"]
    assert store_files(tmp_path / "out") == store_files(store)
