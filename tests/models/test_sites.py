from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import XGLMConfig, XGLMForCausalLM

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Run, TextRequest
from repeng.activations.layouts.padded import padded_batches
from repeng.errors import BadInput, UnknownName
from repeng.models.architectures import dissect
from repeng.models.load import LanguageModel, load_model
from repeng.models.sites import canonical_site, hook_name, site_layers

IDS = (1, 40, 300, 77, 12, 9, 250, 33, 121, 6, 64, 95, 288, 41, 5, 17, 203, 88, 310, 24)


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "gpt_neox", "gemma2", "olmo2", "opt", "falcon", "bloom", "granite", "mixtral"]
)
def test_every_site_holds_what_transformer_lens_caches_under_its_name(
    architecture: str, folder_of: Callable[[str], object], model_of: Callable[[str], LanguageModel]
) -> None:
    lm, bridged = model_of(architecture), load_model(str(folder_of(architecture)), device="cpu")
    bridge = build_bridge_from_module(bridged.model, type(bridged.model).__name__, hf_config=bridged.model.config)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([IDS]))
    hooks = [(site, layer) for site in lm.sites() for layer in range(3) if site != "ln_final" or layer == 2]
    request = TextRequest(IDS, positions=tuple(range(len(IDS))))
    [chunk] = run(lm, Run((request,), tuple(hooks), 100, torch.float32), padded_batches)
    assert {"resid_pre", "resid_post", "hook_z", "mlp_out", "ln_final", "attn.hook_out"} <= set(lm.sites())
    assert len(hooks) > 30
    for hook in hooks:
        # Experts see rows and positions as one axis; some sites have heads apart in one place and not in the other.
        theirs = cache[hook_name(*hook)]
        assert chunk.vectors[hook].numel() == theirs.numel()
        torch.testing.assert_close(chunk.vectors[hook], theirs.reshape(chunk.vectors[hook].shape), rtol=1e-4, atol=1e-4)
    assert (
        chunk.vectors["hook_z", 1].shape
        == (len(IDS), 4, lm.hook_point("hook_z", 1).d_head)
        == cache["blocks.1.attn.hook_z"][0].shape
    )


def test_an_unknown_site_is_refused_with_the_sites_that_there_are(llama: LanguageModel) -> None:
    with pytest.raises(
        UnknownName,
        match=r"unknown hook site 'resid_mid'; did you mean hook_resid_mid or resid_pre.* Choose from .*resid_post",
    ):
        llama.hook_point("resid_mid", 0)
    with pytest.raises(UnknownName, match="attn.hook_pattern"):
        llama.hook_point("attn.hook_pattern", 0)


def test_a_layer_that_is_not_there_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(BadInput, match="no layer 3; this model has layers 0 to 2"):
        llama.hook_point("resid_post", 3)
    with pytest.raises(BadInput, match="no layer 3"):
        site_layers("resid_post", (1, 3), 3)


def test_a_part_that_a_model_does_not_have_is_refused_by_name(model_of: Callable[[str], LanguageModel]) -> None:
    with pytest.raises(BadInput, match="block 0 of this mamba model has no hook_z"):
        model_of("mamba").hook_point("hook_z", 0)
    assert "hook_z" not in model_of("mamba").sites()


def test_an_unknown_architecture_is_refused_by_name() -> None:
    config = XGLMConfig(vocab_size=50, d_model=16, ffn_dim=16, num_layers=1, attention_heads=2)
    with pytest.raises(BadInput, match=r"models of type 'xglm' \(XGLMForCausalLM\) are not known; known are .*llama"):
        dissect(XGLMForCausalLM(config))


def test_a_site_has_one_name() -> None:
    for names in (
        ("resid_post", "hook_resid_post", "hook_out"),
        ("hook_z", "attn.hook_z", "attn.o.hook_in"),
        ("mlp_out", "hook_mlp_out"),
        ("ln_final", "ln_final.hook_out"),
    ):
        assert {canonical_site(name) for name in names} == {names[0]}
    assert hook_name("attn.o.hook_in", 3) == "blocks.3.attn.hook_z"
    assert hook_name("resid_post", 3) == "blocks.3.hook_resid_post"
    assert hook_name("ln_final", 3) == "ln_final.hook_out"


def test_layers_are_all_or_those_asked_for_or_of_each_site_its_own() -> None:
    assert site_layers("resid_post", None, 3) == (0, 1, 2)
    assert site_layers("resid_post", (2, 0, 2), 3) == (0, 2)
    assert site_layers("hook_resid_pre", {"resid_pre": (0,)}, 3) == (0,)
    assert site_layers("resid_post", {"resid_pre": (0,)}, 3) == (0, 1, 2)
    assert site_layers("ln_final", (0,), 3) == (2,)
