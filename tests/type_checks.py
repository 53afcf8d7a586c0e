"""Type checks of the tests, quicker than jaxtyping's own, of the very same types.

pytest's `--jaxtyping-packages` puts `jaxtyping.jaxtyped` on every function of repeng. It binds the arguments by name at
each call, makes two checks of each function, and makes them anew each time that an inner function is defined. `checked`
takes its place: one beartype check of arguments and result, made once also of an inner function; and where an array's
shape is named, a jaxtyping context about it, so that axes of one name have one size. Imported before repeng is.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

_jaxtyped = jaxtyping.jaxtyped
_check = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))
_made: dict[int, tuple[types.FunctionType, Any, bool]] = {}
"""By its code's id: the function that came first, its check, and whether it names an array.

By id, since code of equal text is equal: the constructors of two dataclasses may differ in types alone.
"""


def checked(fn: Any = None, *, typechecker: Any) -> Any:
    """What `jaxtyping.jaxtyped` makes of a function or class: what has another type is the same TypeCheckError."""
    if fn is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(fn):
        made = fn.__dict__.get("__init__")
        if dataclasses.is_dataclass(fn) and isinstance(made, types.FunctionType):
            fn.__init__ = checked(made, typechecker=typechecker)
        return fn
    if not isinstance(fn, types.FunctionType):
        return _jaxtyped(fn, typechecker=typechecker)
    first, check, shaped = _made.get(id(fn.__code__), (None, None, False))
    if first is None or first.__annotations__ != fn.__annotations__:
        hints = _hints(fn)
        check, shaped = _check(_copy(fn, hints)), any(map(_names_an_array, hints.values()))
        _made[id(fn.__code__)] = (fn, check, shaped)
    made = _of(check, fn)
    return _in_context(made) if shaped else made


def _in_context(made: Any) -> Any:
    """A check in which axes of one name have one size, also in what is returned."""

    @functools.wraps(made)
    def in_context(*args: Any, **kwargs: Any) -> Any:
        with _jaxtyped("context"):
            return made(*args, **kwargs)

    return in_context


def _hints(fn: types.FunctionType) -> dict[str, Any]:
    """Every annotation of a function, Any where it names what is imported for type checkers alone."""
    try:
        return get_type_hints(fn, include_extras=True)
    except Exception:
        return {name: _hint(annotation, fn.__globals__) for name, annotation in fn.__annotations__.items()}


def _hint(annotation: Any, names: dict[str, Any]) -> Any:
    def one(value: Any) -> None: ...

    one.__annotations__ = {"value": annotation}
    try:
        return get_type_hints(one, names, include_extras=True)["value"]
    except Exception:
        return Any


def _names_an_array(hint: Any) -> bool:
    if isinstance(hint, list | tuple):
        return any(map(_names_an_array, hint))
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return _names_an_array(get_args(hint) or getattr(hint, "__value__", ()))


def _copy(fn: types.FunctionType, hints: dict[str, Any]) -> types.FunctionType:
    """The function itself, with those types in place of text."""
    copy = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    functools.update_wrapper(copy, fn)
    del copy.__wrapped__
    copy.__kwdefaults__ = fn.__kwdefaults__
    copy.__annotations__ = hints
    return copy


def _of(check: Any, fn: types.FunctionType) -> Any:
    """A check that was made of a function's code, calling this function of that code."""
    given = check.__kwdefaults__ or {}
    if "__beartype_func" not in given:
        return fn
    made = types.FunctionType(check.__code__, check.__globals__, fn.__name__, check.__defaults__, check.__closure__)
    functools.update_wrapper(made, fn)
    made.__kwdefaults__ = {**given, "__beartype_func": fn}
    return made


jaxtyping.jaxtyped = checked
