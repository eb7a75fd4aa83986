"""What an arm needs inside the process in which a transformers Trainer runs: its optimizer, and records of updates.

It works on any Trainer that is there already, so that a factory's and an unmodified script's are treated alike.
Deliberately absent: the schedule, which TrainingArguments name.
"""

import functools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, SchedulerType, Trainer, TrainerCallback

from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.scheduler import WarmupScheduler
from hf_warmup.records.files import Record
from hf_warmup.schedules.tables import LOSS_ADAPTIVE_WARMUPS, WARMUPS
from hf_warmup.studies.comparison.arms import optimizer_and_options, optimizer_class
from hf_warmup.studies.comparison.config import ArmConfig, shared_settings
from hf_warmup.studies.comparison.own.random_data import is_drawn_at_random
from hf_warmup.studies.comparison.own.records import evaluation_record, step_record
from hf_warmup.studies.comparison.own.reloading import take_over_weights
from hf_warmup.training.update_size import UpdateProbe


# Sizes of updates are measured where the picture shows them.
MEASURED_UPDATES = 100
# Updates on end whose loss or gradients are not finite, after which a run has diverged, as in this package's loop.
LOST_UPDATES = 25
# Names of the package's own schedules end with these.
_WARMUPS = (*WARMUPS, *LOSS_ADAPTIVE_WARMUPS)
# Where scores of a script stand: those that it stores itself first, last those that its evaluations gave.
SCORE_FILES = ("all_results.json", "eval_results.json", "last_scores.json")


def equip(trainer: Trainer, optimizer: str, options: Mapping[str, Any]) -> None:
    """Let a Trainer train with an arm's optimizer and record the sizes of its updates.

    Args:
        trainer: not yet trained.
        optimizer, options: as in an arm; betas, eps and the rate come from the Trainer's arguments.

    Raises:
        ConfigError: if the Trainer brings an optimizer of its own.
    """
    if trainer.optimizer is not None or trainer.lr_scheduler is not None:
        raise ConfigError(
            "the Trainer brings its own optimizer or schedule; leave `optimizers` out, the arm sets both."
        )
    given = trainer.args
    shared = shared_settings(
        beta1=given.adam_beta1,
        beta2=given.adam_beta2,
        adam_epsilon=given.adam_epsilon,
        weight_decay=given.weight_decay,
    )
    arm = ArmConfig(name="arm", optimizer=optimizer, optimizer_kwargs=dict(options))
    made, settled = optimizer_and_options(arm, shared)
    settled.pop("weight_decay", None)  # the Trainer's own groups have it
    trainer.optimizer_cls_and_kwargs = (made, {"lr": given.learning_rate, **settled})
    trainer.remove_callback(PrinterCallback)  # one line an update
    trainer.add_callback(ArmCallback(made))


