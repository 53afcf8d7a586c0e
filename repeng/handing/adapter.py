"""A probe's directions, at one strength, as a LoRA adapter of peft's: a bias on the last projection of a block's MLP.

Of such an adapter A and B are zero and B has a bias (peft's `lora_bias`), so that it adds the same vector to what the
MLP gives at every token. That is added to the residual stream, and nothing comes between: what is added after the block
is the vector itself. Where a norm follows the MLP, or experts share its work, no constant does the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from repeng.atomic import write_atomically
from repeng.errors import BadInput, first_line
from repeng.handing.directions import Directions
from repeng.models.architectures import dissect, find
from repeng.models.pretrained import REFUSALS, quiet_transformers, read_outline
from repeng.models.sites import Sites
from repeng.models.source import find_model
from repeng.places import Place

SHIFTS = {"resid_post": 0, "mlp_out": 0, "resid_pre": -1}
"""Of each site that an adapter can be of, in which block its vector is added, from the site's own layer."""
DOWN_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2")
"""The last projection of an MLP, by the names that architectures give it."""
TRIED = frozenset(
    {
        *(
            "bloom",
            "cohere",
            "falcon",
            "gemma",
            "gpt2",
            "gpt_neox",
            "gptj",
            "granite",
            "llama",
            "mistral",
            "opt",
            "phi",
        ),
        *("phi3", "qwen2", "qwen3", "stablelm", "starcoder2"),
    }
)
"""Architectures of which the tests see that an adapter does what `repeng.steer` does."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write_adapter(directions: Directions, folder: Place, *, alpha: float, model: str | None = None) -> None:
    """Write an adapter that `PeftModel.from_pretrained` loads on the model; its configuration is written last.

    Args:
        directions: of the residual stream, or of what MLPs add to it.
        folder: for its two files.
        alpha: the strength, which is part of the adapter.
        model: that it is for; None for the probe's own.

    Raises:
        BadInput: the site is another, the model is not found or its architecture not one that this was tried on, or a
            vector would be added before the first block.
    """
    from peft import LoraConfig

    name = str(directions.vector.provenance.get("model", "")) if model is None else model
    biases, is_transposed = adapter_biases(directions, name)
    config = LoraConfig(
        r=1,
        lora_alpha=1,
        lora_bias=True,
        target_modules=sorted(biases),
        fan_in_fan_out=is_transposed,
        task_type="CAUSAL_LM",
        base_model_name_or_path=name,
        inference_mode=True,
    )
    tensors = {}
    for path, (bias, inputs) in biases.items():
        key = f"base_model.model.{path}.lora_"
        tensors[f"{key}A.weight"] = torch.zeros(1, inputs)
        tensors[f"{key}B.weight"] = torch.zeros(len(bias), 1)
        tensors[f"{key}B.bias"] = alpha * bias
    write_atomically(folder / WEIGHTS, save(tensors, metadata={**directions.metadata(), "format": "pt"}))
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    write_atomically(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def adapter_biases(
    directions: Directions, name: str
) -> tuple[Mapping[str, tuple[Float[Tensor, " d_model"], int]], bool]:
    """For a strength of 1 each projection's bias and its number of inputs, by the projection's path in the model.

    Also whether the model keeps its projections' weights as [in, out].

    Raises:
        BadInput: as of `write_adapter`.
    """
    site = directions.vector.site
    if site not in SHIFTS:
        raise BadInput(
            f"the probe reads {site}, and an adapter adds a constant to what an MLP gives alone: fit it at "
            f"{', '.join(SHIFTS)}, or take --to safetensors or --to numpy, which take any site"
        )
    model = _outline(name)
    anatomy = dissect(model)
    kind = anatomy.config.model_type
    if kind not in TRIED:
        raise BadInput(
            f"{name}: an adapter was not tried on models of type {kind!r} (with a norm after the MLP, or with experts, "
            f"it does something else); it was on {', '.join(sorted(TRIED))}: take --to gguf or --to safetensors, or "
            "repeng.steer"
        )
    paths = {module: path for path, module in model.named_modules()}
    found: dict[str, tuple[Tensor, int]] = {}
    is_transposed = False
    for layer, values in directions.by_layer().items():
        number = layer + SHIFTS[site]
        if number < 0:
            raise BadInput("nothing comes before the first block that could add to what enters it; leave out layer 0")
        if number >= len(anatomy.blocks):
            raise BadInput(
                f"{name} has layers 0 to {len(anatomy.blocks) - 1}, and the probe has a direction at {layer}"
            )
        point = Sites(anatomy).point("mlp_out", number)
        projection, weight = _projection(point.module, f"block {number} of {name}")
        if len(values) != int(anatomy.config.hidden_size):
            raise BadInput(
                f"the directions have {len(values)} dimensions, and {name} has {anatomy.config.hidden_size}; take the "
                "model that the probe was fitted on"
            )
        is_transposed = not isinstance(projection, nn.Linear)
        inputs = weight.shape[0] if is_transposed else weight.shape[1]
        # What leaves the MLP is multiplied on its way into the residual stream (Granite).
        found[paths[projection]] = torch.from_numpy(values) / point.scale, int(inputs)
    return found, is_transposed


def _outline(name: str) -> Any:
    """A model without its weights.

    Raises:
        BadInput: there is none of the name, or it cannot be read.
    """
    from transformers import AutoModelForCausalLM

    if not name:
        raise BadInput("the probe does not say which model it was fitted on; name it with --model")
    try:
        with quiet_transformers():
            return read_outline(AutoModelForCausalLM, find_model(name))
    except REFUSALS as error:
        raise BadInput(f"cannot read {name!r} as a causal language model: {first_line(error)}") from error


def _projection(module: nn.Module, where: str) -> tuple[nn.Module, Tensor]:
    """The last projection of an MLP, and its weight.

    Raises:
        BadInput: it has none.
    """
    for projection in (module, find(module, DOWN_PROJECTIONS)):
        weight = getattr(projection, "weight", None)
        if projection is not None and isinstance(weight, Tensor) and weight.ndim == 2:
            return projection, weight
    raise BadInput(f"{where} has no projection at the end of its MLP that a bias could be added to")
