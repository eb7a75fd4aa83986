"""A comparison as the runner takes it: the same tasks, learning rates and seeds for every arm.

The learning rate of an arm is chosen on validation data; each run's final weights meet the test split once, and only
the chosen runs' scores are read. Divergence is a result. Deliberately absent: statistics and pictures.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.arms import check_arms
from hf_warmup.studies.comparison.built_in import ready_built_in
from hf_warmup.studies.comparison.config import StudyConfig, shared_settings
from hf_warmup.studies.comparison.own.config import OwnTask, ScriptTask, TrainerTask
from hf_warmup.studies.comparison.own.script_run import ready_script
from hf_warmup.studies.comparison.own.trainer_run import ready_trainer
from hf_warmup.studies.comparison.plan import Cell, ReadyTask, plan
from hf_warmup.studies.comparison.rounds import follow
from hf_warmup.studies.comparison.summary import summarise
from hf_warmup.studies.runner import Study, nothing_follows


def comparison_study(config: StudyConfig, *, by_hand: bool = False) -> Study[Cell]:
    """Load every task's data, plan all runs, and hand them to the runner.

    Args:
        config: the study.
        by_hand: run all of the config's seeds, whatever the looks that it declares.

    Raises:
        ConfigError: as `check_arms`, `load_task`, `ready_trainer` and `ready_script`, and for runs that are too short
            for their warmup or batch.
    """
    check_arms(config.arms, config.training or shared_settings())
    ready = {**ready_built_in(config), **{task.name: _ready_own(config, task) for task in _own(config)}}
    return study_of_tasks(config, {task.name: ready[task.name] for task in config.tasks}, by_hand=by_hand)


def _own(config: StudyConfig) -> list[OwnTask]:
    return [task for task in config.tasks if isinstance(task, OwnTask)]


def _ready_own(config: StudyConfig, task: OwnTask) -> ReadyTask:
    if isinstance(task, TrainerTask):
        return ready_trainer(config, task)
    if isinstance(task, ScriptTask):
        return ready_script(config, task)
    raise ConfigError(f"task {task.name}: kind function is for hf_warmup.compare(function, ...), in Python.")


def study_of_tasks(config: StudyConfig, tasks: Mapping[str, ReadyTask], *, by_hand: bool = False) -> Study[Cell]:
    """A comparison on tasks that are ready to be run, by name."""
    cells = plan(config, {name: task.length for name, task in tasks.items()}, by_hand=by_hand)

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        return tasks[cell.task].run(cell, folder)

    summary = partial(summarise, config, tasks)
    further = partial(follow, config, summary, by_hand) if config.tuning_seeds or config.plan else nothing_follows
    return Study(config.name, config.model_dump(mode="json"), cells, run, summary, further)
