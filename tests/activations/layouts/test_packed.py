from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from layout_check import check_layout
from tiny_models import ARCHITECTURES, make_model

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Chunk, Layout, Run, TextRequest
from repeng.activations.layouts.packed import MASKS, TREES, PackedLayout
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.layouts.selfcheck import packed_layout
from repeng.models.load import LanguageModel, load_model

EXPECTED: dict[str, PackedLayout | None] = {
    **dict.fromkeys(ARCHITECTURES, TREES),
    # Attention code of their own, or attention sinks.
    **dict.fromkeys(("falcon", "gptj", "gpt_oss"), MASKS),
    # Positions from the mask itself; a state handed from token to token.
    **dict.fromkeys(("bloom", "mamba"), None),
}
VARIANTS = {"mistral with a window": ("mistral", {"sliding_window": 16}, TREES)}


def some_texts() -> tuple[TextRequest, ...]:
    """Prompts of several lengths with three responses each, longer and shorter than the windows of 16 tokens."""
    generator = np.random.default_rng(0)
    texts = []
    for length in (0, 4, 12, 30, 45):
        prompt = [1, *generator.integers(3, 300, length).tolist()]
        for size in (1, 4, 7):
            ids = (*prompt, *generator.integers(3, 300, size).tolist())
            span = (len(prompt), len(ids))
            texts.append(TextRequest(ids, (len(prompt) - 1, len(ids) - 1), ((span,),), (span,)))
    return tuple(texts)


def requested(lm: LanguageModel, texts: tuple[TextRequest, ...], budget: int = 100) -> Run:
    hooks = tuple((site, layer) for site in ("resid_pre", "resid_post") for layer in range(lm.n_layers))
    return Run(texts, hooks, budget, torch.float32)


def by_text(lm: LanguageModel, plan: Run, layout: Layout) -> dict[int, list[torch.Tensor]]:
    """What each text got: vectors, means and log-probability."""

    def values(chunk: Chunk) -> dict[int, list[torch.Tensor]]:
        found = {}
        for slot, text in enumerate(chunk.texts):
            vectors = [value[2 * slot : 2 * slot + 2] for value in chunk.vectors.values()]
            means = [value[slot] for value in chunk.means.values()]
            found[text] = [*vectors, *means, torch.tensor(chunk.logprobs[slot])]
        return found

    return {text: value for chunk in run(lm, plan, layout) for text, value in values(chunk).items()}


def assert_same(lm: LanguageModel, plan: Run, layout: Layout) -> None:
    alone = by_text(lm, Run(plan.texts, plan.hooks, 1, plan.storage_dtype), padded_batches)
    together = by_text(lm, plan, layout)
    assert together.keys() == alone.keys() == set(range(len(plan.texts)))
    for text, expected in alone.items():
        for ours, theirs in zip(together[text], expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", [*ARCHITECTURES, *VARIANTS])
def test_each_architecture_is_exact_in_packed_rows_or_seen_to_fall_back(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    architecture, config, expected = VARIANTS.get(name, (name, {}, EXPECTED.get(name)))
    lm = load_model(str(make_model(architecture, tmp_path / architecture, config=config)))
    plan = requested(lm, some_texts())
    layout = packed_layout(lm, plan)
    assert layout == expected
    told = [record for record in caplog.records if "does not give the same in packed rows" in record.message]
    assert len(told) == (0 if expected else 1)
    assert_same(lm, plan, layout or padded_batches)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(make_model("llama", tmp_path_factory.mktemp("models") / "llama")))


@pytest.mark.parametrize("layout", [TREES, MASKS])
@pytest.mark.parametrize("budget", [1, 30, 100, 1000])
def test_a_packed_layout_keeps_what_every_layout_promises(
    layout: PackedLayout, budget: int, llama: LanguageModel
) -> None:
    texts = some_texts()
    assert check_layout(texts, list(layout(llama, texts, budget))) == []


def test_the_budget_changes_no_number(llama: LanguageModel) -> None:
    for budget in (1, 40, 1000):
        assert_same(llama, requested(llama, some_texts(), budget), TREES)


def test_fewer_tokens_are_computed_than_texts_have(llama: LanguageModel) -> None:
    texts = some_texts()
    plan = requested(llama, texts, 1000)
    n_tokens = sum(chunk.n_tokens for chunk in run(llama, plan, TREES))
    assert n_tokens == len({text.ids[:stop] for text in texts for stop in range(1, len(text.ids) + 1)})


def test_the_model_attends_as_before_when_rows_end_or_break_off(llama: LanguageModel) -> None:
    before = llama.model.config._attn_implementation
    chunks = run(llama, requested(llama, some_texts(), 20), TREES)
    next(chunks)
    assert llama.model.config._attn_implementation != before
    chunks.close()
    assert llama.model.config._attn_implementation == before
    list(run(llama, requested(llama, some_texts(), 20), TREES))
    assert llama.model.config._attn_implementation == before


def test_in_bfloat16_packed_rows_are_as_near_to_the_truth_as_padded_ones(tmp_path: Path) -> None:
    folder = str(make_model("llama", tmp_path / "llama"))
    exact, rough = load_model(folder), load_model(folder, dtype="bfloat16")
    plan = requested(rough, some_texts())
    truth = by_text(exact, plan, padded_batches)

    def off(layout: Layout) -> float:
        found = by_text(rough, plan, layout)
        return max(float((found[text][0] - truth[text][0]).abs().max()) for text in truth)

    assert packed_layout(rough, plan) == TREES
    assert off(TREES) <= 2 * off(padded_batches)
