"""What studies of large models take: tokens, GPU-hours and gigabytes, as the table of docs/sizing.md.

    REPENG_GENIES=... python perf/sizing.py              counts tokens, prints the table
    REPENG_GENIES=... OMP_NUM_THREADS=1 python perf/sizing.py --rates smollm2
                                                         how near captures here come to this CPU's matrix products

The work is what `repeng cache` takes by default: both splits of each distribution under three stimuli, the last token's
residual stream, log-probabilities. Tokens and gigabytes of the distributions at hand are counted to the last; GENIES'
61 distributions are those at hand and others drawn like them. GPU-hours are the operations of the matrix products over
a stated share of the peak that the GPU's maker gives: no GPU was measured.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from repeng.activations.capture import capture
from repeng.activations.layouts.packing import pack
from repeng.activations.sizes import shard_bytes
from repeng.activations.store.files import SHARD_CHARACTERS, blocks
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel, load_model
from repeng.models.onednn import favours_onednn, onednn_linear
from repeng.models.pretrained import load_tokenizer
from repeng.models.sites import hook_name
from repeng.models.tokens import stimulus_texts

STIMULI = tuple(get_stimulus(name) for name in ("plain", "contrast_yes", "contrast_no"))
ALL_DISTRIBUTIONS = 61
BUDGET = 16_384
"""Tokens a row, as on a GPU with room."""
UTILISATION = (0.2, 0.5)
PEAK = {"A100": 312e12, "H100 or H200": 989e12}
"""Dense bfloat16 operations a second, as the maker states them."""
ROUNDS = 10_000
FEW = 4
"""Examples of the capture that tells the fixed cost."""
BEGIN, END = "<!-- sizing table: begin -->", "<!-- sizing table: end -->"


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama 3 model."""

    name: str
    n_layers: int
    width: int
    inner: int
    key_width: int
    """Of all its keys together; its values are as wide."""
    vocabulary: int = 128_256

    @property
    def parameters(self) -> int:
        """Those that are multiplied with a token: blocks and head, not the embedding, which is looked up."""
        block = self.width * (2 * self.width + 2 * self.key_width + 3 * self.inner)
        return self.n_layers * block + self.vocabulary * self.width


SHAPES = (
    Shape("1B", 16, 2048, 8192, 512),
    Shape("8B", 32, 4096, 14_336, 1024),
    Shape("70B", 80, 8192, 28_672, 1024),
)


@dataclass(frozen=True)
class Counts:
    """Texts and tokens of a distribution.

    Attributes:
        responses: of both splits.
        plain: tokens under the plain stimulus, each text alone.
        alone: under all stimuli, each text alone.
        computed: under all stimuli, shared beginnings of a shard's texts once.
    """

    responses: int
    plain: int
    alone: int
    computed: int


def capture_bytes(splits: Sequence[Split], n_stimuli: int, layers: Sequence[int], width: int) -> int:
    """Of the shards of some splits: the last token's residual stream in bfloat16, and log-probabilities."""
    total = 0
    for split in splits:
        for examples in blocks(split, SHARD_CHARACTERS):
            rows = sum(len(split.examples[number].responses) for number in examples)
            vectors = [(hook_name("resid_post", layer), torch.bfloat16, (rows, width)) for layer in layers]
            logprob = [("logprob", torch.float64, (rows,))]
            logprob += [(name, torch.int64, (rows,)) for name in ("token_count", "text_length")]
            total += n_stimuli * (shard_bytes(vectors) + shard_bytes(logprob))
    return total


