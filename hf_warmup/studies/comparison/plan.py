"""The runs of a comparison, (task, arm, learning rate, seed), with their lengths in updates."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_warmup.data.config import TaskConfig
from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.names import untuned_period
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig, TrainingConfig


@dataclass(frozen=True)
class Cell:
    """One run of a comparison; `tuning` ones help to choose a learning rate and never meet the test split."""

    task: str
    arm: ArmConfig
    learning_rate: float
    seed: int
    num_updates: int
    tuning: bool = False

    @property
    def name(self) -> str:
        """File name of its records, without suffix."""
        return f"{self.task}--{self.arm.name}--{self.learning_rate:g}--{self.seed}"

    @property
    def pair(self) -> tuple[str, int]:
        """Task and seed."""
        return self.task, self.seed

    def describe(self, record: Record) -> str:
        """A record in a few words; the test score is not shown while runs are going."""
        if record["kind"] == "result":
            score = "not a number" if record["validation"] is None else f"{record['validation']:.4f}"
            return f"{'diverged, ' if record['diverged'] else ''}validation {score}"
        if record["kind"] == "step":
            return f"{self.task} {self.arm.name} lr {self.learning_rate:g} seed {self.seed}"
        return ""


@dataclass(frozen=True)
class ReadyTask:
    """A task of which everything is known that its runs need.

    Attributes:
        config: the task as a person wrote it.
        length: updates of a run; 0 where only the run itself knows.
        run: makes the records of one of its runs, with the study's folder for checkpoints.
        facts: what results say of the task beside its runs: `sizes`, `constant_score`, `num_labels`, `parameters`.
        beta2: that all arms share; None where only the run itself knows.
    """

    config: TaskConfig
    length: int
    run: Callable[[Cell, Path], Iterator[Record]]
    facts: Callable[[], Record]
    beta2: float | None


def plan(study: StudyConfig, lengths: Mapping[str, int], *, by_hand: bool = False) -> list[Cell]:
    """The first runs, seed by seed, so that an unfinished study has compared every arm on its first seeds.

    They are all runs of a study without tuning seeds and looks; `rounds.follow` says what comes behind them.

    Args:
        study: the comparison.
        lengths: updates of a run, by the task's name; see `run_length`.
        by_hand: run all of the study's seeds, whatever its looks.
    """
    seeds = study.tuning_seeds or judged_seeds(study, by_hand=by_hand)
    return [
        Cell(task.name, arm, learning_rate, seed, lengths[task.name], tuning=bool(study.tuning_seeds))
        for task in study.tasks
        for seed in seeds
        for learning_rate in study.learning_rates
        for arm in study.arms
    ]


def judged_seeds(study: StudyConfig, *, by_hand: bool = False) -> list[int]:
    """The seeds on which arms are judged first: those of the first look, where looks are declared."""
    return study.seeds if by_hand or study.plan is None else study.first_seeds(study.plan.looks[0])


def run_length(training: TrainingConfig, num_examples: int, num_processes: int) -> int:
    """Length of a run in optimizer updates: given, or `epochs` over full batches of all processes.

    Raises:
        ConfigError: if there are too few examples for one batch.
    """
    per_batch = training.batch_size * num_processes
    if num_examples < per_batch:
        raise ConfigError(
            f"a batch takes {per_batch} examples on {num_processes} process{'es' * (num_processes > 1)}, but there "
            f"are {num_examples} to train on; lower training.batch_size."
        )
    if training.num_training_steps is not None:
        return training.num_training_steps
    per_update = per_batch * training.gradient_accumulation_steps
    return max(1, math.floor(float(training.epochs or 0) * (num_examples // per_update)))


def check_warmups_fit(arms: list[ArmConfig], beta2: float, length: int, *, on_short_run: str) -> None:
    """Refuse runs of `length` updates that end before their warmup does.

    Raises:
        ConfigError: for a tuned warmup always, for an untuned one under `on_short_run: raise`.
    """
    for arm in arms:
        own = arm.beta2(beta2)
        period = untuned_period(own)
        if arm.num_warmup_steps > length:
            raise ConfigError(
                f"arm {arm.name} warms up for {arm.num_warmup_steps} of {length} updates; such a study would compare "
                f"learning rates. Shorten the warmup."
            )
        if arm.untuned_warmup and on_short_run == "raise" and period > length * (1 + 1e-9):
            raise ConfigError(
                f"{arm.untuned_warmup} with beta2={own:g} takes {period:.0f} updates, but the run has {length}. "
                f"{_what_fits(period, length)}"
            )


def _what_fits(period: float, length: int) -> str:
    """The ways out of a run of `length` updates that is shorter than an untuned warmup."""
    longer = f"Make the run at least {math.ceil(round(period, 6))} updates long"
    if length < 20:
        # A beta2 below .9 is no Adam that anybody uses.
        return f"{longer}; it is too short for an untuned warmup at any usual beta2."
    return f"{longer}, or choose training.beta2={math.floor(1e4 * (1 - 2 / length)) / 1e4:g} or less."
