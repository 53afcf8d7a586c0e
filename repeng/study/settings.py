"""A study's settings: what one `repeng run` does, as a frozen value and as a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from repeng.distributions.known import PREFIX, data_name
from repeng.distributions.reading import Reading, class_name
from repeng.distributions.stimuli import FORMS, Form
from repeng.errors import BadData, BadInput, choice_of, path_like
from repeng.limits import LARGEST_SEED, SETTINGS_BYTES, read_bounded
from repeng.methods.names import split_names, with_parameters
from repeng.models.fingerprint import slug
from repeng.places import Place, place

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""Without NUL, which no path may hold."""
MOST_FITS = 1000
MOST_NULLS = 10_000
DEFAULT_METHODS = ("mms", "lat", "ccs", "cra", "logistic", "lda", "zero-shot", "length", "tfidf")


def parse_share(value: Any) -> Any:
    """`1%` and `0.01` as a number; what is no text as it is.

    Raises:
        ValueError: it is neither, or no share.
    """
    if not isinstance(value, str):
        return value
    try:
        share = float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError as error:
        raise ValueError("this is no share; give it as 1% or 0.01") from error
    if not 0 <= share < 1:
        raise ValueError("a share lies between 0% and 100%; give it as 1% or 0.01")
    return share


def _method_names(methods: Any) -> Any:
    """`mms,lat`, a list of names, or one with tables in it: each table becomes a name with parameters."""
    listed = split_names(methods) if isinstance(methods, str) else methods
    if isinstance(listed, (list, tuple)) and not listed:
        raise ValueError("there is no method in it; name one or more, as mms,zero-shot")
    return tuple(map(_named, listed)) if isinstance(listed, (list, tuple)) else listed


def _forms(forms: Any) -> Any:
    """`plain,chat`, or a list of these, as the forms.

    Raises:
        ValueError: one is neither, or there is none.
    """
    listed = forms.split(",") if isinstance(forms, str) else forms
    if not isinstance(listed, (list, tuple)):
        return listed
    names = [str(form).strip() for form in listed]
    if not names or not set(names) <= set(FORMS):
        raise ValueError(f"the forms of texts are {' and '.join(FORMS)}; give one of them, or both as plain,chat")
    return tuple(form for form in FORMS if form in names)


def _columns_text(columns: Any) -> Any:
    """A table of columns as the text that the command line takes."""
    return ",".join(f"{ours}={theirs}" for ours, theirs in columns.items()) if isinstance(columns, Mapping) else columns


def _turn_text(turn: Any) -> Any:
    """A turn's number as text."""
    return str(turn) if isinstance(turn, int) and not isinstance(turn, bool) else turn


def _label_text(label: Any) -> Any:
    """A label that is a number, true or false, as the text that the command line takes."""
    return class_name(label) if isinstance(label, bool | int | float) else label


def _listed(values: Any) -> Any:
    """One text, or a list of them, as a tuple."""
    return (values,) if isinstance(values, str) else tuple(values) if isinstance(values, list) else values


def _named(method: Any) -> Any:
    if not isinstance(method, Mapping) or not isinstance(method.get("name"), str):
        return method
    return with_parameters(method["name"], {key: value for key, value in method.items() if key != "name"})


