"""What the runs of a comparison amount to: scores, chosen learning rates and curves, without any statistics."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from hf_warmup.lr_scheduler.names import untuned_period
from hf_warmup.records.files import Record
from hf_warmup.statistics.metrics import Metric
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig
from hf_warmup.studies.comparison.plan import Cell, ReadyTask


def summarise(
    study: StudyConfig,
    tasks: Mapping[str, ReadyTask],
    cells: Sequence[Cell],
    records_of: Callable[[Cell], list[Record]],
) -> Record:
    """The part of `results.json` that says what came out; the same records give the same document."""
    declared = study.model_dump(mode="json", include={"tuning_seeds", "plan"})
    return {
        "seeds": list(dict.fromkeys(cell.seed for cell in cells if not cell.tuning)),
        **declared,
        "baseline": study.baseline,
        "tasks": [
            _summarise_task(study, task, [cell for cell in cells if cell.task == name], records_of)
            for name, task in tasks.items()
        ],
    }


def _summarise_task(
    study: StudyConfig, task: ReadyTask, cells: Sequence[Cell], records_of: Callable[[Cell], list[Record]]
) -> Record:
    config, metric = task.config, task.config.scored_by
    arms = []
    for arm in study.arms:
        tuning, judged = (
            {
                rate: [
                    _summarise_run(task, cell.seed, records_of(cell))
                    for cell in cells
                    if (cell.arm, cell.learning_rate, cell.tuning) == (arm, rate, tuned)
                ]
                for rate in study.learning_rates
            }
            for tuned in (True, False)
        )
        arms.append(_summarise_arm(task, arm, tuning if study.tuning_seeds else judged, judged))
    return {
        "name": config.name,
        "metric": metric.name,
        **metric.stored(),
        "margin": config.margin,
        "target": config.target,
        "num_training_steps": cells[0].num_updates or _longest(arms),
        **task.facts(),
        **({"one_score": True} if any(run.pop("one_score", False) for arm in arms for run in arm["runs"]) else {}),
        **_failures(cells, records_of),
        "learning_rates": study.learning_rates,
        "arms": arms,
    }


def _failures(cells: Sequence[Cell], records_of: Callable[[Cell], list[Record]]) -> Record:
    """The last words of each run that failed, whether it was to judge or to choose a rate; nothing without any."""
    found = []
    for cell in cells:
        result = records_of(cell)[-1]
        if "failed" in result:
            which = {"arm": cell.arm.name, "learning_rate": cell.learning_rate, "seed": cell.seed}
            found.append({**which, "reason": result["failed"], "lines": result["lines"]})
    return {"failures": found} if found else {}


def _longest(arms: Sequence[Record]) -> int:
    """Updates of the longest run, for tasks whose runs alone know their length; 0 where no run told its updates."""
    runs = [run for arm in arms for run in arm["runs"]]
    ends = [step for run in runs for step in (*run["curve"]["step"], *(e["step"] for e in run["evaluations"]))]
    return max(ends, default=0)


def _summarise_arm(
    task: ReadyTask, arm: ArmConfig, runs: Mapping[float, list[Record]], judged: Mapping[float, list[Record]]
) -> Record:
    grid = [
        {
            "learning_rate": rate,
            "validation": [run["validation"] for run in found],
            "diverged": [run["diverged"] for run in found],
        }
        for rate, found in runs.items()
    ]
    scores = {rate: [run["validation"] for run in found] for rate, found in runs.items()}
    chosen = best_rate(scores, task.config.scored_by)
    return {
        "name": arm.name,
        "optimizer": arm.optimizer,
        "warmup": arm.warmup,
        "num_warmup_steps": _warmup_length(task.beta2, arm),
        **arm.model_dump(include={"optimizer_kwargs", "schedule", "schedule_kwargs"}),
        "grid": grid,
        "learning_rate": chosen,
        "runs": judged[chosen],
    }


def best_rate(scores: Mapping[float, Sequence[float | None]], metric: Metric) -> float:
    """The learning rate with the best validation scores; the smaller one wins a tie, and one without a score loses."""
    return max(sorted(scores), key=lambda rate: sum(-math.inf if s is None else metric.gain(s) for s in scores[rate]))


def _warmup_length(beta2: float | None, arm: ArmConfig) -> float | None:
    if arm.num_warmup_steps or (arm.warmup is None and arm.untuned_warmup is None):
        return arm.num_warmup_steps
    return None if beta2 is None else round(untuned_period(arm.beta2(beta2)), 6)


def _summarise_run(task: ReadyTask, seed: int, stored: list[Record]) -> Record:
    *records, result = stored
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    metric, target = task.config.scored_by, task.config.target
    reached = [e["step"] for e in evaluations if target is not None and metric.reaches(e[metric.name], target)]
    return {
        "seed": seed,
        "validation": result["validation"],
        "test": result.get("test"),
        "diverged": any(record["kind"] == "diverged" for record in records),
        "steps_to_target": reached[0] if reached else None,
        "loss_fell": loss_fell([step["loss"] for step in steps]),
        "skipped_steps": sum(record["skipped"] for record in steps),
        "evaluations": [{"step": e["step"], "validation": e[metric.name], "loss": e["loss"]} for e in evaluations],
        "curve": thin_out(steps),
        **{key: result[key] for key in ("failed", "one_score") if key in result},
    }


def loss_fell(losses: Sequence[float | None]) -> bool | None:
    """Whether the last tenth of a run's losses lies below its first ten; None where too few are known."""
    known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    if len(known) < 20:
        return None
    return fmean(known[-(len(known) // 10) :]) < fmean(known[: min(10, len(known) // 10)])


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
