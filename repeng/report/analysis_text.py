"""How a study was fitted, judged and tested, in sentences for a paper."""

from __future__ import annotations

import pandas as pd

from repeng.report.cited_text import Cite, Piece, Yours
from repeng.report.frames import in_order, units_of
from repeng.report.method_sentences import GENIES
from repeng.results import AUROC, PAIR_ACCURACY
from repeng.study.settings import Study

Sentence = list[Piece]
LAYERS = {
    "auto": "every layer within one standard error of the best there, whose scores are averaged",
    "one-se": "the earliest layer within one standard error of the best there",
    "average": "the best third of the layers there, whose scores are averaged",
    "all": "all layers, whose scores are averaged",
    "top-k:1": "the best layer there",
}
"""What each rule takes, of layers ranked on held-out prompts of the source."""
PLATT = "platt1999probabilistic"


def fitting(frame: pd.DataFrame, study: Study | None) -> list[Sentence]:
    """How probes and baselines are fitted, and how layers and probabilities are chosen.

    Of results without settings, such as published files, nothing is claimed.
    """
    if study is None:
        return [["How the methods were fitted is not recorded with these results", Yours(), "."]]
    found: list[Sentence] = []
    probes = frame[frame["kind"] == "probe"]
    plain = probes[~probes["method"].str.contains("-genies")]
    if not plain.empty:
        where, chosen = _layers(study.layers)
        found.append(
            [
                f"Each probe is fitted at {where} on 70 % of the source's prompts; the others choose {chosen}",
                *_calibration(plain),
                ".",
            ]
        )
    if len(plain) < len(probes):
        found.append(["Presets whose name ends in -genies choose and calibrate as released."])
    kinds = {"probe": "probes", "text": "baselines that read words"}
    repeated = frame[frame["kind"].isin(kinds) & (frame["n_fits"] > 1)]
    if not repeated.empty:
        who = " and ".join(name for kind, name in kinds.items() if kind in set(repeated["kind"]))
        found.append(
            [
                f"{who[0].upper()}{who[1:]} were fitted {int(repeated['n_fits'].max())} times, with other splits, "
                "draws and starts, and each figure is the mean over fits."
            ]
        )
    if frame["kind"].isin(("probe", "tuned", "text")).any():
        found.append(["For a shift nothing is fitted or chosen with the target's labels."])
    return found


def _layers(rule: str) -> tuple[str, str]:
    """At which layers probes are fitted, and what held-out prompts choose of them, to go before the calibration."""
    if rule in LAYERS:
        return "every layer", f"{LAYERS[rule]}, and "
    if rule.startswith("top-k:"):
        return "every layer", f"the {rule.removeprefix('top-k:')} best layers there, whose scores are averaged, and "
    return (f"layer {rule}" if rule.isdigit() else f"layers {rule}, whose scores are averaged,"), ""


def _calibration(probes: pd.DataFrame) -> Sentence:
    of_pairs: Sentence = ["the temperature that makes probabilities of scores", Cite(("guo2017calibration", PLATT))]
    of_texts: Sentence = ["for single texts the probability and the threshold, by Platt's scaling", Cite((PLATT,))]
    pairs, texts = (bool(probes["figure"].eq(figure).any()) for figure in (PAIR_ACCURACY, AUROC))
    if pairs and texts:
        return [*of_pairs, " and ", *of_texts]
    return of_texts if texts else of_pairs


def nulls(frame: pd.DataFrame, study: Study | None) -> list[Sentence]:
    """What each probe is held against."""
    if study is None or not study.nulls or frame["null_sd"].isna().all():
        return []
    sentence: Sentence = [
        f"Each probe is held against {study.nulls} fits of the same search on shuffled labels",
        Cite(("ojala2010permutation",)),
    ]
    if frame["selectivity"].notna().any():
        sentence += [", whose mean accuracy selectivity subtracts", Cite(("hewitt2019control",))]
    if frame["random_mean"].notna().any():
        sentence += [f", and shown next to {study.nulls} random directions"]
    return [[*sentence, "."]]


def measures(frame: pd.DataFrame) -> list[Sentence]:
    """What the figures are."""
    kinds = in_order(frame["figure"])
    found: list[Sentence] = []
    if PAIR_ACCURACY in kinds:
        found.append(
            ["Accuracy is how often a method prefers the best response of a pair (a tie counts half; chance is 0.5)."]
        )
    if AUROC in kinds:
        found.append(["Labelled texts are judged by the area under the ROC curve."])
    if frame["target_tuned_capability"].notna().any():
        found.append(
            [
                "Elicitation is accuracy divided by the target-tuned capability, the highest accuracy that a method "
                "reaches when it is fitted on the target's own train split",
                Cite((GENIES,)),
                ".",
            ]
        )
    if frame["rms_calibration_error"].notna().any():
        sentence: Sentence = [
            "Calibration is judged by the root mean square calibration error over bins of equal mass",
            Cite(("hendrycks2018outlier",)),
        ]
        if frame["rms_calibration_error_debiased"].notna().any():
            sentence += [", also without what the noise of its bins adds", Cite(("kumar2019verified",))]
        found.append([*sentence, "."])
    return found


def intervals(frame: pd.DataFrame) -> list[Sentence]:
    """What intervals are over, and how p-values are corrected."""
    if frame["accuracy_low"].isna().all():
        return []
    kinds = in_order(frame["figure"])
    over = units_of(kinds) + (" and fits" if frame["n_fits"].max() > 1 else "")
    works = ["korn1998intervals"] * (PAIR_ACCURACY in kinds) + ["delong1988"] * (AUROC in kinds)
    sentence: Sentence = [f"Intervals are 95 %, over {over}", Cite(tuple(works))]
    tested = frame[frame["p_corrected"].notna()].drop_duplicates(["model", "method", "source", "target"])
    if not tested.empty:
        sentence += [
            "; p-values against chance and against the null are corrected by Holm's method",
            Cite(("holm1979",)),
            f" over all {len(tested)} results",
        ]
    return [[*sentence, "."]]
