"""`repeng.capture` and `repeng.evaluate`: one name each, for the data of a study and for texts of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

from repeng.errors import BadInput
from repeng.metrics import Evaluation
from repeng.places import Place
from repeng.probes.fitted import FittedProbe
from repeng.study import steps
from repeng.study.cached_data import Cached, CachedData
from repeng.study.classifier_figures import ClassifierFigures, evaluate_classifier
from repeng.study.steps import Data
from repeng.study.text_activations import TextActivations, Texts, are_texts, capture_texts

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel


@overload
def capture(model: str | LanguageModel, data: Texts, **options: Any) -> TextActivations: ...
@overload
def capture(model: str | LanguageModel, data: Data, **options: Any) -> CachedData: ...
def capture(model: str | LanguageModel, data: Any, **options: Any) -> TextActivations | CachedData:
    """Run a model once over some data and keep its activations.

        acts = repeng.capture("mini", texts, layers=[2, 4], token="last")    # acts[4] is a tensor [text, d_model]
        cached = repeng.capture("mini", "mini", store="store", limit=40)     # for repeng.fit and the rest

    Args:
        model: hub id, folder, GGUF file, `mini` or `smollm2`; or what `load_model` gives.
        data: texts, or chats as lists of messages: their activations are given as tensors. Or `mini`, `genies`, a
            folder or file of data, a hub dataset, distributions or splits: their activations are kept in a store.
        options: for texts those of `repeng.study.text_activations.capture_texts`: layers, token, site, stimulus, store,
            device, ...; for other data those of `repeng.study.steps.capture`: store, limit, stimuli, sites, tokens, ...

    Raises:
        BadInput: there is no such model, or data; no such layer, or a text that cannot be tokenized; token and tokens.
        BadData: the data is wrong.
        UnknownName: no such stimulus, site or token.
        NonFinite: a value is infinite or not a number.
    """
    data = list(data) if isinstance(data, Iterator) else data
    if are_texts(data):
        return capture_texts(model, data, **options)
    if "token" in options:
        if "tokens" in options:
            raise BadInput("token and tokens: two options conflict; give only one")
        options["tokens"] = (options.pop("token"),)
    return steps.capture(model, data, **options)


@overload
def evaluate(
    fitted: FittedProbe, cached: Cached, target: str, *, split: str = "test", allow_shared: bool = False
) -> Evaluation: ...
@overload
def evaluate(fitted: Any, cached: Any, target: Any, groups: Any = None) -> ClassifierFigures: ...
def evaluate(
    fitted: Any, cached: Any, target: Any, groups: Any = None, **options: Any
) -> Evaluation | ClassifierFigures:
    """Score what was fitted on what it has not seen.

        repeng.evaluate(probe, X, y)                    # a probe or scikit-learn classifier, on rows and labels
        repeng.evaluate(fitted, cached, "myths")        # what repeng.fit gives, on a distribution

    Args:
        fitted: any fitted binary classifier with scikit-learn's `decision_function` or `predict_proba`, ours among
            them; or what `repeng.fit` and `repeng.probes.load` give.
        cached: rows `[n, d]`; or activations of the capture that a fitted probe was fitted on.
        target: labels `[n]`; or a distribution.
        groups: with rows, which of them belong together (a prompt, an author): intervals resample these as one.
        options: with a distribution those of `repeng.study.steps.evaluate`: split, allow_shared.

    Returns:
        Of rows AUROC, accuracy and balanced accuracy with 95 % intervals. Of a distribution of pairs the `Evaluation`;
        of one of labelled texts the `TextEvaluation`, whose accuracy is the AUROC.

    Raises:
        BadInput: rows, labels or groups that do not fit each other or the classifier; a target that was fitted on;
            groups with a distribution.
        UnknownName: nothing of the target is here.
        CaptureMismatch: the activations are of another capture.
        RepengError: no pair or text is left to score.
    """
    if isinstance(fitted, FittedProbe):
        if not isinstance(target, str | Place):
            raise BadInput("what repeng.fit gives is scored on a distribution's name; a probe fitted on rows on X, y")
        if groups is not None:
            raise BadInput("a distribution has groups of its own; leave out groups, which are of rows")
        return steps.evaluate(fitted, cached, str(target), **options)
    return evaluate_classifier(fitted, cached, target, groups, **options)
