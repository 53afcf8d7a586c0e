from __future__ import annotations

import hashlib
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import fit_probe, planted
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from repeng.atomic import write_atomically
from repeng.errors import BadInput, UnknownName
from repeng.probes.fitted import FittedProbe
from repeng.probes.io import load, save
from repeng.probes.registry import PROBES, get_probe
from repeng.steering.vector import SteeringVector

QUICK = {"ccs": {"epochs": 20}, "ccs-genies": {"epochs": 20}, "cra": {"alpha": 0.5}}


def fitted(name: str, **options: object) -> FittedProbe:
    probe = get_probe(name, **QUICK.get(name, {}))
    data = planted(stimuli=len(probe.stimuli)).source()
    return fit_probe(probe, data, seed=3, provenance={"capture_id": "c", "model": "mini"}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_comes_back_from_disk_exactly(name: str, tmp_path: Path) -> None:
    before = fitted(name)
    save(before, tmp_path / "probe")
    after = load(tmp_path / "probe")
    for field, value in vars(before).items():
        if field == "probe":
            assert type(after.probe) is type(value)
            assert after.probe.get_params() == value.get_params()
            assert after.probe.state().keys() == value.state().keys()
            assert all(torch.equal(after.probe.state()[key], value.state()[key]) for key in value.state())
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(after, field), value)
        elif not field.startswith("_"):
            assert getattr(after, field) == value, field
    target = planted(stimuli=len(before.stimuli), seed=5)
    np.testing.assert_array_equal(
        after.pair_probabilities(target.activations, target.pairs),
        before.pair_probabilities(target.activations, target.pairs),
    )


def test_saving_over_a_probe_leaves_one_probe(tmp_path: Path) -> None:
    save(fitted("mms"), tmp_path)
    save(fitted("lat", layers="all"), tmp_path)
    assert load(tmp_path).name == "lat"
    assert len([file for file in tmp_path.iterdir() if file.name != ".lock"]) == 2


def test_two_that_save_in_one_folder_at_once_leave_one_whole_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fitted("mms"), fitted("lat")
    waiting, saved = threading.Event(), []

    def write(path: Path, content: bytes) -> None:
        if path.suffix == ".safetensors" and not waiting.is_set():
            # The other begins when these weights are there and nothing names them yet.
            write_atomically(path, content)
            waiting.set()
            other.join(0.5)
        else:
            write_atomically(path, content)

    other = threading.Thread(target=lambda: saved.append(waiting.wait(30) and save(second, tmp_path)))
    other.start()
    monkeypatch.setattr("repeng.probes.io.write_atomically", write)
    save(first, tmp_path)
    other.join()
    assert len(saved) == 1
    assert load(tmp_path).name in ("mms", "lat")


def test_a_save_that_is_stopped_before_the_end_leaves_the_old_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(fitted("mms"), tmp_path)
    second = fitted("lat")
    monkeypatch.setattr(json, "dumps", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(second, tmp_path)
    monkeypatch.undo()
    assert load(tmp_path).name == "mms"


def test_the_description_says_in_plain_words_what_was_fitted(tmp_path: Path) -> None:
    described = json.loads(save(fitted("cra"), tmp_path).read_text())
    assert described["probe"] == "cra"
    assert described["parameters"] == {"alpha": 0.5}
    assert described["provenance"] == {"capture_id": "c", "model": "mini"}
    assert described["stimuli"] == ["contrast_yes", "contrast_no"]


def test_a_folder_without_a_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no probe.json here"):
        load(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save(fitted("mms"), tmp_path)
    weights = next(tmp_path.glob("weights-*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput, match="fit the probe again"):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(BadInput, match="missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "format 99"), ({"units": 3}, "damaged"), ({"parameters": {"beta": 1}}, "no parameter 'beta'")],
)
def test_a_description_that_cannot_be_right_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = save(fitted("mms"), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=message):
        load(tmp_path)


def test_a_probe_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = save(fitted("mms"), tmp_path)
    path.write_text(path.read_text().replace('"probe": "mms"', '"probe": "elsewhere"'))
    with pytest.raises(UnknownName, match="'elsewhere'; choose from attention"):
        load(tmp_path)


class Planted:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["weights.pt", "probe.pkl", "state.npy", "weights.safetensors"])
@pytest.mark.parametrize("as_torch", [False, True])
def test_a_pickle_named_as_weights_is_refused_and_not_run(tmp_path: Path, name: str, as_torch: bool) -> None:
    save(fitted("mms"), tmp_path)
    planted = Planted(tmp_path / "ran")
    if as_torch:
        torch.save(planted, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(planted))
    described = json.loads((tmp_path / "probe.json").read_text())
    described |= {"weights": name, "sha256": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}
    (tmp_path / "probe.json").write_text(json.dumps(described))
    with pytest.raises(BadInput, match="damaged"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_probe_whose_class_is_a_file_runs_it_only_where_told_to(tmp_path: Path) -> None:
    mine, mark = tmp_path / "mine.py", tmp_path / "ran"
    mine.write_text(
        f"from pathlib import Path\nfrom repeng.probes import MMS\n\nPath({str(mark)!r}).touch()\n\n\n"
        "class Mine(MMS):\n    name = 'of-mine'\n"
    )
    save(fitted("mms"), tmp_path)
    described = json.loads((tmp_path / "probe.json").read_text()) | {"probe": f"{mine}:Mine"}
    (tmp_path / "probe.json").write_text(json.dumps(described))
    with pytest.raises(BadInput, match=r"mine.py:Mine, a file that reading the probe would run; .*--trust-code"):
        load(tmp_path)
    assert not mark.exists()
    assert load(tmp_path, trust_code=True).name == "of-mine"
    assert mark.exists()
    assert load(tmp_path).name == "of-mine"
    mine.write_text(mine.read_text() + "# edited")
    with pytest.raises(BadInput, match="--trust-code"):
        load(tmp_path)


def test_a_probe_saved_without_its_projections_is_read_with_unknown_ones(tmp_path: Path) -> None:
    """As earlier versions of repeng saved them."""
    path = save(fitted("mms"), tmp_path)
    described = json.loads(path.read_text())
    weights = tmp_path / described["weights"]
    content = save_tensors({k: v for k, v in load_tensors(weights.read_bytes()).items() if "projection" not in k})
    weights.write_bytes(content)
    path.write_text(json.dumps({**described, "sha256": hashlib.sha256(content).hexdigest()}))
    read = load(tmp_path)
    assert np.isnan(read.projection_spread).all() and read.projection_spread.shape == read.head_accuracy.shape
    with pytest.raises(BadInput, match="earlier version of repeng.*fit it again"):
        SteeringVector.of(read)
