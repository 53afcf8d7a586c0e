"""Published figures of the GENIES benchmark (Clymer et al. 2023, arXiv 2311.07723), for orientation."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from repeng.report.frames import in_order
from repeng.report.page import Cell, Grid, Line

MODEL = "LLaMA-30B"
GENIES_MEANS = (
    ("mms", "mms (mass mean shift)", 0.620),
    ("lat", "lat (linear artificial tomography)", 0.577),
    ("cra", "cra (contrastive representation arithmetic)", 0.577),
    ("lora", "lora", 0.561),
    ("ccs", "ccs (contrast consistent search)", 0.549),
    ("", "lat with the second stimulus", 0.534),
    ("few-shot", "few-shot", 0.498),
    ("prompt-tuning", "prompt-tuning", 0.487),
    ("zero-shot", "zero-shot", 0.486),
)
"""Our method's name, the published one's title, and its mean generalization accuracy over the 15 shifts."""

GENIES_TARGETS = frozenset(
    (
        *("us_history_fiction", "spanish_output", "change_my_view", "us_history", "code_hard", "alpaca_hard"),
        *("raven_matrices", "ranking_logic", "alpaca_high_quality", "alpaca_long", "wrong_arc", "truthful_qa"),
        *("sycophancy_mimicry", "survival_influence", "reward_seeking"),
    )
)


def is_genies(shifts: Collection[tuple[str, str]]) -> bool:
    """Whether these sources and targets are the 15 shifts that the published means are over."""
    return len(shifts) == len(GENIES_TARGETS) and {target for _, target in shifts} == GENIES_TARGETS


def published_table(frame: pd.DataFrame) -> Grid:
    """The published means next to those of a study, of methods by the same name and of their presets."""
    means = frame.groupby(["model", "method"])["accuracy"].mean().dropna().to_dict()
    models = in_order(frame["model"])
    lines = []
    for method, title, accuracy in GENIES_MEANS:
        forms = ((method, ""), (f"{method}-genies", " (preset)"))
        ours = [
            ", ".join(f"{means[model, name]:.3f}{note}" for name, note in forms if (model, name) in means)
            for model in models
        ]
        lines.append(Line(title, tuple(Cell(text or "–") for text in (f"{accuracy:.3f}", *ours))))
    return Grid(("method", MODEL, *models), tuple(lines))
