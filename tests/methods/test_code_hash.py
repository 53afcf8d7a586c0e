"""A method's identity follows the code that it runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from repeng.methods.code_hash import code_hash, files_hash
from repeng.probes.lda import LDA
from repeng.probes.mms import MMS

PROBE = "from repeng.probes.mms import MMS\n\n\nclass Mine(MMS):\n    name = 'mine'\n    factor = {factor}\n"


def loaded(module: str) -> type:
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
        del sys.modules[name]
    found: type = importlib.import_module(module).Mine
    return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "their_probes" / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder.parent / "helper.py").write_text("SIGN = 1\n")
    (folder / "mine.py").write_text(PROBE.format(factor=1))
    return folder


def test_an_edited_class_or_a_helper_of_its_package_is_another_code(package: Path) -> None:
    before = code_hash(loaded("their_probes.inner.mine"))
    assert code_hash(loaded("their_probes.inner.mine")) == before
    (package / "mine.py").write_text(PROBE.format(factor=-1))
    edited = code_hash(loaded("their_probes.inner.mine"))
    assert edited != before
    (package.parent / "helper.py").write_text("SIGN = -1\n")
    assert code_hash(loaded("their_probes.inner.mine")) != edited


def test_a_module_by_itself_is_hashed_without_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lonely_probe.py").write_text(PROBE.format(factor=1))
    before = code_hash(loaded("lonely_probe"))
    (tmp_path / "notes.py").write_text("pass\n")
    assert code_hash(loaded("lonely_probe")) == before
    (tmp_path / "lonely_probe.py").write_text(PROBE.format(factor=2))
    assert code_hash(loaded("lonely_probe")) != before


def test_our_own_probes_are_one_room() -> None:
    assert code_hash(MMS) == code_hash(LDA) != code_hash(str)


def test_a_folder_is_hashed_with_every_file_and_name(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1")
    (tmp_path / "weights.bin").write_bytes(b"1")
    before = files_hash(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"2")
    changed = files_hash(tmp_path)
    assert changed != before
    (tmp_path / "weights.bin").rename(tmp_path / "other.bin")
    assert files_hash(tmp_path) not in (before, changed)