WHERE = ("cluster", "worker_gpus", "tensor_parallel")
"""Settings that say where a study is computed, and nothing of it."""


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Study:
    """Settings of a study. Every field is a `repeng run` flag and a key of STUDY.toml by the same name.

    Attributes:
        model: hub id, folder, GGUF file, `mini` or `smollm2`.
        benchmark: `mini`, `genies`, `genies-all`, a category, a label, a shift file; None: `mini`, or with `data`
            every distribution of it against every one.
        data: folder of distributions, a preference file or a hub dataset id; None: the benchmark's own.
        methods: names of methods, or `all`; with parameters as `logistic(C=0.1)`, in a file also as a table
            `{ name = "logistic", C = 0.1 }`. A folder with `train.py` and `eval.py` is a method too.
        stimuli: forms of the texts: `plain`, as they are, and `chat`, by the model's chat template. Each method is
            asked in each form; None: as it is named. A results folder notes the methods of each form by their names.
        layers: `auto`, `all`, `top-k:N`, `one-se`, `average`, or layers such as `3` or `4-8`.
        fits: how often each probe and text baseline is fitted, with other splits, draws and starts; a figure is their
            mean. Prompting, tuning and plug-ins are fitted once.
        nulls: how many fits on shuffled labels, and how many random directions, each probe is held against; 0: none.
        partial: leave out the shifts of a benchmark whose distributions are not in the data, and say which.
        shift: shifts in place of the benchmark's, each as `SOURCE:TARGET`; a source `a+b` is the union of two.
        leave_one_out: in place of the benchmark's shifts, for each distribution every other one as the source, and
            the union of all the others, `all-but-NAME`.
        limit: the first so many examples of each split; None: all.
        train_limit: fit on at most so many train examples of each source, of a union in all, from the first of each.
        columns: which column of the data holds which of our fields, as `text=claim,label=truth`, in a file also as a
            table.
        positive: the label that counts as 1, against every other.
        turn: which message of a conversation is labelled: a number, a role, or `all`.
        chat: how chats become text: `template`, or `plain` for a model without a chat template.
        group: column of what is never parted, such as a scenario or an author.
        augment: share of target train examples mixed into each source, between 0 and 1.
        capability: fit on every target's own train split too, for elicitation; without, targets' train splits are not
            captured.
        too_long: what happens to a text longer than the model takes: `skip`, `refuse` or `cut`.
        device_map: how transformers spreads the captured model over devices, as `auto`; in place of `device`.
        cluster: address of the Ray cluster that computes: `auto`, `local:4`, `ray://HOST:10001`; None: this process. A
            results folder does not note it, since it changes no figure.
        worker_gpus: GPUs of one worker of the cluster, over which `device_map` spreads the model; not noted either.
        quantization: of the captured model's weights: `auto` (as they are stored), `none`, `int8` or `nf4`.
        tensor_parallel: whether the processes that torchrun started hold the captured model together; in place of
            `device`.
        drop_overlap: leave out of what is scored for a source the test examples whose prompt stands in its train split.
        benign: a distribution whose texts of label 0 set the thresholds of rare false positives for labelled texts; by
            default the source's own held-out ones do.
        strict: take every caution for an error: before the model runs where it is known by then, else at the end.
        trust_store: read cached activations without checking their content against the recorded checksums.
        causal: also add each probe's direction to the model's activations, and take it away, to see whether its answers
            move.
        causal_examples: the first so many of each test split that these are asked about.

    Raises:
        ValidationError: a key is unknown, or its value of the wrong type or out of range.
    """

    model: Text = "mini"
    benchmark: Text | None = None
    data: Text | None = None
    methods: Annotated[tuple[Text, ...], BeforeValidator(_method_names), Field(min_length=1)] = DEFAULT_METHODS
    stimuli: Annotated[tuple[Form, ...] | None, BeforeValidator(_forms)] = None
    layers: Text = "auto"
    fits: Annotated[int, Field(ge=1, le=MOST_FITS)] = 5
    nulls: Annotated[int, Field(ge=0, le=MOST_NULLS)] = 20
    partial: bool = False
    shift: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    leave_one_out: bool = False
    limit: Annotated[int, Field(ge=2)] | None = None
    train_limit: Annotated[int, Field(ge=2)] | None = None
    columns: Annotated[Text | None, BeforeValidator(_columns_text)] = None
    positive: Annotated[Text | None, BeforeValidator(_label_text)] = None
    turn: Annotated[Text | None, BeforeValidator(_turn_text)] = None
    group: Text | None = None
    chat: Literal["template", "plain"] = "template"
    store: Text = "store"
    out: Text = ""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    device: Text = "auto"
    dtype: Text = "auto"
    capability: bool = True
    too_long: Literal["skip", "refuse", "cut"] = "skip"
    augment: Annotated[float, BeforeValidator(parse_share), Field(ge=0, lt=1)] = 0.0
    tune_preset: Text = "default"
    device_map: Text | None = None
    cluster: Text | None = None
    worker_gpus: Annotated[int, Field(ge=1)] = 1
    quantization: Literal["auto", "none", "int8", "nf4"] = "auto"
    tensor_parallel: bool = False
    drop_overlap: bool = False
    benign: Text = ""
    strict: bool = False
    trust_store: bool = False
    causal: bool = False
    causal_examples: Annotated[int, Field(ge=2)] = 40

    def __post_init__(self) -> None:
        if not self.out:
            asked = self.benchmark or self.data or "mini"
            base = data_name(asked) if asked.startswith(PREFIX) else Path(asked).resolve().stem
            name = f"{base}-{slug(self.model)}" + (f"-first{self.limit}" if self.limit else "")
            name += f"-train{self.train_limit}" if self.train_limit else ""
            name += "-shifts" if self.shift else "-leave-one-out" if self.leave_one_out else ""
            name += "-without-overlap" if self.drop_overlap else ""
            object.__setattr__(self, "out", str(place("results") / name))
        object.__setattr__(self, "out", str(place(self.out).expanduser()) if self.out.startswith("~") else self.out)

    @property
    def reading(self) -> Reading:
        """How the rows of its data are read.

        Raises:
            BadInput: columns or turn are not of the form that they have.
        """
        return Reading.parse(self.columns, positive=self.positive, turn=self.turn, group=self.group, chat=self.chat)

    @property
    def shifts_asked(self) -> dict[str, Any]:
        """Which shifts it asks for, and of how many train examples: arguments of `load_benchmark`."""
        return {"shifts": self.shift, "leave_out": self.leave_one_out, "train_limit": self.train_limit}

    @classmethod
    def read(cls, path: Place | None, flags: Mapping[str, Any]) -> Study:
        """A study file, if there is one, with flags that beat its keys.

        Raises:
            BadInput: there is no such file, it is not TOML, or a key is unknown or its value wrong.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = tomllib.loads(read_bounded(path, SETTINGS_BYTES).decode())
            except OSError as error:
                raise BadInput(f"{path}: cannot read the study: {error.strerror}{path_like(path)}") from error
            except BadData:
                raise
            except (ValueError, RecursionError) as error:  # bytes that are no UTF-8, too long a number, deep brackets
                raise BadInput(f"{path}: not a TOML file: {error}") from error
        try:
            return cls(**{**values, **flags})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            given = key in flags
            if first["type"] == "unexpected_keyword_argument":
                choice = choice_of(key, [field.name for field in fields(cls)])
                raise BadInput(f"{'' if given else f'{path}: '}unknown setting {key!r}; {choice}") from error
            where = f"--{key.replace('_', '-')}" if given else f"{path}: {key}"
            raise BadInput(f"{where} is {first['input']!r}: {first['msg'].removeprefix('Value error, ')}") from error

    def to_toml(self) -> str:
        """The study as TOML, but for where it is computed; keys that are None are left out."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name not in WHERE)
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in pairs if value is not None]
        return "\n".join(lines) + "\n"
