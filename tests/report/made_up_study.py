"""A small made-up study: rows, evaluation files and the distributions that they are about."""

from __future__ import annotations

from dataclasses import fields

from repeng.results import ResultRow

SHIFTS = (
    ("easy", "hard", "extreme", "difficulty"),
    ("short", "long", "extreme", "quality"),
    ("plain", "sycophantic", "probing", "unwanted_personas"),
    ("plain", "cued", "probing", "spurious_cues"),
)


def make_row(**values: object) -> ResultRow:
    """A row with those values and blanks elsewhere."""
    blank = {field.name: None for field in fields(ResultRow)}
    texts = {"model": "tiny", "method": "mms", "layers": "1", "source": "easy", "target": "hard"}
    rest = {"target_reference": values.get("target", "hard"), "label": "", "category": "", "n_pairs": 100}
    return ResultRow(**{**blank, **texts, **rest, "n_prompts": 100, **values})


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
