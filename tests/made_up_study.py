"""A small made-up study: rows, evaluation files and the distributions that they are about."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.metrics import Evaluation
from repeng.models.fingerprint import Identity
from repeng.results import (
    LayerFigure,
    LayerRow,
    ResultRow,
    evaluation_path,
    layer_rows,
    row_from,
    write_evaluation,
    write_results,
)
from repeng.study.provenance import Provenance, SplitRecord

HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\"'`</textarea></script>"
    "{{ 7 * 7 }} \x00\x07\x1b[31m \u202e \u2028 javascript:alert(1) &lt;b&gt;"
)
"""Text that would run, break out of its place or break a parser, were it ever taken for markup."""

SHIFTS = (
    ("easy", "hard", "extreme", "difficulty"),
    ("short", "long", "extreme", "quality"),
    ("plain", "sycophantic", "probing", "unwanted_personas"),
    ("plain", "cued", "probing", "spurious_cues"),
)


def make_row(**values: object) -> ResultRow:
    """A row with those values and blanks elsewhere."""
    texts = {"model": "tiny", "method": "mms", "layers": "1", "source": "easy", "target": "hard"}
    rest = {"target_reference": values.get("target", "hard"), "label": "", "category": "", "n_pairs": 100}
    return ResultRow(**{**texts, **rest, "n_prompts": 100, **values})


def make_rows(
    accuracies: dict[str, tuple[float, ...]], *, model: str = "tiny", capability: float | None = 0.9
) -> list[ResultRow]:
    """One row a method and shift of SHIFTS, intervals of 0.1 about each accuracy."""
    return [
        make_row(
            model=model,
            method=method,
            source=source,
            target=target,
            label=label,
            category=category,
            accuracy=accuracy,
            accuracy_low=max(0.0, accuracy - 0.05),
            accuracy_high=min(1.0, accuracy + 0.05),
            source_id_accuracy=0.95,
            baseline_accuracy=0.6,
            target_tuned_capability=capability,
            elicitation=None if capability is None else accuracy / capability,
            differential_elicitation=None if capability is None else (accuracy - 0.6) / capability,
        )
        for method, values in accuracies.items()
        for accuracy, (source, target, label, category) in zip(values, SHIFTS, strict=True)
    ]


def make_distribution(name: str, *, examples: int = 40, hostile: bool = False) -> Distribution:
    """Distributions of `examples` prompts with three responses each, in a train and a test split."""
    splits = {}
    for split in ("train", "test"):
        listed = []
        for number in range(examples):
            prompt = f"{name} {split} question {number}: what is {number} plus {number}?"
            responses = (f"It is {2 * number}.", f"It is {2 * number + 1}.", f"I will not say ({number}).")
            if hostile:
                prompt, responses = f"{number}. {HOSTILE}", tuple(f"{text} {HOSTILE}" for text in responses)
            if hostile and number == 3:
                prompt = "long " * 20_000 + "LAST WORD"
            listed.append(Example(prompt, responses, number % 3))
        splits[split] = Split(name, split, tuple(listed))
    return Distribution(name, splits)


def make_layers(*, layers: int = 4, probes: tuple[str, ...] = ("mms", "lat")) -> list[LayerRow]:
    """Probes at each layer on each source and shift of SHIFTS; layer 1 is chosen, the last one the oracle.

    The first two are alike, each other one is worse than the one before it.
    """
    asked = [
        *dict.fromkeys((source, source) for source, *_ in SHIFTS),
        *((source, target) for source, target, *_ in SHIFTS),
    ]
    rows = []
    for source, target in asked:
        for place, probe in enumerate(probes):
            reached = [0.5 + 0.1 * layer - (0.01 * place if place > 1 else 0.0) for layer in range(layers)]
            figures = [
                LayerFigure(layer, None, figure, figure - 0.05, figure + 0.05, 0.6, float(layer == 1))
                for layer, figure in enumerate(reached)
            ]
            names = {"model": "tiny", "probe": probe, "source": source, "target": target}
            rows += layer_rows(figures, **names)
    return rows


def make_provenance(weights: str = "sha256:abc", model: str = "tiny") -> Provenance:
    """Of a made-up model and of SHIFTS' distributions, each split of another size."""
    identity = Identity(model, model, weights, "c", "t", "float32", 6, 192, 512)
    names = dict.fromkeys(name for shift in SHIFTS for name in shift[:2])
    splits = [
        SplitRecord(name, split, 10 * number + size, size, 30, 60, False, f"{number:012x}", "~/data")
        for number, name in enumerate(names, start=1)
        for split, size in (("train", 200), ("test", 100))
    ]
    return Provenance("9.8.7", {"python": "3"}, identity, "tiny-1", "bfloat16", "mine", tuple(splits))


def write_study(
    folder: Path, accuracies: dict[str, tuple[float, ...]], *, model: str = "tiny", hostile: bool = False
) -> dict[str, Distribution]:
    """A results folder with results.csv, predictions and study.toml, as `repeng run` leaves it; its distributions."""
    names = sorted({name for shift in SHIFTS for name in shift[:2]})
    distributions = {name: make_distribution(name, hostile=hostile) for name in names}
    generator = np.random.default_rng(0)
    rows = []
    for method, values in accuracies.items():
        for accuracy, (source, target, label, category) in zip(values, SHIFTS, strict=True):
            split = distributions[target].test
            wins = generator.permutation(len(split.pairs)) < round(accuracy * len(split.pairs))
            sure = generator.uniform(0.5, 1.0, len(split.pairs))
            evaluation = Evaluation(
                probabilities=np.where(wins, sure, 1 - sure),
                example=np.array([pair.example for pair in split.pairs]),
                group=np.array([pair.group for pair in split.pairs]),
            )
            provenance = {"model": model, "method": method, "source": source, "target": target}
            path = evaluation_path(folder / "predictions", method, model.replace("/", "-"), source, target)
            write_evaluation(path, evaluation, provenance | {"target_data_hash": split.data_hash})
            shift = Shift(source, target, label=label, category=category)
            rows.append(row_from(evaluation, model=model, method=method, layers="1", shift=shift, capability=0.95))
    write_results(rows, folder / "results.csv")
    (folder / "study.toml").write_text(f'model = "{model}"\n', encoding="utf-8")
    return distributions
