"""The command line that captures what a store lacks: of the same model, the same data and nothing else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from repeng.activations.store.files import LOGPROB, MissingActivations
from repeng.activations.store.records import CaptureRecord, SplitRecord
from repeng.distributions.stimuli import Stimulus, stimulus_text
from repeng.models.fingerprint import Identity
from repeng.models.quantised import UNPACKED
from repeng.places import Place

NO_DATA = "DATA"
"""What a command says in place of a name that nobody noted."""
OLD = "add --limit, --columns and the like as they were given (an earlier version of repeng did not note them)"
IN_MEMORY = f"its data were made in Python: call repeng.capture again, or give a file of them for {NO_DATA}"

Options = dict[str, str]
DataSaid = SplitRecord | Options | None
"""What is known of a distribution's data: a store's note, or the options that name them."""


def missing_message(
    store: Place,
    record: CaptureRecord,
    missing: Sequence[MissingActivations],
    data: Mapping[str, DataSaid],
    stimuli: Iterable[Stimulus],
) -> str:
    """What to do about what is missing; the message ends with the command that captures it.

    Args:
        store: folder of the store.
        record: of the capture that lacks it.
        missing: what is to be captured, of one split or more.
        data: what is known of each distribution's data.
        stimuli: those of what is missing, among others.
    """
    written = {stimulus.name: stimulus_text(stimulus) for stimulus in stimuli}
    notes = dict.fromkeys(_model_notes(record))
    asked: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
    for lack in missing:
        name, key = lack.split.distribution, lack.key
        options, own_notes = _data_options(data.get(name))
        notes |= dict.fromkeys(own_notes)
        reads = ("--sites", "") if key.site == LOGPROB else ("--sites", key.site, "--tokens", key.token, "--no-logprob")
        few = 0 < len(lack.layers) < record.model.n_layers
        layers = ("--layers", ranges(lack.layers)) if few else ()
        distributions, texts = asked.setdefault((*options, *reads, *layers), ([], []))
        # The note of an earlier version names the data of one distribution alone.
        distributions += [] if own_notes or "," in name else [name]
        texts.append(written.get(key.stimulus, key.stimulus))
    begin = ("repeng", "cache", "--store", str(store), "--model", record.model.model, *_settings(record))
    commands = []
    for options_read, (distributions, texts) in asked.items():
        chosen = ("--distributions", ",".join(dict.fromkeys(distributions))) if distributions else ()
        commands.append(shlex.join([*begin, *options_read, *chosen, *_stimuli(list(dict.fromkeys(texts)))]))
    return "".join(f"{note}; " for note in notes) + f"capture it with: {' && '.join(commands)}"


def ranges(layers: Sequence[int]) -> str:
    """Layers as the command line takes them: `0,3-5`."""
    runs = [[layer for _, layer in run] for _, run in groupby(enumerate(sorted(layers)), lambda one: one[1] - one[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _data_options(known: DataSaid) -> tuple[tuple[str, ...], list[str]]:
    """Options that name the data, and what the reader must know of them."""
    if isinstance(known, SplitRecord):
        source = known.sources[-1]
        if source.options is None:
            if source.place == "memory":
                return ("--data", NO_DATA), [IN_MEMORY]
            place = "mini" if source.place == "mini, seed 0" else source.place
            return ("--data", place), [OLD]
        known = source.options
    if known is None:
        return ("--data", NO_DATA), [f"{OLD}, and its data for {NO_DATA}"]
    path = known.get("data", "")
    gone = os.path.isabs(path) and not os.path.exists(path)
    return (
        tuple(word for option, value in known.items() for word in (f"--{option}", value)),
        [f"its data are no longer at {path}, so give where they are"] if gone else [],
    )


def _settings(record: CaptureRecord) -> tuple[str, ...]:
    """Options that lead to the same capture."""
    # bfloat16 in store is what --dtype auto keeps, whatever it computes in.
    auto = record.storage_dtype == "bfloat16" and record.model.dtype == "float32"
    dtype = () if auto else ("--dtype", record.storage_dtype)
    too_long = () if record.too_long == "skip" else ("--too-long", record.too_long)
    return (*dtype, *too_long, *_quantization(record.model))


def _quantization(model: Identity) -> tuple[str, ...]:
    """The option by which weights were quantised or unpacked while they were loaded."""
    if not model.quantizer:
        return ()
    return ("--quantization", "none" if model.quantizer == UNPACKED else model.quantization.split()[1])


def _model_notes(record: CaptureRecord) -> list[str]:
    """What to know of the model before it is captured again."""
    model, found = record.model, []
    local = model.weights.startswith(("sha256:", "gguf-sha256:")) and model.model not in ("mini", "smollm2")
    if local and not os.path.exists(model.model):
        found.append(f"the model {model.model} is not here, so give where it is")
    if record.storage_dtype != model.dtype and (record.storage_dtype, model.dtype) != ("bfloat16", "float32"):
        found.append(f"computed in {model.dtype} and stored in {record.storage_dtype}, as only repeng.capture does")
    return found


def _stimuli(texts: Sequence[str]) -> list[str]:
    """The option of every stimulus: names in one, each text of the user's own in one of its own."""
    names = [text for text in texts if "=" not in text]
    own = [text for text in texts if "=" in text]
    return [word for value in ([",".join(names)] if names else []) + own for word in ("--stimuli", value)]
