"""Whether a model is the one that a probe was fitted on: by the hash of its files, never by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from repeng.activations.store.request import STORAGE, capture_hash
from repeng.errors import CaptureMismatch
from repeng.models.fingerprint import Identity
from repeng.models.load import LanguageModel
from repeng.models.tokens import TOO_LONG

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Match:
    """How a model fits what was fitted.

    Attributes:
        storage_dtype: in which the activations were kept that the probe was fitted on; None where that is not known.
        cautions: what is not as it was, in sentences.
    """

    storage_dtype: str | None
    cautions: tuple[str, ...] = ()


def match(provenance: Mapping[str, Any], lm: LanguageModel, *, what: str, any_model: bool = False) -> Match:
    """See that a probe, or what was made of one, was fitted on activations of a model.

    A capture's id ends in a hash over the model's files and over how activations were computed and kept: of the few
    ways there are, the one is sought whose hash the probe's is. Another dtype to compute in is a caution alone.

    Args:
        provenance: `capture_id` and `weights`, where they are known.
        lm: the model.
        what: was fitted, for people: `the probe mms`.
        any_model: take a model that is not known to be the same.

    Raises:
        CaptureMismatch: it is another model.
    """
    own, weights = provenance.get("capture_id"), provenance.get("weights")
    fitted_on = own or provenance.get("model") or weights
    unsure = ""
    if own is None and weights is None:
        unsure = f"{what} does not say which model it was fitted on"
    elif not lm.identity.weights:
        unsure = f"nothing tells that {lm.name} is the model that {what} was fitted on ({fitted_on})"
    if unsure:
        return Match(None, (f"{unsure}; load it with repeng.load_model to have its files compared",))
    has_weights = weights in (None, lm.identity.weights)
    if own is None and has_weights:
        return Match(None)
    found = _sought(lm.identity, str(own).rpartition("-")[2]) if has_weights else None
    if found is None:
        said = f"{what} was fitted on {fitted_on}, and {lm.name} is another model or quantised in another way"
        if any_model:
            return Match(None, (f"{said}; what it says means something only if the weights are the same",))
        raise CaptureMismatch(
            f"{said} (its weights are {lm.identity.weights}); give the model that the activations were captured with, "
            "or, if you know that it is the same from another place, say so: --any-model (any_model=True)"
        )
    dtype, storage = found
    if dtype == lm.identity.dtype:
        return Match(storage)
    return Match(
        storage,
        (
            f"{what} was fitted on activations computed in {dtype}, and {lm.name} computes in "
            f"{lm.identity.dtype}: its figures differ a little from those of the store (--dtype {dtype} has the same)",
        ),
    )


def _sought(identity: Identity, digits: str) -> tuple[str, str] | None:
    """The dtypes, computed in and kept in, under which a model's captures have some hash."""
    # The model's own dtype first.
    for dtype in dict.fromkeys((identity.dtype, *DTYPES)):
        for storage, too_long in product(STORAGE, TOO_LONG):
            how = {"storage_dtype": storage, "too_long": too_long, "max_length": identity.max_length}
            if capture_hash(replace(identity, dtype=dtype), **how) == digits:  # type: ignore[arg-type]
                return dtype, storage
    return None
