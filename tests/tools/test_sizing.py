"""The sizes and hours that docs/sizing.md states: against a real capture's files, and against plain sums."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import made_up
from tiny_models import make_model
from transformers import LlamaConfig, LlamaForCausalLM

from perf.sizing import ALL_DISTRIBUTIONS, BEGIN, BUDGET, END, SHAPES, STIMULI, capture_bytes, count, of_all, token_ids
from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.models.load import load_model
from repeng.models.tokens import tokenize

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sizing.md"


def stated() -> list[list[str]]:
    """The rows of the page's table of models."""
    between = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in between.splitlines()
        if re.match(r"\| \d", line)
    ]


def test_bytes_and_tokens_are_those_of_a_capture(tmp_path: Path) -> None:
    lm = load_model(str(make_model("llama", tmp_path / "model")), device="cpu")
    splits = [made_up(40), made_up(25, split="test")]
    done = capture(lm, splits, Request(STIMULI), Store(tmp_path / "store"), batch_tokens=BUDGET)
    files = list((tmp_path / "store").rglob("*.safetensors"))
    assert done.skipped == 0
    assert capture_bytes(splits, len(STIMULI), range(lm.n_layers), lm.d_model) == sum(f.stat().st_size for f in files)
    found = count(splits, lm.tokenizer)
    assert (found.responses, found.computed) == (sum(split.n_responses for split in splits), done.n_tokens)
    for stimulus in STIMULI:
        texts = tokenize(splits[0], stimulus, lm)
        assert token_ids(splits[0], range(40), stimulus, lm.tokenizer) == [text.ids for text in texts if text]


def test_the_total_of_all_is_the_mean_scaled_and_the_interval_is_of_what_is_not_known() -> None:
    assert of_all(np.full(23, 5.0)) == (5.0 * ALL_DISTRIBUTIONS,) * 3
    middle, low, high = of_all(np.arange(1.0, 24.0))
    assert middle == pytest.approx(12 * ALL_DISTRIBUTIONS)
    # Of 38 draws from a population known by 23 draws: standard deviation sqrt(38 + 38^2 / 23) times 6.63.
    assert (high - low) / 2 == pytest.approx(1.96 * 6.63 * (38 + 38**2 / 23) ** 0.5, rel=0.05)


def test_parameters_are_those_of_the_models_blocks_and_head() -> None:
    for shape in SHAPES:
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=1,
            num_attention_heads=shape.width // 128,
            num_key_value_heads=shape.key_width // 128,
        )
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        matrices = {name: weight.numel() for name, weight in model.named_parameters() if weight.dim() == 2}
        head = matrices.pop("lm_head.weight")
        del matrices["model.embed_tokens.weight"]
        assert shape.parameters == shape.n_layers * sum(matrices.values()) + head


def test_the_page_has_a_row_for_each_case_and_its_figures_follow_from_one_another() -> None:
    rows = stated()
    assert len(rows) == len(SHAPES) * 2 * 2
    thousands = re.search(r"\| responses, thousands \| ([\d.]+) \| ([\d.]+)", PAGE.read_text(encoding="utf-8"))
    assert thousands is not None
    shapes = {shape.name: shape for shape in SHAPES}
    for model, distributions, layers, tokens, a100, h100, gigabytes in rows:
        shape, responses = shapes[model], float(thousands[2 if int(distributions) == ALL_DISTRIBUTIONS else 1]) * 1e3
        plain = len(STIMULI) * responses * (int(layers) * shape.width * 2 + 24) / 1e9
        assert float(gigabytes.split()[0]) == pytest.approx(plain, rel=0.01), (model, layers)
        operations = 2 * shape.parameters * float(tokens.split()[0]) * 1e6
        for cell, peak in ((a100, 312e12), (h100, 989e12)):
            low, high = (float(number) for number in cell.split(" to "))
            assert (low, high) == pytest.approx([operations / (peak * share * 3600) for share in (0.5, 0.2)], rel=0.06)
