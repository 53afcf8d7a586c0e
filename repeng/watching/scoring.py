"""From a unit's vectors, token by token, to the scores that a fitted probe gives: of a token, or of the text so far.

Whatever the probe reads of a text, the score at a token is the one that the text would have if it ended there: of a
probe that reads one token, that token's; of one that reads a mean, the mean's over the response's tokens so far; of one
over all tokens, what it makes of those so far. `FittedProbe.scores` of cached activations is the same, text by text.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repeng.activations.token_rules import token_rule
from repeng.errors import BadInput
from repeng.probes.base import LinearProbe, Probe
from repeng.probes.fitted import FittedProbe
from repeng.probes.pooling import MeanOfScores
from repeng.probes.registry import CLASSES
from repeng.probes.trained import TrainedProbe
from repeng.probes.training import COLUMNS

AT_ONCE = 512
"""Tokens of a text that are scored at a time: a long prompt needs no large copy."""
READ_ONE_TEXT = "mms, lat, logistic, lda, mlp, attention or mean-of-scores"
CLOSE = 1e-3
"""How much scores of the same vector differ at the most, relative to the largest, whatever stands next to it."""


class Scorer:
    """Scores of tokens as they come. One is made for each model's pass over texts, and keeps what it must of them.

    Args:
        fitted: the probe.
        storage_dtype: what activations are rounded to before they are scored, as a store rounds them; None for not.
    """

    def __init__(self, fitted: FittedProbe, storage_dtype: torch.dtype | None) -> None:
        self._fitted, self._storage_dtype = fitted, storage_dtype
        self._probes: dict[torch.device, tuple[Probe, Tensor, Tensor]] = {}
        self._tried = type(fitted.probe) in CLASSES
        self.reset()

    def reset(self) -> None:
        """Begin with other texts."""

    def __call__(
        self, vectors: Float[Tensor, "unit row pos d"], counted: bool | Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row pos"]:
        """The scores of the next tokens of some texts, one text a row.

        Args:
            vectors: of each (layer, head) that the probe chose, as the model computes them.
            counted: which tokens are the response's: all, none, or some; on the CPU, so that nothing waits for a
                device.

        Returns:
            In float64 (float32 where the device has none); nan where there is no score, or a vector is not finite.
        """
        if not isinstance(counted, Tensor):
            counted = torch.full(tuple(vectors.shape[1:3]), counted, dtype=torch.bool)
        if vectors.shape[2] <= AT_ONCE:
            return self.ensemble(vectors, counted)
        chunks = zip(vectors.split(AT_ONCE, dim=2), counted.split(AT_ONCE, dim=1), strict=True)
        return torch.cat([self.ensemble(*chunk) for chunk in chunks], dim=1)

    def ensemble(
        self, vectors: Float[Tensor, "unit row pos d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row pos"]:
        """The mean of the units' standardised scores."""
        probe, centre, scale = self._on(vectors.device)
        members = self.members(probe, vectors, counted)
        return ((members.to(centre) - centre) / scale).mean(dim=0)

    def members(
        self, probe: Probe, vectors: Float[Tensor, "unit row pos d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "unit row pos"]:
        """Each unit's own scores."""
        raise NotImplementedError

    def each(self, probe: Probe, vectors: Float[Tensor, "unit row pos d"]) -> Float[Tensor, "unit row pos"]:
        """Each vector's own scores, as if it were all that there is of its text."""
        rounded = self.rounded(vectors)
        units, rows, positions, d = rounded.shape
        batch = rounded.reshape(units, 1, rows * positions, d)
        scores = probe.decision_function(batch)
        if not self._tried and rows * positions > 1:
            self._check_alone(probe, batch, scores)
        # What is infinite, or not a number, may come out of a probe as a number.
        scores = torch.where(torch.isfinite(batch[:, 0]).all(dim=-1), scores, torch.nan)
        return scores.reshape(units, rows, positions)

    def rounded(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """As they would be read back from a store, in float32."""
        return (values if self._storage_dtype is None else values.to(self._storage_dtype)).float()

    def _on(self, device: torch.device) -> tuple[Probe, Tensor, Tensor]:
        """The chosen units' estimators with their centres and scales, on a device."""
        if device not in self._probes:
            chosen, dtype = self._fitted.select(self._fitted.units), torch.float64
            if device.type == "mps":
                dtype = torch.float32
            state = {name: value.to(device) for name, value in chosen.state().items()}
            centre, scale = (
                torch.from_numpy(values).to(dtype).to(device)[:, None, None]
                for values in (self._fitted.centre, self._fitted.scale)
            )
            self._probes[device] = (chosen.with_state(state), centre, scale)
        return self._probes[device]

    def _check_alone(
        self, probe: Probe, batch: Float[Tensor, "unit 1 example d"], scores: Float[Tensor, "unit example"]
    ) -> None:
        """Refuse a probe of somebody's own whose score of a vector hangs on the others that are scored with it."""
        alone = probe.decision_function(batch[..., -1:, :])
        if bool(((alone[:, 0] - scores[:, -1]).abs() > CLOSE * scores.abs().max()).any()):
            raise BadInput(
                f"probe {probe.name!r} scores a text by what else it is given at the same time (it standardises, it "
                "seems), and a text that is watched stands alone; keep what it needs of the source's in fit"
            )
        self._tried = True


class EachToken(Scorer):
    """Of a probe that reads one token: a token's own score."""

    def ensemble(
        self, vectors: Float[Tensor, "unit row pos d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row pos"]:
        """Of a linear probe what the other way gives too, in a third of the operations.

        They are what watching costs: the numbers are few, and each operation takes a device as long as a thousand.
        """
        probe, centre, scale = self._on(vectors.device)
        if not isinstance(probe, LinearProbe) or not _is_plain(probe):
            return super().ensemble(vectors, counted)
        direction, offset = probe.direction_[:, None, None], probe.offset_[:, None, None].to(centre)
        # What is infinite, or not a number, stays so: no weight turns it into a number.
        products = (self.rounded(vectors).to(direction.dtype) * direction).sum(dim=-1)
        if len(products) == 1:
            return ((products.to(centre) - (offset + centre)) / scale)[0]
        return ((products.to(centre) - (offset + centre)) / scale).mean(dim=0)

    def members(
        self,
        probe: Probe,
        vectors: Float[Tensor, "unit row pos d"],
        counted: Bool[Tensor, "row pos"],  # noqa: ARG002  (of every token)
    ) -> Float[Tensor, "unit row pos"]:
        """Each vector's score."""
        return self.each(probe, vectors)


class SoFar(Scorer):
    """Of a probe that takes a mean over the response: that of what was counted so far."""

    def reset(self) -> None:
        """Begin with other texts."""
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    def means(
        self, values: Float[Tensor, "unit row pos *d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "unit row pos *d"]:
        """At each token the mean over the counted ones up to it, of earlier passes too; in float64 where there is."""
        wide = values.float() if values.device.type == "mps" else values.double()
        each = counted.reshape(*counted.shape, *(1,) * (values.ndim - 3))
        sums, counts = torch.where(each, wide, 0.0).cumsum(dim=2), counted.cumsum(dim=1)
        if self._sums is not None and self._counts is not None:
            sums, counts = sums + self._sums[:, :, None], counts + self._counts[:, None]
        self._sums, self._counts = sums[:, :, -1], counts[:, -1]
        return sums / counts.clamp(min=1).reshape(each.shape)


class RunningMean(SoFar):
    """Of a probe that reads the mean over the response: the score of the mean so far."""

    def members(
        self, probe: Probe, vectors: Float[Tensor, "unit row pos d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "unit row pos"]:
        """The score of the mean of the counted vectors so far."""
        counted = counted.to(vectors.device)
        return torch.where(counted, self.each(probe, self.means(vectors, counted).float()), torch.nan)


class MeanOfEach(SoFar):
    """Of the mean of all tokens' linear scores: that mean so far."""

    def members(
        self, probe: Probe, vectors: Float[Tensor, "unit row pos d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "unit row pos"]:
        """The mean of the counted tokens' scores so far."""
        counted = counted.to(vectors.device)
        return torch.where(counted, self.means(self.each(probe, vectors), counted), torch.nan)


class Pooled(Scorer):
    """Of a trained probe over all tokens: what it makes of the tokens so far.

    Only each token's products with the probe's few columns are kept.
    """

    def reset(self) -> None:
        """Begin with other texts."""
        self._products: dict[int, list[Tensor]] = {}

    def members(
        self, probe: Probe, vectors: Float[Tensor, "unit row pos d"], counted: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "unit row pos"]:
        """The pooled score of the counted tokens so far."""
        assert isinstance(probe, TrainedProbe)
        weights = probe.unfolded()
        products = torch.einsum("urpd,ucd->urpc", self.rounded(vectors).to(weights[COLUMNS]), weights[COLUMNS])
        scores = products.new_full(products.shape[:3], torch.nan)
        for row, place in self._places(counted):
            kept = self._products.setdefault(row, [])
            kept.append(products[:, row, place])
            so_far = torch.stack(kept, dim=1)[:, None]
            there = torch.ones(1, len(kept), dtype=torch.bool, device=so_far.device)
            scores[:, row, place] = probe.pool(so_far, there, weights)[:, 0]
        return scores

    @staticmethod
    def _places(counted: Bool[Tensor, "row pos"]) -> Iterator[tuple[int, int]]:
        for row, places in enumerate(counted.tolist()):
            yield from ((row, place) for place, is_counted in enumerate(places) if is_counted)


def _is_plain(probe: LinearProbe) -> bool:
    """Whether a response's score is its first stimulus' product with the direction, less the offset."""
    own, plain = type(probe), LinearProbe
    return own.response_scores is plain.response_scores and own.features is plain.features


def scorer_class(fitted: FittedProbe) -> type[Scorer]:
    """How a probe's score follows from tokens as they come.

    Raises:
        BadInput: it reads several texts a response, a token that is not there yet, the turns of some roles, or all
            tokens in a way that is not known here.
    """
    probe, rule = fitted.probe, token_rule(fitted.token)
    if len(fitted.stimuli) != 1:
        raise BadInput(
            f"probe {fitted.name!r} compares two texts ({' and '.join(fitted.stimuli)}), so the tokens of one text "
            f"have no score; take a probe that reads one text, such as {READ_ONE_TEXT}"
        )
    if rule.roles or rule.is_closed:
        raise BadInput(
            f"probe {fitted.name!r} reads the token {fitted.token!r}, which is not known while a text is read; take "
            "one that was fitted on last, response_mean or all"
        )
    if rule.kind == "positions":
        return EachToken
    if rule.kind == "means":
        return RunningMean
    if isinstance(probe, MeanOfScores) and type(probe).response_scores is MeanOfScores.response_scores:
        return MeanOfEach
    if isinstance(probe, TrainedProbe) and type(probe).response_scores is TrainedProbe.response_scores:
        return Pooled
    raise BadInput(
        f"probe {fitted.name!r} makes one score of all tokens in a way of its own, which cannot be followed token by "
        "token; take attention, mean-of-scores, max-of-means or softmax-pooling, or a probe of one token"
    )
