"""Affine maps that take a concept out of activations: LEACE's, and the projection along one direction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save as save_tensors
from torch import Tensor

from repeng.atomic import write_atomically
from repeng.errors import BadInput, RepengError
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.locks import locked
from repeng.places import Place, place
from repeng.probes.fitted import NO_HEAD
from repeng.probes.io import read_weights
from repeng.probes.ragged import Ragged
from repeng.probes.source import BLOCK_BYTES, LayerSource, SourceData, layer_blocks
from repeng.steering.vector import SteeringVector, Unit

LEACE = "leace"
FORMAT = 1
DESCRIPTION = "eraser.json"
TENSORS = ("proj_left", "proj_right", "bias")
SMALLEST_CORRELATION = 1e-6
"""Under this multiple correlation of a concept with the activations there is nothing but rounding to erase. The package
cuts off at 0.01, which would leave a weak concept where it is."""


class AffineMaps(NamedTuple):
    """`x - left (right (x - bias))`, one map a batch element."""

    left: Float[Tensor, "*batch d k"]
    right: Float[Tensor, "*batch k d"]
    bias: Float[Tensor, "*batch d"]

    def each(self, change: Callable[[Tensor], Tensor]) -> AffineMaps:
        """Every part changed alike, as by an index of the batch."""
        return AffineMaps(change(self.left), change(self.right), change(self.bias))

    def joined(self, others: AffineMaps) -> AffineMaps:
        """These and others, one after the other on the last batch axis; all are of one rank."""
        left, right, bias = (
            torch.cat([own, other], dim=axis) for own, other, axis in zip(self, others, (-3, -3, -2), strict=True)
        )
        return AffineMaps(left, right, bias)


@dataclass(frozen=True, eq=False)
class Eraser:
    """What takes a concept out of the activations at some units of one hook site.

    Each unit's map is `r(x) = x - proj_left (proj_right (x - bias))`. It is idempotent, and leaves `bias` where it is.

    Attributes:
        site: `resid_post`, `hook_z`, ...
        by: `leace`, or the name of the probe whose direction is projected out.
        units: each a layer and a head, head -1 where the site has none.
        proj_left, proj_right, bias: float64; k is 1, the rank of a concept of two classes.
        provenance: model, capture_id, source, ... as of a probe.

    Raises:
        BadInput: the parts do not fit each other, or are not finite.
    """

    site: str
    by: str
    units: tuple[Unit, ...]
    proj_left: Float[Tensor, "unit d k"]
    proj_right: Float[Tensor, "unit k d"]
    bias: Float[Tensor, "unit d"]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, d, k = self.proj_left.shape
        shapes = (self.proj_right.shape, self.bias.shape)
        if not count or len({*self.units}) != count or shapes != ((count, k, d), (count, d)):
            raise BadInput(
                f"{len({*self.units})} different units with proj_left {tuple(self.proj_left.shape)}, proj_right "
                f"{tuple(shapes[0])} and bias {tuple(shapes[1])} do not fit each other"
            )
        if not all(bool(torch.isfinite(getattr(self, name)).all()) for name in TENSORS):
            raise BadInput(f"an eraser by {self.by} holds a value that is infinite or not a number; fit it again")

    @classmethod
    def fit(
        cls,
        source: LayerSource,
        *,
        site: str,
        provenance: Mapping[str, Any] | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Eraser:
        """LEACE's erasers of best against worse, one for each layer (and head) of a source, from all its responses.

        Args:
            source: a train split with its labels; its first stimulus is what is erased from.
            site: where its activations are taken.
            provenance: kept with the eraser.
            block_bytes: of float32 activations that are in memory at a time; one layer's, if it has more.

        Raises:
            BadInput: the source has one class alone, or holds every token.
            NonFinite: an activation is infinite or not a number.
        """
        units: list[Unit] = []
        made: list[AffineMaps] = []
        for data in layer_blocks(source, block_bytes):
            units += units_of(data)
            found = leace(responses_of(data), data.labels[data.usable])
            made.append(AffineMaps(found.left.flatten(0, -3), found.right.flatten(0, -3), found.bias.flatten(0, -2)))
            del data
        left, right, bias = (torch.cat(column) for column in zip(*made, strict=True))
        return cls(site, LEACE, tuple(units), left, right, bias, dict(provenance or {}))

    @classmethod
    def along(cls, vector: SteeringVector) -> Eraser:
        """The projection of each direction, set to the source's mean along it: `x - (x . d - centre) d`."""
        d = vector.directions.double()
        d = d / d.norm(dim=1, keepdim=True)
        bias = torch.from_numpy(np.asarray(vector.centre, dtype=np.float64))[:, None] * d
        by = str(vector.provenance.get("probe", "direction"))
        return cls(vector.site, by, vector.units, d[:, :, None], d[:, None], bias, vector.provenance)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of its units, ascending."""
        return tuple(sorted({layer for layer, _ in self.units}))

    def maps(self, layer: int, head: int = NO_HEAD) -> AffineMaps:
        """One unit's map.

        Raises:
            BadInput: it was not fitted there.
        """
        if (layer, head) not in self.units:
            heads = sorted({own for at, own in self.units if at == layer})
            where = f"layer {layer}" if not heads else f"head {head} of layer {layer}"
            listing = ", ".join(map(str, heads or self.layers))
            raise BadInput(f"the eraser by {self.by} at {self.site} was not fitted at {where}; it was at {listing}")
        at = self.units.index((layer, head))
        return AffineMaps(self.proj_left, self.proj_right, self.bias).each(lambda part: part[at])

    def at(self, units: Sequence[Unit]) -> AffineMaps:
        """The maps of some units, side by side.

        Raises:
            BadInput: it was not fitted at one of them.
        """
        found = [self.maps(*unit) for unit in units]
        left, right, bias = (torch.stack(column) for column in zip(*found, strict=True))
        return AffineMaps(left, right, bias)

    def __call__(self, layer: int, x: Float[Tensor, "*batch d"], *, head: int = NO_HEAD) -> Float[Tensor, "*batch d"]:
        """Activations at one layer without the concept; of the same dtype, computed in float32 or better.

        Raises:
            BadInput: it was not fitted there, or on activations of another width.
        """
        found = self.maps(layer, head)
        if x.shape[-1] != len(found.bias):
            raise BadInput(f"the eraser by {self.by} is of {len(found.bias)} dimensions; these have {x.shape[-1]}")
        return erased(x, found)

    def to(self, device: torch.device | str) -> Eraser:
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})

    def save(self, directory: Place | str) -> Place:
        """Write `eraser.json` and the tensors that it names; returns the path of `eraser.json`.

        As of a probe: a save that is stopped anywhere leaves what was there before.
        """
        directory = place(directory)
        # Copies: of one direction left and right are one tensor, and the file's format takes no two names for one.
        tensors = {name: getattr(self, name).detach().cpu().clone().contiguous() for name in TENSORS}
        content = save_tensors(tensors)
        checksum = hashlib.sha256(content).hexdigest()
        weights = directory / f"eraser-{checksum[:12]}.safetensors"
        description = {
            "format": FORMAT,
            "by": self.by,
            "site": self.site,
            "units": [list(unit) for unit in self.units],
            "weights": weights.name,
            "sha256": checksum,
            "provenance": dict(self.provenance),
        }
        path = directory / DESCRIPTION
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        with locked(directory, wait=True):
            write_atomically(weights, content)
            write_atomically(path, f"{text}\n")
            for old in directory.glob("eraser-*.safetensors"):
                if old != weights:
                    old.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, directory: Place | str) -> Eraser:
        """Read what `save` wrote.

        Raises:
            BadInput: there is no eraser, it is damaged, or another version of repeng wrote it.
        """
        directory = place(directory)
        path = directory / DESCRIPTION
        if not path.is_file():
            raise BadInput(f"{directory}: no {DESCRIPTION} here; name a folder that `repeng erase --out` wrote")
        try:
            described = json.loads(read_bounded(path, RECORD_BYTES))
            if described["format"] != FORMAT:
                raise BadInput(f"{path}: format {described['format']} is not {FORMAT}; fit the eraser again")
            tensors = read_weights(directory, described, described_in=DESCRIPTION, what="the eraser")
            units = tuple((int(layer), int(head)) for layer, head in described["units"])
            parts = {name: tensors[name] for name in TENSORS}
            return cls(described["site"], described["by"], units, **parts, provenance=described["provenance"])
        except RepengError:
            raise
        except (AttributeError, KeyError, OSError, TypeError, ValueError, RecursionError) as error:
            what = f"no key {error}" if isinstance(error, KeyError) else str(error)
            raise BadInput(f"{path}: damaged ({what[:200]}); fit the eraser again") from error


def leace(x: Float[Tensor, "*batch response d"], labels: Float[np.ndarray, " response"]) -> AffineMaps:
    """LEACE's least-damaging map after which no linear predictor of two classes beats a constant one on `x`.

    Belrose et al. 2023 (arXiv:2306.03819), Theorem 4.2, by the authors' package, in float64. Two deviations. The
    covariance is shrunk to a multiple of the identity by as much as is asymptotically optimal (Bodnar et al. 2014,
    arXiv:1308.2608; the package's default): the class means become equal whatever the covariance, yet with not many
    more responses than dimensions the unshrunk inverse fits the sample's noise, and the map leaves more of the concept
    in other responses. And the trace is not bounded afterwards, for that bound would give up the equal means.

    Args:
        x: responses, of any batch of layers and heads.
        labels: 1.0 and 0.0.

    Raises:
        BadInput: the labels are of one class, or not one a response.
    """
    from concept_erasure import LeaceFitter

    classes = len(np.unique(labels))
    if len(labels) != x.shape[-2] or classes != 2:
        raise BadInput(
            f"{len(labels)} labels of {classes} class(es) for {x.shape[-2]} responses; to erase a concept give "
            "responses of both classes, and a label for each"
        )
    z = torch.from_numpy(labels).to(x.device)
    *batch, _, d = x.shape
    made = []
    for rows in x.reshape(-1, *x.shape[-2:]):
        fitter = LeaceFitter.fit(rows.double(), z, svd_tol=SMALLEST_CORRELATION, constrain_cov_trace=False)
        made.append((fitter.eraser.proj_left, fitter.eraser.proj_right, fitter.eraser.bias))
    left, right, bias = (torch.stack(column) for column in zip(*made, strict=True))
    return AffineMaps(left.reshape(*batch, d, -1), right.reshape(*batch, -1, d), bias.reshape(*batch, d))


def erased(x: Float[Tensor, "*batch d"], maps: AffineMaps) -> Float[Tensor, "*batch d"]:
    """`x - left (right (x - bias))`, computed in float32, of float64 in that, and given in the dtype of `x`.

    Of several maps their batch axes are those of `x`, whose last but one is then the responses.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    left, right, bias = (each.to(x.device, dtype) for each in maps)
    values = x.to(dtype)
    if bias.ndim > 1:
        bias = bias[..., None, :]
    return (values - ((values - bias) @ right.mT) @ left.mT).to(x.dtype)


def units_of(data: SourceData) -> list[Unit]:
    """The (layer, head) of a block of layers, in the order of its activations."""
    heads = range(data.activations.shape[1]) if data.has_heads else (NO_HEAD,)
    return [(layer, head) for layer in data.layers for head in heads]


def responses_of(data: SourceData) -> Float[Tensor, "layer *head response d"]:
    """The first stimulus of the responses that were not skipped.

    Raises:
        BadInput: it holds every token of each.
    """
    if isinstance(data.activations, Ragged):
        raise BadInput(
            "an eraser is fitted on one vector a response, and these are every token's; give another --token"
        )
    return data.activations[..., 0, torch.from_numpy(np.flatnonzero(data.usable)), :]
