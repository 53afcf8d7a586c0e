"""A reward model: a base model with a linear head of two logits, read at the last token of each text."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repeng.errors import BadInput
from repeng.models.load import LOADING, find_model, first_line, resolve_device
from repeng.tuning.data import length_batches
from repeng.tuning.sharing import packed_logits, shares_prefixes

log = logging.getLogger(__name__)

HEADS = ("score", "classifier")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pair_loss(best: Float[Tensor, "pair logit"], worse: Float[Tensor, "pair logit"]) -> Float[Tensor, ""]:
    """-log sigmoid(z+ - z-), averaged over pairs and over both logits (Clymer et al. 2023, released trainer)."""
    return -nn.functional.logsigmoid(best - worse).mean()


def response_scores(logits: Float[Tensor, "response logit"]) -> Float[Tensor, " response"]:
    """A response's score: the mean of its logits. p(best) of a pair is the softmax of its two scores."""
    return logits.mean(dim=-1)


class RewardModel:
    """A sequence classification model with two labels, a peft model around one, or neither's twin after full tuning.

    Logits are read at each text's last token wherever padding stands, and the head computes in float32: half
    precision makes ties of close scores.

    Attributes:
        model: the module; what is trained in it requires gradients.
        tokenizer: the base model's.
        device: where it is.
        dtype: the compute dtype; `bfloat16` computes under autocast.
        max_length: longest text that it takes, in tokens.
        packs: whether texts may share prefixes in a row; None until it was tried.
    """

    def __init__(self, model: Any, tokenizer: Any, *, dtype: torch.dtype, max_length: int | None = None) -> None:
        self.model: nn.Module = model
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.device = next(model.parameters()).device
        self.virtual_tokens = _virtual_tokens(model)
        config = model.config.get_text_config()
        if config.pad_token_id is None:
            # The library refuses batches without one. Nothing reads it: this class pads, masks and pools itself.
            config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._autocasts = dtype == torch.bfloat16
        self.packs: bool | None = None
        self.head = _head(model)
        self.head.float()
        limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length, max_length]
        self.max_length = min(int(limit) for limit in limits if limit) - self.virtual_tokens

    def logits(self, ids: Sequence[list[int]]) -> Float[Tensor, "response logit"]:
        """Two logits for each text, in float32. All texts are computed in one padded batch."""
        longest = max(len(text) for text in ids)
        tokens = torch.zeros(len(ids), longest, dtype=torch.long)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for row, text in enumerate(ids):
            tokens[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        last = mask.sum(dim=1) - 1 + self.virtual_tokens
        return self.logits_at(torch.arange(len(ids)), last, input_ids=tokens, attention_mask=mask)

    def shared_logits(self, ids: Sequence[list[int]]) -> Float[Tensor, "response logit"]:
        """As `logits`, what texts begin with in common computed once where this model is seen to give the same so."""
        if not shares_prefixes(self, ids):
            return self.logits(ids)
        texts, logits = zip(*packed_logits(self, ids), strict=True)
        order = torch.tensor([number for row in texts for number in row])
        return torch.cat(logits)[order.argsort().to(self.device)]

    def logits_at(
        self, rows: Int[Tensor, " response"], columns: Int[Tensor, " response"], **inputs: Tensor
    ) -> Float[Tensor, "response logit"]:
        """Logits, in float32, at some cells of a batch.

        Args:
            rows: row of each cell.
            columns: column of each cell, virtual tokens counted.
            inputs: what the model takes, on any device; embeddings with the virtual tokens' before them.
        """
        found: list[Tensor] = []

        def read(module: nn.Module, given: tuple[Tensor, ...], _output: Tensor) -> None:
            hidden = given[0]
            pooled = hidden[rows.to(hidden.device), columns.to(hidden.device)]
            with torch.autocast(hidden.device.type, enabled=False):
                found.append(module.forward(pooled.float()))

        model: Any = self.model
        # peft puts its virtual tokens before ids; embeddings come here with theirs.
        called = model.base_model if "inputs_embeds" in inputs else model
        handle = self.head.register_forward_hook(read)
        try:
            with quiet_transformers(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocasts):
                called(**{name: value.to(self.device) for name, value in inputs.items()}, use_cache=False)
        finally:
            handle.remove()
        return found[-1]

    @torch.no_grad()
    def scores(
        self, ids: Sequence[list[int]], *, batch_tokens: int = 8192, share: bool = True
    ) -> Float[Tensor, " response"]:
        """A score for each text, on the CPU.

        Args:
            ids: token ids of each text.
            batch_tokens: tokens on the device at once, padding counted.
            share: compute what texts begin with in common once, where this model is seen to give the same so; else,
                and elsewhere, texts of like length are computed together.
        """
        training = self.model.training
        self.model.eval()
        scores = torch.zeros(len(ids))
        try:
            if share and shares_prefixes(self, ids):
                for texts, logits in packed_logits(self, ids, batch_tokens):
                    scores[texts] = response_scores(logits).cpu()
            else:
                for batch in length_batches(ids, batch_tokens):
                    scores[batch] = response_scores(self.logits([ids[i] for i in batch])).cpu()
        finally:
            self.model.train(training)
        return scores

    def trainable(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in a fixed order."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}


def load_classifier(
    source: str, *, seed: int, device: torch.device, dtype: torch.dtype, quantization: str = "none"
) -> nn.Module:
    """A base model with a head of two logits, randomly initialised from the seed where the weights hold none.

    Args:
        source: hub id, folder or `mini`.
        seed: of the head.
        device: where to put it.
        dtype: of its weights.
        quantization: `none` or `nf4`.

    Raises:
        BadInput: the model cannot be loaded so, or 4 bits are asked for where they cannot be had.
    """
    from transformers import AutoModelForSequenceClassification

    found = find_model(source)
    options: dict[str, Any] = {"num_labels": 2, "dtype": dtype, "use_safetensors": True, "revision": found.commit}
    if quantization == "nf4":
        require_bitsandbytes(device)
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options["device_map"] = {"": device}
    with forked_rng(seed, device), quiet_transformers(), LOADING:
        try:
            model = AutoModelForSequenceClassification.from_pretrained(found.path, **options)
        except (OSError, ValueError) as error:
            raise BadInput(f"{source}: cannot be loaded as a reward model: {first_line(error)}") from error
    if quantization == "nf4":
        from peft import prepare_model_for_kbit_training

        return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return model.to(device)


def torch_device(device: str) -> torch.device:
    """The device of a name; `auto` is the best that is here."""
    return torch.device(resolve_device(device))


def require_bitsandbytes(device: torch.device) -> None:
    """Raise unless 4-bit weights can be had.

    Raises:
        BadInput: bitsandbytes is not installed, or the device is no CUDA GPU.
    """
    if device.type != "cuda":
        raise BadInput(
            f"quantization 'nf4' needs a CUDA GPU and the device is {device.type!r}; use quantization 'none'"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput("quantization 'nf4' needs bitsandbytes; pip install bitsandbytes, or use quantization 'none'")


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a hub id, folder or `mini`."""
    from transformers import AutoTokenizer

    try:
        found = find_model(source)
        return AutoTokenizer.from_pretrained(found.path, revision=found.commit)
    except (OSError, ValueError) as error:
        raise BadInput(f"{source}: no tokenizer can be loaded: {first_line(error)}") from error


def compute_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in: `auto` is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        BadInput: neither `auto`, `float32` nor `bfloat16` (float16 overflows on massive activations).
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise BadInput(f"dtype is {dtype!r}; reward models compute in {' or '.join(DTYPES)}")
    return DTYPES[dtype]


@contextlib.contextmanager
def forked_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for a library that reads its global generator, and put that generator back as it was."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and warnings: of a head that is new on purpose, of padding that it will not find, of
    what peft still calls by an old name."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _head(model: nn.Module) -> nn.Module:
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in HEADS:
            return module
    raise BadInput(f"{type(model).__name__} has no module named {' or '.join(HEADS)}: not a sequence classifier")


def _virtual_tokens(model: nn.Module) -> int:
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0
