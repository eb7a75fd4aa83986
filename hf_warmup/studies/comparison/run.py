"""One cell of a study, (task, arm, learning rate, seed), trained from its first update to its score on the test split.

What differs between arms is made here and is the optimizer and its warmup, nothing else: initialization, data order
and dropout stream follow from the seed alone, and all optimizers run torch's foreach kernels.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from hf_warmup.data.loaders import shuffled_loader
from hf_warmup.data.streams import stream_seed
from hf_warmup.data.tasks import Task
from hf_warmup.lr_scheduler.loss_adaptive import get_loss_adaptive_schedule
from hf_warmup.lr_scheduler.scheduler import get_schedule
from hf_warmup.records.files import Record
from hf_warmup.schedules.tables import LOSS_ADAPTIVE_WARMUPS
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig
from hf_warmup.studies.folder import checkpoint_path
from hf_warmup.training import EvaluationRecord, StepRecord, TrainConfig, train
from hf_warmup.training.accelerator import make_accelerator
from hf_warmup.training.evaluation import Evaluator


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    task: str
    arm: ArmConfig
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """File name of its records, without suffix."""
        return f"{self.task}--{self.arm.name}--{self.learning_rate:g}--{self.seed}"


def num_updates(study: StudyConfig, num_examples: int, num_processes: int) -> int:
    """Length of a run in optimizer updates: given, or `epochs` over full batches of all processes."""
    training = study.training
    if training.num_training_steps is not None:
        return training.num_training_steps
    per_update = training.batch_size * training.gradient_accumulation_steps * num_processes
    return max(1, math.floor(float(training.epochs or 0) * (num_examples // per_update)))


def run_cell(study: StudyConfig, task: Task, cell: Cell, *, folder: Path | None = None) -> Iterator[Record]:
    """Train and score one cell.

    Args:
        study: the whole study.
        task: the cell's task, loaded.
        cell: which run.
        folder: the study's, for checkpoints and trackers' files, if it asks for them.

    Yields:
        Records with a `kind`: "step" and "evaluation" as `train` yields them, and "result" as the last: validation
        and test score of the final weights, whether the run diverged, skipped updates.
    """
    training = study.training
    accelerator = make_accelerator(
        mixed_precision=training.mixed_precision,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        log_with=training.log_with,
        project_dir=folder / "trackers" if folder else None,
    )
    length = num_updates(study, len(task.train), accelerator.num_processes)  # type: ignore[arg-type]
    set_seed(stream_seed(cell.seed, "initialization"))
    model = task.make_model()
    optimizer = make_optimizer(model, study, cell)
    scheduler = make_scheduler(optimizer, study, cell.arm, length)
    loader = shuffled_loader(task.train, batch_size=training.batch_size, seed=cell.seed, collate=task.collate)
    validate, test = (
        Evaluator(accelerator, _plain_loader(part, study, task), task.config.metric)
        for part in (task.validation, task.test)
    )
    config = TrainConfig(
        num_training_steps=length,
        seed=cell.seed,
        max_grad_norm=training.max_grad_norm,
        evaluate_every=training.evaluate_every,
        checkpoint_every=training.checkpoint_every,
        checkpoint_dir=checkpoint_path(folder, cell.name) if folder and training.checkpoint_every else None,
        update_statistics_every=training.update_statistics_every,
    )
    if training.log_with:
        accelerator.init_trackers(study.name, init_kwargs={})
    diverged, skipped = True, 0
    for record in train(accelerator, model, optimizer, scheduler, loader, supervised, config, evaluate=validate):
        diverged = not (isinstance(record, EvaluationRecord) and record.step == length)
        skipped += isinstance(record, StepRecord) and record.skipped
        line = as_line(record)
        if training.log_with:
            _track(accelerator, cell, line)
        yield line
    prepared = accelerator._models[-1]
    prepared.eval()
    scores = {"validation": validate(prepared, length), "test": test(prepared, length)}
    yield {
        "kind": "result",
        "diverged": diverged,
        "skipped_steps": skipped,
        **{part: score[task.config.metric] for part, score in scores.items()},
        **{f"{part}_loss": score["loss"] for part, score in scores.items()},
    }
    if training.log_with:
        accelerator.end_training()
    accelerator.free_memory()


def supervised(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
    """Objective of transformers' models: the loss that they compute from their own labels."""
    return model(**batch).loss, {}


def make_optimizer(model: nn.Module, study: StudyConfig, cell: Cell) -> torch.optim.Optimizer:
    """AdamW, or RAdam with AdamW's decoupled decay; biases and normalization weights do not decay."""
    training = study.training
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    common: dict[str, Any] = {
        "lr": cell.learning_rate,
        "betas": (training.beta1, training.beta2),
        "eps": training.adam_epsilon,
        "foreach": True,
    }
    if cell.arm.optimizer == "radam":
        return torch.optim.RAdam(groups, decoupled_weight_decay=True, **common)
    return torch.optim.AdamW(groups, **common)


def make_scheduler(optimizer: torch.optim.Optimizer, study: StudyConfig, arm: ArmConfig, length: int) -> LRScheduler:
    """The arm's warmup times the study's decay; no warmup is a linear one over a single update."""
    if arm.warmup in LOSS_ADAPTIVE_WARMUPS:
        return get_loss_adaptive_schedule(optimizer, 0, length, decay=study.training.decay)
    return get_schedule(
        optimizer,
        arm.num_warmup_steps if arm.warmup else 1,
        length,
        warmup=arm.warmup or "linear_warmup",
        decay=study.training.decay,
        on_short_run=study.training.on_short_run,
    )


def as_line(record: Any) -> Record:
    """A training record as it is stored."""
    if isinstance(record, StepRecord):
        values = asdict(record)
        return {"kind": "step", **{key: value for key, value in values.items() if key != "metrics"}}
    if isinstance(record, EvaluationRecord):
        return {"kind": "evaluation", "step": record.step, **record.metrics}
    return {"kind": "diverged", "step": record.step}


def _track(accelerator: Accelerator, cell: Cell, line: Record) -> None:
    part = "validation" if line["kind"] == "evaluation" else "train"
    numbers = {f"{cell.name}/{part}/{key}": value for key, value in line.items() if isinstance(value, float)}
    accelerator.log(numbers, step=line["step"])


def _plain_loader(part: Any, study: StudyConfig, task: Task) -> DataLoader[Any]:
    return DataLoader(part, batch_size=max(64, study.training.batch_size), collate_fn=task.collate)
