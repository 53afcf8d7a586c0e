"""What the processes do that hold a model together with the first: run what it tells them, and keep nothing."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from typing import Any

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Batches, Pass, TextRequest
from repeng.activations.layouts.packed import attending
from repeng.models.load import LanguageModel, load_model
from repeng.models.parallel import CheckLogits, Load, OutOfStep, Processes

log = logging.getLogger(__name__)


def follow(processes: Processes) -> None:
    """Do what the first process tells, until it ends.

    Raises:
        OutOfStep: this process failed where the first did not, or the first is gone.
    """
    # Python would answer a signal only after the next word of the first process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    lm: LanguageModel | None = None
    while (order := processes.hear()) is not None:
        try:
            with processes.in_step():
                lm = _done(order, lm)
        except OutOfStep:
            raise
        except Exception:  # noqa: BLE001  (the first process failed in the same way, and says so)
            log.debug("all processes failed", exc_info=True)


def _done(order: Any, lm: LanguageModel | None) -> LanguageModel:
    """Do what was told.

    Returns:
        The model that is in hand from then on.
    """
    if isinstance(order, Load):
        return load_model(order.name, tensor_parallel=True, **order.options)
    if lm is None:
        raise OutOfStep(f"told of {type(order).__name__} before a model was loaded")
    if isinstance(order, CheckLogits):
        lm.check_logits()
    elif isinstance(order, Pass):
        for _ in run(lm, order.run, _Replay(order)):
            pass
    return lm


class _Replay:
    """A layout that gives the one batch that was told."""

    def __init__(self, told: Pass) -> None:
        self._told = told

    def __call__(self, lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Batches:  # noqa: ARG002
        with attending(self._told.kind, lm.model):
            yield self._told.batch
