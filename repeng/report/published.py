"""Published figures of the GENIES benchmark (Clymer et al. 2023, arXiv 2311.07723), for orientation."""

from __future__ import annotations

from collections.abc import Collection

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
