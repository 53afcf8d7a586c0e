"""Steering a model: against editing by hand, and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import repeng
from repeng.errors import BadInput, CaptureMismatch, UnknownName
from repeng.models.load import LanguageModel
from repeng.steering.eraser import Eraser
from repeng.steering.vector import SteeringVector

IDS = torch.arange(3, 15)[None]


def vector(d: int, site: str = "resid_post", units: tuple[tuple[int, int], ...] = ((1, -1),)) -> SteeringVector:
    drawn = torch.randn(len(units), d, generator=torch.Generator().manual_seed(3))
    return SteeringVector(
        site=site,
        units=units,
        directions=drawn / drawn.norm(dim=1, keepdim=True),
        spread=np.linspace(2.0, 3.0, len(units)),
        centre=np.linspace(0.5, 1.0, len(units)),
    )


def outputs(lm: LanguageModel, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = lm.model(input_ids=ids, use_cache=False).logits
    return found


def hidden(lm: LanguageModel, layer: int) -> Tensor:
    """What leaves a block."""
    seen = []
    handle = lm.blocks[layer].register_forward_hook(
        lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    outputs(lm)
    handle.remove()
    found: Tensor = seen[0]
    return found


def n_hooks(lm: LanguageModel) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in lm.model.modules())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "bloom", "gemma2", "falcon", "granite"])
def test_what_is_added_enters_the_residual_stream_of_every_token(
    architecture: str, model_of: Callable[[str], LanguageModel]
) -> None:
    lm = model_of(architecture)
    along = vector(lm.d_model)
    before = hidden(lm, 1)
    with repeng.steer(lm, along, alpha=-1.5):
        after = hidden(lm, 1)
    moved = (after - before).reshape(-1, lm.d_model)
    expected = -1.5 * 2.0 * along.directions[0]
    assert torch.allclose(moved, expected.expand_as(moved), atol=1e-4)


@pytest.mark.parametrize("site", ["resid_post", "resid_pre", "mlp_out"])
def test_a_direction_projected_out_lies_at_the_sources_mean_for_every_token(site: str, llama: LanguageModel) -> None:
    along = vector(llama.d_model, site)
    point = llama.hook_point(site, 1)
    seen: list[Tensor] = []

    def see(value: Tensor) -> None:
        seen.append(value)

    with repeng.steer(llama, along, project_out=True):
        if point.side == "input":
            handle = point.module.register_forward_pre_hook(lambda _m, args: see(args[0]))
        else:
            handle = point.module.register_forward_hook(
                lambda _m, _a, out: see(out[0] if isinstance(out, tuple) else out)
            )
        outputs(llama)
        handle.remove()
    projections = seen[0] @ along.directions[0]
    assert torch.allclose(projections, torch.full_like(projections, 0.5), atol=1e-4)


def test_heads_are_edited_apart(llama: LanguageModel) -> None:
    point = llama.hook_point("hook_z", 1)
    assert point.d_head is not None
    along = vector(point.d_head, "hook_z", ((1, 0), (1, 2)))
    seen: list[Tensor] = []

    def see(_module: object, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].unflatten(-1, (-1, point.d_head)))

    handle = point.module.register_forward_pre_hook(see)
    outputs(llama)
    handle.remove()
    with repeng.steer(llama, along, alpha=2.0):
        handle = point.module.register_forward_pre_hook(see)
        outputs(llama)
        handle.remove()
    moved = (seen[1] - seen[0])[0]
    for head in range(moved.shape[1]):
        place = {0: 0, 2: 1}.get(head)
        added = torch.zeros(point.d_head) if place is None else along.scaled(2.0)[place]
        assert torch.allclose(moved[:, head], added.expand_as(moved[:, head]), atol=1e-5)


def test_a_context_in_a_context_edits_after_it(llama: LanguageModel) -> None:
    along = vector(llama.d_model)
    with repeng.steer(llama, along, project_out=True), repeng.steer(llama, along, alpha=1.0):
        both = outputs(llama)
    with repeng.steer(llama, along, project_out=True, alpha=1.0):
        assert torch.allclose(outputs(llama), both, atol=1e-5)


def test_hooks_come_off_however_the_context_ends(llama: LanguageModel) -> None:
    along, before, count = vector(llama.d_model), outputs(llama), n_hooks(llama)
    with repeng.steer(llama, along, alpha=3.0):
        assert not torch.equal(outputs(llama), before)
    with pytest.raises(ZeroDivisionError), repeng.steer(llama, along, alpha=3.0, project_out=True, tokens="generated"):
        raise ZeroDivisionError
    with pytest.raises(BadInput), repeng.steer(llama, vector(llama.d_model, units=((1, -1), (9, -1))), alpha=3.0):
        pass
    assert n_hooks(llama) == count
    assert torch.equal(outputs(llama), before)


def test_an_eraser_takes_its_subspace_out(llama: LanguageModel) -> None:
    along = vector(llama.d_model)
    with repeng.steer(llama, along, project_out=True):
        projected = outputs(llama)
    with repeng.steer(llama, Eraser.along(along)):
        assert torch.allclose(outputs(llama), projected, atol=1e-5)
    with pytest.raises(BadInput, match="adds nothing"):
        repeng.steer(llama, Eraser.along(along), alpha=1.0).__enter__()
    with pytest.raises(BadInput, match="not fitted at layer 0; it was at 1"):
        repeng.steer(llama, Eraser.along(along), layers=[0]).__enter__()


def test_a_mask_says_which_tokens_are_edited(llama: LanguageModel) -> None:
    along, before = vector(llama.d_model), hidden(llama, 1)
    mask = torch.zeros(IDS.shape, dtype=torch.bool)
    mask[0, 4:6] = True
    with repeng.steer(llama, along, alpha=1.0, tokens=mask):
        moved = (hidden(llama, 1) - before)[0]
    assert torch.equal(moved.abs().sum(dim=1) > 1e-6, mask[0])


@pytest.mark.parametrize("tokens", ["all", "prompt", "generated"])
def test_generation_is_steered_at_the_chosen_tokens(tokens: str, llama: LanguageModel) -> None:
    """Against generation by hand: whole texts again and again, with a mask of what is to be edited."""
    along = vector(llama.d_model)
    along = replace(along, spread=np.array([8.0]))
    options = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None, "pad_token_id": 0}
    with repeng.steer(llama, along, alpha=1.0, tokens=tokens):
        found = llama.model.generate(IDS, attention_mask=torch.ones_like(IDS), **options)
    ids = IDS
    for _ in range(6):
        place = torch.arange(ids.shape[1])
        mask = {"all": place >= 0, "prompt": place < IDS.shape[1], "generated": place >= IDS.shape[1]}[tokens]
        with repeng.steer(llama, along, alpha=1.0, tokens=mask[None]):
            following = outputs(llama, ids)[0, -1].argmax()
        ids = torch.cat([ids, following[None, None]], dim=1)
    assert found.tolist() == ids.tolist()


def test_a_model_of_transformers_is_steered_as_one_of_ours(llama: LanguageModel) -> None:
    along = vector(llama.d_model)
    with repeng.steer(llama, along, alpha=1.0):
        ours = outputs(llama)
    with repeng.steer(llama.model, along, alpha=1.0) as model:
        assert torch.equal(model(input_ids=IDS, use_cache=False).logits, ours)


def test_what_cannot_be_done_is_said(llama: LanguageModel) -> None:
    with pytest.raises(BadInput, match="16 dimensions, and blocks.1.hook_resid_post of this model has 32"):
        repeng.steer(llama, vector(16), alpha=1.0).__enter__()
    with pytest.raises(UnknownName, match="tokens to steer at 'some'"):
        repeng.steer(llama, vector(32), alpha=1.0, tokens="some").__enter__()
    with pytest.raises(BadInput, match="no direction at layer 2; there is at 1"):
        repeng.steer(llama, vector(32), alpha=1.0, layers=[2]).__enter__()
    other = replace(vector(32), provenance={"weights": "sha256:0", "model": "other"})
    with pytest.raises(CaptureMismatch, match="fitted on other"):
        repeng.steer(llama, other, alpha=1.0).__enter__()
    with pytest.raises(BadInput, match="nothing is to be done"):
        repeng.steer(llama, vector(32)).__enter__()
    with pytest.raises(BadInput, match="has not length 1"):
        replace(vector(32), directions=2 * vector(32).directions)


def test_another_model_is_steered_only_on_purpose(llama: LanguageModel) -> None:
    along = replace(vector(llama.d_model), provenance={"weights": "sha256:0", "probe": "mms"})
    refused = pytest.raises(CaptureMismatch, match="the probe mms was fitted on sha256:0")
    with refused, repeng.steer(llama, along, alpha=1.0):
        pass
    with repeng.steer(llama, along, alpha=1.0, any_model=True):
        pass


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_a_strength_is_a_finite_number(alpha: float, llama: LanguageModel) -> None:
    refused = pytest.raises(BadInput, match="must be a finite number")
    with refused, repeng.steer(llama, vector(llama.d_model), alpha=alpha):
        pass
