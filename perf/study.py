"""A study of mms, lat, cra and ccs over the 15 GENIES shifts, as GENIES' released code works and as `repeng run` does.

    OMP_NUM_THREADS=2 python perf/study.py --data DIR --limit 20

As released: for each method, source and target the model is run again, one text at a time, and keeps every hidden state
of its last token; then a probe is fitted on each layer and the target's pairs are scored. `repeng run` captures each
distribution once for all methods: timed from cold, and again from a warm cache. Both sides fit the same probes with the
same code, so the ratio is of the runs of the model and of keeping their results. Loading the model counts on repeng's
side alone, which also scores sources, references and zero-shot.

Without --model: a random Llama of 12 layers, 768 wide, whose tokens are bytes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repeng.activations.model import LanguageModel, load_model
from repeng.activations.tokens import tokenize
from repeng.benchmarks.settings import Study
from repeng.benchmarks.study import plan_study, run_study
from repeng.benchmarks.world import open_world
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.probes.layers import fit_probe
from repeng.probes.registry import get_probe
from repeng.probes.source import SourceData, all_pairs

METHODS = ("mms", "lat", "cra", "ccs")


def make_llama(folder: Path) -> Path:
    """A random Llama of 12 layers, 768 wide, with a byte-level tokenizer of 256 tokens and no merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: number for number, text in enumerate(["<s>", "</s>", "<pad>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=4096,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=4096
    ).save_pretrained(folder)
    return folder


@torch.no_grad()
def states(lm: LanguageModel, split: Split, stimuli: tuple[str, ...]) -> tuple[Tensor, list[bool]]:
    """The model run on one text after another: [layer, stimulus, response, d_model], and which were not too long."""
    rows, kept = [], []
    for name in stimuli:
        found = []
        for text in tokenize(split, get_stimulus(name), lm):
            ids = torch.tensor([text.ids if text is not None else [0]], device=lm.device)
            hidden = lm.model(ids, output_hidden_states=True).hidden_states
            found.append(torch.stack([layer[0, -1].float().cpu() for layer in hidden[1:]]))
            kept.append(text is not None)
        rows.append(torch.stack(found, dim=1))
    n = split.n_responses
    return torch.stack(rows, dim=1), [all(kept[place::n]) for place in range(n)]


def as_released(lm: LanguageModel, world: Any, seed: int = 0) -> tuple[int, float]:
    """Every method, source and target by itself; returns how many texts the model read, and the seconds."""
    n_texts, start = 0, time.perf_counter()
    for method in METHODS:
        probe = get_probe(method)
        for shift in world.benchmark.shifts:
            source, target = world.distributions[shift.source].train, world.distributions[shift.target].test
            learned, usable = states(lm, source, probe.stimuli)
            examples = source.response_example
            data = SourceData(
                activations=learned,
                labels=source.labels,
                examples=examples,
                groups=source.groups[examples],
                layers=tuple(range(len(learned))),
                kept=torch.tensor(usable).numpy(),
            )
            fitted = fit_probe(probe, data, seed=seed)
            asked, usable = states(lm, target, probe.stimuli)
            pairs = all_pairs(target.labels, target.response_example, torch.tensor(usable).numpy())
            fitted.pair_probabilities(asked, pairs)
            n_texts += len(probe.stimuli) * (source.n_responses + target.n_responses)
    return n_texts, time.perf_counter() - start


@contextmanager
def silent(_title: str) -> Iterator[Any]:
    yield lambda _done, _total: None


def as_repeng(study: Study) -> tuple[int, float]:
    """`repeng run` but for its report; returns how many texts the model read, and the seconds."""
    start = time.perf_counter()
    result = run_study(plan_study(study), progress=silent, note=lambda _line: None)
    if result.failures:
        raise SystemExit(f"a method failed: {result.failures[0]}")
    return result.captured.n_texts if result.captured else 0, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of GENIES distributions")
    parser.add_argument("--limit", type=int, default=20, help="examples of each split")
    parser.add_argument("--benchmark", default="genies")
    parser.add_argument("--model", help="hub id or folder")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = options.model or str(make_llama(place / "llama-12x768"))
        world = open_world(options.benchmark, options.data, limit=options.limit)
        lm = load_model(model, device=options.device)
        states(lm, next(iter(world.distributions.values())).train.first(1), ("plain",))
        study = Study(
            model=model,
            benchmark=options.benchmark,
            data=options.data,
            methods=METHODS,
            limit=options.limit,
            store=str(place / "store"),
            out=str(place / "cold"),
            device=options.device,
        )
        print(f"{model}: {len(world.benchmark.shifts)} shifts, {options.limit} examples a split, {METHODS}")
        cold_texts, cold = as_repeng(study)
        print(f"repeng, cold: {cold_texts} texts read, {cold:.1f} s", flush=True)
        _, warm = as_repeng(Study(**{**study.as_dict(), "out": str(place / "warm")}))
        print(f"repeng, warm store and no results: {warm:.1f} s", flush=True)
        _, again = as_repeng(study)
        print(f"repeng, once more with nothing changed: {again:.1f} s", flush=True)
        texts, released = as_released(lm, world)
        print(f"as released: {texts} texts read, {released:.1f} s")
        print(f"ratio cold {released / cold:.1f}, warm {released / warm:.1f}, nothing changed {released / again:.1f}")


if __name__ == "__main__":
    main()
