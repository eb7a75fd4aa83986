"""Tasks of kind trainer: any Trainer that a person's factory makes, trained by each arm.

A killed run goes on from the Trainer's own checkpoint, where `arguments` ask for them. Deliberately absent: what the
Trainer does.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import set_seed

from hf_warmup.errors import ConfigError
from hf_warmup.models.factory import described, find_factory
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.own.arguments import arm_arguments, find_metric, last_checkpoint
from hf_warmup.studies.comparison.own.config import TrainerTask
from hf_warmup.studies.comparison.own.equipment import equip, records_of_log
from hf_warmup.studies.comparison.own.factory import Made, call_factory, make_arguments
from hf_warmup.studies.comparison.own.failures import failed_by
from hf_warmup.studies.comparison.own.records import as_score, both_scores, result_record, with_divergence
from hf_warmup.studies.comparison.plan import Cell, ReadyTask, check_warmups_fit
from hf_warmup.studies.folder import checkpoint_path
from hf_warmup.training.accelerator import decide


Factory = Callable[..., Any]


def ready_trainer(study: StudyConfig, task: TrainerTask) -> ReadyTask:
    """A task of kind trainer, whose factory has been tried once.

    Raises:
        ConfigError: if the factory cannot be found, fails, or makes no Trainer; for runs shorter than their warmup.
    """
    factory = find_factory(task.factory)
    first = Cell(task.name, study.arms[0], study.learning_rates[0], study.seeds[0], 0)
    with tempfile.TemporaryDirectory() as folder:
        made = _try(task, factory, first, Path(folder))
    length, arguments, facts = _length(task, made), made.trainer.args, _facts(made)
    if length:
        short = (task.arguments.get("lr_scheduler_kwargs") or {}).get("on_short_run", "raise")
        check_warmups_fit(study.arms, arguments.adam_beta2, length, on_short_run=short)
    several_rates = len(study.learning_rates) > 1 and not study.tuning_seeds
    try:
        both_scores(0.0, None if made.test is None else 0.0, several_rates=several_rates)
    except ConfigError as error:
        raise ConfigError(f"task {task.name}: {error}") from None

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        return with_divergence(_run(task, factory, cell, folder, several_rates=several_rates))

    return ReadyTask(task, length, run, lambda: facts, beta2=arguments.adam_beta2)


def _try(task: TrainerTask, factory: Factory, cell: Cell, folder: Path) -> Made:
    try:
        made = _make(task, factory, cell, folder)
        made.trainer.get_train_dataloader()
    except ConfigError as error:
        raise ConfigError(f"task {task.name}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever a person's function does
        raise ConfigError(f"task {task.name}: factory {task.factory!r} failed ({described(error)}).") from None
    for part, data in (("eval_dataset", made.trainer.eval_dataset), ("test data set", made.test)):
        if hasattr(data, "__len__") and len(data) == 0:
            raise ConfigError(f"task {task.name}: the {part} of factory {task.factory!r} is empty; nothing is scored.")
    if made.trainer.eval_dataset is None and getattr(made.trainer, "evaluator", None) is None:
        raise ConfigError(
            f"task {task.name}: the Trainer of factory {task.factory!r} has no eval_dataset, on which learning rates "
            f"are chosen; give it one, and return (trainer, test_dataset) for the data that judge."
        )
    return made


def _make(task: TrainerTask, factory: Factory, cell: Cell, output: Path) -> Made:
    """The cell's Trainer, equipped; all arms begin from the same weights."""
    set_seed(cell.seed)
    arguments = make_arguments(factory, arm_arguments(cell, output, {**_on_cpu(), **task.arguments}))
    made = call_factory(task.factory, factory, arguments)
    equip(made.trainer, cell.arm.optimizer, cell.arm.optimizer_kwargs)
    return made


def _on_cpu() -> dict[str, bool]:
    # Without an accelerator device several processes must be told, or each takes itself for the only one.
    return {"use_cpu": True} if PartialState().device.type == "cpu" else {}


def _run(task: TrainerTask, factory: Factory, cell: Cell, folder: Path, *, several_rates: bool) -> Iterator[Record]:
    try:
        yield from _train_and_score(task, factory, cell, checkpoint_path(folder, cell.name), several_rates)
    except ConfigError as error:
        raise ConfigError(f"task {task.name}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever a person's Trainer does
        yield failed_by(error, cell.name)


def _train_and_score(
    task: TrainerTask, factory: Factory, cell: Cell, output: Path, several_rates: bool
) -> Iterator[Record]:
    made = _make(task, factory, cell, output)
    trainer = made.trainer
    checkpoint = decide(lambda: last_checkpoint(output))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    yield from records_of_log(list(trainer.state.log_history), task.metric.name, cell.learning_rate)
    validation = _score(task, trainer.evaluate(), "eval")
    judged = made.test is not None and not cell.tuning
    test = _score(task, trainer.evaluate(made.test, metric_key_prefix="test"), "test") if judged else None
    scores = both_scores(validation, test, several_rates=several_rates)
    yield result_record(scores, tuning=cell.tuning)
    trainer.accelerator.free_memory()


def _score(task: TrainerTask, scores: Record, prefix: str) -> float:
    found = find_metric(scores, task.metric.name, (prefix,), f"trainer.evaluate() of factory {task.factory!r}")
    return as_score(found, f"the {prefix} score")


def _length(task: TrainerTask, made: Made) -> int:
    """Updates of a run as the Trainer counts them; 0 for data of unknown length."""
    arguments = made.trainer.args
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    try:
        batches = len(made.trainer.get_train_dataloader())
    except TypeError:
        return 0
    per_epoch = max(1, math.ceil(batches / arguments.gradient_accumulation_steps))
    length = int(math.ceil(arguments.num_train_epochs * per_epoch))
    if length < 1:
        raise ConfigError(f"task {task.name}: num_train_epochs makes no update; give a larger one, or max_steps.")
    return length


def _facts(made: Made) -> Record:
    parts = {"train": made.trainer.train_dataset, "validation": made.trainer.eval_dataset, "test": made.test}
    model = made.trainer.model
    return {
        "sizes": {name: len(part) for name, part in parts.items() if hasattr(part, "__len__")},
        "constant_score": None,
        "num_labels": None,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
