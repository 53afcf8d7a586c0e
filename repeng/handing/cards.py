"""The README.md of what is pushed: what it is, what it was made of, and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from repeng.activations.store.records import CaptureRecord
from repeng.handing.probe_files import ProbeFiles
from repeng.version import __version__

CARD = "README.md"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
INSTALL = "pip install repeng-toolkit"
OURS = "<!-- Written by repeng push, and again by the next one; without this line it stays as it is. -->"


def is_ours(card: str) -> bool:
    """Whether a card was written here, and may be written anew."""
    return OURS in card


def probe_card(probe: ProbeFiles, where: str) -> str:
    """The card of a probe.

    Args:
        probe: as read.
        where: it is pushed to, as `repeng pull` takes it.
    """
    described, provenance = probe.described, probe.described["provenance"]
    name, model, source = (
        str(value) for value in (described["probe"], provenance.get("model"), provenance.get("source"))
    )
    facts = {
        "probe": name,
        "model": model,
        "fitted on": f"{source} (data {provenance.get('data_hash', 'not noted')})",
        "reads": f"{described.get('site')} at {described.get('token')}, {', '.join(described.get('stimuli', ()))}",
        "layers": ", ".join(_unit(unit) for unit in described.get("units", ())),
        "held-out accuracy": _held_out(probe),
        "capture": provenance.get("capture_id", "not noted"),
        "weights": provenance.get("weights") or "not noted",
        "made by": f"repeng-toolkit {provenance.get('repeng_version', __version__)}",
    }
    base = {"base_model": model} if HUB_ID.fullmatch(model) else {}
    own = (
        ["", f"Its class is `{_plain(probe.own_code)}`, a file that is not here: whoever has it gives `--trust-code`."]
        if probe.own_code
        else []
    )
    lines = [
        *_front({"library_name": "repeng-toolkit", "tags": ["repeng", "probe", "interpretability"], **base}),
        f"# A probe: {_plain(name)} on {_plain(source)}",
        "",
        f"A probe on the activations of {_plain(model)}, fitted and saved by repeng. It reads activations of the model "
        "and scores responses; higher means better, as the source's labels have it.",
        "",
        *_table(facts),
        *own,
        "",
        *_code("bash", f"{INSTALL}\nrepeng pull {where} --out probe"),
        *_code("python", 'from repeng.probes.io import load\n\nprobe = load("probe")'),
    ]
    return "\n".join(lines).rstrip() + "\n"


def store_card(records: Sequence[CaptureRecord], folders: Sequence[str], where: str) -> str:
    """The card of a store, or of what is chosen of one.

    Args:
        records: of its captures.
        folders: all folders of activations that are there, by their path in the store.
        where: they are pushed to, as `repeng pull` takes it.
    """
    lines = [
        *_front({"tags": ["repeng", "activations", "interpretability"]}),
        "# Activations",
        "",
        "A store of repeng: a language model's activations on distributions of labelled responses, as safetensors. It "
        "holds no text; its indexes hold labels and hashes of texts.",
    ]
    for record in records:
        held: dict[tuple[str, ...], list[str]] = {}
        for path in folders:
            capture, distribution, split, kind = map(unquote, path.split("/"))
            if capture == record.id:
                name, _, data = split.rpartition(".")
                held.setdefault((distribution, name, data), []).append(kind)
        facts = {
            "model": record.model.model,
            "weights": record.model.weights,
            "layers": record.model.n_layers,
            "width": record.model.d_model,
            "computed in": record.model.dtype,
            "stored in": record.storage_dtype,
        }
        rows = [(*split, ", ".join(sorted(kinds))) for split, kinds in sorted(held.items())]
        lines += ["", f"## {_plain(record.id)}", "", *_table(facts), ""]
        lines += ["| distribution | split | data | activations |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(_plain, row))} |" for row in rows]
    lines += [
        "",
        *_code("bash", f"{INSTALL}\nrepeng pull {where} --out store"),
        *_code("python", 'import repeng\n\ncapture = repeng.Store("store").captures()[0]'),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _held_out(probe: ProbeFiles) -> str:
    """Pair accuracy on held-out source pairs, of each chosen layer."""
    fitted, curve = list(probe.described.get("fitted_layers", ())), probe.tensors.get("held_out_accuracy")
    if curve is None or len(fitted) != len(curve):
        return "not noted"
    layers = sorted({int(layer) for layer, _ in probe.described.get("units", ())} & set(fitted))
    accuracies = (f"{float(curve[fitted.index(layer)]):.3f} (layer {layer})" for layer in layers)
    return f"{', '.join(accuracies)}: pairs of its source that this one fit did not learn from"


def _unit(unit: Sequence[int]) -> str:
    layer, head = unit
    return f"{layer} head {head}" if head >= 0 else str(layer)


def _front(values: Mapping[str, Any]) -> list[str]:
    """The card's metadata; JSON is YAML."""
    return [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()),
        "---",
        "",
        OURS,
        "",
    ]


def _table(facts: Mapping[str, Any]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {key} | {_plain(value)} |" for key, value in facts.items())]


def _code(language: str, text: str) -> list[str]:
    return [f"```{language}", *text.splitlines(), "```", ""]


def _plain(value: Any) -> str:
    """A value as text that no Markdown is read in."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(str(value).split()))
