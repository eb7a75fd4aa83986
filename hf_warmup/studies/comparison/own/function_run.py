"""One run of a person's own training function: its score, and whatever records it yields on the way.

Deliberately absent: what it trains. A run that ends with an exception is a failed run, and the others go on.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.own.arm import Arm
from hf_warmup.studies.comparison.own.failures import failed_by
from hf_warmup.studies.comparison.own.records import (
    SCORES,
    as_score,
    both_scores,
    evaluation_record,
    result_record,
    step_record,
    with_divergence,
)
from hf_warmup.studies.comparison.plan import Cell, ReadyTask


# `run(arm, learning_rate, seed)` returns a score, a mapping of a validation and a test score, or a generator.
RunFunction = Callable[[Arm, float, int], Any]


def ready_function(study: StudyConfig, function: RunFunction) -> ReadyTask:
    """The study's only task, of kind function, of which only the runs themselves know anything."""
    [task] = study.tasks
    metric = task.scored_by.name
    several_rates = len(study.learning_rates) > 1 and not study.tuning_seeds
    facts: Record = {"sizes": {}, "constant_score": None, "num_labels": None, "parameters": None}

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        return run_function(function, cell, metric=metric, several_rates=several_rates)

    return ReadyTask(task, 0, run, lambda: dict(facts), beta2=None)


def run_function(run: RunFunction, cell: Cell, *, metric: str, several_rates: bool) -> Iterator[Record]:
    """Make one run.

    Args:
        run: called with the cell's arm, learning rate and seed. It returns the score (a number, or a mapping with
            "validation" and "test"), or it is a generator that yields mappings with a "step", the update's number
            from 1 on, and ends with the score, yielded or returned. A mapping with "validation" is an evaluation;
            others are updates, of which "loss", "lr" and "grad_norm" are kept.
        cell: which run.
        metric: the score's name.
        several_rates: a learning rate is to be chosen by these very runs.

    Raises:
        ConfigError: for what is neither a score nor such a record.
    """
    try:
        found = run(Arm(cell.arm), cell.learning_rate, cell.seed)
        yield from with_divergence(_records(found, cell, metric, several_rates))
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever a person's function does
        yield failed_by(error, cell.name)


def _records(found: Any, cell: Cell, metric: str, several_rates: bool) -> Iterator[Record]:
    score = found
    if isinstance(found, Iterator):
        score = None
        while True:
            try:
                item = next(found)
            except StopIteration as stop:
                score = stop.value if score is None else score
                break
            if isinstance(item, Mapping) and "step" in item:
                yield _record(item, cell, metric)
            elif score is not None:
                raise ConfigError(
                    f"{cell.name}: the score must be the last that the run yields, got {item!r:.80} too."
                )
            else:
                score = item
    if score is None:
        raise ConfigError(f"{cell.name}: the run gave no score; return it, or yield it at the end.")
    yield result_record(_scores(score, cell, several_rates), tuning=cell.tuning)


def _scores(score: Any, cell: Cell, several_rates: bool) -> dict[str, float]:
    if not isinstance(score, Mapping):
        return both_scores(as_score(score, f"{cell.name}: the score"), None, several_rates=several_rates)
    if "validation" not in score or set(score) - set(SCORES):
        raise ConfigError(
            f"{cell.name}: the score must be a number, or a mapping with validation and test; got a mapping with "
            f"{', '.join(map(str, score)) or 'nothing'}."
        )
    validation, *test = [as_score(score[part], f"{cell.name}: the {part} score") for part in SCORES if part in score]
    return both_scores(validation, test[0] if test else None, several_rates=several_rates)


def _record(item: Mapping[str, Any], cell: Cell, metric: str) -> Record:
    step = item["step"]
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ConfigError(f"{cell.name}: a record's step must be a whole number from 1 on, got {step!r:.80}.")
    if "validation" in item:
        return evaluation_record(step, metric, item["validation"], item.get("loss"))
    known = {key: value for key, value in item.items() if key != "step"}
    if known.get("lr") is not None and cell.learning_rate:
        known["multiplier"] = float(known["lr"]) / cell.learning_rate
    return step_record(step, **known)
