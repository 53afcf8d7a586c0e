"""What is watched: a model and a fitted probe, however they are given, seen to belong together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from repeng.activations.matching import match
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput
from repeng.models.fingerprint import Identity, max_length, slug
from repeng.models.load import LanguageModel, load_model
from repeng.places import Place
from repeng.probes.fitted import FittedProbe
from repeng.probes.io import load
from repeng.watching.hooks import ScoreHooks
from repeng.watching.token_score import Alarm, Part, TokenScore, alarm_of

log = logging.getLogger(__name__)

Model = str | LanguageModel | nn.Module
"""A name for `load_model`, what it gives, or a causal language model of transformers."""
ProbeAt = str | Place | FittedProbe
"""A fitted probe, or the folder that it is saved in."""


@dataclass(frozen=True)
class Watched:
    """A model with the probe that watches it.

    Attributes:
        lm: the model.
        fitted: the probe.
        alarm: what rings.
        storage_dtype: what activations are rounded to, as in the store that the probe was fitted on; None for not.
        stimulus: how prompt and response become the text that the probe reads.
        cautions: what is not as it was when the probe was fitted, in sentences.
    """

    lm: LanguageModel
    fitted: FittedProbe
    alarm: Alarm
    storage_dtype: torch.dtype | None
    stimulus: Stimulus
    cautions: tuple[str, ...]

    @classmethod
    def of(
        cls,
        model: Model,
        probe: ProbeAt,
        *,
        tokenizer: Any = None,
        alarm: str | None = None,
        any_model: bool = False,
        stimulus: str | None = None,
    ) -> Watched:
        """A model and a probe, loaded where they are named.

        Args:
            model: hub id, folder, GGUF file, `mini` or `smollm2`; what `load_model` gives; or a causal language model
                of transformers, whose files nothing is compared with.
            probe: what `fit` gives, or the folder that it was saved in.
            tokenizer: of a model of transformers.
            alarm: as of `alarm_of`.
            any_model: take a model that is not known to be the one that the probe was fitted on.
            stimulus: the text of the probe's, where it is one of the user's own: `NAME={prompt}...{response}...`.

        Raises:
            BadInput: they are not there, do not go together, or the probe cannot be followed token by token.
            CaptureMismatch: the probe was fitted on another model.
        """
        fitted = probe if isinstance(probe, FittedProbe) else load(probe)
        lm = _language_model(model, tokenizer)
        matched = match(fitted.provenance, lm, what=f"the probe {fitted.name}", any_model=any_model)
        for caution in matched.cautions:
            log.warning("%s", caution)
        storage = None if matched.storage_dtype is None else getattr(torch, matched.storage_dtype)
        watched = cls(lm, fitted, alarm_of(fitted, alarm), storage, _stimulus_of(fitted, stimulus), matched.cautions)
        # What cannot be watched is said before anything is read.
        hooks = watched.hooks()
        if storage is None:
            hooks.check_width()
        return watched

    def hooks(self) -> ScoreHooks:
        """Hooks that score what the model reads."""
        return ScoreHooks(self.lm, self.fitted, self.storage_dtype)

    def probability(self, score: float | None) -> float | None:
        """Of a score, by the source's calibration of single texts."""
        if score is None or self.fitted.texts is None:
            return None
        return float(self.fitted.texts(np.array([score]))[0])

    def token(
        self, token_id: int, text: str, score: float | None, position: int, part: Part, *, rings: bool
    ) -> TokenScore:
        """What is said of a token; `rings` is whether it may ring at all."""
        alarm = rings and self.alarm.rings(score)
        return TokenScore(token_id, text, score, self.probability(score), alarm, position, part)


def _language_model(model: Model, tokenizer: Any) -> LanguageModel:
    """A model as one of ours.

    Raises:
        BadInput: a model of transformers without its tokenizer, or no model.
    """
    if isinstance(model, LanguageModel):
        return model
    if isinstance(model, str):
        return load_model(model)
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise BadInput(f"{type(model).__name__} is no causal language model; give a name, or what load_model gives")
    if tokenizer is None:
        raise BadInput(f"a {type(model).__name__} has no tokenizer with it; give it too (tokenizer=...)")
    config: Any = model.config
    text = config.get_text_config()
    name = str(getattr(model, "name_or_path", "") or type(model).__name__)
    identity = Identity(
        model=name,
        slug=slug(name),
        # Its weights may be anything by now: no file stands for them.
        weights="",
        config="",
        tokenizer="",
        dtype=str(model.dtype).removeprefix("torch."),
        n_layers=int(text.num_hidden_layers),
        d_model=int(text.hidden_size),
        max_length=max_length(text.to_dict(), None),
    )
    return LanguageModel(model, tokenizer, identity)


def _stimulus_of(fitted: FittedProbe, text: str | None) -> Stimulus:
    """The stimulus that a probe reads, by its name, or by its text where it is one of the user's own.

    Raises:
        BadInput: the text is of another stimulus, or it is needed and not given.
    """
    name = fitted.stimuli[0]
    if text is not None:
        found = get_stimulus(text)
        if found.name != name:
            raise BadInput(f"probe {fitted.name!r} reads the stimulus {name!r}, and {text!r} is {found.name!r}")
        return found
    try:
        return get_stimulus(name)
    except BadInput as error:
        raise BadInput(
            f"probe {fitted.name!r} reads the stimulus {name!r}, a template or question of your own, of which it knows "
            "the name alone; give its text, as to repeng cache (--stimulus 'NAME={prompt}...{response}...')"
        ) from error
