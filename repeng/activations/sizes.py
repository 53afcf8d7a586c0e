"""What activations will take on disk, known before any are computed: from tokenized texts and the widths of modules."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from repeng.activations.store.files import (
    INDEX,
    LOGPROB,
    OFFSETS,
    SHARD_CHARACTERS,
    ActivationKey,
    MissingActivations,
    SplitKey,
    blocks,
    split_folder,
    split_key,
)
from repeng.activations.store.records import CaptureRecord, read_index
from repeng.activations.store.request import Request, needed
from repeng.activations.store.store import Store
from repeng.activations.token_rules import check_tokens, token_rule
from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.models.sites import FIRST_CLASS, LN_FINAL, hook_name
from repeng.models.tokens import TokenizedText, tokenize

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel

MOST_BYTES = 50 << 30
"""Every token's activations of one capture are refused above this, unless a larger limit is given: 50 GiB."""
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
CODES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
"""What a safetensors header calls a dtype."""


@dataclass(frozen=True)
class ActivationsSize:
    """What activations of one stimulus, site and token of a split take.

    Attributes:
        split: distribution, split, data hash.
        key: stimulus, site, token.
        layers: that are to be written; empty where all are there, and of log-probabilities.
        n_texts: responses.
        n_tokens: tokens of all texts, each counted alone, that the model reads for what is missing.
        n_vectors: vectors a layer: one a response, or one for each of its tokens.
        n_bytes: of the shards that are to be written.
        held_bytes: of the shards that are there.
    """

    split: SplitKey
    key: ActivationKey
    layers: tuple[int, ...]
    n_texts: int
    n_tokens: int
    n_vectors: int
    n_bytes: int
    held_bytes: int


def activation_sizes(
    lm: LanguageModel, splits: Sequence[Split], request: Request, store: Store, record: CaptureRecord
) -> list[ActivationsSize]:
    """What a request takes, by split, stimulus, site and token. Nothing is written and the model is not run.

    A module without a weight of its own is taken to be as wide as the residual stream; of all other sites, and of every
    token, the bytes are those of the shards as they will be written.

    Args:
        lm: the model, or its outline without weights (`load_outline`).
        splits: wanted splits.
        request: what is wanted of them.
        store: where to look for what is there.
        record: of the capture.
    """
    wanted = request.layers_by_key(lm.n_layers)
    missing = {(item.split, item.key): item for item in needed(record.id, lm.n_layers, splits, request, store)}
    sizes = []
    for split in dict.fromkeys(splits):
        for form, names in request.tokens_by_form(lm.n_layers).items():
            check_tokens(split, names, form)
        lacking = [missing[place] for key in wanted if (place := (split_key(split), key)) in missing]
        texts = _texts(lm, split, request, record, lacking)
        for key in wanted:
            folder = split_folder(store.root / record.id, split) / key.folder
            held = sum(shard.bytes for shard in read_index(folder).shards) if (folder / INDEX).is_file() else 0
            item = missing.get((split_key(split), key))
            counts = [] if item is None else _counts(texts[key.stimulus], key)
            sizes.append(
                ActivationsSize(
                    split=split_key(split),
                    key=key,
                    layers=() if item is None else item.layers,
                    n_texts=split.n_responses,
                    n_tokens=0 if item is None else sum(t.length for t in texts[key.stimulus] if t is not None),
                    n_vectors=sum(counts),
                    n_bytes=0 if item is None else _bytes(lm, split, item, counts, record.storage_dtype),
                    held_bytes=held,
                )
            )
    return sizes


def check_size(sizes: Collection[ActivationsSize], max_bytes: int) -> None:
    """See that every token's activations are not more than a limit.

    Raises:
        BadInput: they are; the message says by how much, and what to do.
    """
    ragged = [size for size in sizes if token_rule(size.key.token).is_ragged]
    total = sum(size.n_bytes for size in ragged)
    if total > max_bytes:
        names = ", ".join(dict.fromkeys(size.key.token for size in ragged))
        n_vectors = sum(size.n_vectors for size in ragged)
        raise BadInput(
            f"the token {names} takes {bytes_text(total)} on disk ({n_vectors:,} tokens at each layer), more than the "
            f"limit of {bytes_text(max_bytes)}; take fewer layers (--layers 8), fewer examples (--limit 100), one "
            "vector a text (mean:assistant), or a higher limit (--max-bytes 200G)"
        )


