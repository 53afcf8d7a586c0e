"""Training a reward model on pairs by transformers' Trainer, resumable to the same end from any of its checkpoints."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from repeng.errors import BadInput, NonFinite
from repeng.tuning.data import EncodedSplit, PairStream, Rows
from repeng.tuning.loading import forked_rng, quiet_transformers
from repeng.tuning.progress import TuneProgress, history, judge, verdict
from repeng.tuning.reward_model import RewardModel, pair_loss
from repeng.tuning.settings import TuneSettings

log = logging.getLogger(__name__)


def train(
    reward: RewardModel,
    encoded: EncodedSplit,
    rows: Rows,
    held_out: Rows,
    settings: TuneSettings,
    *,
    seed: int,
    checkpoints: Path,
    progress: Callable[[TuneProgress], None] | None = None,
) -> tuple[list[dict[str, Any]], int, int | None]:
    """Train what requires gradients, from the newest checkpoint if there is one.

    Args:
        reward: changed in place; it ends with the best weights where something is held out and `patience` is set,
            else with the last.
        encoded: the source's texts.
        rows: examples to train on.
        held_out: examples to judge by; none of them may be in `rows`.
        settings: of the run.
        seed: of order, choice of pairs and dropout.
        checkpoints: folder of this run's checkpoints.
        progress: told of every step, once what is saved of it is saved.

    Returns:
        A record a step (see `history`), the step whose weights the model ends with, and the step whose checkpoint the
        run went on from (None where there was none).

    Raises:
        BadInput: the model is on another device than the one that Trainer takes.
        NonFinite: the loss is infinite or not a number.
    """
    state = newest_state(checkpoints)
    resumed_from = state.global_step or None
    if resumed_from:
        log.info("tuning resumes from step %d of %d", resumed_from, settings.steps)
    stream = PairStream(rows, seed, settings.redraw_pairs)
    with forked_rng(seed), quiet_transformers():
        steps = StepCallback(settings, seed, resumed_from, progress)
        trainer = PairTrainer(reward, encoded, stream, held_out, settings, checkpoints, steps)
        # Finds out how the model may be run before any weight is loaded: a resumed run computes as the first did.
        trainer.collate(stream.pairs[: settings.batch_size])
        if not ended(state, settings):
            trainer.train(checkpoint_of(checkpoints, resumed_from) if resumed_from else None)
            state = trainer.state
        kept: int = state.best_global_step or state.global_step
        trainer._load_from_checkpoint(checkpoint_of(checkpoints, kept))
    reward.eval()
    return history(state.log_history), kept, resumed_from


class PairTrainer(Trainer):
    """Trainer with the pair loss, judged on every pair of the held-out examples.

    A checkpoint holds what is trained and not the base model, besides the states of AdamW and of the schedule. No
    more is needed to go on: a step's pairs and dropout depend on the seed and the step alone.
    """

    def __init__(
        self,
        reward: RewardModel,
        encoded: EncodedSplit,
        stream: PairStream,
        held_out: Rows,
        settings: TuneSettings,
        folder: Path,
        steps: StepCallback,
    ) -> None:
        self.reward, self.encoded, self.held_out, self.settings = reward, encoded, held_out, settings
        # The schedule gives the rate itself, not a factor of one, so that it is exactly what the settings say.
        optimizer = torch.optim.AdamW(reward.trainable().values(), lr=1.0, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.learning_rate_at(step))
        super().__init__(
            reward,
            trainer_arguments(settings, reward.device, folder, judged=bool(held_out)),
            data_collator=self.collate,
            train_dataset=stream,
            eval_dataset=held_out or None,
            compute_loss_func=share_of_loss,
            callbacks=[steps],
            optimizers=(optimizer, schedule),
        )
        self.remove_callback(PrinterCallback)

    def collate(self, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Passes over the best texts, then the worse ones; and a label a pair, by which Trainer counts a step's."""
        rows = [pair[side] for side in (0, 1) for pair in pairs]
        return {"passes": self.reward.passes(self.encoded.texts(rows)), "labels": torch.ones(len(pairs))}

    def evaluate(self, *_arguments: Any, **_options: Any) -> dict[str, float]:
        """Judge the held-out pairs. The best step is saved; a run that no longer improves clearly ends."""
        metrics = judge(self.reward, self.encoded, self.held_out)
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.settings.patience:
            self.state.best_global_step, _ = verdict(self.state.log_history)
            self.control.should_training_stop |= ended(self.state, self.settings)
            best = self.state.best_global_step == self.state.global_step
            self.control.should_save |= best or self.control.should_training_stop
        return metrics

    def _save(self, output_dir: str, state_dict: Any = None) -> None:  # noqa: ARG002
        if self.args.should_save:
            weights = {name: value.detach().cpu().contiguous() for name, value in self.reward.trainable().items()}
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(weights, Path(output_dir) / SAFE_WEIGHTS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        self.reward.load_state_dict(load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME), strict=False)

    def _save_rng_state(self, output_dir: str) -> None:
        """Nothing is saved: each step is seeded by its number."""


