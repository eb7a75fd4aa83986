"""A comparison as the runner takes it: the same tasks, learning rates and seeds for every arm.

The learning rate of an arm is chosen on validation data; each run's final weights meet the test split once, and only
the chosen runs' scores are read. Divergence is a result. Deliberately absent: statistics and pictures.
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
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.plan import Cell, check_warmups_fit, plan, run_length
from hf_warmup.studies.comparison.rounds import follow
from hf_warmup.studies.comparison.run import run_cell, supervised
from hf_warmup.studies.comparison.summary import summarise
from hf_warmup.studies.runner import Study, nothing_follows


def comparison_study(config: StudyConfig, *, by_hand: bool = False) -> Study[Cell]:
    """Load every task's data, plan all runs, and hand them to the runner.

    Args:
        config: the study.
        by_hand: run all of the config's seeds, whatever the looks that it declares.

    Raises:
        ConfigError: as `load_task`, and for runs that are too short for their warmup or batch.
    """
    with PartialState().main_process_first():
        tasks = {task.name: load_task(task, config.model) for task in config.tasks}
    for task in tasks.values():
        _try_model(task, config.model)
    cells = plan(config, {name: _length(config, task) for name, task in tasks.items()}, by_hand=by_hand)

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        return run_cell(tasks[cell.task], config.training, cell, folder=folder, project=config.name)

    summary = partial(summarise, config, tasks)
    further = partial(follow, config, summary, by_hand) if config.tuning_seeds or config.plan else nothing_follows
    return Study(config.name, config.model_dump(mode="json"), cells, run, summary, further)


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
