"""A model that is asked about splits while it is edited; each split is tokenized and laid out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from repeng.activations.budget import budget_of
from repeng.activations.layouts.batch import Layout, Run
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.layouts.selfcheck import packed_layout
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Form
from repeng.models.load import LanguageModel
from repeng.steering.hooks import Edits
from repeng.steering.questions import SplitQuestions, SteeredScores
from repeng.steering.scoring import score_under


@dataclass(frozen=True)
class _Asked:
    """What is asked of a split, and how its texts are laid out."""

    questions: SplitQuestions
    layout: Layout


class SteeredModel:
    """A model with what it was asked.

    Args:
        lm: the model.
        verdicts: whether it is also asked for its verdict on each response.
        too_long: what becomes of a text longer than it takes: `skip`, `cut` or `refuse`.
    """

    def __init__(self, lm: LanguageModel, *, verdicts: bool = True, too_long: str = "skip") -> None:
        self.lm, self._verdicts, self._too_long = lm, verdicts, too_long
        self._budget = budget_of(lm.config, lm.dtype, lm.device)
        self._asked: dict[tuple[Split, Form], _Asked] = {}

    def scores(
        self,
        split: Split,
        site: str,
        edits: Sequence[Edits],
        *,
        form: Form = "plain",
        tokens: str = "all",
        done: Callable[[int], None] = lambda _tokens: None,
    ) -> SteeredScores:
        """What it says of a split under each of several edits.

        Args:
            split: the examples.
            site: that is edited.
            edits: of each condition; an empty one leaves the model as it is.
            form: how texts are written.
            tokens: which are edited: `all`, those before the response (`prompt`), or the others (`response`).
            done: told how many tokens were taken through all conditions.

        Raises:
            BadInput, UnknownName: as `steer` and `tokenize`.
        """
        asked = self._questions(split, form)
        questions, chosen = asked.questions, asked.questions.tokens(tokens)
        found = score_under(
            self.lm,
            questions.texts,
            site,
            edits,
            # Texts of one tree share tokens, and a token may be one text's prompt and another's response.
            asked.layout if chosen is None else padded_batches,
            batch_tokens=self._budget,
            tokens=chosen,
            done=done,
        )
        return questions.scores(found)

    def n_tokens(self, split: Split, form: Form = "plain") -> int:
        """Tokens of all texts that it reads about a split, each counted alone."""
        return self._questions(split, form).questions.n_tokens

    def _questions(self, split: Split, form: Form) -> _Asked:
        key = split, form
        if key not in self._asked:
            found = SplitQuestions.of(self.lm, split, form=form, verdicts=self._verdicts, too_long=self._too_long)
            layout = packed_layout(self.lm, Run(found.texts, (), self._budget)) or padded_batches
            self._asked[key] = _Asked(found, layout)
        return self._asked[key]
