"""How the fields of a row are found: names that are known, columns that the user names, and what a label means."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from repeng.distributions.chat import kind
from repeng.errors import BadData, BadInput, UnknownName

KNOWN_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": ("statement", "text", "claim", "sentence"),
        "prompt": ("prompt",),
        "response": ("response", "completion", "answer"),
        "messages": ("messages", "conversation"),
        "responses": ("responses",),
        "labels": ("labels",),
        "label": (
            *("label", "labels", "is_true", "truth", "correct", "is_correct", "truthful", "honest", "is_honest"),
            *("deceptive", "is_deceptive", "harmful", "is_harmful", "toxic", "is_toxic", "safe", "is_safe"),
        ),
        "chosen": ("chosen",),
        "rejected": ("rejected",),
        "group": ("group",),
    }
)
"""Our fields, and the names by which each is known in a file without being told."""
PROMPTS_OF_RESPONSES = ("question", "query", "instruction", "input")
"""Other names of a prompt, which are known only beside a column of a labelled response."""
LABEL_PAIRS = (
    ("1", "0"),
    ("true", "false"),
    ("yes", "no"),
    ("correct", "incorrect"),
    ("positive", "negative"),
    ("deceptive", "honest"),
    ("harmful", "harmless"),
    ("toxic", "non-toxic"),
    ("unsafe", "safe"),
)
"""Labels that need no explanation, in lower case: what is 1, and what is 0. Of `safe` and `unsafe` and the like 1 is
what a detector looks for; `--positive` says otherwise."""
LABEL_WORDS: Mapping[str, float] = MappingProxyType(
    {**{one: 1.0 for one, _ in LABEL_PAIRS}, **{zero: 0.0 for _, zero in LABEL_PAIRS}}
)
N_SAME = 3
"""The first pairs mean the same, and may stand in one column."""
PAIR_OF: Mapping[str, tuple[str, str]] = MappingProxyType(
    {word: LABEL_PAIRS[0] if n < N_SAME else pair for n, pair in enumerate(LABEL_PAIRS) for word in pair}
)
"""Of each word its pair; of `true`, `no` and the like `1` and `0`."""
WHOLE_NUMBER = re.compile(r"[+-]?\d+\.0+")
ROLE = re.compile(r"[A-Za-z_]+")
TURN_NUMBER = re.compile(r"-?\d{1,6}")
WHOLE = "all"
CHATS = ("template", "plain")
MOST_CLASSES = 8
LONGEST_CLASS = 200


@dataclass(frozen=True)
class Reading:
    """What the user says of how rows are to be read, where their names alone do not.

    Attributes:
        columns: for some of our fields (`KNOWN_NAMES`) the name of the column that holds it; `a.b` is the field b of
            the object a, `a.0` the first element of the list a.
        positive: the label that counts as 1, every other as 0; of responses under names the name of the right one.
        turn: which message of a conversation the label is of: a number from 0, or from the end as -1; a role, whose
            last turn it is; `all`, the whole conversation. By default the last turn of the assistant, or the last
            message where the assistant says nothing.
        chat: `template` leaves a chat to the tokenizer's chat template; `plain` writes it as text, a heading a turn,
            for a model without one.
        group: column of what is never parted and is resampled as one; the same as `columns={"group": ...}`.

    Raises:
        BadInput: a field that is not ours or a column without a name; a turn that is none of these.
    """

    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    positive: str | None = None
    turn: str | None = None
    group: str | None = None
    chat: str = "template"

    def __post_init__(self) -> None:
        columns = dict(self.columns)
        if self.group is not None:
            if columns.setdefault("group", self.group) != self.group:
                raise BadInput(f"the group is the column {columns['group']!r} and {self.group!r}; give only one")
            object.__setattr__(self, "group", None)
        for ours, theirs in columns.items():
            if ours not in KNOWN_NAMES:
                raise UnknownName("field", ours, KNOWN_NAMES)
            if not theirs:
                raise BadInput(f"no column for {ours}; name it as {ours}=COLUMN")
        object.__setattr__(self, "columns", columns)
        if self.chat not in CHATS:
            raise UnknownName("way to write chats", self.chat, CHATS)
        if self.turn is not None and not (ROLE.fullmatch(self.turn) or TURN_NUMBER.fullmatch(self.turn)):
            raise BadInput(
                f"turn is {self.turn!r}; give a number from 0 (or from the end, as -1), a role as user, or {WHOLE}"
            )

    @classmethod
    def parse(
        cls,
        columns: str | None = None,
        *,
        positive: str | None = None,
        turn: str | None = None,
        group: str | None = None,
        chat: str | None = None,
    ) -> Reading:
        """A reading of which the columns are given as on the command line: `text=claim,label=truth`.

        Raises:
            BadInput: as of the class; or `columns` is not of that form, or names a field twice.
        """
        named: dict[str, str] = {}
        for part in (columns or "").split(",") if columns else ():
            ours, equals, theirs = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise BadInput(f"columns has {part.strip()!r}; write OURS=THEIRS, as text=claim,label=truth")
            if ours in named:
                raise BadInput(f"columns names {ours} twice; keep one of them")
            named[ours] = theirs
        return cls(named, positive, turn, group, chat or "template")

    def over(self, other: Reading) -> Reading:
        """This reading; what it does not say is as in another."""
        columns = {**other.columns, **self.columns}
        chat = self.chat if self.chat != "template" else other.chat
        return Reading(columns, self.positive or other.positive, self.turn or other.turn, chat=chat)

    @property
    def says_nothing(self) -> bool:
        """Whether names alone decide."""
        return self == Reading()

    @property
    def options(self) -> dict[str, str]:
        """The options of the command line that say the same, with their values."""
        columns = ",".join(map("=".join, self.columns.items()))
        given = {"columns": columns, "positive": self.positive, "turn": self.turn}
        given["chat"] = self.chat if self.chat != "template" else None
        return {name: value for name, value in given.items() if value}

    def __str__(self) -> str:
        return " ".join(f"--{name} {shlex.quote(value)}" for name, value in self.options.items())


@dataclass(frozen=True)
class Fields:
    """A row, and how it is to be read: our fields looked up in it by their columns."""

    row: Mapping[str, Any]
    reading: Reading
    _known: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def column(self, ours: str) -> str | None:
        """The column that holds one of our fields: the named one, else the known one; None where there is none.

        Raises:
            BadData: a named column is not there, or several known ones are.
        """
        if ours not in self._known:
            self._known[ours] = self._column(ours)
        return self._known[ours]

    def _column(self, ours: str) -> str | None:
        named = self.reading.columns.get(ours)
        if named is not None:
            if _at(self.row, named) is None:
                raise BadData(f"no {ours}: the column {named!r} is not there or empty; the example has {self.names}")
            return named
        row = self.row
        # What is grouped by may be the prompt too, which is then still read.
        taken = {theirs for name, theirs in self.reading.columns.items() if (ours, name) != ("prompt", "group")}
        found = [name for name in KNOWN_NAMES[ours] if name in row and row[name] is not None and name not in taken]
        if ours == "prompt" and not found and self._response_alone:
            found = [name for name in PROMPTS_OF_RESPONSES if row.get(name) not in (None, "") and name not in taken]
        if len(found) > 1:
            way_out = shlex.quote(f"{ours}={found[0]}")
            raise BadData(f"{' and '.join(found)} may each be the {ours}; say which with --columns {way_out}")
        return found[0] if found else None

    @property
    def _response_alone(self) -> bool:
        """Whether there is a response with a label, and nothing of pairs."""
        return not {"chosen", "rejected", "responses"} & self.row.keys() and self.column("response") is not None

    def value(self, ours: str) -> Any:
        """What stands in that column; None where there is none."""
        column = self.column(ours)
        return None if column is None else _at(self.row, column)

    def named(self, *ours: str) -> bool:
        """Whether the user names a column for one of some fields."""
        return any(name in self.reading.columns for name in ours)

    def group(self, *, known: bool) -> str | None:
        """The group as text; None where there is none.

        Args:
            known: whether a column named `group` is meant where the user names none.

        Raises:
            BadData: the group is no text and no number, or a named one is empty.
        """
        if not known and not self.named("group"):
            return None
        value = self.value("group")
        if isinstance(value, float) and math.isnan(value):
            value = ""
        if value is None or (value == "" and not self.named("group")):
            return None
        if value == "" or not isinstance(value, str | int | float):
            raise BadData(f"the group is {kind(value) if value != '' else 'empty'}; it is a text or a number")
        return str(value) if isinstance(value, bool) else class_name(value) if _is_whole(value) else str(value)

    def rest(self, *ours: str) -> dict[str, Any]:
        """The row without the columns of some fields: its metadata."""
        taken = {self.column(name) for name in ours}
        return {key: value for key, value in self.row.items() if key not in taken}

    @property
    def names(self) -> str:
        """The columns that hold something, for messages."""
        return ", ".join(sorted(str(key) for key, value in self.row.items() if value is not None)) or "nothing"


def label_of(value: Any, positive: str | None) -> float | None:
    """1.0 or 0.0 of a label; None of one that says neither, such as one of several classes.

    With `positive` its name alone is 1; 1, true and yes are one name, and so are 0, false and no. Else the words of
    `LABEL_PAIRS`.
    """
    if positive is not None:
        return float(_same_word(value) == _same_word(positive))
    return LABEL_WORDS.get(class_name(value).casefold())


def pair_of(value: Any) -> tuple[str, str] | None:
    """The words that a label is one of, what is 1 and what is 0; None of one that needs explanation."""
    return PAIR_OF.get(class_name(value).casefold())


def overruled(value: Any, positive: str) -> bool:
    """Whether a label says by itself that it is 1, by words that `positive` is none of."""
    return label_of(value, None) == 1.0 and pair_of(value) != pair_of(positive)


def class_name(value: Any) -> str:
    """A label as it is named in messages and on the command line: 1.0 is `1`, in text too, True is `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    if _is_whole(value):
        return str(int(float(value)))
    return str(value).strip()


def is_label(value: Any) -> bool:
    """Whether a value can be a label at all: true or false, a number, or text that is not empty."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return isinstance(value, bool | int | float) or (isinstance(value, str) and bool(value.strip()))


def classes_refusal(labels: Iterable[Any], column: str) -> str:
    """Why labels of several classes cannot be read, with every class and how many are of it."""
    counts = Counter(map(class_name, labels)).most_common()
    shown = ", ".join(f"{name[:40]!r} ({count:,})" for name, count in counts[:MOST_CLASSES])
    more = f" and {len(counts) - MOST_CLASSES:,} more" if len(counts) > MOST_CLASSES else ""
    return (
        f"the labels in {column!r} are {shown}{more}; which one counts as 1, against the rest, must be said: "
        f"--positive {shlex.quote(counts[0][0][:LONGEST_CLASS])}, for example"
    )


def several_pairs(labels: Iterable[Any], column: str) -> str:
    """Why labels that are words of several pairs cannot be read: each pair has a 1 of its own."""
    known = ", ".join("/".join(pair) for pair in LABEL_PAIRS)
    return f"{classes_refusal(labels, column)}. Only words of one pair need no explanation: {known}"


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, written with a point."""
    if isinstance(value, str):
        return WHOLE_NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, float) and value.is_integer()


def _same_word(value: Any) -> str:
    name = class_name(value).casefold()
    pair = PAIR_OF.get(name)
    return pair[LABEL_WORDS[name] == 0.0] if pair is not None else name


def _at(row: Mapping[str, Any], path: str) -> Any:
    """What stands in a column, or at a dotted path into objects and lists; None where there is nothing."""
    if path in row:
        return row[path]
    found: Any = row
    for step in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and TURN_NUMBER.fullmatch(step) and -len(found) <= int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found
