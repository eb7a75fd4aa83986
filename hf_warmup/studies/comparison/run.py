"""One run of a comparison, trained from its first update to its score on the test split.

What differs between arms is made in `arms` and is the optimizer and the course of its learning rate, nothing else:
initialization, data order and dropout stream follow from the seed alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

from hf_warmup.data.loaders import shuffled_loader
from hf_warmup.data.random_streams import stream_seed
from hf_warmup.data.tasks import Task
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.arms import make_optimizer, make_scheduler
from hf_warmup.studies.comparison.config import TrainingConfig
from hf_warmup.studies.comparison.plan import Cell
from hf_warmup.studies.folder import checkpoint_path
from hf_warmup.training import TrainConfig, train
from hf_warmup.training.accelerator import make_accelerator
from hf_warmup.training.evaluation import Evaluator
from hf_warmup.training.records import as_line


def run_cell(
    task: Task, training: TrainingConfig, cell: Cell, *, folder: Path | None = None, project: str = "hf_warmup"
) -> Iterator[Record]:
    """Train and score one cell.

    Args:
        task: the cell's task, loaded.
        training: what all arms share.
        cell: which run.
        folder: the study's, for checkpoints and trackers' files, if it asks for them.
        project: the study's name, as trackers show it.

    Yields:
        Records with a `kind`: "step", "evaluation" and "diverged" as `train` yields them, and "result" as the last:
        validation and test score of the final weights, without the test score for a tuning run.
    """
    accelerator = make_accelerator(
        mixed_precision=training.mixed_precision,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        log_with=training.log_with,
        project_dir=folder / "trackers" if folder else None,
    )
    set_seed(stream_seed(cell.seed, "initialization"))
    model = task.make_model()
    optimizer = make_optimizer(model, training, cell.arm, cell.learning_rate)
    scheduler = make_scheduler(optimizer, training, cell.arm, cell.num_updates)
    loader = shuffled_loader(task.train, batch_size=training.batch_size, seed=cell.seed, collate=task.collate)
    judges = {"validation": task.validation} if cell.tuning else {"validation": task.validation, "test": task.test}
    evaluators = {name: _evaluator(accelerator, part, training.batch_size, task) for name, part in judges.items()}
    validate = evaluators["validation"]
    # Prepared here, since the final weights are scored on the prepared model; `train` leaves what is prepared alone.
    model, prepared = accelerator.prepare(model, optimizer)
    if training.log_with:
        accelerator.init_trackers(project, init_kwargs={})
    config = _train_config(training, cell, folder)
    for record in train(accelerator, model, prepared, scheduler, loader, supervised, config, evaluate=validate):
        line = as_line(record)
        if training.log_with:
            _track(accelerator, cell, line)
        yield line
    model.eval()
    scores = {name: evaluate(model, cell.num_updates) for name, evaluate in evaluators.items()}
    yield {
        "kind": "result",
        **{part: score[task.config.metric] for part, score in scores.items()},
        **{f"{part}_loss": score["loss"] for part, score in scores.items()},
    }
    if training.log_with:
        accelerator.end_training()
    accelerator.free_memory()


def _train_config(training: TrainingConfig, cell: Cell, folder: Path | None) -> TrainConfig:
    return TrainConfig(
        num_training_steps=cell.num_updates,
        seed=cell.seed,
        max_grad_norm=training.max_grad_norm,
        evaluate_every=training.evaluate_every,
        checkpoint_every=training.checkpoint_every,
        checkpoint_dir=checkpoint_path(folder, cell.name) if folder and training.checkpoint_every else None,
        update_statistics_every=training.update_statistics_every,
    )


def supervised(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
    """Objective of transformers' models: the loss that they compute from their own labels."""
    return model(**batch).loss, {}


def _track(accelerator: Accelerator, cell: Cell, line: Record) -> None:
    part = "validation" if line["kind"] == "evaluation" else "train"
    numbers = {f"{cell.name}/{part}/{key}": value for key, value in line.items() if isinstance(value, float)}
    accelerator.log(numbers, step=line["step"])


def _evaluator(accelerator: Accelerator, part: Any, batch_size: int, task: Task) -> Evaluator:
    loader = DataLoader(part, batch_size=max(64, batch_size), collate_fn=task.collate)
    metric = task.config.metric
    return Evaluator(accelerator, loader, metric, predicts=task.predicts, label_names=task.label_names)
