"""Hook sites: from TransformerLens' names to modules of a Hugging Face model.

A site is a name within a block, a layer is the block: `resid_post` at layer 3 is `blocks.3.hook_resid_post`. What is
read is the plain model's own tensor: TransformerLens' map of each architecture says which module it enters or leaves,
and no module is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from repeng.errors import BadInput, UnknownName
from repeng.models.architectures import Anatomy, attention_out, find, mlp_out

log = logging.getLogger(__name__)

FIRST_CLASS = {
    "resid_pre": "hook_resid_pre",
    "resid_post": "hook_resid_post",
    "hook_z": "attn.hook_z",
    "mlp_out": "hook_mlp_out",
}
"""Sites that every supported architecture has, and TransformerLens' name within the block."""
LN_FINAL = "ln_final"
"""After the final norm. Its layer is the last."""
OF_D_MODEL = ("resid_pre", "resid_post", "mlp_out", LN_FINAL)
"""Sites that are as wide as the residual stream."""
HEADS = ("hook_z", "attn.hook_q", "attn.hook_k", "attn.hook_v")
"""Sites whose features are heads side by side: stored as [response, head, d_head]."""
SAME = {
    "hook_resid_pre": "resid_pre",
    "hook_in": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_out": "resid_post",
    "attn.hook_z": "hook_z",
    "attn.o.hook_in": "hook_z",
    "hook_mlp_out": "mlp_out",
    "ln_final.hook_out": "ln_final",
    "attn.q.hook_out": "attn.hook_q",
    "attn.k.hook_out": "attn.hook_k",
    "attn.v.hook_out": "attn.hook_v",
}
"""Other names of a site."""
NOT_A_VECTOR_A_TOKEN = ("qkv", "q_norm", "k_norm")
"""Components of TransformerLens' map whose tensors have another order of axes, or are no site of their own there."""

Hook = tuple[str, int]
"""A site and a layer: `("resid_post", 3)`."""
Layers = Sequence[int] | Mapping[str, Sequence[int]] | None
"""Layers asked for: all for None, the same of every site, or of each site its own (all of a site not named)."""


@dataclass(frozen=True)
class HookPoint:
    """Where a site of one layer is read.

    Attributes:
        module: to hook.
        side: "input" or "output" of it.
        name: TransformerLens' name, under which the tensor is stored: `blocks.3.hook_resid_post`.
        d_head: width of one head where the features are heads side by side, else None.
        scale: what the tensor is multiplied by on its way into the residual stream (Granite); else 1.
    """

    module: nn.Module
    side: str
    name: str
    d_head: int | None = None
    scale: float = 1.0


def canonical_site(site: str) -> str:
    """One name for each site: `hook_resid_post` and `resid_post` are the same."""
    return SAME.get(site, site)


def named_site(site: str) -> str:
    """The one name of a site that a user named. Which of TransformerLens' sites a model has, it alone can tell.

    Raises:
        UnknownName: it is no site of any model.
    """
    found = canonical_site(site)
    if found not in (*FIRST_CLASS, LN_FINAL) and "hook_" not in found:
        raise UnknownName("hook site", site, (*FIRST_CLASS, LN_FINAL, "another of TransformerLens', as ln1.hook_out"))
    return found


def hook_name(site: str, layer: int) -> str:
    """The tensor's name in a store: `blocks.3.attn.hook_z`; `ln_final.hook_out` has no layer in it."""
    site = canonical_site(site)
    return "ln_final.hook_out" if site == LN_FINAL else f"blocks.{layer}.{FIRST_CLASS.get(site, site)}"


def site_layers(site: str, layers: Layers, n_layers: int) -> tuple[int, ...]:
    """The layers to keep of a site: those asked for, all for None; of `ln_final` always the last.

    Raises:
        BadInput: a layer that the model does not have.
    """
    site = canonical_site(site)
    if site == LN_FINAL:
        return (n_layers - 1,)
    if isinstance(layers, Mapping):
        layers = {canonical_site(name): chosen for name, chosen in layers.items()}.get(site)
    if layers is None:
        return tuple(range(n_layers))
    wrong = [layer for layer in layers if not 0 <= layer < n_layers]
    if wrong:
        raise BadInput(f"there is no layer {wrong[0]}; this model has layers 0 to {n_layers - 1}")
    return tuple(sorted(set(layers)))


