"""What a study writes equals what plain loops give: numpy over stored tensors, the model over one text at a time."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_world import world
from transformers import AutoModelForCausalLM, AutoTokenizer

from repeng.distributions.schema import Split
from repeng.distributions.stimuli import STIMULI
from repeng.probes.source import split_source
from repeng.study.study import StudyOutcome

SOURCE, TARGET = world()["easy"].train, world()["hard"].test


def prediction(finished: StudyOutcome, method: str) -> dict[str, Any]:
    study = finished.plan.study
    folder = finished.plan.runner.predictions / method / f"{Path(study.model).name}-easy"
    found: dict[str, Any] = json.loads((folder / "hard.json").read_text())
    return found


def stored(finished: StudyOutcome, split: Split, part: str, layer: int) -> np.ndarray:
    root = Path(finished.plan.study.store)
    folder = next(root.glob(f"*/{split.distribution}/{split.name}.{split.data_hash}/{part}"))
    shards = [load_file(file) for file in sorted(folder.glob("shard-*.safetensors"))]
    return torch.cat([shard[f"blocks.{layer}.hook_resid_post"] for shard in shards]).double().numpy()


def softmax_of_pairs(scores: np.ndarray) -> np.ndarray:
    """p(best) of each pair of the target, in file order."""
    gaps = np.array([scores[pair.best] - scores[pair.worse] for pair in TARGET.pairs])
    return 1 / (1 + np.exp(-gaps))


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("mms", ["plain.resid_post.last"]),
        ("cra", ["contrast_yes.resid_post.last", "contrast_no.resid_post.last"]),
    ],
)
def test_a_mass_mean_scored_from_the_cache_is_the_one_by_hand(
    finished_alone: StudyOutcome, method: str, parts: list[str]
) -> None:
    held = prediction(finished_alone, method)
    layer = int(held["layers"])

    def features(split: Split) -> np.ndarray:
        values = [stored(finished_alone, split, part, layer) for part in parts]
        return values[0] if len(values) == 1 else values[0] - values[1]

    examples = SOURCE.response_example
    pairs = split_source(SOURCE.labels, examples, SOURCE.groups[examples], seed=0)
    learned = features(SOURCE)
    direction = learned[pairs.train[:, 0]].mean(axis=0) - learned[pairs.train[:, 1]].mean(axis=0)
    held_out = (learned[pairs.held_out[:, 0]] - learned[pairs.held_out[:, 1]]) @ direction
    assert held["held_out_accuracy"] == pytest.approx(np.mean((held_out > 0) + 0.5 * (held_out == 0)))
    scores = features(TARGET) @ direction
    gaps = np.array([scores[pair.best] - scores[pair.worse] for pair in TARGET.pairs])
    found = np.array(held["eval_probabilities"])
    logits = np.log(found / (1 - found))
    temperature = float(gaps @ gaps / (gaps @ logits))
    assert temperature > 0
    np.testing.assert_allclose(logits, gaps / temperature, rtol=1e-3, atol=1e-4)
    assert held["eval_example"] == [pair.example for pair in TARGET.pairs]
    assert held["eval_group"] == [pair.group for pair in TARGET.pairs]


@cache
def loaded(folder: str) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def log_probability(folder: str, ids: list[int], first: int, last: int) -> float:
    """Of tokens first up to last, each given those before it, the model run on this one text."""
    model, _ = loaded(folder)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    return float(sum(logits[place - 1, ids[place]] for place in range(max(first, 1), last)))


def of_joined_text(folder: str, before: str, response: str) -> tuple[float, int]:
    """Total log-probability of a response after a text that is tokenized with it, and over how many tokens."""
    encoded = loaded(folder)[1](before + response, return_offsets_mapping=True)
    own = [place for place, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(before)]
    return log_probability(folder, encoded["input_ids"], own[0], own[-1] + 1), len(own)


def responses() -> list[tuple[str, str]]:
    return [(str(example.prompt), response) for example in TARGET.examples for response in example.responses]


def test_zero_shot_is_what_a_plain_loop_over_the_model_gives(finished: StudyOutcome) -> None:
    folder = finished.plan.study.model
    found = [of_joined_text(folder, prompt, response) for prompt, response in responses()]
    totals, counts = (np.array(column) for column in zip(*found, strict=True))
    total, mean = (prediction(finished, name)["eval_probabilities"] for name in ("zero-shot", "zero-shot-mean"))
    np.testing.assert_allclose(total, softmax_of_pairs(totals), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(mean, softmax_of_pairs(totals / counts), rtol=1e-4)


def test_zero_shot_as_released_tokenizes_apart_and_divides_by_the_padded_length(finished: StudyOutcome) -> None:
    folder = finished.plan.study.model
    tokenizer = loaded(folder)[1]
    totals, lengths = [], []
    for prompt, response in responses():
        before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, response))
        ids = [*before, *after, tokenizer.eos_token_id]
        totals.append(log_probability(folder, ids, len(before), len(ids)))
        lengths.append(len(ids))
    wanted = [
        1 / (1 + np.exp((totals[p.worse] - totals[p.best]) / (max(lengths[p.best], lengths[p.worse]) - 1)))
        for p in TARGET.pairs
    ]
    np.testing.assert_allclose(prediction(finished, "zero-shot-genies")["eval_probabilities"], wanted, rtol=1e-4)


def test_few_shot_is_zero_shot_of_texts_with_the_examples_written_before_them(finished: StudyOutcome) -> None:
    folder = finished.plan.study.model
    plan = finished.plan
    method = next(method for method in plan.methods if method.name == "few-shot")
    (need,) = method.requires(SOURCE)
    order = np.random.default_rng([0, 4]).permutation(len(SOURCE.examples))
    shots = [f"\n\n{e.prompt}{e.responses[e.best]}" for e in (SOURCE.examples[number] for number in order)]
    n_shots = need.stimulus.preamble.count("### Instruction")
    assert n_shots >= 2
    assert need.stimulus.preamble == "".join(shots[:n_shots]) + "\n\n"
    before = "".join(shots[:n_shots]) + "\n\n"
    totals = np.array([of_joined_text(folder, before + prompt, response)[0] for prompt, response in responses()])
    found = prediction(finished, "few-shot")["eval_probabilities"]
    np.testing.assert_allclose(found, softmax_of_pairs(totals), rtol=1e-3, atol=1e-6)


def test_the_verdict_is_the_log_odds_of_yes_against_no(finished: StudyOutcome) -> None:
    folder = finished.plan.study.model
    suffix = STIMULI["truthfulness"].after_response
    odds = np.array(
        [
            of_joined_text(folder, prompt + response + suffix, "Yes")[0]
            - of_joined_text(folder, prompt + response + suffix, "No")[0]
            for prompt, response in responses()
        ]
    )
    found = prediction(finished, "truthfulness")["eval_probabilities"]
    np.testing.assert_allclose(found, softmax_of_pairs(odds), rtol=1e-3, atol=1e-6)
