"""A study: the same tasks, learning rates and seeds for every arm, run cell by cell into one folder.

A cell's file appears under its final name only when the cell is complete, so a killed study, started again, goes on
where it was and ends with the same results, bit for bit on one CPU process. Shards on other machines fill the same
folder. The learning rate of an arm is chosen on validation data; each cell's final weights meet the test split once,
and only the chosen cells' scores are read. Divergence is a result. Deliberately absent: statistics and pictures.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_warmup.data.tasks import Task, load_task
from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.names import fit_to_run, untuned_period
from hf_warmup.records.files import Record, read_lines
from hf_warmup.records.provenance import versions
from hf_warmup.schedules.tables import UNTUNED_WARMUPS
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig
from hf_warmup.studies.comparison.run import Cell, num_updates, run_cell
from hf_warmup.studies.folder import claim_folder, read_provenance, run_path, store_run, sweep


logger = logging.getLogger(__name__)

OnRecord = Callable[[Cell, Record], None]


def plan(study: StudyConfig) -> list[Cell]:
    """All cells, seed by seed, so that an unfinished study has compared every arm on its first seeds."""
    return [
        Cell(task.name, arm, learning_rate, seed)
        for task in study.tasks
        for seed in study.seeds
        for learning_rate in study.learning_rates
        for arm in study.arms
    ]


def open_study(study: StudyConfig, folder: Path) -> None:
    """Claim `folder` for this study; seeds may be added later.

    Raises:
        ConfigError: if the folder holds another study, naming the first difference.
    """
    claim_folder(study.model_dump(mode="json", exclude={"seeds"}), folder)


def load_tasks(study: StudyConfig) -> dict[str, Task]:
    """Every task's data, after checking that the study's untuned warmups fit into its runs.

    Raises:
        ConfigError: as `load_task`, and for a run shorter than its warmup under `on_short_run: raise`.
    """
    with PartialState().main_process_first():
        tasks = {task.name: load_task(task, study.model) for task in study.tasks}
    for name, task in tasks.items():
        length = num_updates(study, len(task.train), PartialState().num_processes)  # type: ignore[arg-type]
        for arm in study.arms:
            if arm.num_warmup_steps > length:
                raise ConfigError(
                    f"task {name}: arm {arm.name} warms up for {arm.num_warmup_steps} of {length} updates; such a "
                    f"study would compare learning rates. Shorten the warmup."
                )
            if arm.warmup is not None and arm.warmup in UNTUNED_WARMUPS and study.training.on_short_run == "raise":
                try:
                    fit_to_run(arm.warmup, study.training.beta2, length, on_short_run="raise", max_warmup_ratio=0.1)
                except ValueError as error:
                    raise ConfigError(f"task {name}: {error}") from None
    return tasks


def run_study(
    study: StudyConfig, tasks: dict[str, Task], folder: Path, *, shard: tuple[int, int] = (1, 1), on_record: OnRecord
) -> int:
    """Run this shard's missing cells.

    Args:
        study: what to run.
        tasks: from `load_tasks`.
        folder: results folder; see `open_study`.
        shard: (i, n): every n-th cell, beginning with the i-th, 1-based.
        on_record: called with each record, on every process.

    Returns:
        The number of cells of the whole study that are still missing.
    """
    if PartialState().is_main_process:
        sweep(folder, [cell.name for cell in plan(study)])
    index, count = shard
    missing = [cell for cell in plan(study)[index - 1 :: count] if not run_path(folder, cell.name).exists()]
    # All processes must agree, though only the first one's disk may hold the files.
    [missing] = broadcast_object_list([missing])
    for cell in missing:
        records = run_cell(study, tasks[cell.task], cell, folder=folder)
        store_run(folder, cell.name, records, on_record=partial(on_record, cell))
    return sum(not run_path(folder, cell.name).exists() for cell in plan(study))


def collect(study: StudyConfig, tasks: dict[str, Task], folder: Path) -> Record:
    """The study's results from its complete cells, without any statistics; the same cells give the same document."""
    return {
        "format": 1,
        "name": study.name,
        "seeds": study.seeds,
        "baseline": study.baseline,
        "config": study.model_dump(mode="json"),
        "versions": versions(),
        **read_provenance(folder),
        "tasks": [_collect_task(study, tasks[task.name], folder) for task in study.tasks],
    }


def _collect_task(study: StudyConfig, task: Task, folder: Path) -> Record:
    config = task.config
    length = num_updates(study, len(task.train), PartialState().num_processes)  # type: ignore[arg-type]
    return {
        "name": config.name,
        "metric": config.metric,
        "margin": config.margin,
        "target": config.target,
        "num_training_steps": length,
        "sizes": task.sizes(),
        "num_labels": task.num_labels,
        "parameters": sum(p.numel() for p in task.make_model().parameters()),
        "learning_rates": study.learning_rates,
        "arms": [_collect_arm(study, task, arm, folder) for arm in study.arms],
    }


def _collect_arm(study: StudyConfig, task: Task, arm: ArmConfig, folder: Path) -> Record:
    runs = {
        rate: [_read_run(task, Cell(task.config.name, arm, rate, seed), folder) for seed in study.seeds]
        for rate in study.learning_rates
    }
    grid = [
        {
            "learning_rate": rate,
            "validation": [run["validation"] for run in runs[rate]],
            "diverged": [run["diverged"] for run in runs[rate]],
        }
        for rate in study.learning_rates
    ]
    # The smaller rate wins a tie: dictionaries keep the grid's order, max takes the first.
    chosen = max(sorted(runs), key=lambda rate: sum(run["validation"] for run in runs[rate]))
    return {
        "name": arm.name,
        "optimizer": arm.optimizer,
        "warmup": arm.warmup,
        "num_warmup_steps": _warmup_length(study, arm),
        "grid": grid,
        "learning_rate": chosen,
        "runs": runs[chosen],
    }


def _warmup_length(study: StudyConfig, arm: ArmConfig) -> float:
    if arm.warmup is None:
        return 0
    return arm.num_warmup_steps or round(untuned_period(study.training.beta2), 6)


def _read_run(task: Task, cell: Cell, folder: Path) -> Record:
    *records, result = read_lines(run_path(folder, cell.name))
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    metric, target = task.config.metric, task.config.target
    reached = [e["step"] for e in evaluations if target is not None and e[metric] >= target]
    return {
        "seed": cell.seed,
        "validation": result["validation"],
        "test": result["test"],
        "diverged": result["diverged"],
        "steps_to_target": reached[0] if reached else None,
        "skipped_steps": sum(record["skipped"] for record in steps),
        "evaluations": [{"step": e["step"], "validation": e[metric], "loss": e["loss"]} for e in evaluations],
        "curve": thin_out(steps),
    }


_COLUMNS = ("loss", "lr", "multiplier", "grad_norm", "update_mean", "update_ratio_mean", "update_ratio_median")


def thin_out(steps: list[Record], *, whole: int = 64, windows: int = 136) -> Record:
    """A run's curve, small enough to publish: the first `whole` updates as they are, then means over windows.

    A window's place is its last update, and so are its learning rate and multiplier.
    """
    size = max(1, -(-max(0, len(steps) - whole) // windows))
    groups = [[record] for record in steps[:whole]]
    groups += [steps[i : i + size] for i in range(whole, len(steps), size)]
    curve: Record = {"step": [group[-1]["step"] for group in groups]}
    for column in _COLUMNS:
        if column in ("lr", "multiplier"):
            curve[column] = [group[-1][column] for group in groups]
        else:
            curve[column] = [_mean([record[column] for record in group]) for group in groups]
    return curve


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
