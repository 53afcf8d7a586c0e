"""Weight-tuned reward models as methods of a study."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from repeng.activations.store.cached_split import evaluation_of_scores
from repeng.distributions.schema import Split
from repeng.methods.base import Context, RequiredActivations
from repeng.metrics import Evaluation
from repeng.models.fingerprint import find_model
from repeng.tuning.progress import TuneProgress
from repeng.tuning.reward_model import RewardModel
from repeng.tuning.scoring import load_tuned, score_split
from repeng.tuning.tuned_model import TunedModel, TuningRun, carry_out, plan_tuning

log = logging.getLogger(__name__)

STEPS_BETWEEN_LINES = 25


@dataclass(frozen=True)
class Tuning:
    """`lora`, `prompt-tuning` and `full`. A model tuned once is found again, whatever the study."""

    name: str
    tuned: bool = True
    learns: bool = True
    fits_on_cache: bool = False

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Nothing of the store."""
        return ()

    def settings(self, context: Context) -> dict[str, Any]:
        """The preset, and the seed."""
        return {"preset": context.tune_preset, "seed": context.seed}

    def run(self, source: Split, context: Context) -> TuningRun:
        """The run that fitting on this source is."""
        return plan_tuning(
            find_model(context.model).path,
            source,
            method=self.name,
            root=context.tuned,
            preset=context.tune_preset,
            seed=context.seed,
            device=context.device,
            dtype=context.dtype,
        )

    def fit(self, source: Split, context: Context) -> FittedTuning:
        """Tune on the source, from the last checkpoint if there is one."""
        found = carry_out(self.run(source, context), tell(self.name, source.distribution, context.note))
        return FittedTuning(found, context.device)


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

    def evaluate(self, target: Split) -> Evaluation:
        """The softmax of a pair's scores; pairs with a response that is too long are left out."""
        _, scores = score_split(self.reward, target)
        return evaluation_of_scores(target, scores)


def tell(method: str, source: str, note: Callable[[str], None]) -> Callable[[TuneProgress], None]:
    """A line now and then: step, loss, held-out accuracy; and where a stopped run goes on from."""

    def progress(step: TuneProgress) -> None:
        first = step.step == (step.resumed_from or 0) + 1
        if first and step.resumed_from:
            note(f"{method} on {source}: goes on from step {step.resumed_from}")
        if step.held_out_accuracy is not None or step.step % STEPS_BETWEEN_LINES == 0 or step.step == step.steps:
            held_out = "" if step.held_out_accuracy is None else f", held-out accuracy {step.held_out_accuracy:.3f}"
            note(f"{method} on {source}: step {step.step} of {step.steps}, loss {step.loss:.3f}{held_out}")

    return progress
