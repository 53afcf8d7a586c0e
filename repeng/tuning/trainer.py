"""Training a reward model on pairs by transformers' Trainer, resumable to the same end from any of its checkpoints."""

from __future__ import annotations

import hashlib
import math
import pickle
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from repeng.atomic import sync_tree
from repeng.errors import BadInput, NonFinite, RepengError, first_line
from repeng.maths import pair_accuracy
from repeng.tuning.adapters import new_reward_model
from repeng.tuning.data import PairStream, encode_split, example_rows, hold_out
from repeng.tuning.reward_model import pair_loss
from repeng.tuning.run import TuneProgress, TuningRun
from repeng.tuning.settings import TuneSettings

CLEARLY = 0.01
"""At equal accuracy the held-out loss, in nats, must fall by so much to count as an improvement: where every held-out
pair is right it creeps towards zero for hundreds of steps in which nothing more is learned."""
RECORDED = ("step", "loss", "held_out_accuracy", "held_out_loss")


class PairTrainer(Trainer):
    """A run's model before its first step, and how it is trained and judged.

    A checkpoint holds what is trained and not the base model, besides the states of AdamW and of the schedule. No
    more is needed to go on: a step's pairs and dropout depend on the seed and the step alone. Trainer seeds Python,
    numpy and torch: use it under `forked_rng`.

    Args:
        run: what to train on what.
        folder: of this run's checkpoints.
        progress: told of every step, once its checkpoint is written.

    Raises:
        BadInput: the model cannot be loaded so, or no example fits its context.
    """

    control: Any

    def __init__(self, run: TuningRun, folder: Path, progress: Callable[[TuneProgress], None] | None = None) -> None:
        self.run, self.folder, self.progress = run, folder, progress
        self.resumed_from: int | None = None
        settings = run.settings
        self.reward = new_reward_model(run.model, settings, seed=run.seed, device=run.device, dtype=run.dtype)
        self.encoded = encode_split(run.source, self.reward.tokenizer, self.reward.max_length)
        chosen, held_out = hold_out(run.source, settings.held_out, run.seed)
        self.rows, self.held_out = example_rows(self.encoded, chosen), example_rows(self.encoded, held_out)
        if not self.rows or (held_out and not self.held_out):
            raise BadInput(
                f"{run.source.distribution}: no example to {'hold out' if self.rows else 'train on'} fits "
                f"{self.reward.max_length} tokens"
            )
        # The schedule gives the rate itself, not a factor of one, so that it is exactly what the settings say.
        optimizer = torch.optim.AdamW(self.reward.trainable().values(), lr=1.0, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.learning_rate_at(step))
        super().__init__(
            self.reward,
            trainer_arguments(settings, run.device, folder, judged=bool(self.held_out)),
            data_collator=self.collate,
            train_dataset=PairStream(self.rows, run.seed, settings.redraw_pairs),
            eval_dataset=self.held_out or None,
            compute_loss_func=share_of_loss,
            callbacks=[BetweenSteps(self)],
            optimizers=(optimizer, schedule),
        )
        self.remove_callback(PrinterCallback)

    def finish(self) -> None:
        """Train to the end, from the newest checkpoint if there is one.

        The first of the processes that train together ends with the weights that are kept.

        Raises:
            NonFinite: the loss is infinite or not a number.
        """
        if self.is_world_process_zero():
            # Removes what was cut off, before the others look.
            newest_state(self.folder)
        self.accelerator.wait_for_everyone()
        self.state = newest_state(self.folder)
        self.resumed_from = self.state.global_step or None
        # Finds out how the model may be run before any weight is loaded: a resumed run computes as the first did.
        self.collate(self.train_dataset.pairs[: self.run.settings.batch_size])
        if not self.ended:
            self.train(resume_from_checkpoint=self.resumed_from is not None)
        if self.is_world_process_zero():
            self._load_from_checkpoint(str(self.folder / f"{PREFIX_CHECKPOINT_DIR}-{self.kept_step}"))
        self.reward.eval()

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or the held-out pairs have long seen no clear improvement."""
        settings, (_, stale) = self.run.settings, verdict(self.state.log_history)
        return bool(self.state.global_step >= settings.steps or (settings.patience and stale >= settings.patience))

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept: the best one where the run may end early, else the last."""
        return int(self.state.best_global_step or self.state.global_step)

    @property
    def history(self) -> list[dict[str, Any]]:
        """A record a step: `step`, `loss`; on the steps that measure them `held_out_accuracy` and `held_out_loss`."""
        records: dict[int, dict[str, Any]] = {}
        for entry in self.state.log_history:
            wanted = {name: entry[name] for name in RECORDED if name in entry}
            records.setdefault(entry["step"], {}).update(wanted)
        return list(records.values())

    def collate(self, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Passes over the best texts, then the worse ones; and a label a pair, by which Trainer counts a step's."""
        rows = [pair[side] for side in (0, 1) for pair in pairs]
        return {"passes": self.reward.passes(self.encoded.texts(rows)), "labels": torch.ones(len(pairs))}

    def judge(self) -> dict[str, float]:
        """Accuracy over all pairs of the held-out examples, a tie counting half, and the mean of -log p(best)."""
        wanted = [row for best, worse in self.held_out for row in (best, *worse)]
        scores = dict(zip(wanted, self.reward.scores(self.encoded.texts(wanted)), strict=True))
        gaps = torch.stack([scores[best] - scores[other] for best, worse in self.held_out for other in worse])
        loss = -nn.functional.logsigmoid(gaps).mean()
        return {"held_out_accuracy": float(pair_accuracy(gaps.numpy())), "held_out_loss": float(loss)}

    def evaluate(self, *_arguments: Any, **_options: Any) -> dict[str, float]:
        """Judge the held-out pairs. The best step is saved; a run that no longer improves clearly ends."""
        metrics = self.judge()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.run.settings.patience:
            self.state.best_global_step, _ = verdict(self.state.log_history)
            self.control.should_training_stop |= self.ended
            best = self.state.best_global_step == self.state.global_step
            self.control.should_save |= best or self.control.should_training_stop
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer; before anything of a step is saved, its loss must be a number."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise NonFinite(
                f"the loss is {logs['loss']} at step {self.state.global_step}; use a lower learning rate than "
                f"{self.run.settings.learning_rate}"
            )
        super().log(logs, start_time)

    def _save(self, output_dir: str, state_dict: Any = None) -> None:  # noqa: ARG002
        if self.args.should_save:
            weights = {name: value.detach().cpu().contiguous() for name, value in self.reward.trainable().items()}
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_file(weights, Path(output_dir) / SAFE_WEIGHTS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        self.reward.load_state_dict(load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME), strict=False)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As Trainer, which reads torch's pickles as numbers and names alone: code in them is refused, not run."""
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, ValueError) as error:
            raise RepengError(
                f"{checkpoint}: its optimizer's state is not what repeng wrote ({first_line(error)}); remove this "
                "folder, and the run goes on from the checkpoint before it"
            ) from error

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing is read: each step is seeded by its number."""

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Nothing is read: losses are not scaled."""

    def _save_rng_state(self, output_dir: str) -> None:
        """Each step is seeded by its number. What is there is flushed, before Trainer writes its own state last."""
        if self.args.should_save:
            sync_tree(Path(output_dir))


