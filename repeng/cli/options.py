"""Options that commands share, each defined once."""

from __future__ import annotations

import atexit
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repeng.errors import BadInput
from repeng.limits import LARGEST_SEED
from repeng.places import Place, place

if TYPE_CHECKING:
    from repeng.distributions.reading import Reading

Model = Annotated[str, typer.Option("--model", "-m", help="Hub id, a folder, a GGUF file, mini (embedded) or smollm2.")]
MaybeModel = Annotated[
    str | None, typer.Option("--model", "-m", help="Which model's activations, where a store holds several.")
]
BenchmarkName = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        "-b",
        help="mini, genies, genies-all, a category, a label or a shift file. [default: mini; with --data alone, "
        "every distribution against every one]",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Folder or file of pairs or labelled texts (GENIES, JSONL, JSON, CSV, Parquet), a hub dataset, or a "
        "public set as known:NAME.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        help="Which column of the data is which of ours: text=claim,label=truth,group=city. Ours: text, label, prompt, "
        "response, messages, responses, labels, chosen, rejected, group; a.b is b within a.",
    ),
]
Positive = Annotated[
    str | None,
    typer.Option("--positive", help="The label that counts as 1, against every other; or the right response's name."),
]
Turn = Annotated[
    str | None,
    typer.Option(
        "--turn",
        help="Which message of a conversation is labelled: a number from 0 (or -1 from the end), a role (its last "
        "turn), or all. [default: the assistant's last]",
    ),
]
Group = Annotated[
    str | None,
    typer.Option("--group", help="Column of what is never parted and is resampled as one: a scenario, an author."),
]
DEFAULT_STORE = Path("store")
AT: dict[str, Any] = {"parser": place, "metavar": "PATH"}
"""Of an option that names a file or folder, on a disk or in an object store."""
Store = Annotated[Place, typer.Option("--store", **AT, help="Folder that keeps the activations.")]
StorePlace = Annotated[
    Place | None, typer.Argument(parser=place, metavar="STORE", help="Folder of the store. [default: store]")
]
StoreOption = Annotated[Place | None, typer.Option("--store", **AT, help="The same, as other commands take it.")]
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
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="The most tokens that --generate writes.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="Of sampling; 0 takes the likeliest token.")]
SamplingSeed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of sampling.")]
MAX_NEW_TOKENS = 128
"""As `repeng.models.sampling` has it, which is not imported for a help text."""
ComputeDtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16, to compute in.")]
ProbesModel = Annotated[
    str | None, typer.Option("--model", "-m", help="The model. [default: the one that the probe was fitted on]")
]
AnyModel = Annotated[
    bool, typer.Option("--any-model", help="Take a model that is not known to be the one the probe was fitted on.")
]
Out = Annotated[Place | None, typer.Option("--out", **AT, help="Folder to write to.")]
Partial = Annotated[
    bool | None,
    typer.Option(
        "--partial/--whole",
        help="Leave out shifts whose distributions are not in the data, and say which. [default: whole]",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=2, help="Only the first N examples of each split.")]