@contextmanager
def every_trainer_equipped(optimizer: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Within, each Trainer that is made is equipped as `equip` does it; raises ConfigError for no such optimizer."""
    optimizer_class(optimizer)
    original = Trainer.__init__

    @functools.wraps(original)
    def equipped(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        equip(self, optimizer, options)

    Trainer.__init__ = equipped
    try:
        yield
    finally:
        Trainer.__init__ = original


class ArmCallback(TrainerCallback):  # type: ignore[misc]
    """Adds the size of each of the first updates to the Trainer's log, and ends a run that has diverged.

    Where data are drawn at random while they are loaded, a checkpoint waits for the end of its epoch, since
    a Trainer goes on exactly from there alone.

    Args:
        optimizer: the class that is expected to train.
    """

    def __init__(self, optimizer: type) -> None:
        self._optimizer = optimizer
        self._probe: UpdateProbe | None = None
        self._sizes: dict[str, Any] = {}
        self._scores: dict[str, float] = {}
        self._saves_wait = False
        self._save_is_due = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Refuse an optimizer or a schedule of the Trainer's own; see that a resumed run has its weights."""
        made = _unwrapped(found.get("optimizer"))
        if made is not None and not isinstance(made, self._optimizer):
            raise ConfigError(
                f"the arm asks for {self._optimizer.__name__}, but the Trainer's own create_optimizer has made "
                f"{type(made).__name__}; remove that method, the arm sets the optimizer."
            )
        schedule = found.get("lr_scheduler")
        schedule, wanted = getattr(schedule, "scheduler", schedule), SchedulerType(args.lr_scheduler_type).value
        if schedule is not None and wanted.endswith(_WARMUPS) and not isinstance(schedule, WarmupScheduler):
            raise ConfigError(
                f"the arm asks for {wanted}, but the Trainer's own create_scheduler has made "
                f"{type(schedule).__name__}; remove that method, the arm sets the schedule."
            )
        if state.global_step and not _is_sharded(args):
            take_over_weights(found["model"], Path(args.output_dir) / f"checkpoint-{state.global_step}")
        # The best weights are those of a checkpoint, which must then stand where they were measured.
        self._saves_wait = not args.load_best_model_at_end and is_drawn_at_random(found.get("train_dataloader"))

    def on_step_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Let a checkpoint wait where it could not be gone on from exactly."""
        if self._saves_wait and control.should_save:
            self._save_is_due, control.should_save = True, False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Make the checkpoint that has waited."""
        if self._save_is_due:
            self._save_is_due, control.should_save = False, True

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Remember the weights before one of the first updates."""
        optimizer = _unwrapped(found.get("optimizer"))
        if state.global_step < MEASURED_UPDATES and optimizer is not None and args.logging_steps == 1:
            decoupled = bool(optimizer.param_groups[0].get("decoupled_weight_decay", True))
            self._probe = UpdateProbe(optimizer, decoupled_weight_decay=decoupled)
            self._probe.before()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Measure how far they have moved."""
        self._sizes = asdict(self._probe.after()) if self._probe is not None else {}
        self._probe = None

    def on_log(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Add the update's size to its line of the log, and count lines that are not finite."""
        if not state.log_history or "loss" not in state.log_history[-1]:
            return
        state.log_history[-1] |= self._sizes
        self._sizes = {}
        lines = [line for line in state.log_history[-LOST_UPDATES * 2 :] if "loss" in line][-LOST_UPDATES:]
        if len(lines) == LOST_UPDATES and all(map(_is_lost, lines)):
            control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Keep the scores, for a script that stores none."""
        self._keep(args, state, found.get("metrics"))

    def on_predict(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """As `on_evaluate`."""
        self._keep(args, state, found.get("metrics"))

    def _keep(self, args: Any, state: Any, metrics: Mapping[str, Any] | None) -> None:
        if state.is_world_process_zero and metrics:
            self._scores |= {key: value for key, value in metrics.items() if isinstance(value, int | float)}
            path = Path(args.output_dir) / SCORE_FILES[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._scores), encoding="utf-8")

    def on_train_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Store the log, for a script that does not; take the best weights if the Trainer was to do so."""
        if args.load_best_model_at_end and state.best_model_checkpoint and not _is_sharded(args):
            take_over_weights(found["model"], Path(state.best_model_checkpoint))
        if state.is_world_process_zero:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            state.save_to_json(str(Path(args.output_dir) / "trainer_state.json"))


def _is_sharded(args: Any) -> bool:
    """Whether DeepSpeed or FSDP load weights in ways of their own."""
    return bool(args.deepspeed or args.fsdp)


def _unwrapped(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)


def _is_lost(line: Record) -> bool:
    return not all(math.isfinite(line.get(key, 0.0)) for key in ("loss", "grad_norm"))


def records_of_log(log: list[Record], metric: str, learning_rate: float) -> Iterator[Record]:
    """A Trainer's log history as a run's records.

    Args:
        log: `trainer.state.log_history`.
        metric: whose name carries "eval_" in the log.
        learning_rate: of the cell, to which multipliers refer.
    """
    for line in log:
        if "loss" in line and "learning_rate" in line:
            rate = line["learning_rate"]
            known = {key: value for key, value in line.items() if key not in ("step", "epoch", "learning_rate")}
            yield step_record(line["step"], **known, lr=rate, multiplier=rate / learning_rate)
        elif f"eval_{metric}" in line:
            yield evaluation_record(line["step"], metric, line[f"eval_{metric}"], line.get("eval_loss"))
