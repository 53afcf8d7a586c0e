"""What an estimator is given, as the tensors and arrays that it works on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d, validate_data
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.ragged import Ragged

READ: dict[str, Any] = {"dtype": (np.float64, np.float32), "order": "C"}


def as_activations(probe: Any, given: Any, *, fits: bool = False) -> Float[Tensor, "*batch stimulus example d"]:
    """Rows or a batch, as a batch.

    Args:
        probe: what asks; in a fit it remembers the width of what it is given.
        given: X, in one of the forms that `Probe` names.
        fits: whether the probe is being fitted.

    Raises:
        BadArray: it has other stimuli than the probe reads, or another width than it was fitted on.
        ValueError: it is no array of finite numbers, in scikit-learn's words.
    """
    stimuli = len(probe.stimuli)
    if _texts(given) is not None and not (stimuli > 1 and isinstance(given, np.ndarray)):
        raise BadArray(
            f"probe {probe.name!r} reads one token of a text; these are all tokens: give one row a text, or take a "
            "probe of all tokens (attention, mean-of-scores, softmax-pooling, max-of-means)"
        )
    reads = f"probe {probe.name!r} reads {stimuli} stimuli ({', '.join(probe.stimuli)})"
    if isinstance(given, Tensor):
        activations = given[None] if given.ndim == 2 else given
        if activations.ndim < 3 or activations.shape[-3] != stimuli:
            raise BadArray(
                f"{reads}; the activations hold {activations.shape[-3] if activations.ndim > 2 else 'one axis'}: give "
                f"a tensor [*batch, {stimuli}, example, d_model]"
            )
    elif stimuli == 1:
        activations = _tensor(validate_data(probe, given, reset=fits, **READ))[None]
    else:
        rows = check_array(given, allow_nd=True, estimator=probe, **READ)
        if rows.ndim != 3 or rows.shape[1] != stimuli:
            raise BadArray(f"{reads}: give an array [n, {stimuli}, d]; this one is of shape {rows.shape}")
        activations = _tensor(rows).transpose(0, 1)
    _check_width(probe, activations.shape[-1], fits)
    return activations


def as_tokens(probe: Any, given: Any, *, fits: bool = False) -> Float[Tensor, "*batch stimulus example d"] | Ragged:
    """What a probe of all tokens takes: texts of unequal length, or, as any probe, rows of one token each.

    Args:
        probe: what asks.
        given: a `Ragged` with batch axes as a tensor has them (none, or `[*batch, stimulus]`), a list of `[token, d]`
            arrays or tensors, or X as other probes take it.
        fits: as in `as_activations`.

    Raises:
        BadArray, ValueError: as there.
    """
    texts = _texts(given)
    if texts is None:
        return as_activations(probe, given, fits=fits)
    texts = Ragged(texts.values[None], texts.offsets) if texts.ndim == 2 else texts
    if texts.ndim < 3 or texts.shape[-3] != 1:
        raise BadArray(
            f"probe {probe.name!r} reads all tokens of one stimulus; these activations are of shape {texts.shape}: "
            "give a Ragged [*batch, 1, example, d_model]"
        )
    _check_width(probe, texts.shape[-1], fits)
    return texts


def as_labels(probe: Any, y: Any, count: int) -> tuple[np.ndarray, Float[np.ndarray, " example"]]:
    """The two classes, the better last, and for each of so many responses 1.0 where it is of the better one.

    Raises:
        BadArray: there are more classes or fewer, or another number of labels.
        ValueError: they are no classes, in scikit-learn's words.
    """
    if y is None:
        raise BadArray(f"probe {probe.name!r} requires y to be passed, but the target y is None")
    y = column_or_1d(y.cpu() if isinstance(y, Tensor) else y, warn=True)
    check_classification_targets(y)
    if len(y) != count:
        raise BadArray(f"{len(y)} labels for {count} responses: inconsistent numbers of samples")
    classes, place = np.unique(y, return_inverse=True)
    if len(classes) > 2:
        raise BadArray(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(y)}: probe {probe.name!r} tells best from worse, and y has {len(classes)} classes"
        )
    if len(classes) < 2:
        raise BadArray(
            f"probe {probe.name!r}: y holds 1 class, all labels are {classes[0]}; a fit needs best and worse"
        )
    return classes, place.astype(np.float64)


def in_float(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32; float64 stays as it is."""
    return values if values.dtype == torch.float64 else values.float()


def all_finite(values: Float[Tensor, "*shape"] | Ragged) -> bool:
    """Whether no value is infinite or not a number.

    One such value makes the sum so too, and a sum is forty times faster than looking at each; only where finite values
    add up to an overflow are they looked at.
    """
    values = values.values if isinstance(values, Ragged) else values
    total = values.sum(dtype=torch.float32 if values.element_size() < 4 else None)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(values).all())


def _check_width(probe: Any, width: int, fits: bool) -> None:
    if fits:
        probe.n_features_in_ = width
    elif width != getattr(probe, "n_features_in_", width):
        raise BadArray(f"probe {probe.name!r} was fitted on {probe.n_features_in_} dimensions; these rows have {width}")


def finite_rows(activations: Float[Tensor, "*batch row d"] | Ragged) -> Bool[Tensor, "*batch row"]:
    """Whether each row's values, of all its tokens, are finite numbers."""
    return activations.finite() if isinstance(activations, Ragged) else torch.isfinite(activations).all(dim=-1)


def _texts(given: Any) -> Ragged | None:
    """Texts of `[token, d]` each as one; None where it is something else."""
    if isinstance(given, Ragged):
        return given
    if not isinstance(given, list | tuple | np.ndarray) or len(given) == 0:
        return None
    if any(not isinstance(text, np.ndarray | Tensor) or text.ndim != 2 for text in given):
        return None
    return Ragged.of_texts([text if isinstance(text, Tensor) else _tensor(text) for text in given])


def _tensor(rows: np.ndarray) -> Tensor:
    """The same memory; a copy where it may not be written, which a tensor has no word for."""
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy())
