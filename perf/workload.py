"""What is measured: a Llama with random weights and a tokenizer trained on the texts, or a real model; the texts."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from repeng.distributions.schema import Distribution, Split
from repeng.models.load import LanguageModel, load_model

SHAPES: dict[str, dict[str, int]] = {
    "small": {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12},
    "7b": {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32},
}
VOCABULARY = 32_000
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
TRAINED_ON = 200
"""Examples of each distribution that the tokenizer is trained on."""

Vectors = Float[Tensor, "layer response d_model"]


def genies_folder(given: str | None) -> Path:
    """The folder of GENIES' distributions: the given one, or that of REPENG_GENIES."""
    named = given or os.environ.get("REPENG_GENIES")
    if not named:
        raise SystemExit("name the folder of GENIES' distributions by --data, or in REPENG_GENIES")
    root = Path(named)
    folder = root / "distributions" if (root / "distributions").is_dir() else root
    if not folder.is_dir():
        raise SystemExit(f"no GENIES distributions in {root}; name their folder by --data")
    return folder


@dataclass(frozen=True)
class Workload:
    """The model, and the texts of some splits one after the other."""

    lm: LanguageModel
    folder: Path
    splits: tuple[Split, ...]

    @property
    def texts(self) -> list[str]:
        """Prompt and response of every response, in the splits' order."""
        return [
            f"{example.prompt}{response}"
            for split in self.splits
            for example in split.examples
            for response in example.responses
        ]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every (best, worse), as numbers among `texts`."""
        found, first = [], 0
        for split in self.splits:
            found += [(first + pair.best, first + pair.worse) for pair in split.pairs]
            first += split.n_responses
        return found

    @property
    def model(self) -> Any:
        """The Hugging Face model."""
        return self.lm.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.lm.tokenizer

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.lm.n_layers

    def of(self, split: Split) -> Workload:
        """The same model and one split."""
        return Workload(self.lm, self.folder, (split,))

    def tokens(self, texts: Sequence[str]) -> Any:
        """A padded batch on the model's device."""
        return self.tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="right").to(self.lm.device)


def write_random(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    *,
    shape: str,
    device: str,
    dtype: str,
    n_layers: int | None = None,
) -> None:
    """Write a random Llama of a shape, or of its widths and fewer layers."""
    torch.manual_seed(0)
    sizes = SHAPES[shape] if n_layers is None else {**SHAPES[shape], "num_hidden_layers": n_layers}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=4096, **sizes)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(getattr(torch, dtype))
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_real(folder: Path, name: str, *, dtype: str) -> None:
    """Save a model that `repeng cache --model` takes, so that every way can load it."""
    lm = load_model(name, device="cpu", dtype=dtype)
    lm.model.save_pretrained(folder)  # type: ignore[operator]
    lm.tokenizer.save_pretrained(folder)


def load(folder: Path, splits: Sequence[Split], *, device: str, dtype: str) -> Workload:
    """A model of a folder and some texts."""
    lm = load_model(str(folder), device=device, dtype=dtype)
    if lm.tokenizer.pad_token is None:
        lm.tokenizer.pad_token = lm.tokenizer.eos_token
    return Workload(lm, folder, tuple(splits))


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clear_memory() -> None:
    """Give back what no longer is in use, of the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train_tokenizer(data: Mapping[str, Distribution]) -> PreTrainedTokenizerFast:
    """A tokenizer of the train splits' texts."""
    texts = [f"{e.prompt}{r}" for d in data.values() for e in d.train.examples for r in e.responses]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
