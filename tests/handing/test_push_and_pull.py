"""Pushing and pulling: through a hub on loopback, and through a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import TOKEN, Hub, loopback_hub
from planted_store import planted, write_store
from store_files import store_files

import repeng
from repeng.activations.store.files import file_name
from repeng.activations.store.store import Store
from repeng.errors import BadInput, RepengError, StoreError, UnknownName
from repeng.handing.hub import HubName, check_path, is_hub
from repeng.places import place
from repeng.probes import io

CAPTURE = "toy-000000000000"


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


def probe_files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in store_files(folder).items() if name != "README.md"}


def spoiled(name: str) -> Callable[[str, bytes], bytes]:
    """One bit of one file's content is another."""
    return lambda path, content: content[:-1] + bytes([content[-1] ^ 1]) if path.endswith(name) else content


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


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_other_content_of_the_same_name_is_never_written_over(
    direction: str, store: Path, there: str, tmp_path: Path
) -> None:
    other = write_store(tmp_path / "other", {("far", "train", "plain", "resid_post"): planted({}, seed=9, pairs=8)})
    repeng.push(store, there)
    before = store_files(other)
    with pytest.raises(
        BadInput, match="far/train.* has other activations than what was to be put there; nothing was w"
    ):
        _ = repeng.push(other, there) if direction == "push" else repeng.pull(there, other)
    assert store_files(other) == before
    repeng.pull(there, tmp_path / "again")
    assert store_files(tmp_path / "again") == store_files(store)


def test_a_probe_is_replaced_where_that_is_asked_for(store: Path, probe: Path, there: str, tmp_path: Path) -> None:
    repeng.push(probe, there)
    io.save(repeng.fit(Store(store).capture(CAPTURE), "far", "mms"), tmp_path / "other")
    assert len(repeng.push(tmp_path / "other", there, replace=True).new) == 2
    repeng.pull(there, tmp_path / "pulled")
    assert probe_files(tmp_path / "pulled") == probe_files(tmp_path / "other")
    with pytest.raises(BadInput, match="activations are not replaced"):
        repeng.push(store, there, replace=True)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_another_probe_is_never_written_over(
    direction: str, store: Path, probe: Path, there: str, tmp_path: Path
) -> None:
    repeng.push(probe, there)
    io.save(repeng.fit(Store(store).capture(CAPTURE), "far", "mms"), tmp_path / "other")
    before = probe_files(tmp_path / "other")
    with pytest.raises(BadInput, match="another probe is"):
        _ = repeng.push(tmp_path / "other", there) if direction == "push" else repeng.pull(there, tmp_path / "other")
    assert probe_files(tmp_path / "other") == before
    repeng.pull(there, tmp_path / "again")
    assert probe_files(tmp_path / "again") == probe_files(probe)


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


