"""The reward model: its loss by hand, and what stands beside a text changes nothing."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_model

from repeng.errors import BadInput
from repeng.models.pretrained import load_tokenizer
from repeng.tuning.adapters import new_reward_model
from repeng.tuning.loading import compute_dtype, forked_rng, load_classifier, require_bitsandbytes
from repeng.tuning.reward_model import RewardModel, pair_loss, response_scores
from repeng.tuning.settings import preset_settings

CPU = torch.device("cpu")


def reward_model(base: str, dtype: torch.dtype = torch.float32) -> RewardModel:
    return RewardModel(load_classifier(base, seed=3, device=CPU, dtype=dtype), load_tokenizer(base), dtype=dtype)


def test_the_loss_of_hand_made_logits_equals_the_formula() -> None:
    best, worse = [[1.0, -2.0], [0.5, 0.0]], [[0.0, 1.0], [0.5, 3.0]]
    terms = [
        -math.log(1 / (1 + math.exp(-(b - w))))
        for one, other in zip(best, worse, strict=True)
        for b, w in zip(one, other, strict=True)
    ]
    assert pair_loss(torch.tensor(best), torch.tensor(worse)).item() == pytest.approx(sum(terms) / 4, abs=1e-6)


def test_p_best_is_the_softmax_of_the_mean_logits() -> None:
    scores = response_scores(torch.tensor([[1.0, -2.0], [0.0, 1.0]]))
    assert scores.tolist() == [-0.5, 0.5]
    assert torch.softmax(scores, dim=0)[0].item() == pytest.approx(1 / (1 + math.e), abs=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt"])
def test_a_text_in_a_batch_has_the_logits_of_the_text_alone(architecture: str, tmp_path: Path) -> None:
    reward = reward_model(str(make_model(architecture, tmp_path)))
    reward.model.eval()
    texts = [[5, 6, 7, 8, 9, 2], [11, 2], [20, 21, 22, 2]]
    with torch.no_grad():
        reward.packs = False
        together = reward(reward.passes(texts))
        alone = torch.stack([reward.model(input_ids=torch.tensor([text])).logits[0] for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.std() > 0.01


def test_batches_under_any_budget_give_the_same_scores(base: str) -> None:
    reward = reward_model(base)
    texts = [list(range(3, 3 + length)) for length in (9, 2, 5, 5, 1, 12)]
    assert torch.allclose(reward.scores(texts, batch_tokens=1), reward.scores(texts, batch_tokens=10_000), atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "opt", "qwen2", "gptj"])
def test_shared_prompts_give_the_scores_of_plain_batches_for_fewer_tokens(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = reward_model(str(make_model(architecture, tmp_path)))
    texts = [[*range(10 * n, 10 * n + 9), 50 + r, 7 + n, 2] for n in range(1, 9) for r in range(3)]
    reward.packs = False
    plain = reward.scores(texts)
    reward.packs = None
    sizes: list[int] = []
    forward = reward.logits_at

    def counted(*arguments: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        sizes.append(inputs["input_ids"].numel())
        return forward(*arguments, **inputs)

    shared = reward.scores(texts)
    monkeypatch.setattr(reward, "logits_at", counted)
    assert torch.allclose(reward.scores(texts, batch_tokens=100), plain, atol=1e-5)
    assert torch.allclose(shared, plain, atol=1e-5)
    assert plain.std() > 0.01
    assert reward.packs
    assert len(sizes) > 1
    assert sum(sizes) <= 8 * (9 + 3 * 3)


@pytest.mark.parametrize("method", ["lora", "prompt-tuning"])
def test_shared_prompts_give_the_gradient_of_plain_batches(method: str, base: str) -> None:
    settings = preset_settings(method, dropout=0.0)
    reward = new_reward_model(base, settings, seed=3, device=CPU, dtype=torch.float32)
    texts = [[*range(10 * n, 10 * n + 9), 50 + r, 7 + n, 2] for r in range(2) for n in range(1, 5)]
    sizes: list[int] = []
    forward = reward.logits_at

    def counted(*arguments: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        sizes.append(inputs["attention_mask"].shape[-1])
        return forward(*arguments, **inputs)

    reward.logits_at = counted  # type: ignore[method-assign]
    gradients = []
    for packs in (False, None):
        reward.packs = packs
        passes = reward.passes(texts)
        sizes.clear()
        pair_loss(*reward(passes).chunk(2)).backward()
        gradients.append({name: weight.grad for name, weight in reward.trainable().items()})
        reward.zero_grad(set_to_none=True)
    plain, shared = gradients
    assert sizes == [4 * (9 + 2 * 3) + reward.virtual_tokens]
    assert any(gradient.abs().max() > 1e-3 for gradient in plain.values())
    for name, gradient in plain.items():
        assert torch.allclose(shared[name], gradient, atol=1e-5), name


def test_virtual_tokens_are_scored_once_a_row(base: str) -> None:
    settings = preset_settings("prompt-tuning")
    reward = new_reward_model(base, settings, seed=3, device=CPU, dtype=torch.float32)
    texts = [[*range(10 * n, 10 * n + 9), 50 + r, 7 + n, 2] for n in range(1, 9) for r in range(3)]
    reward.packs = False
    plain = reward.scores(texts)
    reward.packs = None
    assert torch.allclose(reward.scores(texts), plain, atol=1e-5)
    assert torch.allclose(reward.scores(texts, batch_tokens=40), plain, atol=1e-5)
    assert reward.packs and plain.std() > 0.01


@pytest.mark.parametrize("architecture", ["bloom", "gemma2"])
def test_a_model_that_cannot_share_prompts_is_found_out(architecture: str, tmp_path: Path) -> None:
    reward = reward_model(str(make_model(architecture, tmp_path)))
    texts = [[*range(10 * n, 10 * n + 9), 50 + r, 2] for n in range(1, 4) for r in range(3)]
    alone = torch.cat([reward.scores([text]) for text in texts])
    assert torch.allclose(reward.scores(texts), alone, atol=1e-4)
    assert reward.packs is False


def test_a_model_without_a_padding_token_takes_batches(tmp_path: Path) -> None:
    reward = reward_model(str(make_model("llama", tmp_path, pad=False)))
    assert reward.scores([[5, 6, 1], [7, 1]]).shape == (2,)


def test_the_head_computes_in_float32_so_that_close_scores_do_not_tie(base: str) -> None:
    reward = reward_model(base, torch.bfloat16)
    scores = reward.scores([[5, 6, 7, 2], [5, 6, 8, 2]])
    assert scores.dtype == torch.float32
    assert (scores != scores.bfloat16().float()).any()


def test_bfloat16_scores_are_near_those_of_float32(base: str) -> None:
    texts = [[5, 6, 7, 2], [9, 2], [30, 31, 2]]
    assert torch.allclose(reward_model(base).scores(texts), reward_model(base, torch.bfloat16).scores(texts), atol=0.05)


def test_the_head_starts_from_the_seed_and_the_global_generator_is_left_alone(base: str) -> None:
    before = torch.random.get_rng_state()
    heads = [load_classifier(base, seed=seed, device=CPU, dtype=torch.float32).score.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_a_library_seeds_is_put_back() -> None:
    def states() -> tuple[str, ...]:
        return repr(random.getstate()), repr(np.random.get_state()), repr(torch.random.get_rng_state().tolist())

    before = states()
    with forked_rng(1):
        random.seed(0)
        np.random.seed(0)
        drawn = torch.rand(1)
    assert states() == before
    with forked_rng(1):
        assert torch.equal(drawn, torch.rand(1))


def test_four_bits_without_a_gpu_are_refused_with_the_way_out() -> None:
    with pytest.raises(BadInput, match="needs a CUDA GPU.*'none'"):
        require_bitsandbytes(CPU)


def test_half_precision_is_refused() -> None:
    with pytest.raises(BadInput, match="'float16'.*float32 or bfloat16"):
        compute_dtype("float16", CPU)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no config.json"):
        load_classifier(str(tmp_path), seed=0, device=CPU, dtype=torch.float32)


def test_an_architecture_without_a_classifier_is_refused_in_few_words(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be loaded as a reward model") as refused:
        reward_model(str(make_model("mamba", tmp_path)))
    assert len(str(refused.value)) < 500
