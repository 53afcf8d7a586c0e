"""The tests' own type checks find what jaxtyping's find."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from jaxtyping import TypeCheckError, install_import_hook

SOURCE = '''
from __future__ import annotations
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
import numpy as np
from jaxtyping import Float
if TYPE_CHECKING:
    from decimal import Decimal

Vector = Float[np.ndarray, " d"]

def number(value: int, *, name: str = "x") -> str:
    """Doc."""
    return 3 if name == "wrong" else name * value

def dot(one: Float[np.ndarray, " d"], other: Vector) -> float:
    return float(one @ other)

def square(one: Float[np.ndarray, " d"]) -> Float[np.ndarray, "d d"]:
    dot(one[:1], one[:1])
    return np.outer(one, one[:2])

def shaped(times: int) -> Callable[[np.ndarray], np.ndarray]:
    def inner(one: Float[np.ndarray, " d"], other: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        return times * (one + other)
    return inner

def many(given: dict[str, list[Vector]]) -> None: ...

def unknown(value: Decimal, count: int) -> None: ...

def outer(step: int) -> Callable[[int], int]:
    def inner(value: int, *, twice: bool = False) -> int:
        return "text" if value == 3 else value + step * (1 + twice)
    return inner

@contextmanager
def held(value: int) -> Iterator[int]:
    yield value

@dataclass(frozen=True)
class One:
    value: int
    @classmethod
    def of(cls, value: int) -> One:
        return cls(value)
    @property
    def text(self) -> int:
        return str(self.value)

@dataclass(frozen=True)
class Other:
    value: str
'''


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The source above as a module whose types are checked as repeng's are."""
    folder: Path = tmp_path_factory.mktemp("checked")
    (folder / "checked_module.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    with install_import_hook(["checked_module"], "beartype.beartype"):
        yield importlib.import_module("checked_module")
    sys.path.remove(str(folder))
    del sys.modules["checked_module"]


V2, V3 = np.zeros(2), np.zeros(3)


@pytest.mark.parametrize(
    "call",
    [
        lambda of: of.number("3"),
        lambda of: of.number(3, name=3),
        lambda of: of.number(3, name="wrong"),
        lambda of: of.dot(V2, V3),
        lambda of: of.dot(V2, V2.astype(int)),
        lambda of: of.square(V3),
        lambda of: of.shaped(1)(V2, V3),
        lambda of: of.shaped(2)(V3, V2),
        lambda of: of.many({"a": [V2.astype(int)]}),
        lambda of: of.unknown("any", "no count"),
        lambda of: of.outer(1)("3"),
        lambda of: of.outer(1)(3),
        lambda of: of.outer(2)("3"),
        lambda of: of.outer(2)(3),
        lambda of: of.held("3").__enter__(),
        lambda of: of.One("3"),
        lambda of: of.One.of("3"),
        lambda of: of.One(3).text,
        lambda of: of.Other(3),
    ],
)
def test_what_has_another_type_is_refused(checked: ModuleType, call: Callable[[ModuleType], object]) -> None:
    with pytest.raises(TypeCheckError):
        call(checked)


def test_what_has_its_type_is_let_through(checked: ModuleType) -> None:
    assert checked.number(2) == "xx" and checked.number(value=2, name="ab") == "abab"
    assert checked.number.__doc__ == "Doc." and checked.number.__name__ == "number"
    assert checked.dot(V3, V3) == 0.0
    assert checked.square(V2).shape == (2, 2)
    assert [checked.shaped(n)(V2 + 1, V2).tolist() for n in (1, 2)] == [[1.0, 1.0], [2.0, 2.0]]
    checked.unknown("any", 3)
    with checked.held(3) as held:
        assert held == 3
    assert (checked.One(3).value, checked.One.of(3).value, checked.Other("3").value) == (3, 3, "3")


def test_an_inner_function_keeps_what_it_closes_over(checked: ModuleType) -> None:
    one, ten = checked.outer(1), checked.outer(10)
    assert (one(4), ten(4), one(4, twice=True), ten(4, twice=True)) == (5, 14, 6, 24)
    assert one.__qualname__ == "outer.<locals>.inner"
