"""A follow-up question as a method: how much likelier the model answers Yes than No, with nothing fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Form, get_stimulus, in_form
from repeng.errors import BadInput, UnknownName
from repeng.methods.base import RequiredActivations
from repeng.methods.prompted import Prompted, Verdict

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

    @classmethod
    def named(cls, name: str, question: str, best: str | None = None, form: Form = "plain") -> Ask:
        """The method of a question's name.

        Args:
            name: the method's.
            question: with or without `ask:` before it.
            best: None for the answer that follows an honest response, or Yes where that is open.
            form: how the texts are written.

        Raises:
            UnknownName: there is no such question.
            BadInput: `best` is neither yes nor no.
        """
        question = question.removeprefix(PREFIX)
        if question not in FOLLOW_UPS:
            raise UnknownName("follow-up question", question, FOLLOW_UPS)
        best = (FOLLOW_UPS[question].honest or "Yes").lower() if best is None else str(best).lower()
        if best not in VERDICTS:
            raise BadInput(f"method {name!r}: best is {best!r}; give yes or no, whichever speaks for a right response")
        return cls(name, question=question, best=best, form=form)

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
