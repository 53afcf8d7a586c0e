"""How a study grows with its distributions: seconds, memory and disk of each phase, up to the 61 of GENIES.

    REPENG_GENIES=... python perf/full_scale.py --examples 4 --distributions 23,46     # a real small model
    REPENG_GENIES=... python perf/full_scale.py --hollow --distributions 23,46          # all texts, no model

GENIES' other distributions are not public, so those that are there are taken again and again, each copy's prompts
marked with its number, until there are enough; each is a source once or twice (69 shifts of 61), and mms, lat, lda and
logistic are fitted on it. Every size runs in a process of its own: planning, capturing (every layer's last token, and
the log-probabilities of zero-shot), evaluations, and `repeng report`.

--hollow lets the model's blocks compute nothing, so that all texts of 61 are done in an hour: what is left is reading,
tokenizing, packing, hooks, the head, writing and hashing, and beneath that fits and scores at their full size.

Printed: the seconds of each phase and those of processors, the peak of memory until its end, the bytes of the store and
of the results, and by which power of the texts the processors' seconds of each phase, and the bytes, grow between the
smallest and the largest size: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from workload import genies_folder

from repeng.distributions.load import load_distributions, write_genies
from repeng.distributions.schema import Distribution, Shift

SHIFTS, DISTRIBUTIONS = 69, 61
METHODS = ("mms", "lat", "lda", "logistic")


def write_data(folder: Path, data: Path, count: int, examples: int | None) -> int:
    """FOLDER/data with that many distributions, FOLDER/shifts.json; gives the number of their texts."""
    given = list(load_distributions(data, None, limit=examples).values())
    names, n_texts = [], 0
    for number in range(count):
        copy, one = divmod(number, len(given))
        name = given[one].name if not copy else f"{given[one].name}_{copy}"
        splits = {
            split.name: replace(
                split,
                distribution=name,
                examples=tuple(
                    replace(each, prompt=f"({copy}) {each.prompt}") if copy else each for each in split.examples
                ),
            )
            for split in given[one].splits.values()
        }
        write_genies(Distribution(name, splits), folder / "data")
        names.append(name)
        n_texts += sum(split.n_responses for split in splits.values())
    shifts = [
        Shift(names[number % count], names[(number + 1 + number // count) % count], label="extreme", category="copies")
        for number in range(round(count * SHIFTS / DISTRIBUTIONS))
    ]
    (folder / "shifts.json").write_text(json.dumps([asdict(shift) for shift in shifts]))
    return n_texts


def hollow_out(model: Any) -> None:
    """Let every block of a model add nothing."""
    import torch

    for block in model.modules():
        if hasattr(block, "self_attn") and hasattr(block, "mlp"):
            block.self_attn.forward = lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)
            block.mlp.forward = torch.zeros_like


def study(folder: Path, model: str, *, hollow: bool) -> None:
    """In a process of its own: a study, one line of JSON a phase."""
    from repeng.models import load
    from repeng.study.settings import Study
    from repeng.study.study import plan_study, run_study

    real = load.load_model

    def hollowed(*arguments: Any, **settings: Any) -> Any:
        lm = real(*arguments, **settings)
        hollow_out(lm.model)
        return lm

    if hollow:
        load.load_model = hollowed

    def clocks() -> tuple[float, float]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        begun = clocks()
        yield
        taken = [now - then for now, then in zip(clocks(), begun, strict=True)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([name, *taken, peak]), flush=True)

    @contextmanager
    def bar(title: str) -> Iterator[Any]:
        with phase(title.partition(" ")[0]):
            yield lambda _done, _total: None

    settings = Study(
        model=model,
        benchmark=str(folder / "shifts.json"),
        data=str(folder / "data"),
        # Where blocks add nothing, vectors are so alike that lda has no covariance to invert.
        methods=tuple(name for name in METHODS if not hollow or name != "lda"),
        capability=False,
        store=str(folder / "store"),
        out=str(folder / "results"),
    )
    with phase("planning"):
        plan = plan_study(settings)
    outcome = run_study(plan, progress=bar, note=lambda _: None)
    if outcome.failures:
        raise SystemExit(f"a method failed: {outcome.failures[0]}")
    with phase("report"):
        subprocess.run([sys.executable, "-m", "repeng", "report", settings.out], check=True, capture_output=True)


def measured(folder: Path, model: str, *, hollow: bool) -> dict[str, float]:
    """Seconds of processors by phase; what else there is to say is printed."""
    own = [sys.executable, __file__, "--one", str(folder), "--model", model, *(["--hollow"] if hollow else [])]
    found: dict[str, float] = {}
    with subprocess.Popen(own, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            phase, seconds, processor, peak = json.loads(line)
            found[phase] = found.get(phase, 0.0) + processor
            print(f"  {phase}: {seconds:.1f} s, processors {processor:.1f} s, peak {peak / 1e9:.2f} GB", flush=True)
    if child.returncode:
        raise SystemExit(child.returncode)
    return found


def size_of(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of GENIES distributions [default: that of REPENG_GENIES]")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--distributions", default="23,46", help="sizes, from the smallest; multiples of 23 have the same mix of texts"
    )
    parser.add_argument("--examples", type=int, help="of each split; all by default")
    parser.add_argument("--hollow", action="store_true", help="let the model's blocks compute nothing")
    parser.add_argument("--folder", type=Path, help="where everything is written and removed again; default: temporary")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        study(options.one, options.model, hollow=options.hollow)
        return
    found: list[tuple[int, dict[str, float]]] = []
    for count in map(int, options.distributions.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            n_texts = write_data(folder, genies_folder(options.data), count, options.examples)
            print(f"{count} distributions, {n_texts:,} texts", flush=True)
            phases = measured(folder, options.model, hollow=options.hollow)
            sizes = {part: size_of(folder / part) for part in ("store", "results")}
            print("  " + ", ".join(f"{part} {size / 1e9:.3f} GB" for part, size in sizes.items()), flush=True)
            found.append((n_texts, {**phases, **sizes}))
    (few, small), (many, large) = found[0], found[-1]
    if many > few:
        for phase, amount in large.items():
            power = math.log(amount / small[phase]) / math.log(many / few)
            print(f"{phase}: grows by the power {power:.2f} of the texts")


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
