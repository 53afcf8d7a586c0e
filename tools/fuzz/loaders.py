"""What repeng reads: a valid example of each kind, and how it is read."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = [
    {"prompt": f"Which is number {n}?", "responses": {f"It is {n}.": 1.0, f"No idea {n}": 0.0}, "topic": "counting"}
    for n in range(4)
]


@dataclass(frozen=True)
class Loader:
    """Something that is read.

    Attributes:
        name: what it is called.
        make: writes a valid one to a folder.
        read: reads it from there.
        patterns: of the files that are changed.
        sealed: whether they end with a checksum that is put right at every second change.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    patterns: tuple[str, ...]
    sealed: bool = False


def _distribution(folder: Path) -> None:
    for name in ("train", "test"):
        place = folder / "counting"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.json").write_text(json.dumps(EXAMPLES, indent=1))


def _rows() -> list[dict[str, str]]:
    return [{"prompt": f"Which is number {n}?", "chosen": f"It is {n}.", "rejected": f"No idea {n}"} for n in range(4)]


def _jsonl(folder: Path) -> None:
    chats = [
        {"chosen": [{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": f"Good {n}"}]}
        | {"rejected": [{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": f"Bad {n}"}]}
        for n in range(3)
    ]
    (folder / "counting.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _rows()))
    (folder / "talking.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))


def _csv(folder: Path) -> None:
    with (folder / "counting.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("prompt", "chosen", "rejected"))
        table.writeheader()
        table.writerows(_rows())


def _parquet(folder: Path) -> None:
    import pandas as pd

    pd.DataFrame(_rows()).to_parquet(folder / "counting.parquet")


def _hub(folder: Path) -> None:
    import pandas as pd

    (folder / "set" / "data").mkdir(parents=True)
    for name in ("train", "test"):
        pd.DataFrame(_rows()).to_parquet(folder / "set" / "data" / f"{name}-00000-of-00001.parquet")
    (folder / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        "  - split: test\n    path: data/test-*\n---\nA set.\n"
    )


def _data(folder: Path) -> None:
    from repeng.distributions.load import load_distributions

    for distribution in load_distributions(_only(folder)).values():
        for split in distribution.splits.values():
            assert split.data_hash and len(split.groups) == len(split.examples)


def _only(folder: Path) -> Path:
    return folder / "set" if (folder / "set").is_dir() else folder


def _shifts(folder: Path) -> None:
    shift = {"source": "a", "target": "b", "target_reference": "b", "label": "extreme", "category": "skill"}
    (folder / "shifts.json").write_text(json.dumps([shift, shift | {"label": "probing"}]))


def _read_shifts(folder: Path) -> object:
    from repeng.benchmarks.shift_lists import get_benchmark

    return get_benchmark(folder / "shifts.json").distributions


def _study(folder: Path) -> None:
    from repeng.study.settings import Study

    (folder / "study.toml").write_text(
        Study(
            methods=("mms", "logistic(C=0.1)", "zero-shot"), limit=9, augment=0.01, benchmark="genies", layers="4-8"
        ).to_toml()
        + '\n# and\ndevice_map = "auto"\n'
    )


def _read_study(folder: Path) -> object:
    from repeng.methods.names import parse_name
    from repeng.probes.selection import check_layers
    from repeng.study.settings import Study

    study = Study.read(folder / "study.toml", {})
    check_layers(study.layers, 12, study.model)
    return [parse_name(name) for name in study.methods], study.to_toml()


def _store(folder: Path) -> None:
    from repeng.activations.capture import Request, capture
    from repeng.activations.store.store import Store
    from repeng.distributions.load import load_distributions
    from repeng.distributions.stimuli import get_stimulus
    from repeng.models.load import load_model

    data = folder.parent / "data-of-the-store"
    _distribution(data)
    distributions = load_distributions(data)
    splits = [split for one in distributions.values() for split in one.splits.values()]
    capture(load_model("mini", device="cpu"), splits, Request((get_stimulus("plain"),), layers=(0, 3)), Store(folder))
    shutil.rmtree(data)
    for index in folder.rglob("index.json"):
        (index.parent / "written.jsonl").write_text('["shard-00000.safetensors", 5, "ab"]\n')
        (index.parent / "plan.json").write_text(
            '{\n "format": 2,\n "layout": "padded",\n "batch_tokens": 64,\n "stimuli": [],\n'
            ' "layers": [0],\n "first_file": 0\n}\n'
        )


def _read_store(folder: Path) -> None:
    from repeng.activations.store.records import Plan
    from repeng.activations.store.store import Store
    from repeng.activations.store.writing import believed, tidy
    from repeng.errors import RepengError

    def tried(one: Callable[[], object]) -> None:
        with contextlib.suppress(RepengError):
            one()

    tried(Store(folder).verify)
    for capture in Store(folder).captures():
        tried(capture.contents)  # noqa: B023
        for key in capture.splits():
            tried(lambda: capture.labels(key.distribution, key.split))  # noqa: B023
            tried(lambda: capture.activations(key.distribution, key.split, layer=3))  # noqa: B023
            tried(lambda: capture.logprobs(key))  # noqa: B023
            tried(lambda: capture.data_of(key))  # noqa: B023
    for plan in folder.rglob("plan.json"):
        tried(lambda: Plan.read(plan))  # noqa: B023
        believed(plan.parent)
    for split in folder.glob("*/*/*/"):
        tidy(split)


def _results(folder: Path) -> None:
    import numpy as np

    from repeng.distributions.schema import Shift
    from repeng.metrics import Evaluation
    from repeng.results import LayerRow, evaluation_path, row_from, write_evaluation, write_layers, write_results
    from repeng.study.settings import Study

    evaluation = Evaluation(
        probabilities=np.array([0.9, 0.2, 0.5]), example=np.arange(3), group=np.array([0, 1, 1]), scores=np.ones((3, 2))
    )
    said = {
        "key": "k",
        "model": "mini",
        "method": "mms",
        "source": "facts",
        "target": "myths",
        "layers": "3",
        "kind": "probe",
    }
    for source, target in (("facts", "myths"), ("facts", "facts")):
        write_evaluation(evaluation_path(folder / "predictions", "mms", "mini", source, target), evaluation, said)
    row = row_from(evaluation, model="mini", method="mms", layers="3", shift=Shift("facts", "myths"), kind="probe")
    write_results(
        [row, row_from(None, model="mini", method="lat", layers="", shift=Shift("facts", "myths"))],
        folder / "results.csv",
    )
    figures = (3, None, 0.9, 0.8, 1.0, 0.95, True, False)
    write_layers([LayerRow("mini", "mms", "facts", "myths", *figures)], folder / "layers.csv")
    (folder / "study.toml").write_text(Study(out="out").to_toml())
    capability = folder / "target_tuned_capability" / "mini"
    capability.mkdir(parents=True)
    (capability / "myths.json").write_text('{"best_intervention_accuracy": 0.9, "best_intervention": "mms"}')


def _read_tables(folder: Path) -> None:
    from repeng.report.frames import shift_frame
    from repeng.report.sentences import summary_sentences
    from repeng.results import read_layers, read_results

    rows = read_results(folder / "results.csv")
    shift_frame(rows)
    summary_sentences(rows)
    read_layers(folder / "layers.csv")


def _read_evaluations(folder: Path) -> None:
    from repeng.distributions.schema import Benchmark, Shift
    from repeng.report.predictions import read_predictions
    from repeng.study.rescore import rescore

    read_predictions(folder)
    rescore(folder / "predictions", Benchmark("one", (Shift("facts", "myths"),)))


def _read_report(folder: Path) -> None:
    from repeng.report.compared_studies import read_compared_studies
    from repeng.study.results_folder import joined
    from repeng.study.settings import Study

    joined(Study(out=str(folder)))
    read_compared_studies([folder])


def _probe(folder: Path) -> None:
    import numpy as np
    import torch

    from repeng.probes.fitting import ProbeSpec, fit_probe
    from repeng.probes.io import save
    from repeng.probes.registry import get_probe
    from repeng.probes.source import SourceData

    rows = torch.randn(2, 1, 40, 4, generator=torch.Generator().manual_seed(0))
    examples = np.arange(40) // 2
    data = SourceData(rows, np.tile([1.0, 0.0], 20), examples, examples, (0, 1))
    save(fit_probe(ProbeSpec(get_probe("mms")), data, provenance={"model": "mini", "capture_id": "mini-0"}), folder)


def _read_probe(folder: Path) -> object:
    from repeng.probes.io import load

    return load(folder).probe


def _tuned(folder: Path) -> None:
    from repeng.distributions.load import load_distributions
    from repeng.tuning.settings import preset_settings
    from repeng.tuning.tuned_model import tune

    _distribution(folder.parent / "data-of-the-tuned")
    split = load_distributions(folder.parent / "data-of-the-tuned")["counting"].train
    settings = preset_settings("lora", steps=1, batch_size=2, micro_batch_size=2, held_out=0.0, patience=0)
    path = tune("mini", split, method="lora", root=folder.parent / "tuned-root", settings=settings, device="cpu").path
    shutil.copytree(path, folder / "tuned")


def _read_tuned(folder: Path) -> None:
    from repeng.errors import RepengError
    from repeng.tuning.scoring import load_tuned, published
    from repeng.tuning.tuned_model import _read

    with contextlib.suppress(RepengError):
        _read(folder / "tuned", "mini")
    load_tuned(published(folder / "tuned", model="mini"), device="cpu")


def _archive(folder: Path) -> None:
    _distribution(folder / "in")
    with tarfile.open(folder / "archive.tar", "w") as tar:
        tar.add(folder / "in", "data")
    shutil.rmtree(folder / "in")


def _read_archive(folder: Path) -> None:
    from repeng.benchmarks.fetch import fetched_folder, unpack

    unpack(folder / "archive.tar", folder / "final", {"name": "made up"})
    fetched_folder("final", folder)


def _fetched(folder: Path) -> None:
    _archive(folder)
    _read_archive(folder)


def _read_fetched(folder: Path) -> None:
    from repeng.benchmarks.fetch import fetched_folder
    from repeng.distributions.load import load_distributions

    found = fetched_folder("final", folder)
    if found is not None:
        load_distributions(found)


LOADERS = [
    Loader("distribution", _distribution, _data, ("*/*.json",)),
    Loader("jsonl", _jsonl, _data, ("*.jsonl",)),
    Loader("csv", _csv, _data, ("*.csv",)),
    Loader("parquet", _parquet, _data, ("*.parquet",)),
    Loader("hub-layout", _hub, _data, ("set/data/*", "set/README.md")),
    Loader("shift-file", _shifts, _read_shifts, ("*.json",)),
    Loader("study", _study, _read_study, ("*.toml",)),
    Loader("store-index", _store, _read_store, ("**/index.json",), sealed=True),
    Loader("store-capture", _store, _read_store, ("*/capture.json",), sealed=True),
    Loader("store-split", _store, _read_store, ("**/split.json",), sealed=True),
    Loader("store-plan", _store, _read_store, ("**/plan.json", "**/written.jsonl"), sealed=True),
    Loader("store-shard", _store, _read_store, ("**/*.safetensors",)),
    Loader("evaluation", _results, _read_evaluations, ("predictions/**/*.json",)),
    Loader("capability", _results, _read_evaluations, ("target_tuned_capability/**/*.json",)),
    Loader("tables", _results, _read_tables, ("*.csv",)),
    Loader("results-folder", _results, _read_report, ("*.csv", "*.toml", "predictions/**/*.json")),
    Loader("probe", _probe, _read_probe, ("*",)),
    Loader("tuned-model", _tuned, _read_tuned, ("tuned/*.json", "tuned/*.safetensors")),
    Loader("archive", _archive, _read_archive, ("archive.tar",)),
    Loader("fetched", _fetched, _read_fetched, ("final/fetched.json",)),
]
