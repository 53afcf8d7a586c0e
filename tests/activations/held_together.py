"""Run by torchrun: captures by a model that its processes hold together, and what becomes of processes that fail."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from made_up import made_up

from repeng.activations import following, forward
from repeng.activations.capture import Request, capture
from repeng.activations.layouts.batch import Batch
from repeng.activations.layouts.tree_attention import is_compact
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.models import parallel
from repeng.models.load import LanguageModel, load_model
from repeng.models.parallel import processes


def every_site(lm: LanguageModel, store: str, method: str = "auto") -> str:
    """Every site of a model, at a token and over a span, into a store; how it was laid out."""
    request = Request((get_stimulus("plain"),), sites=lm.sites(), tokens=("last", "response_mean"))
    return capture(lm, [made_up(5)], request, Store(store), storage_dtype="float32", method=method).method


def main(what: str, store: str, *models: str) -> None:
    """Capture models into a store each; `what` is a method of capturing, or how processes are to fail."""
    last_hidden, together = forward._last_hidden, processes()
    parallel.TOGETHER = 5.0

    def failing(lm: LanguageModel, batch: Batch) -> Any:
        if what == "all fail in trees" and is_compact(batch.attention_mask):
            raise ValueError("no such mask here")
        if what == "one fails" and not together.leads:
            raise ValueError("this GPU is broken")
        return last_hidden(lm, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, "_last_hidden", failing)
        if not together.leads:
            following.follow(together)
            return
        try:
            for model in models:
                lm = load_model(model, dtype="float32", tensor_parallel=True)
                # Printed for the test that started this.
                sys.stdout.write(every_site(lm, store, what if what in ("packed", "batched") else "auto") + "\n")
        finally:
            together.dismiss()


if __name__ == "__main__":
    main(*sys.argv[1:])
