"""Ways of getting the vector of the last token of every text at every layer. Each is given texts and gives vectors.

They read the same texts with the same weights in the same dtype. What a way cannot give (the last block's output, which
`output_hidden_states` has only after the final norm) stays out of its result, never in another's disfavour.

| way | what it is |
|---|---|
| repeng | `capture` with all that it does: tokenizing, packing, the check, log-probabilities, hashing, writing |
| repeng, vectors alone | the same without log-probabilities, which no other way keeps either |
| repeng, method=batched | the same without packing: unique texts, sorted by length, padded |
| usual loop | batches of 16 in file order, padded on the right, `output_hidden_states=True`, the last token kept |
| pair by pair | one text at a time, best and worse of each pair, all tokens kept, as GENIES' released code does |
| TransformerBridge | `run_with_cache` on batches of 16, `names_filter` for the blocks' outputs |
| lmprobe | its local engine (`resolve_backend("local", ...).extract_batch`) on batches of 16 |
| nnsight | `trace` on batches of 16, the last token saved at each block |
| the bound | forward passes over as many tokens in dense rows, as many logits as there are response tokens, no more |
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from workload import Vectors, Workload

from repeng.activations.capture import CaptureSummary, Request, capture
from repeng.activations.store.store import Store
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import load_model

BATCH = 16
DENSE_ROW = 1024
"""Tokens of a row of the bound on a CPU; elsewhere it is the budget of our rows."""


@dataclass
class Ours:
    """`repeng cache`: tokenizing, packing, the check, log-probabilities if they are wanted, hashing and writing."""

    method: str = "auto"
    batch_tokens: int | None = None
    logprob: bool = True
    storage_dtype: str = "bfloat16"
    summary: CaptureSummary | None = None
    n_scored: int = 0
    logprobs: Float[np.ndarray, " response"] | None = None
    """Of each response, a token of it."""
    gpu_memory: int = 0
    """In bytes, at most."""

    def __call__(self, work: Workload) -> Vectors:
        with TemporaryDirectory() as folder:
            store = Store(Path(folder))
            request = Request((get_stimulus("plain"),), logprob=self.logprob)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            self.summary = capture(
                work.lm,
                work.splits,
                request,
                store,
                method=self.method,
                batch_tokens=self.batch_tokens,
                storage_dtype=self.storage_dtype,
            )
            if torch.cuda.is_available():
                self.gpu_memory = torch.cuda.max_memory_allocated()
            stored = store.capture(self.summary.capture_id)
            if self.logprob:
                each = [stored.logprobs(split, "plain") for split in work.splits]
                scores, counts = np.concatenate([one[0] for one in each]), np.concatenate([one[1] for one in each])
                self.n_scored, self.logprobs = int(counts.sum()), scores / np.maximum(counts, 1)
            found = [stored.open(split, "plain", "resid_post").read() for split in work.splits]
            return torch.cat([vectors.float() for vectors in found], dim=1)


def _last(mask: Tensor) -> Tensor:
    """Column of the last real token of each row."""
    return mask.shape[1] - 1 - mask.flip(1).argmax(1)


def _batches(work: Workload) -> Iterator[list[str]]:
    texts = work.texts
    yield from (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


@torch.no_grad()
def usual_loop(work: Workload) -> Vectors:
    """Batches of 16 in file order, `output_hidden_states=True`: what most people write."""
    found = []
    for texts in _batches(work):
        batch = work.tokens(texts)
        hidden = work.model(**batch, output_hidden_states=True).hidden_states
        rows, last = torch.arange(len(texts)), _last(batch["attention_mask"])
        found.append(torch.stack([layer[rows, last].float().cpu() for layer in hidden[1:-1]]))
    return torch.cat(found, dim=1)


@torch.no_grad()
def pair_by_pair(work: Workload) -> Vectors:
    """One text at a time, best and worse of each pair, all tokens of all layers kept: what GENIES' code does."""
    texts = work.texts
    found: dict[int, Tensor] = {}
    for pair in work.pairs:
        for number in pair:
            ids = work.tokens([texts[number]])["input_ids"]
            hidden = work.model(ids, output_hidden_states=True).hidden_states
            kept = torch.cat([layer.cpu() for layer in hidden])
            found[number] = kept[1:-1, -1].float()
    return torch.stack([found[number] for number in range(len(texts))], dim=1)


