"""The presets that follow GENIES' released MMS, LAT and CRA exactly (Clymer et al. 2023, and its code).

One random pair a training example; 70 % train, 30 % validate. A logistic regression on single responses ranks layers or
heads by validation accuracy; the best 16 are kept. Their directions are mean best minus mean worse over train AND
validation pairs. A pair's score is its mean cosine with them, and an unpenalised logistic regression on the validation
pairs turns it into a probability: those pairs are already inside the directions, a leak that the other probes avoid.
Its intercept makes the order of the two responses matter; the parameter `order` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadArray, BadInput
from repeng.probes.base import Labels, Probe, Reading
from repeng.probes.calibration import LogisticCalibration, Temperature, fit_temperature
from repeng.probes.cra import contrast
from repeng.probes.mms import MMS
from repeng.probes.selection import HeldOut, Ranking, Rule, Unit, best_third, earliest
from repeng.probes.source import SourceData, SourceSplit, take
from repeng.threads import one_thread

EMBEDDINGS = -1
ORDERS = ("drawn", "both", "sign")
"""`MMSGenies.order`."""


class MMSGenies(MMS):
    """Mass mean shift on every head's output before the attention's output projection.

    Args:
        k: how many (layer, head) are kept.
        order: `drawn`, as released: which response of a pair stands first is drawn, and the intercept may decide who
            wins; `both`: the mean over the two orders, which is antisymmetric; `sign`: the cosine's sign decides who
            wins, and a temperature gives the probability.
    """

    name = "mms-genies"
    title = "mass mean shift of heads as GENIES released it"
    site = "hook_z"
    rule = "genies"
    ranks_by_scores = False

    def __init__(self, *, k: int = 16, order: str = "drawn") -> None:
        self.k = k
        self.order = order

    @property
    def keeps(self) -> int:
        """K."""
        return self.k

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],
    ) -> None:
        """The direction."""
        if self.order not in ORDERS:
            raise BadArray(f"order {self.order!r}: choose {', '.join(ORDERS[:-1])} or {ORDERS[-1]}")
        super().learn(activations, labels, pairs)

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """The projection on the direction, of unit length. GENIES scores no single response; this is ours."""
        norm = self.direction_.norm(dim=-1, keepdim=True)
        return super().response_scores(activations) / torch.where(norm > 0, norm, 1.0)

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
        order: as of `MMSGenies`.
    """

    name = "cra-genies"
    title = "contrastive representation arithmetic as GENIES released it"
    stimuli = ("contrast_yes", "contrast_no")

    def __init__(self, *, k: int = 16, alpha: float = 1.0, order: str = "drawn") -> None:
        super().__init__(k=k, order=order)
        self.alpha = alpha

    def features(self, activations: Float[Tensor, "*batch stimulus example d"]) -> Float[Tensor, "*batch example d"]:
        """`yes - alpha * no`, in float32."""
        return contrast(activations, self.alpha)


class LATGenies(MMSGenies):
    """Mass mean shift on hidden states: the embeddings (here layer -1) and every block's output but the last.

    Args:
        k: how many of them are kept.
        order: as of `MMSGenies`.
    """

    name = "lat-genies"
    title = "linear artificial tomography as GENIES released it"
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
    title = "linear artificial tomography, second stimulus, as GENIES released it"
    stimuli = ("lat2",)


def latest_first(ranking: Ranking) -> list[Unit]:
    """By highest accuracy; ties go to the later one.

    GENIES reverses numpy's default sort, whose order of ties depends on the machine; reversing a stable sort is the
    one of its orders that does not.
    """
    order = np.argsort(ranking.accuracy.reshape(-1), kind="stable")[::-1]
    places = zip(*np.unravel_index(order, ranking.accuracy.shape), strict=True)
    return [(int(layer), int(head)) for layer, head in places]


def latest_of_layers(ranking: Ranking, keeps: int, layers: tuple[int, ...]) -> list[Unit]:
    """The K best of some layers."""
    return [unit for unit in latest_first(ranking) if ranking.layers[unit[0]] in layers][:keeps]


