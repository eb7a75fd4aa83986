"""Built-in tasks made ready: their data loaded, the model tried, the length of a run counted.

Deliberately absent: how a run trains (`run`).
"""

from functools import partial

import torch
from accelerate import PartialState

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.tasks import Task, load_task
from hf_warmup.errors import ConfigError, first_line
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.constants import constant_scores
from hf_warmup.studies.comparison.plan import ReadyTask, check_warmups_fit, run_length
from hf_warmup.studies.comparison.run import run_cell, supervised


def ready_built_in(study: StudyConfig) -> dict[str, ReadyTask]:
    """The study's built-in tasks, by name.

    Raises:
        ConfigError: as `load_task`, and for runs that are too short for their warmup or batch.
    """
    with PartialState().main_process_first():
        tasks = {task.name: load_task(task, study.model) for task in study.tasks}
    for task in tasks.values():
        _try_model(task, study.model)
    return {
        name: ReadyTask(
            task.config,
            _length(study, task),
            lambda cell, folder, task=task: run_cell(  # type: ignore[misc]
                task, study.training, cell, folder=folder, project=study.name
            ),
            partial(_facts, task),
        )
        for name, task in tasks.items()
    }


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
    if model.architecture is None and not model.config:
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


def _length(config: StudyConfig, task: Task) -> int:
    try:
        length = run_length(config.training, task.sizes()["train"], PartialState().num_processes)
        check_warmups_fit(config.arms, config.training, length)
    except ConfigError as error:
        raise ConfigError(f"task {task.config.name}: {error}") from None
    return length