TrainLimit = Annotated[
    int | None,
    typer.Option(
        "--train-limit",
        min=2,
        help="Fit on at most N train examples of each source, the first; of a union a+b N in all, evenly of its "
        "members.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        help="Spread the captured model over devices as transformers does: auto, balanced, sequential. "
        "In place of --device; needs accelerate.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Have a Ray cluster compute: auto (this machine's), local:4 (four workers here) or ray://HOST:10001; "
        "needs the extra ray.",
    ),
]
WorkerGpus = Annotated[
    int | None,
    typer.Option(
        "--worker-gpus", min=1, help="GPUs of one worker of the cluster, with --device-map auto. [default: 1]"
    ),
]
Quantization = Annotated[
    str | None,
    typer.Option(
        "--quantization",
        help="Of the captured model's weights: auto (as the checkpoint holds them), int8 or nf4 (quantised by "
        "bitsandbytes while they are loaded), none (quantised ones are unpacked). [default: auto]",
    ),
]
TensorParallel = Annotated[
    bool | None,
    typer.Option(
        "--tensor-parallel",
        help="Share each layer of the captured model out among the processes of torchrun --nproc-per-node N -m repeng "
        "..., a GPU each.",
    ),
]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16, to compute and to store in.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Every random choice follows from it.")]
THESE_LAYERS = "3, 4-8 or 3,10-12"
LAYER_RULES = (
    "auto (the mean of the layers within a standard error of the best on held-out source pairs), one-se (the earliest "
    "of them), top-k:N (the mean of the N best), average (of the best third), all (of every layer), or of these: "
    f"{THESE_LAYERS}."
)
"""What `run` and `fit` choose layers by; `cache` takes `all` and layers alone."""
Layers = Annotated[str, typer.Option("--layers", help=LAYER_RULES)]
Site = Annotated[
    str | None, typer.Option("--site", help="Hook site to read, as resid_post or hook_z. [default: the probe's own]")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", help="last, response_mean, prompt_last or another that was cached. [default: the probe's own]"
    ),
]
Plot = Annotated[
    Place | None,
    typer.Option("--plot", **AT, help="Picture to write: FILE.png, .svg, .pdf or .html."),
]
TooLong = Annotated[str, typer.Option("--too-long", help="Texts longer than the model takes: skip, refuse or cut.")]
Chat = Annotated[
    str | None,
    typer.Option(
        "--chat",
        help="How chats become text: template (the tokenizer's), or plain, a heading a turn, for a model without one. "
        "[default: template]",
    ),
]
TEMPLATE = re.compile(r"[\w-]+(\?[^=,]*)?=")
Strict = Annotated[bool, typer.Option("--strict", help="Take every caution for an error.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


def reading(
    columns: str | None, positive: str | None, turn: str | None, group: str | None, chat: str | None
) -> Reading | None:
    """What the five options say of the data; None where they are not given."""
    from repeng.distributions.reading import Reading

    given = Reading.parse(columns, positive=positive, turn=turn, group=group, chat=chat)
    return None if given.says_nothing else given


def own_model(model: str | None, provenance: Mapping[str, Any]) -> str:
    """The model that was named, or the one that a probe was fitted on.

    Raises:
        BadInput: neither is known.
    """
    found = model or provenance.get("model")
    if not found:
        raise BadInput("nothing says which model the probe was fitted on; name it with --model")
    return str(found)


def only_follows(tensor_parallel: bool) -> bool:
    """Whether this process is one of several that hold a model together, and not the first; if so, until that ends.

    Raises:
        BadInput: nothing started several processes; or something did, and nothing was said of tensor parallelism.
    """
    from repeng.errors import BadInput
    from repeng.models.launch import LAUNCH, launched

    if not tensor_parallel:
        if (number := launched()) > 1:
            raise BadInput(
                f"{number} processes were started together, which would all do the same; add --tensor-parallel, or "
                "start one"
            )
        return False
    if launched() < 2:
        raise BadInput(f"--tensor-parallel needs several processes; start them by {LAUNCH}")
    from repeng.activations.following import follow
    from repeng.models.parallel import processes

    together = processes()
    if together.leads:
        atexit.register(together.dismiss)
        return False
    follow(together)
    return True


def store(argument: Place | None, option: Place | None) -> Place:
    """The one store that is named by an argument or by --store."""
    if argument is not None and option is not None and argument != option:
        raise BadInput(f"two stores, {argument} and --store {option}; name one")
    return argument or option or DEFAULT_STORE


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def several(values: list[str]) -> tuple[str, ...]:
    """The names of an option that may be given again, each time also as a comma-separated list.

    Raises:
        BadInput: it is given, and names nothing.
    """
    found = tuple(dict.fromkeys(name for value in values for name in names(value)))
    if values and not found:
        raise BadInput(f"{','.join(values)!r} names no distribution; give one, or several as a,b")
    return found


def stimuli(values: list[str]) -> tuple[str, ...]:
    """Comma-separated names, and templates as `name={prompt}...`, each a value of its own that keeps its commas."""
    return tuple(name for value in values for name in ((value,) if TEMPLATE.match(value) else names(value)))
