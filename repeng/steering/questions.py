"""What a model is asked about a split while it is steered: its responses, its verdicts on them, and its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from repeng.activations.layouts.batch import TextRequest
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Form, get_stimulus, in_form
from repeng.errors import UnknownName
from repeng.models.load import LanguageModel
from repeng.models.tokens import TokenizedText, tokenize
from repeng.models.turns import Span

STEERED = ("all", "prompt", "response")
"""Which tokens of a text are edited."""
VERDICTS = ("truthfulness_yes", "truthfulness_no")


@dataclass(frozen=True)
class SteeredScores:
    """What a model says under each of several edits.

    Attributes:
        logprobs: of each response, in nats; NaN of one whose text is too long.
        verdicts: log-odds, in nats, that it is right by the model's own verdict, Yes against No after a question; None
            where it was not asked for.
        prompts: log-probability of each prompt's tokens but the first.
        prompt_tokens: how many these are.
    """

    logprobs: Float[np.ndarray, "edit response"]
    verdicts: Float[np.ndarray, "edit response"] | None
    prompts: Float[np.ndarray, "edit example"]
    prompt_tokens: Int[np.ndarray, " example"]

    @property
    def perplexity(self) -> Float[np.ndarray, " edit"]:
        """Of all tokens of the prompts, each counted once; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.exp(-np.nansum(self.prompts, axis=1) / self.prompt_tokens.sum()))


@dataclass(frozen=True)
class SplitQuestions:
    """The texts that a model reads about a split, and where each answer stands among theirs.

    Attributes:
        texts: distinct by their ids, with the spans whose log-probability is wanted.
        starts: of each text, where its response begins, or the first of them that it is the text of.
        responses: of each response, the number of its span among all spans; -1 where its text is too long.
        verdicts: of Yes and of No, the same; None where they are not asked for.
        prompts: of each example, the same of its prompt, with its first response that is not too long.
        prompt_tokens: tokens of that span.
    """

    texts: tuple[TextRequest, ...]
    starts: tuple[int, ...]
    responses: Int[np.ndarray, " response"]
    verdicts: tuple[Int[np.ndarray, " response"], Int[np.ndarray, " response"]] | None
    prompts: Int[np.ndarray, " example"]
    prompt_tokens: Int[np.ndarray, " example"]

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        split: Split,
        *,
        form: Form = "plain",
        verdicts: bool = True,
        max_length: int | None = None,
        too_long: str = "skip",
    ) -> SplitQuestions:
        """Everything of a split.

        Args:
            lm: for its tokenizer.
            split: the examples.
            form: how texts are written.
            verdicts: whether the model is asked for its verdict on each response.
            max_length: longest text in tokens; None takes the model's own limit.
            too_long: what becomes of a longer one, as of `tokenize`.
        """
        spans: dict[tuple[int, ...], dict[Span, None]] = {}
        starts: dict[tuple[int, ...], int] = {}

        def read(name: str) -> list[TokenizedText | None]:
            return tokenize(split, get_stimulus(in_form(name, form)), lm, max_length, too_long)

        def want(text: TokenizedText | None, span: Span) -> tuple[tuple[int, ...], Span] | None:
            if text is None:
                return None
            ids = tuple(text.ids)
            starts.setdefault(ids, text.response_start)
            spans.setdefault(ids, {})[span] = None
            return ids, span

        plain = read("plain")
        responses = [want(text, _response(text)) for text in plain]
        of_verdicts = [[want(text, _response(text)) for text in read(name)] for name in VERDICTS] if verdicts else []
        prompts = []
        for first, example in zip(split.offsets, split.examples, strict=True):
            text = next((one for one in plain[first : first + len(example.responses)] if one is not None), None)
            prompts.append(want(text, (min(1, text.response_start), text.response_start)) if text else None)
        texts = tuple(TextRequest(ids, logprobs=tuple(sorted(own))) for ids, own in spans.items())
        slots = {
            (text.ids, span): number
            for number, (text, span) in enumerate((text, span) for text in texts for span in text.logprobs)
        }

        def places(asked: Sequence[tuple[tuple[int, ...], Span] | None]) -> Int[np.ndarray, " asked"]:
            return np.array([-1 if one is None else slots[one] for one in asked], dtype=np.int64)

        return cls(
            texts=texts,
            starts=tuple(starts[text.ids] for text in texts),
            responses=places(responses),
            verdicts=(places(of_verdicts[0]), places(of_verdicts[1])) if verdicts else None,
            prompts=places(prompts),
            prompt_tokens=np.array([0 if one is None else one[1][1] - one[1][0] for one in prompts], dtype=np.int64),
        )

    def tokens(self, chosen: str) -> list[range] | None:
        """Which positions of each text are edited: None for `all`, those before the response for `prompt`, the others
        for `response`.

        Of a text that ends in a verdict, the verdict is the response.

        Raises:
            UnknownName: it is none of these.
        """
        if chosen not in STEERED:
            raise UnknownName("tokens to steer at", chosen, STEERED)
        if chosen == "all":
            return None
        lengths = zip(self.starts, (len(text.ids) for text in self.texts), strict=True)
        return [range(start) if chosen == "prompt" else range(start, length) for start, length in lengths]

    @property
    def n_tokens(self) -> int:
        """Of all texts, each counted alone."""
        return sum(len(text.ids) for text in self.texts)

    def scores(self, spans: Float[np.ndarray, "edit span"]) -> SteeredScores:
        """The answers, from the log-probability of every span."""

        def at(places: Int[np.ndarray, " asked"]) -> Float[np.ndarray, "edit asked"]:
            return np.where(places >= 0, spans[:, places], np.nan)

        return SteeredScores(
            logprobs=at(self.responses),
            verdicts=None if self.verdicts is None else at(self.verdicts[0]) - at(self.verdicts[1]),
            prompts=at(self.prompts),
            prompt_tokens=self.prompt_tokens,
        )


def _response(text: TokenizedText | None) -> Span:
    return (0, 0) if text is None else (text.response_start, text.response_end)
