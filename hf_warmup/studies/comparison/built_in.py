"""Built-in tasks made ready: their data loaded, the model tried, the length of a run counted.

Deliberately absent: how a run trains (`run`).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.tasks import Task, load_task
from hf_warmup.errors import ConfigError, first_line
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.config import StudyConfig, TrainingConfig
from hf_warmup.studies.comparison.constants import constant_scores
from hf_warmup.studies.comparison.own.config import OwnTask
from hf_warmup.studies.comparison.plan import Cell, ReadyTask, check_warmups_fit, run_length
from hf_warmup.studies.comparison.run import run_cell, supervised


def ready_built_in(study: StudyConfig) -> dict[str, ReadyTask]:
    """The study's built-in tasks, by name.

    Raises:
        ConfigError: as `load_task`, and for runs that are too short for their warmup or batch.
    """
    with PartialState().main_process_first():
        tasks = [load_task(task, _model(study)) for task in study.tasks if not isinstance(task, OwnTask)]
    for task in tasks:
        _try_model(task, _model(study))
    return {task.config.name: _ready(study, task) for task in tasks}


def _model(study: StudyConfig) -> ModelConfig:
    assert study.model is not None, "checked with the study"
    return study.model


def _ready(study: StudyConfig, task: Task) -> ReadyTask:
    training = study.training
    assert training is not None, "checked with the study"

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        return run_cell(task, training, cell, folder=folder, project=study.name)

    return ReadyTask(task.config, _length(study, training, task), run, partial(_facts, task), training.beta2)


def _facts(task: Task) -> Record:
    return {
        "sizes": task.sizes(),
        "constant_score": constant_scores(task),
        "num_labels": task.num_labels,
        "parameters": sum(p.numel() for p in task.make_model().parameters()),
    }


def _try_model(task: Task, model: ModelConfig) -> None:
    """Give a model two examples, so that settings under which it cannot learn are refused before anything is written.

    A checkpoint that is taken as it is needs no trial.
    """
    if model.architecture is None and not model.config and model.peft is None:
        return
    network = task.make_model()
    batch = task.collate([task.train[index] for index in range(2)])
    try:
        with torch.no_grad():
            supervised(network, batch, 0)
    except Exception as error:  # transformers and torch raise many kinds, all of which mean: it cannot take them
        raise ConfigError(
            f"task {task.config.name}: a model of model.config {model.config} cannot be trained on these examples "
            f"({first_line(error)[:200]}); mend or remove what does not fit."
        ) from None


def _length(study: StudyConfig, training: TrainingConfig, task: Task) -> int:
    try:
        length = run_length(training, task.sizes()["train"], PartialState().num_processes)
        check_warmups_fit(study.arms, training.beta2, length, on_short_run=training.on_short_run)
    except ConfigError as error:
        raise ConfigError(f"task {task.config.name}: {error}") from None
    return length
