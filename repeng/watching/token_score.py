"""What is said of a token, when it rings the alarm, and what is said of a whole text at its end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from repeng.errors import BadInput
from repeng.probes.fitted import FittedProbe

Part = Literal["prompt", "response", "after"]
"""Where a token stands: before the response, in it, or in what a stimulus writes after it."""
SPECIFICATION = re.compile(r"(?P<below>below-)?(?P<what>p|score)=(?P<value>.+)")
FORMS = "1%, 5%, p=0.9, score=2.5, below-p=0.1, below-score=-2 or none"
RATES = {"1%": "threshold_at_1", "5%": "threshold_at_5"}
DEFAULT = "1%"


@dataclass(frozen=True)
class TokenScore:
    """A token that the model has read, and what the probe says there.

    Attributes:
        token_id: its id.
        text: the characters that it completes: empty where a character's bytes go on in the next token, which then
            has the whole character.
        score: the probe's, higher towards the source's label 1; None where the probe reads nothing: before the response
            for a probe of a whole response.
        probability: of label 1, by the source's calibration of single texts; None where the probe has none.
        alarm: whether it rings.
        position: its number in its text, special tokens counted, padding not.
        part: `prompt`, `response`, or `after`.
    """

    token_id: int
    text: str
    score: float | None
    probability: float | None
    alarm: bool
    position: int
    part: Part


@dataclass(frozen=True)
class Alarm:
    """The score beyond which a token rings.

    Attributes:
        level: the score; None where nothing rings.
        below: whether it rings below the level, not above it.
        meaning: of the level, in words.
    """

    level: float | None
    below: bool
    meaning: str

    def rings(self, score: float | None) -> bool:
        """Whether a score is beyond the level."""
        if self.level is None or score is None:
            return False
        return score < self.level if self.below else score > self.level

    @property
    def sentence(self) -> str:
        """The level and its meaning, in a line."""
        if self.level is None:
            return f"no alarm: {self.meaning}"
        return f"alarm {'below' if self.below else 'above'} {self.level:.4g}: {self.meaning}"


def alarm_of(fitted: FittedProbe, asked: str | None) -> Alarm:
    """The alarm that a user asked for.

    Args:
        fitted: the probe.
        asked: `1%` or `5%`: the threshold that `fit` set for so many of the source's held-out texts of label 0;
            `p=0.9` or `score=2.5`, with `below-` before it to ring below; `none`; or None for `1%` where the probe has
            it, else none.

    Raises:
        BadInput: it is none of these, or the probe has no threshold or probability for single texts.
    """
    source = fitted.provenance.get("source", "the source")
    if asked == "none" or (asked is None and fitted.texts is None):
        why = "none was asked for" if asked else f"{fitted.name} has no threshold for single texts; give one as score=2"
        return Alarm(None, False, why)
    asked = DEFAULT if asked is None else asked
    found = SPECIFICATION.fullmatch(asked)
    if asked not in RATES and found is None:
        hint = "; is it a probability or a score?" if re.fullmatch(r"-?[\d.]+", asked) else ""
        raise BadInput(f"the alarm {asked!r} is not known{hint}; write {FORMS}")
    if fitted.texts is None and (found is None or found["what"] == "p"):
        raise BadInput(
            f"{fitted.name} has no threshold and no probability for single texts (a preset that ranks pairs, or fitted "
            f"by an earlier version of repeng), so the alarm {asked!r} means nothing; give a score, as score=2.5"
        )
    if found is None:
        assert fitted.texts is not None
        level = float(getattr(fitted.texts, RATES[asked]))
        return Alarm(
            level, False, f"at most {asked.replace('%', ' %')} of the held-out label-0 texts of {source} score more"
        )
    value, below = _number(found["value"], asked), bool(found["below"])
    if found["what"] == "score":
        return Alarm(value, below, "the score that was asked for")
    if not 0 < value < 1:
        raise BadInput(f"the alarm {asked!r}: a probability lies between 0 and 1")
    assert fitted.texts is not None
    level = (math.log(value / (1 - value)) - fitted.texts.intercept) / fitted.texts.slope
    return Alarm(level, below, f"the score at which label 1 of {source} has probability {value:g}")


@dataclass(frozen=True)
class TextSummary:
    """What is said of a text at its end, over its response's tokens that have a score.

    A text's very first token is left out where there are others: models keep activations there, whatever the token is,
    that are a hundred times larger than elsewhere.

    Attributes:
        tokens: how many they are.
        score: at the token that the probe reads, as `repeng score` has it; None where that token was not read.
        probability: of that score.
        alarm: whether that score is beyond the alarm's level, which was set for it.
        mean, max: of the scores of all of them.
        alarms: how many rang.
        first_alarm: position of the first of these.
    """

    tokens: int
    score: float | None
    probability: float | None
    alarm: bool
    mean: float | None
    max: float | None
    alarms: int
    first_alarm: int | None


def summary_of(tokens: Iterable[TokenScore], own: int | None, alarm: Alarm) -> TextSummary:
    """The summary of a text.

    Args:
        tokens: of the text.
        own: position of the token that the probe reads.
        alarm: what rings.
    """
    read = list(tokens)
    scored = [(token.position, token.score) for token in read if token.part == "response" and token.score is not None]
    scores = [score for position, score in scored if position or len(scored) == 1]
    rang = [token.position for token in read if token.alarm]
    last = next((token for token in read if token.position == own), None)
    return TextSummary(
        tokens=len(scores),
        score=None if last is None else last.score,
        probability=None if last is None else last.probability,
        alarm=last is not None and alarm.rings(last.score),
        mean=float(np.mean(scores)) if scores else None,
        max=float(np.max(scores)) if scores else None,
        alarms=len(rang),
        first_alarm=min(rang, default=None),
    )


def _number(text: str, asked: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"the alarm {asked!r}: {text!r} is no number; write {FORMS}")
    return value
