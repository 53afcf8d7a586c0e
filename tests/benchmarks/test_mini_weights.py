"""The embedded model: what is shipped loads like any other model, and learned its world."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from repeng.benchmarks.mini import mini_distributions
from repeng.distributions.schema import Split
from repeng.models.source import MINI
from tools.mini.gate import measure

LAYER = 3


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MINI, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(MINI, local_files_only=True, dtype=torch.float32)
    return model.eval(), tokenizer


def test_the_weights_are_small_and_hold_nothing_but_the_hubs_layout() -> None:
    files = {path.name: path.stat().st_size for path in MINI.rglob("*") if path.is_file()}
    assert sum(files.values()) <= 10_000_000
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md"} <= set(files)
    assert all(name.endswith((".safetensors", ".json", ".md")) for name in files)


def test_the_weights_are_bfloat16_and_tied() -> None:
    from safetensors import safe_open

    with safe_open(MINI / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118


def test_a_response_encoded_apart_is_the_response_encoded_with_its_prompt(loaded) -> None:  # type: ignore[no-untyped-def]
    _, tokenizer = loaded
    for name in ("facts", "stories", "terse", "geography_spanish", "long_right"):
        for example in mini_distributions(names=[name], limit=20)[name].test.examples:
            for response in example.responses:
                apart = tokenizer.encode(str(example.prompt)) + tokenizer.encode(response, add_special_tokens=False)
                assert apart == tokenizer.encode(str(example.prompt) + response)


def test_the_model_passes_the_gate_that_its_training_ends_with(loaded) -> None:  # type: ignore[no-untyped-def]
    gate = measure(*loaded)
    assert gate.passed, str(gate)
    # Early layers must be worse than middle ones on arithmetic, or a sweep has nothing to show.
    assert gate.probe["arithmetic"][0] < max(gate.probe["arithmetic"]) - 10


@torch.no_grad()
def _states(loaded: tuple[Any, Any], split: Split, layer: int) -> torch.Tensor:
    """Of each response the state at its last token, by 32 texts at a time: what follows a token does not reach it."""
    model, tokenizer = loaded
    texts = [str(example.prompt) + response for example in split.examples for response in example.responses]
    ids = [torch.tensor(tokenizer.encode(text)) for text in texts]
    states = []
    for start in range(0, len(ids), 32):
        rows = ids[start : start + 32]
        read = model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), output_hidden_states=True)
        hidden = read.hidden_states[layer + 1]
        states += [hidden[row, len(text) - 1] for row, text in enumerate(rows)]
    return torch.stack(states)


@pytest.mark.parametrize("seed", [0, 2])
def test_a_mean_difference_probe_carries_over_to_stories_and_fails_where_the_user_is_flattered(  # type: ignore[no-untyped-def]
    loaded, seed
) -> None:
    made = mini_distributions(seed, ["facts", "stories", "flattery"], limit=120)
    train = made["facts"].train
    states, labels = _states(loaded, train, LAYER), torch.from_numpy(train.labels)
    direction = states[labels == 1].mean(0) - states[labels == 0].mean(0)
    accuracy = {}
    for name in ("stories", "flattery"):
        scores = _states(loaded, made[name].test, LAYER) @ direction
        accuracy[name] = sum(bool(scores[p.best] > scores[p.worse]) for p in made[name].test.pairs) / len(
            made[name].test.pairs
        )
    assert accuracy["stories"] > 0.65
    assert accuracy["flattery"] < accuracy["stories"] - 0.15


def test_the_model_answers_easy_questions(loaded) -> None:  # type: ignore[no-untyped-def]
    from repeng.benchmarks.mini.facts import facts
    from repeng.benchmarks.mini.phrases import instruction, question

    model, tokenizer = loaded
    rng = random.Random(0)
    chosen = rng.sample([f for f in facts() if f.relation == "capital" and f.level == "easy"], 20)
    right = 0
    for fact in chosen:
        ids = torch.tensor([tokenizer.encode(instruction(question(fact, rng)))])
        with torch.no_grad():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        right += fact.en.answer in tokenizer.decode(output[0, ids.shape[1] :])
    assert right >= 16
