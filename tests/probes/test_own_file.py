"""`FILE.py:NAME`: what is a probe, told without running it, and what is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from repeng.errors import BadInput
from repeng.probes import get_probe, is_probe_reference
from repeng.probes.base import LinearProbe

FILE = """
import repeng
import repeng.probes.base as room
from repeng import probes
from repeng.methods.base import Method
from repeng.probes import LinearProbe as Base
from repeng.probes.mms import MMS

raise_when_run = 1 / 0


class Own: ...
class Named(Base): ...
class Dotted(repeng.probes.Probe): ...
class FromRoom(probes.LAT): ...
class Alias(room.LinearProbe): ...
class Grandchild(Named): ...
class Mixed(Own, MMS): ...
class Other(Method): ...
class Plain(Own): ...
function = MMS
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("Named", "Dotted", "FromRoom", "Alias", "Grandchild", "Mixed")),
        *((name, False) for name in ("Own", "Other", "Plain", "function", "Missing", "not a name")),
    ],
)
def test_a_class_is_a_probe_by_its_bases_and_nothing_is_run(tmp_path: Path, name: str, expected: bool) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    assert is_probe_reference(f"{tmp_path / 'mine.py'}:{name}") is expected


@pytest.mark.parametrize("text", ["mms", "package.module:Name", "missing.py:Name", "module.py", "logistic(C=0.1)"])
def test_other_names_of_methods_are_no_references(text: str) -> None:
    assert not is_probe_reference(text)


def test_a_file_that_is_not_python_holds_no_probe(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("class Probe(:")
    assert not is_probe_reference(f"{tmp_path / 'broken.py'}:Probe")


def test_an_edited_file_is_run_again_and_an_untouched_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = "from repeng.probes import MMS\n\n\nclass Mine(MMS):\n    title = 'first'\n"
    file.write_text(text)
    first = get_probe(f"{file}:Mine")
    assert (first.name, first.title, first.reference) == ("Mine", "first", f"{file}:Mine")
    assert type(get_probe(f"{file}:Mine")) is type(first)
    file.write_text(text.replace("first", "second"))
    assert get_probe(f"{file}:Mine").title == "second"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Mine = 3", "no subclass"),
        ("1 / 0", "ZeroDivisionError"),
        ("class Mine: ...", "no subclass"),
        ("Yours = 3", "has no class Mine"),
    ],
)
def test_what_is_no_probe_is_refused_with_the_file_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(BadInput, match=rf"mine\.py.*{message}"):
        get_probe(f"{tmp_path / 'mine.py'}:Mine")
    with pytest.raises(BadInput, match="there is no such file"):
        get_probe(f"{tmp_path / 'yours.py'}:Mine")


def test_its_parameters_are_checked_as_any_probes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from repeng.probes import LinearProbe\n\n\nclass Mine(LinearProbe):\n"
        "    def __init__(self, *, power=1.0):\n        self.power = power\n"
    )
    found = get_probe(f"{tmp_path / 'mine.py'}:Mine", power=2.0)
    assert isinstance(found, LinearProbe) and found.get_params() == {"power": 2.0}
    with pytest.raises(BadInput, match="probe 'Mine' has no parameter 'force'; choose from power"):
        get_probe(f"{tmp_path / 'mine.py'}:Mine", force=1)
