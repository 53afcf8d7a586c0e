"""Options that commands share, each defined once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from repeng.limits import LARGEST_SEED

Model = Annotated[str, typer.Option("--model", "-m", help="Hub id, a folder, or mini (embedded).")]
MaybeModel = Annotated[
    str | None, typer.Option("--model", "-m", help="Which model's activations, where a store holds several.")
]
BenchmarkName = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        "-b",
        help="mini, genies, genies-all, a category, a label or a shift file. \\[default: mini; with --data alone, "
        "every distribution against every one]",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="Folder of GENIES distributions, preference data (JSONL, JSON, CSV, Parquet) or a hub dataset."
    ),
]
Store = Annotated[Path, typer.Option("--store", help="Folder that keeps the activations.")]
CachedDataPlace = Annotated[
    str | None, typer.Option("--data", help="Which data is meant, where the store holds several versions of a name.")
]
CachedBenchmark = Annotated[
    str | None, typer.Option("--benchmark", "-b", help="Which data is meant: this benchmark's.")
]
CachedLimit = Annotated[
    int | None,
    typer.Option("--limit", min=2, help="Which data is meant: the first N examples of each split, as captured."),
]
DataHash = Annotated[
    list[str] | None,
    typer.Option(
        "--data-hash", help="Which data is meant: by a split's hash, as repeng store ls shows it; may be given again."
    ),
]
AllowShared = Annotated[
    bool,
    typer.Option("--allow-shared", help="Score targets with prompts that were fitted on; a warning says so."),
]
TrustStore = Annotated[
    bool, typer.Option("--trust-store", help="Do not check cached activations against their checksums.")
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run the FILE.py that the probe names as its class.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
Limit = Annotated[int | None, typer.Option("--limit", min=2, help="Only the first N examples of each split.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        help="Spread the captured model over devices as transformers does: auto, balanced, sequential. "
        "In place of --device; needs accelerate.",
    ),
]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16, to compute and to store in.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Every random choice follows from it.")]
Layers = Annotated[
    str,
    typer.Option(
        "--layers",
        help="auto (the mean of the layers within a standard error of the best on held-out source pairs), "
        "one-se (the earliest of them), top-k:N (the mean of the N best), average (of the best third), all, 3 or 4-8.",
    ),
]
Site = Annotated[
    str | None, typer.Option("--site", help="Hook site to read, as resid_post or hook_z. \\[default: the probe's own]")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", help="last, response_mean, prompt_last or another that was cached. \\[default: the probe's own]"
    ),
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Picture to write: FILE.png, .svg or .html.")]
TooLong = Annotated[str, typer.Option("--too-long", help="Texts longer than the model takes: skip, refuse or cut.")]
TEMPLATE = re.compile(r"[\w-]+(\?[^=,]*)?=")
Strict = Annotated[bool, typer.Option("--strict", help="Take every caution for an error.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def stimuli(values: list[str]) -> tuple[str, ...]:
    """Comma-separated names, and templates as `name={prompt}...`, each a value of its own that keeps its commas."""
    return tuple(name for value in values for name in ((value,) if TEMPLATE.match(value) else names(value)))
