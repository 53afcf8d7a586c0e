"""Weight-tuned reward models: `lora`, `prompt-tuning` and `full`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from repeng.distributions.schema import Example, Split
from repeng.methods.answers import evaluate_split
from repeng.methods.base import Kind, Method, MethodSettings, Note, ResponseScores, Source, Target, no_note
from repeng.metrics import Evaluation
from repeng.models.source import find_model
from repeng.places import on_disk
from repeng.tuning.reward_model import RewardModel
from repeng.tuning.run import TuneProgress, TuningRun, plan_tuning
from repeng.tuning.scoring import load_tuned, score_split
from repeng.tuning.settings import preset_settings
from repeng.tuning.tuned_model import TunedModel, carry_out, tune

STEPS_BETWEEN_LINES = 25
TITLES = {
    "lora": "reward model by LoRA",
    "prompt-tuning": "reward model by prompt-tuning",
    "full": "reward model by tuning all weights",
}


TUNED = "tuned models (under the --store)"


@dataclass(frozen=True)
class Tuning(Method):
    """A model tuned once is found again, whatever the study.

    Attributes:
        method: `lora`, `prompt-tuning` or `full`.
        settings: of the study.
        changes: fields of the preset's settings that are changed.
    """

    name: str
    method: str
    settings: MethodSettings
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    kind: Kind = "tuned"
    counts_towards_capability: bool = True

    def __post_init__(self) -> None:
        preset_settings(self.method, self.settings.tune_preset, **self.changes)

    @property
    def title(self) -> str:  # type: ignore[override]
        """What it is, in words."""
        return TITLES[self.method]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything that determines the weights besides model and data."""
        chosen = preset_settings(self.method, self.settings.tune_preset, **self.changes)
        return {"preset": self.settings.tune_preset, "seed": self.settings.seed, **chosen.key_fields()}

    def trial(self) -> None:
        """See that tuned models can be kept where they are to be.

        Raises:
            BadInput: that is in an object store.
        """
        on_disk(self.settings.tuned, TUNED)

    def run(self, source: Split) -> TuningRun:
        """The run that fitting on this source is."""
        return plan_tuning(
            find_model(self.settings.model).place,
            source,
            method=self.method,
            root=on_disk(self.settings.tuned, TUNED),
            settings=preset_settings(self.method, self.settings.tune_preset, **self.changes),
            seed=self.settings.seed,
            device=self.settings.device,
            dtype=self.settings.dtype,
        )

    def fit(self, source: Source, note: Note = no_note) -> FittedTuning:
        """Tune on the source, from the last checkpoint if there is one."""
        found = carry_out(self.run(source.split), tell(self.name, source.split.distribution, note))
        return FittedTuning(found, self.settings.device)


@dataclass(frozen=True)
class FittedTuning:
    """A tuned model, loaded when it is first asked."""

    model: TunedModel
    device: str = "auto"
    layers: str = ""

    @property
    def held_out_accuracy(self) -> float | None:
        """On held-out prompts of the source; None where the preset holds none out."""
        return self.model.held_out_accuracy

    @cached_property
    def reward(self) -> RewardModel:
        """The loaded model."""
        return load_tuned(self.model, device=self.device)

    def answer(self, target: Target) -> ResponseScores:
        """The reward of each response; one that is too long has none."""
        # A split must name a best response; the score of a response does not depend on which.
        unlabelled = tuple(Example(question.prompt, question.responses, 0) for question in target.questions)
        _, scores = score_split(self.reward, Split(target.distribution, "target", unlabelled))
        return ResponseScores(np.asarray(scores))


def tune_and_score(
    model: str,
    source: Split,
    targets: Mapping[str, Split],
    *,
    device: str = "auto",
    progress: Callable[[TuneProgress], None] | None = None,
    **options: Any,
) -> tuple[TunedModel, dict[str, Evaluation]]:
    """Tune on a source and ask about targets.

    Args:
        model: hub id or folder.
        source: to tune on.
        targets: test splits by name.
        device: to tune and to score on.
        progress: told of every step.
        options: as of `repeng.tuning.tuned_model.tune`.

    Returns:
        The tuned model, and by name what it scores.
    """
    found = tune(model, source, device=device, progress=progress, **options)
    fitted = FittedTuning(found, device)
    return found, {name: evaluate_split(fitted, target) for name, target in targets.items()}


def tell(method: str, source: str, note: Note) -> Callable[[TuneProgress], None]:
    """A line now and then: step, loss, held-out accuracy; and where a stopped run goes on from."""

    def progress(step: TuneProgress) -> None:
        first = step.step == (step.resumed_from or 0) + 1
        if first and step.resumed_from:
            note(f"{method} on {source}: goes on from step {step.resumed_from}")
        if step.held_out_accuracy is not None or step.step % STEPS_BETWEEN_LINES == 0 or step.step == step.steps:
            held_out = "" if step.held_out_accuracy is None else f", held-out accuracy {step.held_out_accuracy:.3f}"
            note(f"{method} on {source}: step {step.step} of {step.steps}, loss {step.loss:.3f}{held_out}")

    return progress
