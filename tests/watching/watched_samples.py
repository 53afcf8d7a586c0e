"""A tiny model's texts, captured at every token, and probes fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.activations.store.stored_capture import StoredCapture
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel
from repeng.probes.fitted import FittedProbe
from repeng.probes.ragged import Ragged
from repeng.study.steps import fit

TOKENS = ("last", "last:-2", "response_mean", "all")
SITES = ("resid_post", "hook_z")
EXAMPLES = tuple(
    Example(
        f"### Instruction:\nSay {number} again" + " and again" * (number % 3) + ".\n\n### Response:\n",
        (f"{number} it is, {number + 1} no more.", f"Not {number}" + " é😀" * (number % 2) + "."),
        number % 2,
    )
    for number in range(16)
)
SPLIT = Split("numbers", "train", EXAMPLES)


@dataclass(frozen=True)
class World:
    """A model and its captured texts."""

    lm: LanguageModel
    stored: StoredCapture
    storage: str

    def probe(self, name: str, **how: object) -> FittedProbe:
        """A probe that is fitted on them."""
        return fit(self.stored, "numbers", name, **how)  # type: ignore[arg-type]


def make_world(
    lm: LanguageModel,
    root: Path,
    storage: str,
    stimuli: Sequence[str] = ("plain",),
    sites: Sequence[str] = SITES,
    tokens: Sequence[str] = TOKENS,
) -> World:
    request = Request(tuple(map(get_stimulus, stimuli)), sites=tuple(sites), tokens=tuple(tokens), logprob=False)
    store = Store(root / f"store-{storage}")
    done = capture(lm, [SPLIT], request, store, storage_dtype=storage)
    return World(lm, store.capture(done.capture_id), storage)


def response_tokens(world: World, site: str, layers: Sequence[int], row: int) -> torch.Tensor:
    """[layer, token, ...] of a response, as the store has them."""
    found = []
    for layer in layers:
        values, offsets = world.stored.tokens("numbers", layer=layer, site=site)
        found.append(values[offsets[row] : offsets[row + 1]])
    return torch.from_numpy(np.stack(found))


def as_read(values: torch.Tensor) -> torch.Tensor:
    """[layer, token, ...] as `FittedProbe.scores` takes them: heads lead, one stimulus."""
    return values.permute(0, 2, 1, 3)[:, :, None] if values.ndim == 4 else values[:, None]


def slow_scores(world: World, fitted: FittedProbe, row: int) -> list[float]:
    """The score at every token of a response, each by itself from the store: what watching is to give."""
    values = response_tokens(world, fitted.site, fitted.layers, row)
    if fitted.token.startswith("last"):
        return fitted.scores(as_read(values), fitted.layers).tolist()
    found = []
    for stop in range(1, values.shape[1] + 1):
        so_far = values[:, :stop]
        if fitted.token == "response_mean":
            mean = so_far.mean(dim=1, keepdim=True).to(getattr(torch, world.storage)).float()
            found.append(fitted.scores(as_read(mean), fitted.layers)[0])
        else:
            read = as_read(so_far)
            found.append(fitted.scores(Ragged(read, np.array([0, stop])), fitted.layers)[0])
    return found
