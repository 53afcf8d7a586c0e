"""Makes the embedded model from nothing: `python -m repeng.benchmarks.mini.train --out DIR`.

One run: tokenizer, a broad phase, two grading phases, the gate, and the folder in the hub's layout. It may be stopped
and started again with the same arguments: it goes on from its last checkpoint (safetensors and JSON) and ends in the
same place.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from repeng.benchmarks.mini.documents import BROAD, GRADING, Document, Writer
from repeng.benchmarks.mini.gate import measure
from repeng.benchmarks.mini.tokenizer import EOS, VOCABULARY, learn_tokenizer

log = logging.getLogger("repeng.mini.train")

BATCH, CHUNK = 128, 32
"""Documents a batch, batches a chunk. A chunk is written from its own seed, so a run can go on at any chunk."""


@dataclass(frozen=True)
class Phase:
    """A part of the training: its mix, its chunks (of 4,096 documents), and the learning rate it starts from."""

    name: str
    mix: Mapping[str, float | int]
    chunks: int
    rate: float


PHASES = (
    Phase("broad", BROAD, 38, 2e-3),
    Phase("grading", GRADING, 72, 1.5e-3),
    Phase("again", GRADING, 56, 1.2e-3),
    Phase("last", GRADING, 40, 1e-3),
)
"""Verdicts begin to be right at about 6 million tokens, late in the second phase; in the third, whose rate starts high
again, they become so."""
WARMUP = 60


def attention_in_float32(
    module: torch.nn.Module,  # noqa: ARG001
    query: Float[Tensor, "batch head pos d_head"],
    key: Float[Tensor, "batch head pos d_head"],
    value: Float[Tensor, "batch head pos d_head"],
    mask: Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    **_: object,
) -> tuple[Float[Tensor, "batch pos head d_head"], None]:
    """Plain causal attention: in bfloat16 its backward pass is slow on a CPU. Padding stands right: no mask."""
    with torch.autocast("cpu", enabled=False):
        scores = query.float() @ key.float().transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, -1e9).softmax(-1) @ value.float()
    return mixed.transpose(1, 2).contiguous(), None


def build_model(seed: int) -> Any:
    """An untrained model of 3.2 M parameters."""
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

    AttentionInterface.register("mini_float32", attention_in_float32)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        attn_implementation="mini_float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float()


def encode(tokenizer: Any, documents: Sequence[Document], rng: random.Random) -> list[tuple[list[int], list[float]]]:
    """Token ids and loss weights. Each document ends in EOS; one in five goes without BOS, so neither is strange."""
    pieces = [text for document in documents for text, _ in document]
    encoded = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"])
    rows = []
    for document in documents:
        ids, weights = ([tokenizer.bos_token_id], [0.0]) if rng.random() < 0.8 else ([], [])
        for _, weight in document:
            piece = next(encoded)
            ids += piece
            weights += [weight] * len(piece)
        rows.append(([*ids, tokenizer.eos_token_id], [*weights, 1.0]))
    return rows


def batches(
    rows: list[tuple[list[int], list[float]]], pad: int, rng: random.Random
) -> list[tuple[Tensor, Float[Tensor, "batch pos"]]]:
    """Batches of rows of similar length, in random order."""
    rows = sorted(rows, key=lambda row: len(row[0]))
    groups = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    rng.shuffle(groups)
    done = []
    for group in groups:
        longest = max(len(ids) for ids, _ in group)
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in group])
        done.append((ids, torch.tensor([row + [0.0] * (longest - len(row)) for _, row in group])))
    return done


def save_checkpoint(folder: Path, model: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Model, both moments of Adam, and what comes next. The JSON is written last and names its own tensor file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach().contiguous()
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    file = folder / f"checkpoint-{state['done']}.safetensors"
    save_file(tensors, file)
    (folder / "checkpoint.tmp").write_text(json.dumps({**state, "file": file.name}))
    (folder / "checkpoint.tmp").replace(folder / "checkpoint.json")
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != file:
            old.unlink()


def load_checkpoint(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Takes up where `save_checkpoint` left; an empty state where there is none."""
    if not (folder / "checkpoint.json").exists():
        return {"done": 0, "tokens": 0}
    state: dict[str, Any] = json.loads((folder / "checkpoint.json").read_text())
    tensors = load_file(folder / state["file"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            optimizer.state[parameter] = {
                moment: tensors[f"{moment}.{name}"] for moment in ("exp_avg", "exp_avg_sq", "step")
            }
    return state


def rate_at(phase: Phase, done: float, step: int) -> float:
    """A short warm-up, then a straight line down to zero at the phase's end."""
    return phase.rate * min((step + 1) / WARMUP, 1 - done)


def train_chunk(model: Any, optimizer: Any, data: list[tuple[Tensor, Tensor]], phase: Phase, number: int) -> float:
    """One pass over a phase's chunk of that number; the mean loss."""
    model.train()
    losses = []
    for offset, (ids, weights) in enumerate(data):
        done = (number + offset / len(data)) / phase.chunks
        for group in optimizer.param_groups:
            group["lr"] = rate_at(phase, done, number * len(data) + offset)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids, use_cache=False).logits
        each = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weight = weights[:, 1:].flatten()
        loss = (each * weight).sum() / weight.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


def train(
    out: Path,
    *,
    seed: int = 0,
    phases: Sequence[Phase] = PHASES,
    chunk: int = CHUNK,
    watch: int = 4,
    sample: int = 40_000,
) -> None:
    """Trains and writes `out`: weights in bfloat16, config, tokenizer.

    Args:
        out: the folder; `work` in it holds the checkpoint.
        seed: of the model's start and of every document.
        phases: one after the other.
        chunk: batches a chunk.
        watch: chunks between checkpoints, at each of which the gate is measured.
        sample: documents that the tokenizer learns from.
    """
    work = out / "work"
    texts = ["".join(text for text, _ in document) for _, document in Writer(seed).write(GRADING, sample)]
    tokenizer = learn_tokenizer(texts)
    if tokenizer.convert_tokens_to_ids(EOS) != 1:
        raise RuntimeError("the tokenizer's EOS is not token 1, as the model's config says")
    model = build_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    state = load_checkpoint(work, model, optimizer)
    plan = [(phase, number) for phase in phases for number in range(phase.chunks)]
    started, fresh = time.time(), 0
    for done in range(state["done"], len(plan)):
        phase, number = plan[done]
        chunk_seed = (seed + 1) * 1_000_003 + done
        rng = random.Random(chunk_seed)
        documents = [document for _, document in Writer(chunk_seed).write(phase.mix, BATCH * chunk)]
        rows = encode(tokenizer, documents, rng)
        loss = train_chunk(model, optimizer, batches(rows, tokenizer.pad_token_id, rng), phase, number)
        tokens = sum(len(ids) for ids, _ in rows)
        fresh += tokens
        state = {"done": done + 1, "tokens": state["tokens"] + tokens}
        log.info(
            "%s %d/%d  loss %.3f  %.2f M tokens  %.0f tokens/s  %.0f s",
            phase.name, number + 1, phase.chunks, loss, state["tokens"] / 1e6,
            fresh / (time.time() - started), time.time() - started,
        )  # fmt: skip
        if (done + 1) % watch == 0 or done + 1 == len(plan):
            save_checkpoint(work, model, optimizer, state)
            model.eval()
            log.info("gate:\n%s", measure(model, tokenizer))
    model.eval()
    gate = measure(model, tokenizer)
    log.info("gate %s", "passed" if gate.passed else "NOT passed: these weights are not what is shipped")
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights; work/ in it holds checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full training, to try things")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    phases = tuple(
        Phase(phase.name, phase.mix, max(1, round(phase.chunks * arguments.scale)), phase.rate) for phase in PHASES
    )
    train(arguments.out, seed=arguments.seed, phases=phases)


if __name__ == "__main__":
    main()
