"""A probe applied at every token of one text: where in a response does its score come from?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Run, TextRequest
from repeng.activations.layouts.padded import padded_batches
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.models.load import LanguageModel
from repeng.models.tokens import tokenize
from repeng.probes.fitted import FittedProbe

TokenScores = Callable[[Example, int], list[tuple[str, float]]]


def token_scorer(lm: LanguageModel, fitted: FittedProbe) -> TokenScores:
    """A function that scores every token of one response's text.

    Args:
        lm: the model that the probe was fitted on.
        fitted: a probe that reads one stimulus.

    Raises:
        BadInput: the probe reads a contrast of stimuli, so that a single text has no score.
    """
    if len(fitted.stimuli) != 1:
        raise BadInput(
            f"probe {fitted.name!r} reads {' and '.join(fitted.stimuli)}, so the tokens of one text have no "
            "score of their own; take a probe that reads one text, such as mms, lat, logistic or lda"
        )
    stimulus = get_stimulus(fitted.stimuli[0])
    readings = fitted.reads(lm.n_layers)
    hooks = tuple((reading.site, reading.block) for reading in readings)

    def score(example: Example, response: int) -> list[tuple[str, float]]:
        split = Split("one", "one", (replace(example, best=0),))
        text = tokenize(split, stimulus, lm)[response]
        if text is None:
            raise BadInput(f"this text is longer than the {lm.max_length} tokens that {lm.name} takes")
        request = TextRequest(tuple(text.ids), positions=tuple(range(len(text.ids))))
        plan = Run((request,), hooks, len(text.ids), torch.float32)
        (chunk,) = run(lm, plan, padded_batches)
        # [token, d] and for heads [token, head, d_head], as a probe takes them: heads lead, one stimulus.
        layers = torch.stack([chunk.vectors[hook].float() for hook in hooks])
        layers = layers.permute(0, 2, 1, 3).unsqueeze(2) if layers.ndim == 4 else layers.unsqueeze(1)
        scores = fitted.scores(layers, fitted.layers)
        words = [lm.tokenizer.decode([token]) for token in text.ids]
        return list(zip(words, map(float, scores), strict=True))

    return score
