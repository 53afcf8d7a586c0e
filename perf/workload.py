"""What is measured: a Llama with random weights, a tokenizer trained on the texts, and the texts themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split
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

    def tokens(self, texts: Sequence[str], padding_side: str = "right") -> Any:
        """A padded batch on the model's device."""
        return self.tokenizer(list(texts), return_tensors="pt", padding=True, padding_side=padding_side).to(
            self.lm.device
        )


def make_workload(
    folder: Path, data: Path, names: Sequence[str] | None, limit: int, *, shape: str, device: str, dtype: str
) -> Workload:
    """Write a random model to `folder`, load it, and read the first examples of each test split."""
    everything = load_distributions(data, None, limit=TRAINED_ON)
    chosen = names or list(everything)
    splits = tuple(everything[name].test.first(limit) for name in chosen)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=4096, **SHAPES[shape])
    target = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(getattr(torch, dtype))
        with target:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    del model
    tokenizer = _train_tokenizer(
        [f"{e.prompt}{r}" for d in everything.values() for e in d.train.examples for r in e.responses]
    )
    tokenizer.save_pretrained(folder)
    return Workload(load_model(str(folder), device=str(target), dtype=dtype), folder, splits)


def _train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
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