def bytes_text(number: int) -> str:
    """A number of bytes for people: `1.5 GiB`."""
    unit = max((name for name, size in UNITS.items() if number >= size), key=UNITS.__getitem__, default="")
    return f"{number / UNITS[unit]:.1f} {unit}iB" if unit else f"{number} bytes"


def parse_bytes(text: str) -> int:
    """A number of bytes as people write it: `50G`, `50GiB`, `1.5T` or `1000000`; units are powers of 1,024.

    Raises:
        BadInput: it is no such number.
    """
    plain = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = plain[-1:] if plain[-1:] in UNITS else ""
    try:
        number = float(plain.removesuffix(unit))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise BadInput(f"{text!r} is no number of bytes; write it as 50G, 800M or 1000000")
    return int(number * UNITS[unit])


def shard_bytes(tensors: Sequence[tuple[str, torch.dtype, Sequence[int]]]) -> int:
    """The size of a safetensors file of tensors of some names, dtypes and shapes."""
    header, place = {}, 0
    # As the library orders them: wide dtypes first, then by name.
    order = sorted(tensors, key=lambda tensor: (-list(CODES).index(tensor[1]), tensor[0]))
    for name, dtype, shape in order:
        stop = place + prod(shape) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [place, stop]}
        place = stop
    length = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + -(-length // 8) * 8 + place


def _texts(
    lm: LanguageModel, split: Split, request: Request, record: CaptureRecord, lacking: Sequence[MissingActivations]
) -> dict[str, list[TokenizedText | None]]:
    """The tokenized texts of the stimuli under which something is missing."""
    keys = [item.key for item in lacking]
    return {
        stimulus.name: tokenize(
            split,
            stimulus,
            lm,
            record.max_length,
            record.too_long,
            turns=any(token_rule(key.token).roles for key in keys if key.stimulus == stimulus.name),
            closed=any(token_rule(key.token).is_closed for key in keys if key.stimulus == stimulus.name),
        )
        for stimulus in request.stimuli
        if any(key.stimulus == stimulus.name for key in keys)
    }


def _counts(texts: Sequence[TokenizedText | None], key: ActivationKey) -> list[int]:
    """How many vectors each response has."""
    rule = token_rule(key.token)
    if not rule.is_ragged:
        return [1] * len(texts)
    return [0 if text is None else sum(end - start for start, end in rule.spans(text)) for text in texts]


def _bytes(
    lm: LanguageModel,
    split: Split,
    item: MissingActivations,
    counts: Sequence[int],
    storage_dtype: str,
) -> int:
    """Of the shards that are to be written."""
    dtype: torch.dtype = getattr(torch, storage_dtype)
    shape = {} if item.key.site == LOGPROB else {layer: vector_shape(lm, item.key.site, layer) for layer in item.layers}
    total = 0
    for examples in blocks(split, SHARD_CHARACTERS):
        first = int(split.offsets[examples.start])
        stop = int(split.offsets[examples.stop]) if examples.stop < len(split.examples) else split.n_responses
        if item.key.site == LOGPROB:
            tensors = [("logprob", torch.float64, [stop - first])]
            tensors += [(name, torch.int64, [stop - first]) for name in ("token_count", "text_length")]
        else:
            rows = sum(counts[first:stop])
            tensors = [(hook_name(item.key.site, layer), dtype, [rows, *shape[layer]]) for layer in item.layers]
            if token_rule(item.key.token).is_ragged:
                tensors.append((OFFSETS, torch.int64, [stop - first + 1]))
        total += shard_bytes(tensors)
    return total


def vector_shape(lm: LanguageModel, site: str, layer: int) -> tuple[int, ...]:
    """The shape of one token's vector at a site: (d_model,), of sites by head (head, d_head)."""
    point = lm.hook_point(site, layer)
    width = lm.d_model
    weight = getattr(point.module, "weight", None)
    if weight is not None and site not in (*FIRST_CLASS, LN_FINAL) or site == "hook_z":
        axes = weight.shape if weight is not None else (width,)
        # A Linear has [out, in], transformers' Conv1D [in, out], a norm its width alone.
        is_linear = isinstance(point.module, torch.nn.Linear)
        width = int(axes[-1 if (point.side == "input") == is_linear else 0])
    return (width,) if point.d_head is None else (width // point.d_head, point.d_head)
