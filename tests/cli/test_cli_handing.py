"""Exporting, pushing and pulling from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_samples import Repeng
from gguf import GGUFReader
from loopback_hub import TOKEN, loopback_hub
from store_files import store_files

from repeng.probes import io
from repeng.steering.vector import SteeringVector


@pytest.fixture
def probe(repeng: Repeng, place: Path, tmp_path: Path) -> Path:
    flags = ("--store", place / "planted", "--source", "near", "--probe", "mms", "--layers", "1-2")
    assert repeng("fit", *flags, "--out", tmp_path / "probe").code == 0
    return tmp_path / "probe"


def test_a_probe_is_exported_for_llama_cpp(repeng: Repeng, probe: Path, tmp_path: Path) -> None:
    said = repeng("export", "--probe", probe, "--to", "gguf", "--out", tmp_path / "v.gguf", "--json")
    vector = SteeringVector.of(io.load(probe))
    assert said.json == {
        "to": "gguf",
        "out": str(tmp_path / "v.gguf"),
        "site": "resid_post",
        "units": [[1, -1], [2, -1]],
        "spread": list(vector.spread),
        "alpha": None,
    }
    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(tmp_path / "v.gguf").tensors}
    assert np.array_equal(tensors["direction.2"], vector.scaled(1.0)[1].numpy())
    shown = repeng("export", "--probe", probe, "--to", "numpy", "--out", tmp_path / "v.npz", "--layers", "2")
    assert shown.out.splitlines() == [
        f"length of what is added by layer of resid_post  2: {vector.spread[1]:.3g}",
        f"wrote {tmp_path / 'v.npz'}",
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--to", "gguff"), "unknown format to export to 'gguff'; did you mean gguf?"),
        (("--to", "peft"), "give it with --alpha"),
        (("--to", "numpy", "--layers", "auto"), "--layers is 'auto'; what a probe chose is the default"),
        (("--to", "numpy", "--layers", "7"), "was not fitted at layer 7; it was at 1, 2"),
    ],
)
def test_what_cannot_be_exported_is_told(
    repeng: Repeng, probe: Path, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    found = repeng("export", "--probe", probe, *flags, "--out", tmp_path / "v.npz")
    assert found.code == 2 and found.err.startswith("error: ") and said in found.err
    assert "Traceback" not in found.err


def test_a_probe_and_a_store_go_to_the_hub_and_come_back(
    repeng: Repeng, probe: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        pushed = repeng("push", "--probe", probe, "--to", "hf://user/mms")
        assert "probe: 2 files pushed, 0 there already, in hf://models/user/mms, commit " in pushed.out
        flags = ("--store", place / "planted", "--distributions", "near")
        parts = repeng("push", *flags, "--to", "hf://user/near", "--json").json["pushed"]
        assert parts and all("/near/" in path for path in parts)
        assert repeng("pull", "hf://user/mms", "--out", tmp_path / "p", "--json").json["kind"] == "probe"
        back = repeng("pull", "hf://user/near", "--out", tmp_path / "s")
        assert f"store: {len(parts)} parts pulled, 0 there already, in {tmp_path / 's'}, commit " in back.out
        assert TOKEN not in "".join((*pushed, *back)[1:3])
        gone = repeng("pull", "hf://user/none", "--out", tmp_path / "x")
        assert gone.code == 2 and gone.err.startswith("error: hf://user/none: no such repository, or none that you may")
    assert io.load(tmp_path / "p").units == io.load(probe).units
    kept = {name for name in store_files(place / "planted") if "/near/" in name or name.endswith("capture.json")}
    assert set(store_files(tmp_path / "s")) == kept


def test_what_to_push_is_asked_for(repeng: Repeng, probe: Path, tmp_path: Path) -> None:
    assert "say what to push: --probe DIR or --store DIR" in repeng("push", "--to", tmp_path / "x").err
    said = repeng("push", "--probe", probe, "--distributions", "near", "--to", tmp_path / "x")
    assert said.code == 2 and "choose of a store; a probe is pushed whole" in said.err
    said = repeng("push", "--probe", probe, "--to", "hf://only")
    assert said.code == 2 and "hf://only: names no repository of the hub; give hf://USER/NAME" in said.err


def test_a_folder_without_the_probe_that_is_pushed_is_named(repeng: Repeng, tmp_path: Path) -> None:
    said = repeng("push", "--probe", tmp_path / "nowhere", "--to", tmp_path / "shared")
    assert said.code == 2 and "no probe.json here" in said.err and not (tmp_path / "shared").exists()
