"""Any classifier of scikit-learn's kind as a probe: an object in Python, or by name, `sklearn:MODULE.CLASS`."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, clone, is_classifier
from torch import Tensor

from repeng.errors import BadInput
from repeng.probes.base import Labels, Probe, projected
from repeng.probes.inputs import in_float

PREFIX = "sklearn:"


class SklearnProbe(Probe):
    """A clone of a classifier for each batch element: each layer, and head, is fitted by itself.

    A response's score is the classifier's `decision_function`, or else the log-odds of its `predict_proba`. Where it is
    linear (it learns `coef_` and `intercept_`) the state is that of a `LinearProbe`, and can be saved. What any other
    classifier learns stays in memory: a saved probe holds tensors, and never a pickle.

    Nulls are plain fits, twenty times one fit's time by default.

    Args:
        estimator: an unfitted classifier, of scikit-learn or in its way; it is not changed.

    Attributes:
        direction_: of a linear one, `[*batch, d_model]`.
        offset_: of a linear one, `[*batch]`.
        place_: of any other one, `[*batch]`: the number of the batch element's fitted classifier.
    """

    title = "classifier of scikit-learn's"

    direction_: Tensor
    offset_: Tensor
    place_: Tensor

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @property
    def name(self) -> str:  # type: ignore[override]
        """What it is typed as, without parameters."""
        return PREFIX + public_name(type(self.estimator))

    def __sklearn_clone__(self) -> SklearnProbe:
        # Clones share their fitted classifiers, so that states of several can lie side by side in one probe.
        made = type(self)(clone(self.estimator))
        made._fitted = self._shared()
        return made

    def described(self) -> dict[str, Any]:
        """The classifier's own parameters; what is no number, text or None as it prints."""
        return {name: _plain(value) for name, value in sorted(self.estimator.get_params(deep=False).items())}

    def check_can_be_saved(self) -> None:
        """Refuse a classifier whose state is no tensor, or whose parameters no file could hold.

        Raises:
            BadInput: it is such a one.
        """
        if "direction_" not in self.state():
            raise BadInput(
                f"probe {self.name!r} cannot be saved: it is not linear, and a pickle, which runs code when it is "
                "read, is never written; fit it again where it is needed, or take a linear classifier"
            )
        given = self.estimator.get_params(deep=False)
        if odd := [name for name, value in given.items() if _plain(value) != value]:
            raise BadInput(
                f"probe {self.name!r} cannot be saved: its parameter {odd[0]}={given[odd[0]]!r} is no number, text or "
                "None; leave it at its default"
            )

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002  (it learns from single responses)
    ) -> None:
        """Fit a clone on each batch element's rows."""
        features = in_float(activations[..., 0, :, :])
        batch, y = features.shape[:-2], labels.cpu().numpy()
        fitted = [
            clone(self.estimator).fit(rows.cpu().numpy(), y) for rows in features.reshape(-1, *features.shape[-2:])
        ]
        linear = [_line(each, features.shape[-1]) for each in fitted]
        if all(line is not None for line in linear):
            directions, offsets = (np.stack(column) for column in zip(*filter(None, linear), strict=True))
            self.direction_ = torch.from_numpy(directions).to(features).reshape(*batch, -1)
            self.offset_ = torch.from_numpy(offsets).to(features).reshape(batch)
            return
        shared = self._shared()
        places = [shared.add(each) for each in fitted]
        self.place_ = torch.tensor(places).reshape(batch)

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """Each batch element's scores by its own classifier."""
        features = in_float(activations[..., 0, :, :])
        if "direction_" in vars(self):
            return projected(features.to(self.direction_.dtype), self.direction_) - self.offset_[..., None]
        rows = features.reshape(-1, *features.shape[-2:]).cpu().numpy()
        scores = [
            scores_of(self._shared().found[int(place)], own)
            for place, own in zip(self.place_.reshape(-1), rows, strict=True)
        ]
        return torch.from_numpy(np.stack(scores)).to(features).reshape(features.shape[:-1])

    def _shared(self) -> _Fitted:
        if not hasattr(self, "_fitted"):
            self._fitted = _Fitted()
        return self._fitted


