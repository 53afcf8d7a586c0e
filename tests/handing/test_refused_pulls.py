"""What is not pushed and not taken in: what is damaged, of somebody else, or leads elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from handed import CAPTURE, probe_files, spoiled
from loopback_hub import Hub
from planted_store import planted, write_store
from store_files import store_files

import repeng
from repeng.activations.store.store import Store
from repeng.errors import BadInput, RepengError, StoreError, UnknownName
from repeng.handing.hub import HubName, check_path
from repeng.probes import io


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


def test_a_capture_of_another_model_of_the_same_id_is_refused(store: Path, there: str, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", {("new", "train", "plain", "resid_post"): planted({}, seed=9, pairs=8)})
    record = other / CAPTURE / "capture.json"
    said = json.loads(record.read_text())
    record.write_text(json.dumps(said | {"model": said["model"] | {"weights": "sha256:other"}}))
    repeng.push(store, there)
    with pytest.raises(BadInput, match=f"{CAPTURE} is of another model than what was to be put there"):
        repeng.push(other, there)


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


def test_a_run_that_writes_there_is_waited_for_by_nobody(store: Path, tmp_path: Path) -> None:
    from repeng.locks import locked

    with locked(tmp_path / "out" / CAPTURE / "far" / "train.0123456789ab", wait=False) as held:
        assert held
        with pytest.raises(StoreError, match="a run is writing here"):
            repeng.pull(store, tmp_path / "out")
    assert len(repeng.pull(store, tmp_path / "out").new) == 3
