"""A study of mms, lat, cra and ccs over the 15 GENIES shifts, as GENIES' released code works and as `repeng run` does.

    OMP_NUM_THREADS=2 python perf/study.py --data DIR --limit 20            400 texts timed as released, and scaled
    OMP_NUM_THREADS=2 python perf/study.py --data DIR --limit 20 --all      every text timed: hours
    OMP_NUM_THREADS=1 python perf/study.py --data DIR --limit 4 --texts 10 --benchmark shifts.json
                                            two minutes, of a file such as [{"source": "us_history", "target": "math"}]

Both ways make the same evaluations: each method on each shift, on its source's own test split, and on each target
reference for the capability. As released, the model is run again for each method and source, and for each method,
source and target, one text at a time, and keeps every hidden state of the last token. `repeng run` captures each
distribution once for all methods: timed from cold, from a warm store, and once more with nothing changed.

As released it takes hours, so some of its texts are drawn at random, half of them timed before repeng's runs and half
after, and the seconds are scaled to all by the tokens; `--all` times every one. Its probes are fitted and scored by the
same code as repeng's, so for these it is given the seconds of the run from a warm store. repeng's side also loads the
model, keeps log-probabilities, makes zero-shot's figures, and writes its results. Imports count on neither side.

Without --model: a random Llama of 12 layers, 768 wide, with a tokenizer trained on the texts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from workload import TRAINED_ON, genies_folder, train_tokenizer, write_random

from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel, load_model
from repeng.models.tokens import tokenize
from repeng.probes.registry import get_probe
from repeng.study.settings import Study
from repeng.study.study import Plan, plan_study, run_study

METHODS = ("mms", "lat", "cra", "ccs")


@dataclass
class Seconds:
    """How long a run of repeng took, and which part of it how long."""

    total: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def bar(self, title: str) -> Iterator[Any]:
        """In the place of a progress bar: the seconds that it would have been seen."""
        start = time.perf_counter()
        yield lambda _done, _total: None
        part = title.partition(" ")[0]
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start

    def __str__(self) -> str:
        known = {**self.parts, "else": self.total - sum(self.parts.values())}
        return f"{self.total:.1f} s (" + ", ".join(f"{part} {seconds:.1f}" for part, seconds in known.items()) + ")"


def planned(study: Study) -> tuple[Plan, float]:
    """The plan of a study, and the seconds that it took."""
    start = time.perf_counter()
    return plan_study(study), time.perf_counter() - start


def as_repeng(plan: Plan, planning: float) -> Seconds:
    """`repeng run` but for imports and its report."""
    start, seconds = time.perf_counter(), Seconds(parts={"planning": planning})
    result = run_study(plan, progress=seconds.bar, note=lambda _line: None)
    seconds.total = planning + time.perf_counter() - start
    if result.failures:
        first = result.failures[0]
        raise SystemExit(f"{first.method} on {first.source} failed: {first.reason}")
    return seconds


def texts_as_released(plan: Plan, lm: LanguageModel) -> list[list[int]]:
    """Token ids of every text that the model reads as released, as often as it reads it."""
    tasks = [task for task in plan.tasks if task.method in METHODS]
    read: list[tuple[str, Split]] = list(dict.fromkeys((task.method, task.source) for task in tasks))
    read += [(task.method, task.target) for task in tasks]
    known: dict[tuple[str, Split], list[list[int]]] = {}
    texts = []
    for method, split in read:
        for stimulus in get_probe(method).stimuli:
            if (stimulus, split) not in known:
                found = tokenize(split, get_stimulus(stimulus), lm)
                known[stimulus, split] = [text.ids for text in found if text is not None]
            texts += known[stimulus, split]
    return texts


@torch.no_grad()
def run_alone(lm: LanguageModel, texts: Sequence[list[int]]) -> tuple[float, int]:
    """The model run on one text after another, every hidden state of the last token kept; seconds, and tokens."""
    kept: list[Tensor] = []
    start = time.perf_counter()
    for ids in texts:
        hidden = lm.model(torch.tensor([ids], device=lm.device), output_hidden_states=True).hidden_states
        kept.append(torch.stack([layer[0, -1].float().cpu() for layer in hidden[1:]]))
    return time.perf_counter() - start, sum(map(len, texts))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of GENIES distributions [default: that of REPENG_GENIES]")
    parser.add_argument("--limit", type=int, default=20, help="examples of each split, 4 or more")
    parser.add_argument("--benchmark", default="genies", help="as `repeng run` takes it: a name, or a file of shifts")
    parser.add_argument("--model", help="hub id or folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", type=int, default=400, help="texts that are timed as released")
    parser.add_argument("--all", action="store_true", help="time every text as released: hours")
    options = parser.parse_args()
    data = genies_folder(options.data)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.model:
            lm = load_model(options.model, device=options.device)
        else:
            tokenizer = train_tokenizer(load_distributions(data, None, limit=TRAINED_ON))
            write_random(place / "llama-12x768", tokenizer, shape="small", device=options.device, dtype="float32")
            lm = load_model(str(place / "llama-12x768"), device=options.device)
        study = Study(
            model=options.model or str(place / "llama-12x768"),
            benchmark=options.benchmark,
            data=str(data),
            methods=METHODS,
            limit=options.limit,
            store=str(place / "store"),
            out=str(place / "cold"),
            device=options.device,
        )
        plan, planning = planned(study)
        texts = texts_as_released(plan, lm)
        drawn = texts if options.all else random.Random(0).sample(texts, min(options.texts, len(texts)))
        n_tokens = sum(map(len, texts))
        evaluations = sum(task.method in METHODS for task in plan.tasks)
        print(f"limit {options.limit}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        print(
            f"{len(plan.world.benchmark.shifts)} shifts, {evaluations} evaluations of {', '.join(METHODS)}", flush=True
        )
        run_alone(lm, drawn[:3])
        before = run_alone(lm, drawn[::2])
        cold = as_repeng(plan, planning)
        print(f"repeng, cold: {cold}", flush=True)
        warm = as_repeng(*planned(replace(study, out=str(place / "warm"))))
        print(f"repeng, warm store and no results: {warm}", flush=True)
        again = as_repeng(*planned(study))
        print(f"repeng, once more with nothing changed: {again}", flush=True)
        after = run_alone(lm, drawn[1::2])
        seconds, timed = before[0] + after[0], before[1] + after[1]
        model = seconds * n_tokens / timed
        released = model + warm.parts["evaluations"]
        print(
            f"as released: {released:.0f} s: {len(texts)} texts of {n_tokens} tokens through the model {model:.0f} s "
            f"({len(drawn)} texts, {timed / n_tokens:.1%} of the tokens, timed in {seconds:.0f} s"
            f"{'' if options.all else ' and scaled'}), and fits and scores {warm.parts['evaluations']:.0f} s as in ours"
        )
        print(
            f"times as long as repeng: cold {released / cold.total:.1f}, warm store {released / warm.total:.1f}, "
            f"nothing changed {released / again.total:.1f}"
        )
        for method in METHODS:
            alone = as_repeng(*planned(replace(study, methods=(method,), out=str(place / method))))
            print(f"warm, {method} alone (with zero-shot): {alone}", flush=True)


if __name__ == "__main__":
    main()
