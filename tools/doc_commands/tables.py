"""What is not run as it stands, and why. An entry that fits nothing is an error, so that none outlives its page."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Pieces of a page, known by what stands in them.

    Attributes:
        page: from the root of the repository; empty for every page.
        text: what a piece begins with, or, after an asterisk, holds.
        what: why it is not run; or what is said of it.
    """

    page: str
    text: str
    what: str

    def fits(self, page: str, text: str) -> bool:
        """Whether a piece is meant."""
        holds = self.text[1:] in text if self.text.startswith("*") else text.startswith(self.text)
        return holds and self.page in ("", page)


NOT_OURS = (
    Entry("", "make ", "a target of the Makefile: CI calls them, and this is one of them"),
    Entry("", "pip ", "installs; CI's own step does it"),
    Entry("", "python -m tools.", "hours of simulation or training; tests/tools run the tools on little"),
    Entry("", "python perf/", "benchmarks of speed, minutes each and of this machine alone"),
    Entry("CONTRIBUTING.md", ".venv/bin/", "tests and linters, which CI runs"),
)
"""Kinds of command that are known and not run here."""

ADAPTER = "needs a published adapter, from the network"
WHOLE = "draws from the whole embedded study, which takes minutes; tests/report/test_paper_figures.py draws every kind"
UNIONS = "is of distributions that the stand-ins cut away; tests/distributions/test_unions.py asks it of small ones"
SMOLLM2 = "captures a model of 135 million parameters on public data, which takes minutes"
HUB_REPOSITORY = "needs a repository of the hub; tests/handing ask a hub on loopback"
VLLM = "needs vLLM and a GPU; it is what the tool's own page says"
SKIPPED = (
    Entry("docs/erasure.md", "repeng cache --model smollm2", SMOLLM2),
    Entry("docs/erasure.md", "repeng erase --store acts", SMOLLM2),
    Entry("docs/steering.md", "repeng run --model smollm2", SMOLLM2),
    Entry(
        "docs/erasure.md",
        "repeng erase --store store --source facts --target myths --layers 2,4 --others",
        "is of distributions that the stand-ins cut away; tests/study/test_cached_erasure.py asks it of small ones",
    ),
    Entry("docs/figures.md", "repeng plot", WHOLE),
    Entry("docs/figures.md", "repeng matrix", WHOLE),
    Entry("docs/figures.md", "import repeng", WHOLE),
    Entry("docs/data.md", "repeng run --methods mms,logistic --train-limit 120 --shift long_right:quiz", UNIONS),
    Entry("docs/metrics.md", "def sharpness", "lines to be written into a file of the package, not a script"),
    Entry("docs/handing-on.md", "*hf://", HUB_REPOSITORY),
    Entry("docs/handing-on.md", "from vllm.steer_vectors", VLLM),
    Entry("docs/handing-on.md", "import torch\nfrom safetensors", VLLM),
    Entry("docs/large-models.md", "repeng cache --model mini --quantization", "needs bitsandbytes"),
    Entry(
        "docs/scale.md",
        "*meta-llama",
        "needs a model of the hub, and GPUs; the page's first commands run on a local cluster",
    ),
    Entry("docs/store.md", "*s3://bucket", "needs a bucket; tests/test_s3.py asks a server of its own"),
    Entry("docs/tuning.md", "from peft import PeftModel", ADAPTER),
    Entry("docs/tuning.md", "from repeng.tuning.scoring import published", ADAPTER),
    Entry("docs/tuning.md", "import torch\nfrom safetensors", ADAPTER),
)
"""Pieces that cannot be run here: they need a GPU or the network, or are no whole script."""

MENTIONS = (
    Entry("docs/methods/README.md", "repeng run --benign NAME", "an option with what it takes, not a command"),
    Entry("README.md", "repeng store rm CAPTURE", "a command with what it takes, a name that store ls shows"),
)
"""Inline commands that parse and are yet none to be typed."""

EXIT_CODES: dict[tuple[str, str], int] = {}
"""By page and text of a command, the code that the page says it exits with, where that is not 0."""

FOREIGN_OPTIONS = {
    "--no-deps": "pip",
    "--shifts": "tools.layer_study",
    "--model_dir": "train.py of GENIES' folder protocol",
    "--test_distribution_dirs": "train.py of GENIES' folder protocol",
    "--output_paths": "eval.py of GENIES' folder protocol",
    "--variant": "perf/tuning_presets.py",
}
"""Options of other programs that sentences name, and whose they are."""
