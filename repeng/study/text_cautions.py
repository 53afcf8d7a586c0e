"""What a reader of labelled texts' figures should know; and the benign distribution that sets their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from repeng.benchmarks.loaded import LoadedBenchmark
from repeng.distributions.cautions import FEWEST_NEGATIVES, Caution
from repeng.distributions.schema import Example, Prompt, Split
from repeng.errors import BadInput
from repeng.metrics import TextEvaluation
from repeng.probes.source import TRAIN_SHARE
from repeng.study.evaluations import MethodEvaluation


def benign_split(world: LoadedBenchmark, name: str) -> Split:
    """The test split of the benign distribution, whose texts of label 0 set thresholds, without texts of a target.

    Raises:
        BadInput: no target holds labelled texts; or it has no text of label 0 that no target has.
    """
    split = world.distributions[name].test
    asked: set[tuple[Prompt, str]] = set()
    for target in {shift.target for shift in world.benchmark.shifts}:
        own = world.distributions[target].test
        asked |= _texts(own) if own.as_texts else set()
    if not asked:
        raise BadInput(f"--benign {name} sets thresholds for labelled texts, and no target holds such; leave it out")
    kept = tuple(example for example in split.examples if not asked & _texts_of(example))
    if all(all(example.labels) for example in kept):
        raise BadInput(
            f"{name}/test has no text of label 0, besides those of targets, to set a threshold on; name another with "
            "--benign"
        )
    return split if len(kept) == len(split.examples) else replace(split, examples=kept, origin=None)


def threshold_cautions(world: LoadedBenchmark, benign: Split | None) -> list[Caution]:
    """Where a threshold of 1 % false positives is set on so few texts that it is the highest of them; and what of the
    benign distribution is left out for being a target's."""
    if benign is not None:
        count = int((benign.labels == 0).sum())
        left_out = len(world.distributions[benign.distribution].test.examples) - len(benign.examples)
        shared = [Caution("benign_shared", benign.distribution, f"{left_out} left out")] if left_out else []
        return [*shared, *([_few(benign.distribution, f"{count}")] if count < FEWEST_NEGATIVES else [])]
    asked = {s.source for s in world.benchmark.shifts if world.distributions[s.target].test.as_texts}
    found = []
    for source in sorted(asked):
        count = round((1 - TRAIN_SHARE) * int((world.distributions[source].train.labels == 0).sum()))
        if count < FEWEST_NEGATIVES:
            found.append(_few(source, f"about {count}"))
    return found


def unequal_texts(found: Mapping[tuple[str, str, str], MethodEvaluation]) -> list[Caution]:
    """Where methods of one source and target were asked about different texts."""
    counts: dict[tuple[str, str], dict[int, list[str]]] = {}
    for (method, source, target), one in found.items():
        if isinstance(one.evaluation, TextEvaluation):
            counts.setdefault((source, target), {}).setdefault(one.evaluation.n_texts, []).append(method)
    return [
        Caution("unequal_texts", f"{source} -> {target}", "; ".join(f"{n}: {', '.join(own)}" for n, own in by.items()))
        for (source, target), by in counts.items()
        if len(by) > 1
    ]


def _few(name: str, count: str) -> Caution:
    return Caution("few_negatives", name, count)


def _texts(split: Split) -> set[tuple[Prompt, str]]:
    return {text for example in split.examples for text in _texts_of(example)}


def _texts_of(example: Example) -> set[tuple[Prompt, str]]:
    return {(example.prompt, response) for response in example.responses}