RELEASED_RULES: Mapping[str, Rule] = {
    "auto": lambda ranking, keeps, _argument: latest_first(ranking)[:keeps],
    "one-se": earliest,
    "average": best_third,
    "all": lambda ranking, _keeps, _argument: latest_first(ranking),
    "top-k": lambda ranking, _keeps, count: latest_first(ranking)[:count],
    "layers": latest_of_layers,
}


class AsReleased(HeldOut):
    """Rank, fit and calibrate as GENIES released it."""

    rules = RELEASED_RULES
    standardises = False

    def check(
        self, probe: Probe, labels: Float[np.ndarray, " response"], examples: Int[np.ndarray, " response"]
    ) -> None:
        """The released code knows pairs alone, and one best response an example.

        Raises:
            BadInput: an example has several right responses, or not both labels.
        """
        names, place = np.unique(examples, return_inverse=True)
        right, count = np.bincount(place, labels == 1), np.bincount(place)
        if ((right != 1) | (count < 2)).any():
            wrong = int(np.argmax((right != 1) | (count < 2)))
            raise BadInput(
                f"{probe.name} follows GENIES' released code, in which every example has exactly one right response "
                f"and a wrong one; example {names[wrong]} has {int(right[wrong])} right of {count[wrong]}: take "
                f"{probe.name.removesuffix('-genies')} in its place"
            )

    def fitted_on(self, split: SourceSplit) -> Int[np.ndarray, "pair 2"]:
        """The validation pairs too."""
        return np.concatenate([split.train, split.held_out_one])

    def validation(self, split: SourceSplit) -> Int[np.ndarray, "pair 2"]:
        """One random pair of each held-out example.

        Raises:
            BadInput: there is none to calibrate on, or one.
        """
        if len(split.held_out_one) < 2:
            raise BadInput(f"{len(split.held_out_one)} validation pair(s); the genies rule needs 2 or more")
        return split.held_out_one

    def accuracy(
        self,
        probe: Probe,
        data: SourceData,
        split: SourceSplit,
        scores: Float[np.ndarray, "layer head pair"],
    ) -> Float[np.ndarray, "layer head"]:
        """That of a logistic regression on single responses."""
        return rank_by_regression(preset(probe), data, split).reshape(scores.shape[:2])

    def calibrate(
        self, probe: Probe, scores: Float[np.ndarray, " pair"], seed: int
    ) -> Temperature | LogisticCalibration:
        """Unpenalised logistic regression on (1 + cosine) / 2, every second validation pair turned round.

        With `order="sign"` a temperature on the same pairs.
        """
        order = preset(probe).order
        if order == "sign":
            return Temperature(float(fit_temperature(scores)))
        from sklearn.linear_model import LogisticRegression

        toward_best: Int[np.ndarray, " pair"] = (np.arange(len(scores)) % 2 == 0).astype(np.int64)
        inputs = (1 + np.where(toward_best == 1, scores, -scores)) / 2
        model = LogisticRegression(C=np.inf).fit(inputs[:, None], toward_best)
        return LogisticCalibration(float(model.coef_[0, 0]), float(model.intercept_[0]), seed, both=order == "both")


def preset(probe: Probe) -> MMSGenies:
    """The probe, if it is one that the rule fits.

    Raises:
        BadInput: it is another.
    """
    if not isinstance(probe, MMSGenies):
        raise BadInput(f"probe {probe.name!r}: the genies rule fits only the presets of repeng.probes.genies")
    return probe


def rank_by_regression(probe: MMSGenies, data: SourceData, split: SourceSplit) -> Float[np.ndarray, " unit"]:
    """Validation accuracy, over single responses, of each (layer, head)'s logistic regression."""
    from sklearn.linear_model import LogisticRegression

    train, validation = split.train.reshape(-1), split.held_out_one.reshape(-1)
    features = [probe.features(take(data.activations, rows)).cpu().numpy() for rows in (train, validation)]
    accuracies = []
    with one_thread():
        for learn, test in zip(*(x.reshape(-1, *x.shape[-2:]) for x in features), strict=True):
            model = LogisticRegression(C=1.0, max_iter=1000).fit(learn, data.labels[train])
            accuracies.append(model.score(test, data.labels[validation]))
    return np.array(accuracies)
