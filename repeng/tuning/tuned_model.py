"""Tuning a reward model on a source. Nothing is tuned twice: a run is keyed by what determines it, and a finished
folder is used again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic_core import from_json

from repeng.atomic import clear_temporaries, make_folder, sync_tree, write_atomically
from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.models.pretrained import quiet_transformers
from repeng.places import Place
from repeng.tuning.loading import forked_rng
from repeng.tuning.run import MARKER, TuneProgress, TuningRun, plan_tuning
from repeng.tuning.settings import TuneSettings

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
STILL_WAITING = 60.0
"""Seconds after which processes that train together are told that the first still waits for the lock."""
KINDS = {"key": str, "method": str, "source": str, "steps": int, "dtype": str, "settings": dict}


@dataclass(frozen=True)
class TunedModel:
    """A tuned reward model on disk.

    Attributes:
        path: its folder: an adapter as peft saves it, or whole weights after full tuning; or an adapter's hub id.
        key: hash over base model, data, method, settings, seed and dtype.
        model: hub id or folder of the base model.
        method: `lora`, `prompt-tuning`, `full`; or `published` for an adapter that was tuned elsewhere.
        source: distribution that it was tuned on; empty where unknown.
        held_out_accuracy: pair accuracy on the held-out prompts of the source; None where nothing was held out.
        steps: steps whose weights these are; None where unknown.
        dtype: `float32` or `bfloat16`: what it computed in.
        resumed_from: the step that this call went on from; None where it began at the start or trained nothing.
        reused: True where a finished folder was found and nothing was trained.
        record: everything that the folder's tuned.json says.
    """

    path: str
    key: str
    model: str
    method: str
    source: str = ""
    held_out_accuracy: float | None = None
    steps: int | None = None
    dtype: str = "float32"
    resumed_from: int | None = None
    reused: bool = False
    record: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)


def tune(
    model: str,
    source: Split,
    *,
    method: str,
    root: Place,
    preset: str = "default",
    settings: TuneSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Callable[[TuneProgress], None] | None = None,
) -> TunedModel:
    """Tune a reward model on a source's pairs, or find the one that was tuned before: `plan_tuning` and `carry_out`.

    Raises:
        BadInput: model, method or settings cannot be used, or no example fits the model's context.
        NonFinite: training diverged.
    """
    run = plan_tuning(
        model,
        source,
        method=method,
        root=root,
        preset=preset,
        settings=settings,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    return carry_out(run, progress)


def carry_out(run: TuningRun, progress: Callable[[TuneProgress], None] | None = None) -> TunedModel:
    """Do a planned run, or find its tuned model. A run that was stopped goes on and ends with the same weights.

    Args:
        run: from `plan_tuning`.
        progress: told of every step.

    Raises:
        BadInput: the model cannot be loaded so, or no example fits its context.
        NonFinite: training diverged.
    """
    with _locked(run) as finished:
        if finished:
            log.info("%s on %s is tuned already: %s", run.settings.method, run.source.distribution, run.folder)
            return _read(run.folder, run.model, reused=True)
        resumed_from = _carry_out(run, progress)
    return _read(run.folder, run.model, resumed_from=resumed_from)


@contextlib.contextmanager
def _locked(run: TuningRun) -> Iterator[bool]:
    """While nobody else tunes this; gives whether the tuned model is there.

    Processes that `accelerate launch` started train together. The first of them holds the lock and writes; the others
    are told what it found, and now and then that it still waits, so that no clock of theirs runs out.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    together = PartialState(cpu=run.device.type == "cpu")
    lock = FileLock(run.folder.with_name(f".{run.folder.name}.lock"))
    found: list[bool | None] = [None]
    try:
        while found[0] is None:
            if together.is_main_process:
                make_folder(run.folder.parent)
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=-1 if together.num_processes == 1 else STILL_WAITING)
                    clear_temporaries(run.folder)
                    found = [run.finished]
            broadcast_object_list(found)
        if found[0] and together.is_main_process:
            # Where the last run was killed after its last write.
            shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
        yield bool(found[0])
    finally:
        lock.release()


def _carry_out(run: TuningRun, progress: Callable[[TuneProgress], None] | None) -> int | None:
    # Trainer takes seconds to import, and most studies tune nothing.
    from repeng.tuning.trainer import PairTrainer

    with forked_rng(run.seed), quiet_transformers():
        trainer = PairTrainer(run, run.folder / CHECKPOINTS, progress)
        trainer.finish()
        if trainer.is_world_process_zero():
            model = trainer.reward.model
            options = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
            model.save_pretrained(run.folder, **options)
            record = {
                **run.determined,
                "model": run.model,
                "source": run.source.distribution,
                "split": run.source.name,
                "settings": asdict(run.settings),
                "held_out_accuracy": trainer.history[trainer.kept_step - 1].get("held_out_accuracy"),
                "steps": trainer.kept_step,
                "steps_run": len(trainer.history),
                "examples": len(trainer.rows),
                "held_out_examples": len(trainer.held_out),
                "history": trainer.history,
                "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
            }
            # From the marker on the folder is believed, after a power cut too.
            sync_tree(run.folder)
            write_atomically(run.folder / MARKER, json.dumps(record, indent=1))
            shutil.rmtree(run.folder / CHECKPOINTS)
        trainer.accelerator.wait_for_everyone()
    return trainer.resumed_from


def _read(folder: Path, model: str, *, reused: bool = False, resumed_from: int | None = None) -> TunedModel:
    path = folder / MARKER
    try:
        record = from_json(path.read_bytes())
        known = {name: record[name] for name in ("key", "method", "source", "held_out_accuracy", "steps", "dtype")}
        if not all(isinstance(record[name], kind) for name, kind in KINDS.items()):
            raise ValueError("a value is of a wrong type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: damaged ({error}); remove {folder} and tune again") from error
    return TunedModel(path=str(folder), model=model, reused=reused, resumed_from=resumed_from, record=record, **known)
