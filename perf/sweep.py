"""Peak memory and seconds of a sweep over a synthetic store of a stated size.

    OMP_NUM_THREADS=2 python perf/sweep.py --gigabytes 20

The store has 32 layers, 4,096 wide, 1,200 responses a split, in bfloat16 (`--layers`, `--width`, `--responses`), and as
many distributions as the size needs, each a train and a test split. One source is fitted, every distribution is scored,
in a process of its own: writing the store does not count towards its peak.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from repeng.activations.store.request import capture_record
from repeng.distributions.stimuli import get_stimulus
from repeng.models.fingerprint import Identity
from repeng.study.cached_data import open_store
from repeng.study.cached_sweep import sweep as sweep_over

HASH = "0123456789ab"


def write_split(folder: Path, layers: int, width: int, responses: int, noise: torch.Tensor) -> int:
    """One split of the plain stimulus; returns its bytes. All layers share the noise, which costs memory nothing."""
    part = folder / "plain.resid_post.last"
    part.mkdir(parents=True)
    tensors = {f"blocks.{layer}.hook_resid_post": noise.roll(layer, 1) for layer in range(layers)}
    save_file(tensors, part / "shard-00000.safetensors")
    size = (part / "shard-00000.safetensors").stat().st_size
    with (part / "shard-00000.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    listed = {"first": 0, "rows": responses, "layers": list(range(layers)), "bytes": size, "sha256": digest}
    index = {
        "format": 1,
        "distribution": folder.parent.name,
        "split": folder.name.partition(".")[0],
        "data_hash": HASH,
        "stimulus": asdict(get_stimulus("plain")),
        "site": "resid_post",
        "token": "last",
        "layers": list(range(layers)),
        "shape": [responses, width],
        "dtype": "bfloat16",
        "skipped": [],
        "blank": [],
        "shards": [{"file": "shard-00000.safetensors", **listed}],
        "responses": [
            {"example": row // 2, "response": row % 2, "label": float(row % 2 == 0), "group": row // 2, "text_hash": ""}
            for row in range(responses)
        ],
    }
    (part / "index.json").write_text(json.dumps(index))
    return size


def write_store(root: Path, gigabytes: float, layers: int, width: int, responses: int) -> tuple[int, int]:
    """A store of about that size; returns its distributions and bytes."""
    capture = root / "toy-000000000000"
    capture.mkdir(parents=True)
    identity = Identity("toy", "toy", "", "", "", "float32", layers, width, None)
    record = capture_record(identity, storage_dtype="bfloat16").model_copy(update={"id": capture.name})
    record.write(capture / "capture.json")
    generator = torch.Generator().manual_seed(0)
    count = size = 0
    while size < gigabytes * 1e9 or count == 0:
        for split in ("train", "test"):
            noise = torch.randn(responses, width, generator=generator)
            noise[0::2, 0] += 2
            folder = capture / f"d{count:03d}" / f"{split}.{HASH}"
            size += write_split(folder, layers, width, responses, noise.bfloat16())
        count += 1
    return count, size


def sweep(root: Path, probes: list[str]) -> None:
    """Fit on the first distribution, score every one; print the seconds and this process's peak."""
    start = time.perf_counter()
    cached = open_store(root)
    targets = cached.trained_distributions()
    rows = sweep_over(cached, targets[0], targets, probes)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{len(rows)} figures in {seconds:.1f} s, peak memory {peak:.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=0.5)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--responses", type=int, default=1200)
    parser.add_argument("--probes", default="mms,lat")
    parser.add_argument("--folder", type=Path, help="where the store is written and removed again; default: temporary")
    parser.add_argument("--sweep", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sweep:
        sweep(options.sweep, options.probes.split(","))
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        count, size = write_store(folder / "store", options.gigabytes, options.layers, options.width, options.responses)
        print(f"store of {size / 1e9:.1f} GB: {count} distributions, {options.layers} layers, {options.width} wide")
        own = [sys.executable, __file__, "--sweep", str(folder / "store"), "--probes", options.probes]
        subprocess.run(own, check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
