"""Peak memory and speed of scoring a store in an object store, next to the same store on a disk.

    OMP_NUM_THREADS=1 python perf/remote_store.py                     # 2 GB: 8 splits, 32 layers, 2,048 wide

A store is written by repeng's own writer, copied object by object to an S3 server (moto's, in a process of its own, on
loopback), and one probe, fitted on a small split of it, scores every split at the layers that are asked for
(`--layers`, the mean of all by default). Reading from the disk and from `s3://` is measured in processes of their own,
one after the other and twice over: memory when everything is imported, the probe is loaded and the store opened
("idle"), and at its peak, as the system counts it (VmRSS, VmHWM). The server reads a whole object for every range that
is asked of it, so megabytes a second are those of the server; with smaller shards (`--shard-rows 64`) it reads less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch

from repeng.activations.store.files import CAPTURE, ActivationKey, split_folder, split_key
from repeng.activations.store.records import FORMAT, Plan
from repeng.activations.store.request import capture_record
from repeng.activations.store.writing import ActivationsWriter, note_source
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.fingerprint import Identity
from repeng.models.sites import hook_name
from repeng.places import Place, place
from repeng.probes.io import load, save
from repeng.study.cached_data import open_store
from repeng.study.steps import evaluate, fit

PORT = 5217
REACHED = {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def write_split(capture: Place, name: str, split_name: str, options: argparse.Namespace, responses: int) -> int:
    """A split of pairs, the best response with a signal along one axis at every layer; returns its shards' bytes."""
    prompts = (f"{name} {split_name} {number}" for number in range(responses // 2))
    split = Split(name, split_name, tuple(Example(prompt, ("yes", "no"), 0) for prompt in prompts))
    folder = split_folder(capture, split_key(split))
    layers = tuple(range(options.model_layers))
    plain = get_stimulus("plain")
    plan = Plan(format=FORMAT, layout="padded", batch_tokens=0, stimuli=(plain,), layers=layers, first_file=0)
    writer = ActivationsWriter(ActivationKey("plain", "resid_post", "last"), folder / "plain.resid_post.last", plan)
    rows_each = options.shard_rows
    blocks = [(first, min(rows_each, responses - first)) for first in range(0, responses, rows_each)]
    generator = torch.Generator().manual_seed(len(name) + responses)
    for number, (_, rows) in enumerate(blocks):
        noise = torch.randn(rows, options.width, generator=generator)
        noise[0::2, 0] += 2
        values = noise.bfloat16()
        writer.write_shard(number, {hook_name("resid_post", layer): values.roll(layer, 1) for layer in layers})
    hashes = ["0" * 12] * responses
    writer.finish(split, hashes=hashes, skipped=(), blank=(), blocks=blocks, dtype="bfloat16", taken_over={})
    note_source(folder, split)
    return sum(size for size, _ in writer.written.values())


def write_store(root: Path, options: argparse.Namespace) -> int:
    """The store; returns the bytes of the splits that are scored."""
    identity = Identity("toy", "toy", "", "", "", "float32", options.model_layers, options.width, None)
    record = capture_record(identity, storage_dtype="bfloat16")
    record.write(root / record.id / CAPTURE)
    write_split(root / record.id, "d0", "train", options, 200)
    return sum(
        write_split(root / record.id, f"d{number}", "test", options, options.responses)
        for number in range(options.splits)
    )


def memory(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` the most since the peak was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024


def measure(store: str, probe: str, splits: int) -> None:
    """Score every split; print idle and peak memory, seconds and the mean accuracy as JSON."""
    fitted = load(probe)
    cached = open_store(store)
    contents = cached.contents()
    assert contents
    Path("/proc/self/clear_refs").write_text("5")
    idle, start = memory("VmRSS"), time.perf_counter()
    found = [evaluate(fitted, cached, f"d{number}").accuracy for number in range(splits)]
    seconds = time.perf_counter() - start
    said = {"idle": idle, "peak": memory("VmHWM"), "seconds": seconds, "accuracy": sum(found) / len(found)}
    print(json.dumps(said))


def serve() -> subprocess.Popen[bytes]:
    """The server, with one bucket."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(PORT)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urlopen(Request(f"{REACHED['AWS_ENDPOINT_URL']}/bucket", method="PUT"), timeout=10).close()
            return process
        except (URLError, OSError):
            time.sleep(0.2)
    process.kill()
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--model-layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--responses", type=int, default=2000, help="of a split")
    parser.add_argument("--shard-rows", type=int, default=512, help="512 is what a capture writes")
    parser.add_argument("--layers", default="all", help="that the probe answers by: all, 16, 4-8")
    parser.add_argument("--probe", default="mms")
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        store, probe = options.measure
        measure(store, probe, options.splits)
        return
    os.environ.update(REACHED)
    folder, server = Path(tempfile.mkdtemp()), serve()
    try:
        size = write_store(folder / "store", options)
        start, there = time.perf_counter(), place("s3://bucket/store")
        for file in (folder / "store").rglob("*"):
            if file.is_file():
                (there / str(file.relative_to(folder / "store"))).write_bytes(file.read_bytes())
        print(f"{size / 1e9:.2f} GB in {options.splits} splits of {options.model_layers} layers", flush=True)
        print(f"copied to s3:// at {size / 1e6 / (time.perf_counter() - start):.0f} MB/s", flush=True)
        fitted = fit(open_store(folder / "store"), "d0", options.probe, layers=options.layers)
        save(fitted, folder / "probe")
        read = size * len(fitted.layers) / options.model_layers
        for store in (str(folder / "store"), "s3://bucket/store") * options.times:
            command = [sys.executable, __file__, "--splits", str(options.splits)]
            command += ["--measure", store, str(folder / "probe")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            said = json.loads(done.stdout.splitlines()[-1])
            over = (said["peak"] - said["idle"]) / 1e6
            where = "s3://" if store.startswith("s3") else "disk "
            print(
                f"{where} {len(fitted.layers)} layers: peak {over:.0f} MB over {said['idle'] / 1e6:.0f} MB idle, "
                f"{said['seconds']:.1f} s, {read / 1e6 / said['seconds']:.0f} MB/s, accuracy {said['accuracy']:.3f}",
                flush=True,
            )
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
