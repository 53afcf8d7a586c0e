"""`FILE.py:NAME`: what is a probe, told without running it, and what is imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from repeng.errors import BadInput
from repeng.probes import MMS, get_probe, is_probe_reference
from repeng.probes.base import LinearProbe
from repeng.probes.own_file import named_in_errors

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
        ("Yours = 3", "has no class Mine; it has no probe"),
        ("from repeng.probes import MMS\nclass Mime(MMS): ...", r"has no class Mine; did you mean Mime\?"),
        ("from repeng.probes import MMS\nclass Other(MMS): ...", "has no class Mine; its probes: Other"),
    ],
)
def test_what_is_no_probe_is_refused_with_the_file_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(BadInput, match=rf"mine\.py.*{message}"):
        get_probe(f"{tmp_path / 'mine.py'}:Mine")
    with pytest.raises(BadInput, match="there is no such file"):
        get_probe(f"{tmp_path / 'yours.py'}:Mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [("mine.py", "is a file and names no probe in it"), ("mine.py:Mine(power=2", "a parenthesis is open")],
)
def test_a_name_that_is_cut_short_says_what_is_missing(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        get_probe(name)


def test_an_error_in_its_code_names_the_probe_and_the_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from repeng.probes import LinearProbe\n\n\nclass Mine(LinearProbe):\n"
        "    def fit_direction(self, features, labels, pairs):\n        return features[labels == 1], 0\n"
    )
    probe = get_probe(f"{file}:Mine")
    made = torch.randn(2, 1, 8, 4)
    labels, examples = np.tile([1.0, 0.0], 4), np.repeat(np.arange(4), 2)
    with (
        pytest.raises(BadInput, match=r"mine\.py:Mine fails in fit_direction, line 6: IndexError: .*add-a-probe\.md"),
        named_in_errors(probe),
    ):
        probe.fit(made, labels, examples)
    with pytest.raises(IndexError), named_in_errors(MMS()):
        raise IndexError


def test_its_parameters_are_checked_as_any_probes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from repeng.probes import LinearProbe\n\n\nclass Mine(LinearProbe):\n"
        "    def __init__(self, *, power=1.0):\n        self.power = power\n"
    )
    found = get_probe(f"{tmp_path / 'mine.py'}:Mine", power=2.0)
    assert isinstance(found, LinearProbe) and found.get_params() == {"power": 2.0}
    with pytest.raises(BadInput, match="probe 'Mine' has no parameter 'force'; choose from power"):
        get_probe(f"{tmp_path / 'mine.py'}:Mine", force=1)
