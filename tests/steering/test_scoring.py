"""Log-probabilities under edits: the quick way against whole passes over each text alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import made_up

import repeng
from repeng.activations.layouts.batch import Layout
from repeng.activations.layouts.packed import MASKS, TREES
from repeng.activations.layouts.padded import padded_batches
from repeng.distributions.schema import Example, Split
from repeng.errors import UnknownName
from repeng.models.load import LanguageModel
from repeng.steering.questions import SplitQuestions
from repeng.steering.scoring import score_under
from repeng.steering.steer import edits_along
from repeng.steering.vector import SteeringVector


def vector(lm: LanguageModel, site: str, layer: int) -> SteeringVector:
    width = lm.hook_point(site, layer).d_head or lm.d_model
    drawn = torch.randn(1, width, generator=torch.Generator().manual_seed(5))
    units = ((layer, 1 if site == "hook_z" else -1),)
    return SteeringVector(site, units, drawn / drawn.norm(), np.array([1.5]), np.array([0.2]))


def alone(lm: LanguageModel, ids: tuple[int, ...], span: tuple[int, int]) -> float:
    """One text, the whole model, transformers' own logits."""
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(1)
    return float(sum(logits[place - 1, ids[place]] for place in range(max(span[0], 1), span[1])))


@pytest.mark.parametrize(
    ("architecture", "layout"),
    [("llama", TREES), ("gpt2", MASKS), ("gemma2", padded_batches), ("bloom", padded_batches), ("opt", padded_batches)],
)
@pytest.mark.parametrize(("site", "layer"), [("resid_post", 1), ("resid_pre", 0), ("hook_z", 2), ("mlp_out", 1)])
def test_edits_are_scored_as_on_each_text_alone(
    architecture: str, layout: Layout, site: str, layer: int, model_of: Callable[[str], LanguageModel]
) -> None:
    lm = model_of(architecture)
    along = vector(lm, site, layer)
    asked = SplitQuestions.of(lm, made_up(4))
    how = [{"alpha": 2.0, "project_out": False}, {"alpha": 0.0, "project_out": True}]
    edits = [{}, *(edits_along(along, **each) for each in how)]
    found = score_under(lm, asked.texts, site, edits, layout, batch_tokens=300)
    spans = [(text.ids, span) for text in asked.texts for span in text.logprobs]
    expected = [[alone(lm, *each) for each in spans]]
    for each in how:
        with repeng.steer(lm, along, **each):
            expected.append([alone(lm, *one) for one in spans])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(found[1] - found[0]).max() > 0.05
    # Nothing stays behind.
    np.testing.assert_allclose([alone(lm, *each) for each in spans[:3]], expected[0][:3], atol=1e-6)
    assert not any("forward" in block.__dict__ for block in lm.blocks)


@pytest.mark.parametrize("tokens", ["prompt", "response"])
def test_edits_of_some_tokens_are_those_of_a_mask(tokens: str, llama: LanguageModel) -> None:
    along = vector(llama, "resid_post", 1)
    asked = SplitQuestions.of(llama, made_up(3))
    edits = [edits_along(along, alpha=2.0, project_out=False)]
    chosen = asked.tokens(tokens)
    assert chosen is not None
    found = score_under(llama, asked.texts, "resid_post", edits, padded_batches, batch_tokens=300, tokens=chosen)
    expected = []
    for text, places in zip(asked.texts, chosen, strict=True):
        mask = torch.zeros(1, len(text.ids), dtype=torch.bool)
        mask[0, places.start : places.stop] = True
        with repeng.steer(llama, along, alpha=2.0, tokens=mask):
            expected += [alone(llama, text.ids, span) for span in text.logprobs]
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


def test_an_error_in_the_middle_leaves_the_model_as_it_was(llama: LanguageModel) -> None:
    along = vector(llama, "resid_post", 1)
    asked = SplitQuestions.of(llama, made_up(2))

    def stop(_tokens: int) -> None:
        raise ZeroDivisionError

    before = alone(llama, asked.texts[0].ids, asked.texts[0].logprobs[0])
    # Transformers leaves hooks of its own on a model that was asked for its hidden states.
    hooks = [dict(block._forward_hooks) for block in llama.blocks]
    with pytest.raises(ZeroDivisionError):
        edits = [{}, edits_along(along, alpha=2.0, project_out=False)]
        score_under(llama, asked.texts, "resid_post", edits, TREES, batch_tokens=300, done=stop)
    assert alone(llama, asked.texts[0].ids, asked.texts[0].logprobs[0]) == before
    assert [dict(block._forward_hooks) for block in llama.blocks] == hooks
    assert not any("forward" in block.__dict__ for block in llama.blocks)


def test_answers_stand_where_they_belong(llama: LanguageModel) -> None:
    split = made_up(3)
    asked = SplitQuestions.of(llama, split)
    scores = asked.scores(score_under(llama, asked.texts, "resid_post", [{}], TREES, batch_tokens=300))
    tokenizer = llama.tokenizer
    rows = [(example.prompt, response) for example in split.examples for response in example.responses]
    for row, (prompt, response) in enumerate(rows):
        ids = tuple(tokenizer(prompt + response)["input_ids"])
        start = len(tokenizer(prompt)["input_ids"])
        assert scores.logprobs[0, row] == pytest.approx(alone(llama, ids, (start, len(ids))), abs=2e-3)
    assert scores.verdicts is not None and scores.verdicts.shape == scores.logprobs.shape
    prompts = [tuple(tokenizer(example.prompt)["input_ids"]) for example in split.examples]
    of_prompts = [alone(llama, ids, (1, len(ids))) for ids in prompts]
    np.testing.assert_allclose(scores.prompts[0], of_prompts, atol=2e-3)
    n_tokens = sum(len(ids) - 1 for ids in prompts)
    assert scores.perplexity[0] == pytest.approx(np.exp(-sum(of_prompts) / n_tokens), rel=1e-4)


def test_a_text_that_is_too_long_has_no_score(llama: LanguageModel) -> None:
    short, *others = made_up(3).examples
    long = replace(short, responses=(short.responses[0], short.responses[1] + " word" * 400))
    split = Split("one", "test", (long, *others))
    asked = SplitQuestions.of(llama, split, max_length=200)
    scores = asked.scores(score_under(llama, asked.texts, "resid_post", [{}], TREES, batch_tokens=300))
    assert np.isnan(scores.logprobs[0]).tolist() == [False, True, *[False] * (len(asked.responses) - 2)]


def test_prompts_of_no_text_have_no_perplexity(llama: LanguageModel) -> None:
    split = Split("bare", "test", (Example("", ("It is so.", "It is not so."), 0),))
    asked = SplitQuestions.of(llama, split, verdicts=False)
    scores = asked.scores(score_under(llama, asked.texts, "resid_post", [{}], TREES, batch_tokens=300))
    assert np.isnan(scores.perplexity[0]) and scores.verdicts is None
    with pytest.raises(UnknownName, match="tokens to steer at"):
        asked.tokens("some")
