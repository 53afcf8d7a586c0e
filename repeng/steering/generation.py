"""What a model writes on from a prompt, as it is and steered."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from repeng.distributions.stimuli import Stimulus
from repeng.models.load import LanguageModel
from repeng.models.sampling import Sampling, prompt_ids


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
    ids = torch.tensor([prompt_ids(lm, stimulus, prompt)], device=lm.device)
    room = how.room(lm, ids.shape[1])
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
