"""A follow-up question as a method: how much likelier the model answers Yes than No, with nothing fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus, in_form
from repeng.errors import BadInput, UnknownName
from repeng.methods.base import RequiredActivations
from repeng.methods.prompted import NamedMethod, Prompted, Verdict

PREFIX = "ask:"
"""Of the method's name, before the question's."""
VERDICTS = ("yes", "no")


@dataclass(frozen=True)
class Ask(Prompted):
    """The model's verdict on its own response, when it is asked a follow-up question.

    Attributes:
        name: `ask:` and the question's name, with its parameters.
        question: of `distributions/follow_ups.py`.
        best: the answer that speaks for a response that is right, or has the label: `yes` or `no`.
    """

    question: str = ""
    best: str = VERDICTS[0]

    PARAMETERS: ClassVar[tuple[str, ...]] = ("best",)

    @classmethod
    def named(cls, asked: NamedMethod) -> Ask:
        """The method of `ask:QUESTION`; `best` is by default what an honest response is followed by, or Yes if open.

        Raises:
            UnknownName: there is no such question.
            BadInput: `best` is neither yes nor no.
        """
        question, best = asked.name.removeprefix(PREFIX), asked.parameters.get("best")
        if question not in FOLLOW_UPS:
            raise UnknownName("follow-up question", question, FOLLOW_UPS)
        best = (FOLLOW_UPS[question].honest or "Yes").lower() if best is None else str(best).lower()
        if best not in VERDICTS:
            raise BadInput(
                f"method {asked.full!r}: best is {best!r}; give yes or no, whichever speaks for a right response"
            )
        return cls(asked.full, question=question, best=best, form=asked.form)

    @property
    def title(self) -> str:  # type: ignore[override]
        """What it is, in words."""
        return f"the model's answer to: {FOLLOW_UPS[self.question].text}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The answer that speaks for a right response."""
        return {"best": self.best}

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The log-probability of each verdict."""
        return tuple(RequiredActivations(get_stimulus(self._stimulus(word))) for word in VERDICTS)

    def preference(self) -> Verdict:
        """By the answer."""
        other = VERDICTS[self.best == VERDICTS[0]]
        return Verdict(self._stimulus(self.best), self._stimulus(other))

    def _stimulus(self, verdict: str) -> str:
        return in_form(f"{self.question}_{verdict}", self.form)