class TransformerLens:
    """`TransformerBridge.run_with_cache` on batches of 16, keeping `hook_out` of every block alone."""

    def __init__(self, work: Workload) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        self.bridge: Any = TransformerBridge.boot_transformers(
            str(work.folder), device=str(work.lm.device), dtype=work.lm.dtype
        )
        self.names = [f"blocks.{layer}.hook_out" for layer in range(work.n_layers)]

    @torch.no_grad()
    def __call__(self, work: Workload) -> Vectors:
        found = []
        for texts in _batches(work):
            batch = work.tokens(texts)
            _, cache = self.bridge.run_with_cache(
                batch["input_ids"], attention_mask=batch["attention_mask"], names_filter=self.names
            )
            rows, last = torch.arange(len(texts)), _last(batch["attention_mask"])
            found.append(torch.stack([cache[name][rows, last].float().cpu() for name in self.names]))
        return torch.cat(found, dim=1)


class LMProbe:
    """lmprobe's local engine on batches of 16."""

    def __init__(self, work: Workload) -> None:
        from lmprobe.backends import resolve_backend

        self.backend: Any = resolve_backend("local", str(work.folder), str(work.lm.device), dtype=work.lm.dtype)
        self.backend.extract_batch(["Load the model now."], [0])

    def __call__(self, work: Workload) -> Vectors:
        layers, found = list(range(work.n_layers)), []
        for texts in _batches(work):
            values, mask = self.backend.extract_batch(texts, layers)
            last = values[torch.arange(len(texts)), _last(mask).to(values.device)].float().cpu()
            found.append(last.view(len(texts), work.n_layers, -1).transpose(0, 1))
        return torch.cat(found, dim=1)


class NNsight:
    """nnsight's trace on batches of 16, saving the last token's vectors alone."""

    def __init__(self, work: Workload) -> None:
        from nnsight import LanguageModel

        # A copy of its own: it wraps every module of the model that it is given.
        model = load_model(
            str(work.folder), device=str(work.lm.device), dtype=str(work.lm.dtype).removeprefix("torch.")
        )
        self.model: Any = LanguageModel(model.model, tokenizer=work.tokenizer)

    @torch.no_grad()
    def __call__(self, work: Workload) -> Vectors:
        found = []
        for texts in _batches(work):
            batch = work.tokens(texts)
            rows, last = torch.arange(len(texts)), _last(batch["attention_mask"])
            saved: list[Any] = []
            with self.model.trace(dict(batch)):
                for layer in self.model.model.layers:
                    saved.append(layer.output[rows, last].save())
            found.append(torch.stack([value.float().cpu() for value in saved]))
        return torch.cat(found, dim=1)


PEERS: dict[str, tuple[str, Callable[[Workload], Callable[[Workload], Vectors]]]] = {
    "TransformerBridge.run_with_cache": ("transformer_lens", TransformerLens),
    "lmprobe": ("lmprobe", LMProbe),
    "nnsight": ("nnsight", NNsight),
}
"""Other libraries: the package that each needs, and what makes one for a workload."""


def installed(package: str) -> bool:
    """Whether a package can be imported here."""
    return importlib.util.find_spec(package) is not None


@torch.inference_mode()
def bound(work: Workload, n_tokens: int, n_scored: int, row: int) -> None:
    """Plain forward passes over `n_tokens` in dense full rows, and `n_scored` logits: no hooks, no writing."""
    generator = torch.Generator().manual_seed(0)
    done = scored = 0
    while done < n_tokens:
        size = min(row, n_tokens - done)
        ids = torch.randint(3, work.model.config.vocab_size, (1, size), generator=generator).to(work.lm.device)
        hidden = work.model.model(ids, use_cache=False)[0][0]
        done += size
        wanted = n_scored * done // n_tokens - scored
        scored += wanted
        for start in range(0, wanted, size):
            work.model.lm_head(hidden[: min(size, wanted - start)])
