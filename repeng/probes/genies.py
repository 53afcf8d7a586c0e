"""The presets that follow GENIES' released MMS, LAT and CRA exactly (Clymer et al. 2023, and its code).

One random pair a training example; 70 % train, 30 % validate. A logistic regression on single responses ranks layers or
heads by validation accuracy; the best 16 are kept. Their directions are mean best minus mean worse over train AND
validation pairs. A pair's score is its mean cosine with them, and an unpenalised logistic regression on the validation
pairs turns it into a probability: those pairs are already inside the directions, a leak that the other probes avoid.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadInput
from repeng.probes.base import Probe, Reading
from repeng.probes.calibration import LogisticCalibration, fit_temperature, log_loss, pair_accuracy
from repeng.probes.cra import contrast
from repeng.probes.fitted import FittedProbe, unit_pair_scores
from repeng.probes.mms import MMS
from repeng.probes.selection import Common, Curves, LayerChoice, assemble, fit_on_pairs, top_k
from repeng.probes.source import SourceData, SourceSplit
from repeng.probes.threads import one_thread

EMBEDDINGS = -1


class MMSGenies(MMS):
    """Mass mean shift on every head's output before the attention's output projection.

    Args:
        k: how many (layer, head) are kept.
    """

    name = "mms-genies"
    site = "hook_z"
    rule = "genies"
    ranks_by_scores = False

    def __init__(self, *, k: int = 16) -> None:
        self.k = k

    def decision_function(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """The projection on the direction, of unit length. GENIES scores no single response; this is ours."""
        norm = self.state()["direction_"].norm(dim=-1, keepdim=True)
        return super().decision_function(activations) / torch.where(norm > 0, norm, 1.0)

    def pair_score(
        self,
        best: Float[Tensor, "*batch stimulus pair d_model"],
        worse: Float[Tensor, "*batch stimulus pair d_model"],
    ) -> Float[Tensor, "*batch pair"]:
        """The cosine of the pair's difference with the direction."""
        direction = self.state()["direction_"][..., None, :]
        return torch.cosine_similarity(self.features(best) - self.features(worse), direction, dim=-1)


class CRAGenies(MMSGenies):
    """Mass mean shift on `yes - alpha * no` of every head.

    Args:
        k: how many (layer, head) are kept.
        alpha: weight of the No text.
    """

    name = "cra-genies"
    stimuli = ("contrast_yes", "contrast_no")

    def __init__(self, *, k: int = 16, alpha: float = 1.0) -> None:
        super().__init__(k=k)
        self.alpha = alpha

    def features(self, activations: Float[Tensor, "*batch stimulus example d"]) -> Float[Tensor, "*batch example d"]:
        """`yes - alpha * no`, in float32."""
        return contrast(activations, self.alpha)


class LATGenies(MMSGenies):
    """Mass mean shift on hidden states: the embeddings (here layer -1) and every block's output but the last.

    Args:
        k: how many of them are kept.
    """

    name = "lat-genies"
    site = "resid_post"

    @classmethod
    def sites(cls) -> tuple[str, ...]:
        """The embeddings are what enters block 0."""
        return ("resid_pre", "resid_post")

    @classmethod
    def reads(cls, n_layers: int, site: str | None = None) -> tuple[Reading, ...]:
        """Block 0's input as layer -1, then every block's output but the last."""
        if site not in (None, cls.site):
            return super().reads(n_layers, site)
        blocks = tuple(Reading(cls.site, layer, layer) for layer in range(n_layers - 1))
        return (Reading("resid_pre", 0, EMBEDDINGS), *blocks)


class LATStimulus2Genies(LATGenies):
    """The same on LAT's second stimulus."""

    name = "lat-stimulus-2-genies"
    stimuli = ("lat2",)


def fit_genies(probe: Probe, data: SourceData, split: SourceSplit, layers: LayerChoice, common: Common) -> FittedProbe:
    """Rank, fit and calibrate as GENIES released it."""
    if not isinstance(probe, MMSGenies):
        raise BadInput(f"probe {probe.name!r}: the genies rule fits only the presets of repeng.probes.genies")
    if len(split.held_out_one) < 2:
        raise BadInput(f"{len(split.held_out_one)} validation pair(s); {probe.name} needs 2 or more to calibrate")
    shape = data.activations.shape[:2] if data.has_heads else (data.activations.shape[0], 1)
    ranking = rank_by_regression(probe, data, split).reshape(shape)
    fitted = fit_on_pairs(probe, data, np.concatenate([split.train, split.held_out_one]))
    cosines = unit_pair_scores(fitted, data.activations, split.held_out_one, data.layers).reshape(*shape, -1)
    temperature = fit_temperature(cosines)
    train = unit_pair_scores(fitted, data.activations, split.train, data.layers).reshape(*shape, -1)
    curves = Curves(
        scores=cosines,
        temperature=temperature,
        accuracy=ranking,
        log_loss=log_loss(cosines, temperature),
        train_accuracy=pair_accuracy(train),
    )
    units = best_units(ranking, data.layers, layers, probe.k)
    mean_cosine = np.mean(cosines[tuple(np.transpose(units))], axis=0)
    calibration = fit_released_calibration(mean_cosine, common.seed)
    return assemble(fitted, data, curves, units, np.zeros(len(units)), np.ones(len(units)), calibration, common)


def rank_by_regression(probe: MMSGenies, data: SourceData, split: SourceSplit) -> Float[np.ndarray, " unit"]:
    """Validation accuracy, over single responses, of each (layer, head)'s logistic regression."""
    from sklearn.linear_model import LogisticRegression

    train, validation = split.train.reshape(-1), split.held_out_one.reshape(-1)
    features = [probe.features(data.rows(rows)).cpu().numpy() for rows in (train, validation)]
    accuracies = []
    with one_thread():
        for learn, test in zip(*(x.reshape(-1, *x.shape[-2:]) for x in features), strict=True):
            model = LogisticRegression(C=1.0, max_iter=1000).fit(learn, data.labels[train])
            accuracies.append(model.score(test, data.labels[validation]))
    return np.array(accuracies)


def best_units(
    accuracy: Float[np.ndarray, "layer head"], layers: tuple[int, ...], choice: LayerChoice, k: int
) -> list[tuple[int, int]]:
    """Positions (layer, head) of the k highest accuracies. Ties go to the later one.

    GENIES reverses numpy's default sort, whose order of ties depends on the machine; reversing a stable sort is the
    one of its orders that does not.
    """
    order = np.argsort(accuracy.reshape(-1), kind="stable")[::-1]
    ranked = [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, accuracy.shape), strict=True)]
    if isinstance(choice, tuple):
        return [unit for unit in ranked if layers[unit[0]] in choice][:k]
    if choice == "all":
        return ranked
    return ranked[: k if choice == "auto" else top_k(choice)]


def fit_released_calibration(mean_cosine: Float[np.ndarray, " pair"], seed: int) -> LogisticCalibration:
    """Unpenalised logistic regression on (1 + cosine) / 2, every second validation pair turned round."""
    from sklearn.linear_model import LogisticRegression

    toward_best: Int[np.ndarray, " pair"] = (np.arange(len(mean_cosine)) % 2 == 0).astype(np.int64)
    scores = (1 + np.where(toward_best == 1, mean_cosine, -mean_cosine)) / 2
    model = LogisticRegression(C=np.inf).fit(scores[:, None], toward_best)
    return LogisticCalibration(float(model.coef_[0, 0]), float(model.intercept_[0]), seed)