def test_two_repositories_of_one_name_are_asked_about(store: Path, probe: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(probe, "hf://user/both")
    repeng.push(store, "hf://user/both")
    with pytest.raises(BadInput, match="hf://models/user/both or hf://datasets/user/both"):
        repeng.pull("hf://user/both", tmp_path / "out")
    assert repeng.pull("hf://models/user/both", tmp_path / "out").kind == "probe"
    assert repeng.pull("hf://datasets/user/both", tmp_path / "other").kind == "store"


def test_a_damaged_download_is_not_taken_and_comes_anew(store: Path, probe: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(store, "hf://user/a-store")
    repeng.push(probe, "hf://user/a-probe")
    hub.spoil = spoiled("far/train.0123456789ab/plain.resid_post.last/shard-00000.safetensors")
    with pytest.raises(StoreError, match="its content has changed.*nothing of it was taken"):
        repeng.pull("hf://user/a-store", tmp_path / "out")
    assert store_files(tmp_path / "out") == {}
    hub.spoil = spoiled(".safetensors")
    with pytest.raises(BadInput, match="its content is not what probe.json says"):
        repeng.pull("hf://user/a-probe", tmp_path / "p")
    assert not (tmp_path / "p").exists()
    hub.spoil = lambda _path, content: content
    repeng.pull("hf://user/a-store", tmp_path / "out")
    repeng.pull("hf://user/a-probe", tmp_path / "p")
    assert store_files(tmp_path / "out") == store_files(store)
    assert probe_files(tmp_path / "p") == probe_files(probe)


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


def test_a_capture_of_another_model_of_the_same_id_is_refused(store: Path, there: str, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", {("new", "train", "plain", "resid_post"): planted({}, seed=9, pairs=8)})
    record = other / CAPTURE / "capture.json"
    said = json.loads(record.read_text())
    record.write_text(json.dumps(said | {"model": said["model"] | {"weights": "sha256:other"}}))
    repeng.push(store, there)
    with pytest.raises(BadInput, match=f"{CAPTURE} is of another model than what was to be put there"):
        repeng.push(other, there)


def test_a_shard_that_the_hub_has_without_an_index_is_sent_anew(store: Path, hub: Hub, tmp_path: Path) -> None:
    path = f"{CAPTURE}/far/train.0123456789ab/plain.resid_post.last/shard-00000.safetensors"
    hub.add("dataset", "user/a-store", {path: b"half"})
    repeng.push(store, "hf://user/a-store")
    repeng.pull("hf://user/a-store", tmp_path / "out")
    assert store_files(tmp_path / "out") == store_files(store)


def test_a_damaged_store_or_probe_is_not_pushed(store: Path, probe: Path, there: str) -> None:
    shard = next(store.glob("*/far/*/*/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="content has changed"):
        repeng.push(store, there)
    weights = next(probe.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(BadInput, match="its content is not what"):
        repeng.push(probe, there)


def test_only_a_probes_or_a_stores_own_files_are_brought(store: Path, probe: Path, hub: Hub, tmp_path: Path) -> None:
    for folder, name in ((store, "a-store"), (probe, "a-probe")):
        repeng.push(folder, f"hf://user/{name}")
    extra = {"evil.py": b"boom", "weights.pkl": b"boom", f"{CAPTURE}/near/x.bin": b"boom", "a/b/.c/d/index.json": b"{}"}
    hub.add("dataset", "user/a-store", extra)
    hub.add("model", "user/a-probe", extra)
    hub.requests.clear()
    repeng.pull("hf://user/a-store", tmp_path / "s")
    repeng.pull("hf://user/a-probe", tmp_path / "p")
    assert store_files(tmp_path / "s") == store_files(store)
    assert probe_files(tmp_path / "p") == probe_files(probe)
    assert not [path for _, path in hub.requests if "evil" in path or path.endswith((".pkl", ".bin"))]


@pytest.mark.parametrize("path", ["../evil.safetensors", "/etc/evil", "a/../../evil", "C:\\evil", "a\\..\\evil"])
def test_a_repository_whose_files_leave_its_folder_is_refused(path: str, store: Path, hub: Hub, tmp_path: Path) -> None:
    repeng.push(store, "hf://user/a-store")
    hub.add("dataset", "user/a-store", {path: b"boom"})
    with pytest.raises(StoreError, match="which leaves its folder; nothing of it is taken"):
        repeng.pull("hf://user/a-store", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError):
        check_path(path, "x")


@pytest.mark.parametrize("named", ["weights.pkl", "../weights.safetensors", ".weights.safetensors", 3])
def test_a_probe_whose_weights_are_elsewhere_or_a_pickle_is_refused(
    named: Any, probe: Path, hub: Hub, tmp_path: Path
) -> None:
    described = json.loads((probe / "probe.json").read_text()) | {"weights": named}
    hub.add(
        "model",
        "user/a-probe",
        {"probe.json": json.dumps(described).encode(), str(named): b"boom"}
        if named != "../weights.safetensors"
        else {"probe.json": json.dumps(described).encode()},
    )
    with pytest.raises(BadInput, match="as its weights"):
        repeng.pull("hf://user/a-probe", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_probe_of_ones_own_is_handed_on_without_its_code_and_not_run(store: Path, hub: Hub, tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "from pathlib import Path\nfrom repeng.probes.mms import MMS\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n\nclass Mine(MMS):\n    name = 'mine'\n"
    )
    io.save(repeng.fit(Store(store).capture(CAPTURE), "near", f"{code}:Mine"), tmp_path / "probe")
    (tmp_path / "ran").unlink()
    pushed = repeng.push(tmp_path / "probe", "hf://user/a-probe")
    code.unlink()
    pulled = repeng.pull("hf://user/a-probe", tmp_path / "pulled")
    assert pushed.own_code == pulled.own_code and pulled.own_code.endswith("mine.py:Mine")
    assert not (tmp_path / "ran").exists()
    assert (
        "whoever has it gives `--trust-code`" in hub.repositories["model", "user/a-probe"].files["README.md"].decode()
    )


def test_what_is_not_there_is_told_in_a_line(store: Path, probe: Path, hub: Hub, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="hf://.*user/none: no such repository, or none that you may see"):
        repeng.pull("hf://user/none", out)
    repeng.push(probe, "hf://user/a-probe")
    repeng.push(store, "hf://user/a-store")
    with pytest.raises(BadInput, match="has no revision 'gone'"):
        repeng.pull("hf://user/a-probe@gone", out)
    with pytest.raises(UnknownName, match="unknown distribution in hf://user/a-store 'nearr'; did you mean near?"):
        repeng.pull("hf://user/a-store", out, distributions=["nearr"])
    with pytest.raises(UnknownName, match="unknown capture"):
        repeng.push(store, "hf://user/a-store", capture="none")
    with pytest.raises(BadInput, match="a capture and distributions are chosen of a store"):
        repeng.pull("hf://user/a-probe", out, capture="x")
    with pytest.raises(BadInput, match="a probe goes to a model; give hf://user/x"):
        repeng.push(probe, "hf://datasets/user/x")
    hub.add("model", "user/other", {"config.json": b"{}"})
    with pytest.raises(BadInput, match="holds neither a probe nor a store"):
        repeng.pull("hf://user/other", out)
    with pytest.raises(BadInput, match="holds no activations that are whole"):
        repeng.push(tmp_path / "nothing", "hf://user/x")
    with pytest.raises(BadInput, match="no such folder"):
        repeng.pull(tmp_path / "nothing", out)
    hub.fault = lambda method, path: 403 if path.endswith("repos/create") or "/commit/" in path else 0
    with pytest.raises(BadInput, match="refuses; log in by `hf auth login` with a token that may write there"):
        repeng.push(probe, "hf://user/x")
    hub.fault = lambda method, path: 412 if "/commit/" in path else 0
    with pytest.raises(RepengError, match="somebody else changed it meanwhile; run the command again"):
        repeng.push(probe, "hf://user/y")
    hub.fault = lambda _method, _path: 0
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(
        BadInput, match="none that you may see; check the name, and log in by `hf auth login`"
    ) as caught:
        repeng.pull("hf://user/a-probe", out)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RepengError, match="not asked in offline mode; unset HF_HUB_OFFLINE"):
        repeng.pull("hf://user/a-probe", out)
    assert not out.exists()


def test_a_hub_that_is_not_there_is_told_in_a_line(probe: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(RepengError, match=r"hub at http://127.0.0.1:9 cannot be reached \(\w+\); check the network"):
        repeng.pull("hf://user/a-probe", tmp_path / "out")


@pytest.mark.parametrize(
    "text", ["hf://", "hf://user", "hf://a/b/c", "hf://spaces/a/b", "hf://../b", "hf://a/b@", "hf://a/.."]
)
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="names no repository of the hub; give hf://USER/NAME"):
        HubName.parse(text)


def test_a_name_says_repository_revision_and_kind() -> None:
    assert HubName.parse("hf://a/b") == HubName("a/b")
    assert HubName.parse("hf://datasets/a/b@refs/pr/1") == HubName("a/b", "refs/pr/1", "dataset")
    assert str(HubName.parse("hf://models/a/b@v1")) == "hf://models/a/b@v1"


def test_a_run_that_writes_there_is_waited_for_by_nobody(store: Path, tmp_path: Path) -> None:
    from repeng.locks import locked

    with locked(tmp_path / "out" / CAPTURE / "far" / "train.0123456789ab", wait=False) as held:
        assert held
        with pytest.raises(StoreError, match="a run is writing here"):
            repeng.pull(store, tmp_path / "out")
    assert len(repeng.pull(store, tmp_path / "out").new) == 3


def test_what_a_stopped_run_left_is_replaced(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "out")
    folder = next((tmp_path / "out").glob("*/far/*/plain.resid_post.last"))
    (folder / "index.json").unlink()
    (folder / "shard-00000.safetensors").write_bytes(b"half")
    assert [path.split("/")[1] for path in repeng.pull(store, tmp_path / "out").new] == ["far"]
    assert store_files(tmp_path / "out") == store_files(store)