class _Fitted:
    """Fitted classifiers by number."""

    def __init__(self) -> None:
        self.found: dict[int, Any] = {}
        self._numbers = count()

    def add(self, classifier: Any) -> int:
        """Keep one; its number."""
        number = next(self._numbers)
        self.found[number] = classifier
        return number


def is_sklearn_reference(name: str) -> bool:
    """Whether a name has the form `sklearn:MODULE.CLASS`."""
    return name.startswith(PREFIX)


def from_name(name: str, **params: Any) -> SklearnProbe:
    """The probe that `sklearn:MODULE.CLASS` means, of a classifier with these parameters. The module is imported.

    Raises:
        BadInput: there is no such module or class, it is no classifier, or it has no such parameter.
    """
    path = name.removeprefix(PREFIX)
    module, _, cls_name = path.rpartition(".")
    example = "write sklearn:MODULE.CLASS, as in sklearn:sklearn.svm.LinearSVC"
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise BadInput(f"{name!r} names no class; {example}")
    try:
        found = getattr(import_module(module), cls_name, None)
    except ImportError as error:
        package = module.partition(".")[0]
        raise BadInput(f"{name!r}: {module} cannot be imported ({error}); install {package}, or {example}") from error
    if found is None:
        raise BadInput(f"{name!r}: {module} has no class {cls_name}; {example}")
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise BadInput(f"{name!r} is no estimator of scikit-learn's kind; {example}")
    try:
        estimator = found(**params)
    except TypeError as error:
        known = ", ".join(signature(found).parameters) or "(it has none)"
        raise BadInput(f"{name!r} cannot be made with {params}: {error}; its parameters are {known}") from error
    return as_probe(estimator)


def as_probe(given: Any) -> Any:
    """A probe as it is; a classifier of scikit-learn's kind as one.

    Raises:
        BadInput: it is neither.
    """
    if isinstance(given, Probe):
        return given
    scores = hasattr(given, "decision_function") or hasattr(given, "predict_proba")
    if isinstance(given, type) or not hasattr(given, "fit") or not is_classifier(given) or not scores:
        raise BadInput(
            f"{given!r} is no classifier with decision_function or predict_proba; give an unfitted one, such as "
            "sklearn.linear_model.LogisticRegression(), or a probe of repeng.probes"
        )
    return SklearnProbe(given)


def public_name(cls: type) -> str:
    """`MODULE.CLASS` as users import it: without the private modules at its end, where the class is found there too."""
    parts = cls.__module__.split(".")
    while len(parts) > 1 and parts[-1].startswith("_"):
        parts.pop()
    shorter = ".".join(parts)
    found = getattr(import_module(shorter), cls.__name__, None)
    return f"{shorter if found is cls else cls.__module__}.{cls.__name__}"


def scores_of(classifier: Any, rows: Float[np.ndarray, "example d"]) -> Float[np.ndarray, " example"]:
    """`decision_function`, or the log-odds of the second class.

    A probability of 0 or 1 counts as the nearest other number that there is.
    """
    if hasattr(classifier, "decision_function"):
        return np.asarray(classifier.decision_function(rows), dtype=np.float64)
    probability = np.asarray(classifier.predict_proba(rows), dtype=np.float64)[:, 1]
    bounded = probability.clip(np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return np.log(bounded) - np.log1p(-bounded)


def _line(classifier: Any, d: int) -> tuple[np.ndarray, float] | None:
    """Direction and offset of a linear classifier; None of another."""
    coefficients, intercept = getattr(classifier, "coef_", None), getattr(classifier, "intercept_", None)
    if not isinstance(coefficients, np.ndarray) or coefficients.size != d or intercept is None:
        return None
    return coefficients.reshape(d), -float(np.asarray(intercept).reshape(-1)[0])


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else repr(value)
