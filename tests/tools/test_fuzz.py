"""Everything that repeng reads, nearly right: it is read, or refused by an error of ours, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repeng.errors import RepengError
from tools.fuzz.__main__ import run_one
from tools.fuzz.loaders import LOADERS, Loader

BY_NAME = {loader.name: loader for loader in LOADERS}
SLOW = {"tuned-model", "hub-layout"}
DEEP = "[" * 200_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="session")
def seed_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Loader], Path]:
    """A folder with a valid example of what a loader reads, made once."""
    root = tmp_path_factory.mktemp("seeds")

    def seed(loader: Loader) -> Path:
        folder = root / loader.name
        if not folder.is_dir():
            folder.mkdir()
            loader.make(folder)
        return folder

    return seed


def files_of(loader: Loader, folder: Path) -> list[Path]:
    return sorted({path for pattern in loader.patterns for path in folder.glob(pattern) if path.is_file()})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in BY_NAME])
def test_a_valid_file_is_read_and_changed_ones_are_read_or_refused(
    name: str, seed_of: Callable[[Loader], Path], tmp_path: Path
) -> None:
    loader = BY_NAME[name]
    shutil.copytree(seed_of(loader), tmp_path / "whole")
    loader.read(tmp_path / "whole")
    found = {number: run_one(loader, seed_of(loader), tmp_path / "work", number) for number in range(10**6, 10**6 + 12)}
    assert not any(found.values()), found


@pytest.mark.parametrize(
    "name", ["shift-file", "evaluation", "capability", "store-index", "store-capture", "probe", "fetched"]
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_json_in_any_place_is_read_or_refused(
    name: str, seed_of: Callable[[Loader], Path], tmp_path: Path, data: st.DataObject
) -> None:
    loader, work = BY_NAME[name], tmp_path / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(seed_of(loader), work)
    path = next(path for path in files_of(loader, work) if path.suffix == ".json")
    held = json.loads(path.read_text())
    held = held if isinstance(held, dict) else {"whole": held}
    key = data.draw(st.sampled_from([*held, None]))
    value = data.draw(JSON)
    path.write_text(json.dumps(value if key in (None, "whole") else {**held, key: value}))
    with suppress(RepengError):
        loader.read(work)


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("study", "study.toml", f"methods = {DEEP}"),
        ("capability", "target_tuned_capability/mini/myths.json", DEEP),
        ("shift-file", "shifts.json", DEEP),
        ("distribution", "counting/train.json", DEEP),
        ("evaluation", "predictions/mms/mini-facts/myths.json", DEEP),
        ("probe", "probe.json", DEEP),
        ("probe", "probe.json", "[]"),
        ("probe", "probe.json", '{"format": 2, "probe": 1, "parameters": {}, "weights": "x", "sha256": ""}'),
        ("probe", "probe.json", json.dumps({"format": 2, "weights": "a" * 3000, "sha256": ""})),
        ("fetched", "final/fetched.json", DEEP),
        ("fetched", "final/fetched.json", json.dumps({"folder": "a" * 3000})),
        ("fetched", "final/fetched.json", "[]"),
        pytest.param("tuned-model", "tuned/adapter_model.safetensors", "{", marks=pytest.mark.slow),
        pytest.param("tuned-model", "tuned/adapter_config.json", "[]", marks=pytest.mark.slow),
        pytest.param("tuned-model", "tuned/adapter_config.json", '{"task_type": []}', marks=pytest.mark.slow),
        pytest.param("tuned-model", "tuned/tuned.json", DEEP, marks=pytest.mark.slow),
        pytest.param("tuned-model", "tuned/tuned.json", '{"settings": []}', marks=pytest.mark.slow),
    ],
)
def test_what_fuzzing_found_is_refused(
    name: str, file: str, content: str, seed_of: Callable[[Loader], Path], tmp_path: Path
) -> None:
    loader = BY_NAME[name]
    shutil.copytree(seed_of(loader), tmp_path / "work")
    assert (tmp_path / "work" / file).is_file()
    (tmp_path / "work" / file).write_text(content)
    with suppress(RepengError):
        loader.read(tmp_path / "work")
