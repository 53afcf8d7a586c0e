"""What a reader of labelled texts' figures should know; and the benign distribution that sets their thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from repeng.benchmarks.loaded import LoadedBenchmark
from repeng.distributions.cautions import FEWEST_NEGATIVES, Caution
from repeng.distributions.schema import Prompt, Split
from repeng.errors import BadInput
from repeng.metrics import TextEvaluation
from repeng.probes.source import TRAIN_SHARE
from repeng.study.evaluations import MethodEvaluation


def benign_split(world: LoadedBenchmark, name: str) -> Split:
    """The test split of the benign distribution, whose texts of label 0 set thresholds.

    Raises:
        BadInput: no target holds labelled texts; it has no text of label 0, or one that a target has too.
    """
    split = world.distributions[name].test
    targets = {shift.target: world.distributions[shift.target].test for shift in world.benchmark.shifts}
    texts = {target: own for target, own in targets.items() if own.as_texts}
    if not texts:
        raise BadInput(f"--benign {name} sets thresholds for labelled texts, and no target holds such; leave it out")
    if split.labels.all():
        raise BadInput(f"{name}/test has no text of label 0 to set a threshold on; name another with --benign")
    own = _texts(split)
    for target, asked in texts.items():
        if shared := len(own & _texts(asked)):
            raise BadInput(
                f"{shared} of the texts of {name}/test are in {target}/test too, and thresholds must not be set on "
                "what is asked about; name another distribution with --benign"
            )
    return split


def few_negatives(world: LoadedBenchmark, benign: Split | None) -> list[Caution]:
    """Where a threshold of 1 % false positives is set on so few texts that it is the highest of them."""
    if benign is not None:
        count = int((benign.labels == 0).sum())
        return [_few(benign.distribution, f"{count}")] if count < FEWEST_NEGATIVES else []
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
    return {(example.prompt, response) for example in split.examples for response in example.responses}