@dataclass
class Sites:
    """The hook sites of one model."""

    anatomy: Anatomy

    @cached_property
    def lens(self) -> dict[str, tuple[str, str]]:
        """TransformerLens' sites that enter or leave a module of a block: name to (path of the module, side).

        Those that exist only inside a computation (`attn.hook_pattern`, rotated queries) are not among them. Empty
        where TransformerLens does not know the architecture.
        """
        blocks = _lens_map(self.anatomy.model)
        return {} if blocks is None else _walk(blocks, "", "", self.anatomy.blocks)

    def known(self) -> tuple[str, ...]:
        """Every site of the model by its one name, sorted."""
        norm = [LN_FINAL] if self.anatomy.final_norm is not None else []
        found_by = {"hook_z": attention_out, "mlp_out": mlp_out}
        own = [
            site
            for site in FIRST_CLASS
            if site not in found_by or any(found_by[site](block) is not None for block in self.anatomy.blocks)
        ]
        return tuple(sorted({*own, *norm, *(canonical_site(site) for site in self.lens)}))

    def point(self, site: str, layer: int) -> HookPoint:
        """Where a site of one layer is read.

        Raises:
            UnknownName: no such site here; the message lists those that there are.
            BadInput: no such layer, or that layer has no such site.
        """
        site = canonical_site(site)
        blocks, config = self.anatomy.blocks, self.anatomy.config
        if not 0 <= layer < len(blocks):
            raise BadInput(f"there is no layer {layer}; this model has layers 0 to {len(blocks) - 1}")
        block, name = blocks[layer], hook_name(site, layer)
        if site in ("resid_pre", "resid_post"):
            return HookPoint(block, "input" if site == "resid_pre" else "output", name)
        if site == LN_FINAL:
            module, side = self.anatomy.final_norm, "output"
        elif site == "hook_z":
            module, side = attention_out(block), "input"
        elif site == "mlp_out":
            module, side = mlp_out(block), "output"
        elif site in self.lens:
            path, side = self.lens[site]
            module = find(block, [path])
        else:
            raise UnknownName("hook site", site, self.known())
        if module is None:
            raise BadInput(f"block {layer} of this {config.model_type} model has no {site}")
        scale = getattr(config, "residual_multiplier", None) if site == "mlp_out" else None
        return HookPoint(module, side, name, self.anatomy.d_head if site in HEADS else None, scale or 1.0)


def _walk(component: Any, prefix: str, path: str, blocks: Sequence[nn.Module]) -> dict[str, tuple[str, str]]:
    """The sites of a component of TransformerLens' map and of those under it."""
    sites = {f"{prefix}hook_in": (path, "input"), f"{prefix}hook_out": (path, "output")}
    for name, inner in (component.submodules or {}).items():
        if inner.name is None or name in NOT_A_VECTOR_A_TOKEN:
            continue
        below = f"{path}.{inner.name}" if path else inner.name
        if any(find(block, [below]) is not None for block in blocks):
            sites |= _walk(inner, f"{prefix}{name}.", below, blocks)
    for alias, target in (component.hook_aliases or {}).items():
        if isinstance(target, str) and prefix + target in sites:
            sites[prefix + alias] = sites[prefix + target]
    return sites


def _lens_map(model: nn.Module) -> Any:
    """TransformerLens' map of a block of the model's architecture; None where it has none."""
    from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf

    architecture = type(model).__name__
    try:
        config = build_bridge_config_from_hf(model.config, architecture, architecture, torch.float32)
        adapter = ArchitectureAdapterFactory.select_architecture_adapter(config)
    except (ValueError, KeyError, AttributeError) as error:
        log.info("TransformerLens has no map of %s: %s", architecture, error)
        return None
    return (adapter.component_mapping or {}).get("blocks")