class StepCallback(TrainerCallback):
    """Seeds each step, ends a run whose loss is no number, and tells of a step once its checkpoint is written."""

    def __init__(
        self,
        settings: TuneSettings,
        seed: int,
        resumed_from: int | None,
        progress: Callable[[TuneProgress], None] | None,
    ) -> None:
        self.settings, self.seed, self.resumed_from, self.progress = settings, seed, resumed_from, progress
        self.told = resumed_from or 0

    def on_step_begin(self, _args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Dropout reads torch's global generator: seeded by the step, a resumed run drops the same units."""
        self.tell(state)
        place = f"{(self.seed, state.global_step)}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:7]))

    def on_log(self, _args: TrainingArguments, state: TrainerState, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """Comes before anything of this step is saved."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise NonFinite(
                f"the loss is {logs['loss']} at step {state.global_step}; use a lower learning rate than "
                f"{self.settings.learning_rate}"
            )

    def on_train_end(self, _args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """No step begins after the last one."""
        self.tell(state)

    def tell(self, state: TrainerState) -> None:
        """Tell of the last step, once."""
        if self.progress is None or state.global_step == self.told:
            return
        self.told = state.global_step
        last = history(state.log_history[-3:])[-1]
        accuracy = last.get("held_out_accuracy")
        self.progress(TuneProgress(self.told, self.settings.steps, last["loss"], accuracy, self.resumed_from))


def trainer_arguments(settings: TuneSettings, device: torch.device, folder: Path, *, judged: bool) -> TrainingArguments:
    """Trainer's arguments: what the settings say; nothing is reported anywhere, or written outside the folder.

    Raises:
        BadInput: Trainer takes another device than the model's.
    """
    at_once = max(n for n in range(1, settings.micro_batch_size + 1) if settings.batch_size % n == 0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=settings.batch_size // at_once,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        eval_strategy="steps" if judged else "no",
        eval_steps=settings.evaluate_every,
        save_steps=settings.checkpoint_every,
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
    )
    if (arguments.device.type, arguments.device.index or 0) != (device.type, device.index or 0):
        raise BadInput(
            f"device is '{device}' and tuning takes '{arguments.device}'; choose a GPU by CUDA_VISIBLE_DEVICES"
        )
    # Several GPUs in one process would share a batch by splitting tensors, which a packed row does not survive.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def share_of_loss(
    logits: Float[Tensor, "response logit"], labels: Float[Tensor, " pair"], num_items_in_batch: Num[Tensor, ""]
) -> Float[Tensor, ""]:
    """The part that some pairs, best responses first, have in the mean loss of all pairs of their step."""
    best, worse = logits.chunk(2)
    return pair_loss(best, worse) * (len(labels) / num_items_in_batch)


def ended(state: TrainerState, settings: TuneSettings) -> bool:
    """Whether a run has done its steps, or no longer improves."""
    _, stale = verdict(state.log_history)
    return bool(state.global_step >= settings.steps or (settings.patience and stale >= settings.patience))


def newest_state(folder: Path) -> TrainerState:
    """What the newest whole checkpoint says; a new state where there is none.

    Trainer writes this file last, so that one that can be read stands for a checkpoint that is whole. What is newer
    and was cut off is removed.
    """
    for path in sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            return TrainerState.load_from_json(str(path / TRAINER_STATE_NAME))
        except (OSError, ValueError):
            shutil.rmtree(path)
    return TrainerState()


def checkpoint_of(folder: Path, step: int) -> str:
    """Where Trainer puts the checkpoint of a step."""
    return str(folder / f"{PREFIX_CHECKPOINT_DIR}-{step}")
