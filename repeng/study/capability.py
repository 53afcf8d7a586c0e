"""Target-tuned capability: what the best method, tuned on a target's reference, reaches there.

The winner is chosen on held-out prompts of the reference's TRAIN split; its test split then only scores the winner.
GENIES takes the best test accuracy instead, which is a maximum over noisy figures; ours is no larger.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repeng.atomic import write_atomically
from repeng.places import Place
from repeng.study.evaluations import MethodEvaluation, StudyEvaluations


@dataclass(frozen=True)
class Capability:
    """The winning method on one reference, and its answer on that reference's test split."""

    reference: str
    method: str
    answer: MethodEvaluation


def target_tuned_capability(
    answers: StudyEvaluations, methods: Sequence[str], references: Iterable[str]
) -> dict[str, Capability]:
    """The capability of each reference on which at least one of the methods was tuned.

    Args:
        answers: among them each method's on (reference, reference).
        methods: names of the methods that compete; ties go to the first.
        references: names of distributions.
    """
    found = {}
    for reference in references:
        tuned = [
            (answer.held_out_accuracy, name, answer)
            for name in methods
            if (answer := answers.get(name, reference, reference)) is not None and answer.held_out_accuracy is not None
        ]
        if tuned:
            _, name, answer = max(tuned, key=lambda entry: entry[0])
            found[reference] = Capability(reference, name, answer)
    return found


def write_capability(found: Capability, folder: Place) -> None:
    """FOLDER/REFERENCE.json as GENIES has it next to its evaluations, so that `repeng rescore` finds it."""
    held = {
        "best_intervention": found.method,
        "best_intervention_accuracy": found.answer.evaluation.accuracy,
        "target": found.reference,
        "target_reference": found.reference,
    }
    write_atomically(folder / f"{found.reference}.json", json.dumps(held, indent=1) + "\n")