def count(splits: Sequence[Split], tokenizer: Any) -> Counts:
    """A distribution's texts and tokens, shard by shard as a capture reads them."""
    tokens = np.zeros(3, dtype=np.int64)
    for split in splits:
        for examples in blocks(split, SHARD_CHARACTERS):
            texts = [ids for stimulus in STIMULI for ids in token_ids(split, examples, stimulus, tokenizer)]
            lengths = [len(ids) for ids in texts]
            computed = sum(row.n_tokens for row in pack(texts, BUDGET))
            tokens += (sum(lengths[: len(texts) // len(STIMULI)]), sum(lengths), computed)
    return Counts(sum(split.n_responses for split in splits), *tokens.tolist())


def token_ids(split: Split, examples: range, stimulus: Any, tokenizer: Any) -> list[list[int]]:
    """As a capture tokenizes them, all texts in one call."""
    texts = [text.text for text in stimulus_texts(split, examples, stimulus, tokenizer)]
    found: list[list[int]] = tokenizer(texts, add_special_tokens=stimulus.bos)["input_ids"]
    return found


def of_all(values: Float[np.ndarray, " distribution"]) -> tuple[float, float, float]:
    """A total over GENIES' 61 distributions, and a 95 % interval: those at hand, and others drawn like them.

    Each round of the bootstrap draws distributions with replacement, and the others from what it drew, so that the
    interval holds both what is not known of the mean and what the others' own sizes may be.
    """
    generator, n_others = np.random.default_rng(0), ALL_DISTRIBUTIONS - len(values)
    drawn = generator.choice(values, (ROUNDS, len(values)))
    others = np.take_along_axis(drawn, generator.integers(len(values), size=(ROUNDS, n_others)), 1)
    low, high = np.quantile(others.sum(axis=1), (0.025, 0.975))
    known = values.sum()
    return known + n_others * values.mean(), known + low, known + high


def figures(number: float, significant: int = 3) -> str:
    """A positive number in so many significant figures."""
    places = significant - 1 - math.floor(math.log10(number))
    return f"{round(number, places):,.{max(0, places)}f}"


def interval(total: tuple[float, float, float], unit: float = 1.0) -> str:
    """A total with its interval, in a unit."""
    middle, low, high = (figures(each / unit) for each in total)
    return f"{middle} ({low} to {high})"


def hours(shape: Shape, tokens: float, peak: float) -> str:
    """From the higher utilisation to the lower."""
    low, high = (2 * shape.parameters * tokens / (peak * share) / 3600 for share in reversed(UTILISATION))
    return f"{figures(low, 2)} to {figures(high, 2)}"


def table(distributions: Sequence[Sequence[Split]], counted: Sequence[Counts]) -> str:
    """The tokens, and a row for each model, number of distributions, and all layers or one."""
    plain, alone, computed, responses = (
        np.array([getattr(each, name) for each in counted], dtype=np.float64)
        for name in ("plain", "alone", "computed", "responses")
    )
    here, everything = f"{len(counted)} at hand", f"{ALL_DISTRIBUTIONS} (95 % interval)"
    lines = [f"| | {here} | {everything} |", "|---|---|---|"]
    lines.append(f"| responses, thousands | {figures(responses.sum() / 1e3)} | {interval(of_all(responses), 1e3)} |")
    for name, values in (
        ("tokens under `plain`, each text alone, millions", plain),
        ("tokens under three stimuli, each text alone, millions", alone),
        ("tokens computed for three stimuli, millions", computed),
    ):
        lines.append(f"| {name} | {figures(values.sum() / 1e6)} | {interval(of_all(values), 1e6)} |")
    heads = ("model", "distributions", "layers", "tokens computed", *(f"hours, {name}" for name in PEAK), "gigabytes")
    lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for shape in SHAPES:
        for number in (len(counted), ALL_DISTRIBUTIONS):
            for layers in (range(shape.n_layers), range(1)):
                stored = np.array(
                    [capture_bytes(splits, len(STIMULI), layers, shape.width) for splits in distributions],
                    dtype=np.float64,
                )
                is_all = number == ALL_DISTRIBUTIONS
                tokens = of_all(computed)[0] if is_all else computed.sum()
                gigabytes = interval(of_all(stored), 1e9) if is_all else figures(stored.sum() / 1e9)
                cells = [shape.name, f"{number}", f"{len(layers)}", f"{figures(tokens / 1e6)} million"]
                cells += [*(hours(shape, tokens, peak) for peak in PEAK.values()), gigabytes]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor_seconds(run: Callable[[], object], rounds: int = 1) -> float:
    """The least that a call took of this process's processor time."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


@torch.inference_mode()
def matrix_rate(lm: LanguageModel, n_tokens: int = 2048) -> float:
    """Operations a second of the products of one block's weights, by `torch.mm` or, where captures take it, oneDNN."""
    operations, plain, other = 0, 0.0, 0.0
    for layer in (module for module in lm.blocks[0].modules() if isinstance(module, torch.nn.Linear)):
        values, weight = torch.randn(n_tokens, layer.in_features), layer.weight.T
        operations += 2 * n_tokens * layer.in_features * layer.out_features
        plain += processor_seconds(lambda: torch.mm(values, weight), 7)  # noqa: B023  (run at once)
        if favours_onednn():
            other += processor_seconds(lambda: onednn_linear(layer, values), 7)  # noqa: B023
    return operations / min(each for each in (plain, other) if each)


def capture_rate(lm: LanguageModel, split: Split, few: int, many: int) -> tuple[float, int]:
    """Operations a second of the blocks' products in a capture of every layer, and the tokens that it computed.

    What a capture of few examples takes is its fixed cost, and left out. Without log-probabilities the head is not run.
    """
    request = Request(STIMULI, logprob=False)
    parameters = sum(weight.numel() for block in lm.blocks for weight in block.parameters())

    def one(examples: int) -> tuple[float, int]:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            done = capture(lm, [split.first(examples)], request, Store(folder))
            return time.process_time() - start, done.n_tokens

    one(few)
    (short, fewer), (long, more) = one(few), one(many)
    return 2 * parameters * (more - fewer) / (long - short), more - fewer


def print_rates(model: str, distributions: dict[str, Sequence[Split]], names: Sequence[str], examples: int) -> None:
    """How near captures come to the matrix products, as a table."""
    torch.set_num_threads(1)
    lm = load_model(model, device="cpu", dtype="float32")
    print("| model | distribution | tokens | matrix products, GFLOP/s | capture, GFLOP/s | share |\n|" + "---|" * 6)
    for name in names:
        before = matrix_rate(lm)
        rate, tokens = capture_rate(lm, distributions[name][-1], FEW, examples)
        best = max(before, matrix_rate(lm))
        cells = (model, name, f"{tokens:,}", f"{best / 1e9:.0f}", f"{rate / 1e9:.0f}", f"{rate / best:.0%}")
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="smollm2", help="a model, as `repeng cache --model` takes it")
    parser.add_argument("--rates", metavar="MODEL", help="measure captures on this CPU, and nothing else")
    parser.add_argument("--distributions", default="alpaca_easy,spanish_output", help="for --rates")
    parser.add_argument("--examples", type=int, default=32, help="for --rates, of each test split")
    asked = parser.parse_args()
    root = os.environ.get("REPENG_GENIES")
    if not root:
        sys.exit("name the folder of GENIES data in REPENG_GENIES")
    found = load_distributions(Path(root) / "distributions")
    distributions: dict[str, Sequence[Split]] = {name: tuple(each.splits.values()) for name, each in found.items()}
    if asked.rates:
        print_rates(asked.rates, distributions, asked.distributions.split(","), asked.examples)
        return
    tokenizer = load_tokenizer(asked.tokenizer)
    counted = [count(splits, tokenizer) for splits in distributions.values()]
    print(f"{BEGIN}\n{table(tuple(distributions.values()), counted)}\n{END}")


if __name__ == "__main__":
    main()