class BetweenSteps(TrainerCallback):
    """Tells of a step when its checkpoint is written, and seeds the next."""

    def __init__(self, trainer: PairTrainer) -> None:
        self.trainer = trainer

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Dropout reads torch's global generator: seeded by the step, a resumed run drops the same units."""
        run, done = self.trainer.run, state.global_step
        if self.trainer.progress is not None and done > (self.trainer.resumed_from or 0):
            last = self.trainer.history[-1]
            self.trainer.progress(
                TuneProgress(
                    done, run.settings.steps, last["loss"], last.get("held_out_accuracy"), self.trainer.resumed_from
                )
            )
        seed = int.from_bytes(hashlib.sha256(f"{(run.seed, done)}".encode()).digest()[:7])
        torch.manual_seed(seed + args.process_index)

    on_train_end = on_step_begin


def trainer_arguments(settings: TuneSettings, device: torch.device, folder: Path, *, judged: bool) -> TrainingArguments:
    """What the settings are to Trainer. Nothing is reported anywhere, or written outside the folder.

    Raises:
        BadInput: processes cannot share a batch evenly, or Trainer takes another GPU than the model's.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        eval_strategy="steps" if judged else "no",
        eval_steps=settings.evaluate_every,
        save_steps=settings.checkpoint_every,
        # The newest and the best; at 1 Trainer removes the newest when it ends.
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
    )
    # Several GPUs in one process would share a batch by splitting tensors, which a packed row does not survive.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    if device.index is not None and device.index != arguments.device.index:
        raise BadInput(f"device is '{device}'; tuning takes the first GPU there is: choose it by CUDA_VISIBLE_DEVICES")
    share, rest = divmod(settings.batch_size, arguments.world_size)
    if rest:
        raise BadInput(f"{arguments.world_size} processes cannot share a batch_size of {settings.batch_size} evenly")
    at_once = max(size for size in range(1, settings.micro_batch_size + 1) if share % size == 0)
    arguments.per_device_train_batch_size = at_once
    arguments.gradient_accumulation_steps = share // at_once
    return arguments


def share_of_loss(
    logits: Float[Tensor, "response logit"], labels: Float[Tensor, " pair"], num_items_in_batch: Num[Tensor, ""]
) -> Float[Tensor, ""]:
    """The part that some pairs, best responses first, have in the mean loss of all pairs of their step."""
    best, worse = logits.chunk(2)
    return pair_loss(best, worse) * (len(labels) / num_items_in_batch)


def verdict(log: Iterable[Mapping[str, Any]]) -> tuple[int | None, int]:
    """Which step was judged best, and how many judgements ago one clearly improved.

    Args:
        log: entries of a run's log, oldest first; those of judgements have `held_out_accuracy` and `held_out_loss`.

    Returns:
        The first step with the highest accuracy, and the lowest loss among equals (None before the first judgement);
        and the judgements since the last that beat the accuracy of those before it, or their loss by `CLEARLY`.
    """
    judged = [entry for entry in log if "held_out_loss" in entry]
    mark_accuracy, mark_loss, stale = -math.inf, math.inf, 0
    for entry in judged:
        accuracy, loss = entry["held_out_accuracy"], entry["held_out_loss"]
        stale += 1
        if accuracy > mark_accuracy or (accuracy == mark_accuracy and loss < mark_loss - CLEARLY):
            mark_accuracy, mark_loss, stale = accuracy, loss, 0
    best = max(judged, key=lambda entry: (entry["held_out_accuracy"], -entry["held_out_loss"]), default={"step": None})
    return best["step"], stale


def newest_state(folder: Path) -> TrainerState:
    """What the newest whole checkpoint says; a new state where there is none.

    Trainer writes this file last, so one that can be read stands for a whole checkpoint. What was cut off is removed.
    """
    for path in sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            return TrainerState.load_from_json(str(path / TRAINER_STATE_NAME))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return TrainerState()
