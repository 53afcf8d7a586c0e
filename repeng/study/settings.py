"""A study's settings: what one `repeng run` does, as a frozen value and as a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from repeng.errors import BadInput
from repeng.methods.names import split_names, with_parameters
from repeng.models.fingerprint import slug

DEFAULT_METHODS = ("mms", "lat", "ccs", "cra", "logistic", "lda", "zero-shot", "length", "tfidf")


@dataclass(frozen=True)
class Study:
    """Settings of a study. Every field is a `repeng run` flag and a key of STUDY.toml by the same name.

    Attributes:
        model: hub id, folder, or `mini`.
        benchmark: `mini`, `genies`, `genies-all`, a category, a label, a shift file; None: `mini`, or with `data`
            every distribution of it against every one.
        data: folder of distributions, a preference file or a hub dataset id; None: the benchmark's own.
        methods: names of methods, or `all`; with parameters as `logistic(C=0.1)`, in a file also as a table
            `{ name = "logistic", C = 0.1 }`. A folder with `train.py` and `eval.py` is a method too.
        layers: `auto`, `all`, `top-k:N`, or layers such as `3` or `4-8`.
        limit: the first so many examples of each split; None: all.
        augment: share of target train examples mixed into each source, between 0 and 1.
        too_long: what happens to a text longer than the model takes: `skip`, `refuse` or `cut`.
        device_map: how transformers spreads the captured model over devices, as `auto`; in place of `device`.
    """

    model: str = "mini"
    benchmark: str | None = None
    data: str | None = None
    methods: tuple[str, ...] = DEFAULT_METHODS
    layers: str = "auto"
    limit: int | None = None
    store: str = "store"
    out: str = ""
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    too_long: str = "skip"
    augment: float = 0.0
    tune_preset: str = "default"
    device_map: str | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise BadInput("methods is empty; name at least one, as --methods mms,zero-shot")
        if self.limit is not None and self.limit < 2:
            raise BadInput(f"limit is {self.limit}; take 2 or more examples a split, or leave it out for all")
        if not 0 <= self.augment < 1:
            raise BadInput(f"augment is {self.augment}; give a share from 0 up to 1, as 1% or 0.01")
        if self.too_long not in ("skip", "refuse", "cut"):
            raise BadInput(f"too_long is {self.too_long!r}; choose from cut, refuse, skip")
        if not self.out:
            world = self.benchmark or self.data or "mini"
            name = f"{Path(world).resolve().stem}-{slug(self.model)}" + (f"-first{self.limit}" if self.limit else "")
            object.__setattr__(self, "out", str(Path("results") / name))

    @classmethod
    def read(cls, path: Path | None, flags: Mapping[str, Any]) -> Study:
        """A study file, if there is one, with flags that beat its keys.

        Raises:
            BadInput: there is no such file, it is not TOML, or a key is unknown or of the wrong type.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = tomllib.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                raise BadInput(f"{path}: cannot read the study: {error.strerror}") from error
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise BadInput(f"{path}: not a TOML file: {error}") from error
        if isinstance(values.get("augment"), str):
            values["augment"] = parse_share(values["augment"])
        hints = get_type_hints(cls)
        unknown = sorted((set(values) | set(flags)) - set(hints))
        if unknown:
            raise BadInput(f"{path}: unknown key {unknown[0]!r}; choose from {', '.join(sorted(hints))}")
        return cls(
            **{key: _as_type(value, hints[key], f"{path}: {key}") for key, value in values.items()}
            | {key: _as_type(value, hints[key], f"--{key.replace('_', '-')}") for key, value in flags.items()}
        )

    def to_toml(self) -> str:
        """The study as TOML; keys that are None are left out."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in pairs if value is not None]
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as for a key or a provenance record."""
        return asdict(self)


def parse_share(text: str) -> float:
    """`1%` or `0.01` as a number.

    Raises:
        BadInput: it is neither.
    """
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no share; give it as 1% or 0.01") from error


def _is_method(item: Any) -> bool:
    """Whether an item of `methods` is a name, or a table with one."""
    return isinstance(item, str) or (isinstance(item, Mapping) and isinstance(item.get("name"), str))


def _named(item: Mapping[str, Any]) -> str:
    """A method's table as its name with parameters."""
    return with_parameters(item["name"], {key: value for key, value in item.items() if key != "name"})


def _as_type(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of the field's type, lists as tuples."""
    allowed = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in allowed:
        if get_origin(kind) is tuple:
            value = split_names(value) if isinstance(value, str) else value
            if isinstance(value, (list, tuple)) and all(map(_is_method, value)):
                return tuple(item if isinstance(item, str) else _named(item) for item in value)
        elif kind is NoneType:
            if value is None:
                return None
        elif isinstance(value, kind) and not isinstance(value, bool):
            return value
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    names = " or ".join("list of texts" if get_origin(kind) is tuple else kind.__name__ for kind in allowed)
    raise BadInput(f"{where} is {value!r}; it must be {names.replace('NoneType', 'left out')}")
