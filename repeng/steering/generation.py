"""What a model writes on from a prompt, as it is and steered."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Example
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput
from repeng.models.load import LanguageModel


@dataclass(frozen=True)
class Sampling:
    """How a text is written on.

    Attributes:
        max_new_tokens: the most tokens; an end-of-sequence token ends it earlier.
        temperature: 0 always takes the likeliest token.
        seed: of the draws, the same for every strength.

    Raises:
        BadInput: a number that cannot be.
    """

    max_new_tokens: int = 60
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise BadInput(f"max_new_tokens is {self.max_new_tokens}; it is 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise BadInput(f"temperature is {self.temperature}; it is 0 (always the likeliest token) or more")


def continued(
    lm: LanguageModel,
    stimulus: Stimulus,
    prompt: str,
    how: Sampling,
    steered: AbstractContextManager[Any] | None = None,
) -> str:
    """What a model writes after a prompt.

    Args:
        lm: the model.
        stimulus: how the prompt is written, as a chat where it is one.
        prompt: the text.
        how: it is sampled.
        steered: a context in which the model is steered; None for the model as it is.

    Raises:
        BadInput: the prompt has no token, or fills the model's window.
    """
    before = stimulus.parts(Example(prompt, ("",), ()), chat_renderer(lm.tokenizer))[0].prefix
    encoded = lm.tokenizer(before, add_special_tokens=stimulus.bos, return_tensors="pt")
    ids = encoded["input_ids"].to(lm.device)
    if not ids.numel():
        raise BadInput("the prompt is empty, so there is nothing to write on from; give one with a word in it")
    if lm.max_length is not None and ids.shape[1] >= lm.max_length:
        raise BadInput(
            f"the prompt has {ids.shape[1]} tokens, and {lm.name} takes {lm.max_length}, the response's among them; "
            "give a shorter one"
        )
    room = how.max_new_tokens if lm.max_length is None else min(how.max_new_tokens, lm.max_length - ids.shape[1])
    sampled = {"do_sample": True, "temperature": how.temperature} if how.temperature else {"do_sample": False}
    model: Any = lm.model
    devices = [lm.device] if lm.device.type == "cuda" else []
    # transformers draws from the process's own generator, which is put back as it was.
    with torch.random.fork_rng(devices), torch.no_grad(), steered or nullcontext():
        torch.manual_seed(how.seed)
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, pad_token_id=lm.pad_id, **sampled
        )
    text: str = lm.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
    return text
