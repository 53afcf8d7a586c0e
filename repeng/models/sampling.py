"""How a model writes on from a prompt: how its tokens are drawn, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass

from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Example
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput
from repeng.models.load import LanguageModel

MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Sampling:
    """How a text is written on.

    Attributes:
        max_new_tokens: the most tokens; an end-of-sequence token ends it earlier, and so does the model's window.
        temperature: of sampling; 0 always takes the likeliest token.
        seed: of sampling.

    Raises:
        BadInput: a number that cannot be.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise BadInput(f"max_new_tokens is {self.max_new_tokens}; it is 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise BadInput(f"temperature is {self.temperature}; it is 0 (always the likeliest token) or more")

    def room(self, lm: LanguageModel, n_prompt: int) -> int:
        """How many tokens a model may write after so many of a prompt."""
        return self.max_new_tokens if lm.max_length is None else min(self.max_new_tokens, lm.max_length - n_prompt)


def prompt_ids(lm: LanguageModel, stimulus: Stimulus, prompt: str) -> list[int]:
    """The tokens of what a stimulus writes before a response, for a model to write on from.

    Raises:
        BadInput: there is no token, or the prompt fills the model's window.
    """
    before = stimulus.parts(Example(prompt, ("",), ()), chat_renderer(lm.tokenizer))[0].prefix
    ids = [int(number) for number in lm.tokenizer(before, add_special_tokens=stimulus.bos)["input_ids"]]
    if not ids:
        raise BadInput("the prompt is empty, so there is nothing to write on from; give one with a word in it")
    if lm.max_length is not None and len(ids) >= lm.max_length:
        raise BadInput(
            f"the prompt has {len(ids)} tokens, and {lm.name} takes {lm.max_length}, the response's among them; give a "
            "shorter one"
        )
    return ids
