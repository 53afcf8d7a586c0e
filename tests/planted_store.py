"""A store written by hand from docs alone, with activations in which the answers are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from repeng.distributions.stimuli import get_stimulus

LAYERS, WIDTH, PAIRS = 4, 16, 60
NAMES = {"resid_post": "blocks.{}.hook_resid_post", "hook_z": "blocks.{}.attn.hook_z"}


def planted(signals: Mapping[int, tuple[int, float]], *, seed: int, pairs: int = PAIRS, heads: int = 0) -> Tensor:
    """Activations [layer, response, (head,) d]: noise, and at some layers a signal along one axis.

    Args:
        signals: for each such layer the axis, and what the best response has more than the worse along it.
        seed: of the noise.
        pairs: each a best response and then a worse one.
        heads: signals lie in head 1.
    """
    shape = (LAYERS, 2 * pairs, heads, WIDTH) if heads else (LAYERS, 2 * pairs, WIDTH)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    for layer, (axis, size) in signals.items():
        place = values[layer, 0::2, 1] if heads else values[layer, 0::2]
        place[:, axis] += size
    return values


def write_store(
    root: Path,
    parts: Mapping[tuple[str, str, str, str], Tensor],
    *,
    capture: str = "toy-000000000000",
    model: str = "toy",
    data_hash: str = "0123456789ab",
) -> Path:
    """Write STORE/CAPTURE with parts by (distribution, split, stimulus, site), at the last token, in float32."""
    hashes = {"weights": "", "config": "", "tokenizer": ""}
    size = {"dtype": "float32", "n_layers": LAYERS, "d_model": WIDTH, "max_length": None}
    record = {
        "format": 1,
        "id": capture,
        "model": {"model": model, "slug": model, **hashes, **size},
        "storage_dtype": "float32",
        "joining": 1,
        "max_length": None,
        "too_long": "skip",
        "versions": {},
    }
    (root / capture).mkdir(parents=True, exist_ok=True)
    (root / capture / "capture.json").write_text(json.dumps(record))
    for (distribution, split, stimulus, site), values in parts.items():
        folder = root / capture / distribution / f"{split}.{data_hash}" / f"{stimulus}.{site}.last"
        folder.mkdir(parents=True)
        tensors = {NAMES[site].format(layer): rows.contiguous() for layer, rows in enumerate(values)}
        content = save(tensors)
        (folder / "shard-00000.safetensors").write_bytes(content)
        rows = values.shape[1]
        index: dict[str, Any] = {
            "format": 1,
            "distribution": distribution,
            "split": split,
            "data_hash": data_hash,
            "stimulus": asdict(get_stimulus(stimulus)),
            "site": site,
            "token": "last",
            "layers": list(range(len(values))),
            "shape": list(values.shape[1:]),
            "dtype": "float32",
            "skipped": [],
            "blank": [],
            "shards": [
                {
                    "file": "shard-00000.safetensors",
                    "first": 0,
                    "rows": rows,
                    "layers": list(range(len(values))),
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            ],
            "responses": [
                {
                    "example": row // 2,
                    "response": row % 2,
                    "label": float(row % 2 == 0),
                    "group": row // 2,
                    "text_hash": "",
                }
                for row in range(rows)
            ],
        }
        (folder / "index.json").write_text(json.dumps(index))
    return root


def two_worlds(root: Path) -> Path:
    """Signals of `near` and `like` lie along axis 0 at layers 1 and 2, that of `far` along axis 1 at layer 2."""
    near, far = {1: (0, 1.5), 2: (0, 4.0)}, {2: (1, 4.0)}
    parts = {}
    for number, (name, signals) in enumerate((("near", near), ("far", far), ("like", {1: (0, 4.0), 2: (0, 1.0)}))):
        for place, split in enumerate(("train", "test")):
            seed = 10 * number + place
            parts[name, split, "plain", "resid_post"] = planted(signals, seed=seed)
            parts[name, split, "plain", "hook_z"] = planted(signals, seed=seed + 100, heads=3)
    return write_store(root, parts)
