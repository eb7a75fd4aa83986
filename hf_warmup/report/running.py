"""Runs a comparison from its study to its report, for the command line and for Python.

Deliberately absent: what is compared (`studies.comparison`).
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, write_json
from hf_warmup.report.comparison import write_report
from hf_warmup.statistics.sentences import ALPHA
from hf_warmup.statistics.sequential import Plan
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.arms import check_arms
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig, shared_settings
from hf_warmup.studies.comparison.looks import with_looks_without_plan
from hf_warmup.studies.comparison.own.function_run import RunFunction, ready_function
from hf_warmup.studies.comparison.study import study_of_tasks
from hf_warmup.studies.folder import read_timings
from hf_warmup.studies.progress import make_console, show_study
from hf_warmup.training.accelerator import decide
from hf_warmup.yaml_config import validate


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison has found; `str` gives the sentences.

    Attributes:
        results: the document that `results.json` holds.
        report: the page; None where no folder was given.
    """

    results: Record
    report: Path | None

    @property
    def verdicts(self) -> dict[str, str]:
        """By arm: "equivalent", "different", "not decided" or "nothing was learned"."""
        [task] = self.results["tasks"]
        return {found["arm"]: found["verdict"] for found in task["verdicts"]}

    def __str__(self) -> str:
        [task] = self.results["tasks"]
        return "\n".join([*(found["sentence"] for found in task["verdicts"]), *task.get("unscored", {}).values()])


def compare(
    run: RunFunction,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int] | Plan,
    margin: float,
    arms: Sequence[str | Mapping[str, Any] | ArmConfig] = (),
    tuning_seeds: Sequence[int] = (),
    metric: str | Mapping[str, Any] = "score",
    out: str | Path | None = None,
) -> ComparisonResult:
    """Compare optimizers and warmups on a training function of your own.

    Args:
        run: called as `run(arm, learning_rate, seed)`. It trains with `arm.make_optimizer(model, learning_rate)` and
            `arm.make_scheduler(optimizer, num_training_steps)`, draws all that is random from `seed`, and returns the
            score, or a mapping with a "validation" and a "test" score, of which the first chooses the learning rate
            and the second judges. It may be a generator that yields {"step": 1, "loss": ...} after updates and ends
            with the score.
        learning_rates: the same for every arm.
        seeds: of the runs that judge; or a `Plan`, by which seeds are added until every arm is decided.
        margin: largest difference that still counts as equivalent, in the score's unit, stated beforehand.
        arms: such as "radam", "adamw+untuned_linear_warmup", "torch.optim.NAdam+untuned_linear_warmup", or fields of
            `ArmConfig`. The last is the baseline. By default AdamW without warmup and with the three untuned ones,
            and RAdam.
        tuning_seeds: on which each arm's learning rate is chosen; `seeds` then run at that rate alone. They are
            needed where `run` gives a single score and there are several rates, and where `seeds` is a plan.
        metric: the score's name, or `{"name": "loss", "lower_is_better": True, "in_points": False}`.
        out: a folder for results and report. A comparison that was interrupted there goes on; what is complete stays
            as it is, also if `run` has changed. By default nothing is kept.

    Raises:
        ConfigError: for settings that cannot be used, and for what `run` gives.
    """
    config = _study(run, learning_rates, seeds, margin, arms, tuning_seeds, metric)
    check_arms(config.arms, shared_settings())
    study = study_of_tasks(config, {config.name: ready_function(config, run)})
    if out is not None:
        found = show_study(study, Path(out), make_console())
        return ComparisonResult(*decide(partial(judge_and_report, found or {}, Path(out))))
    with tempfile.TemporaryDirectory() as folder:
        found = show_study(study, Path(folder), make_console())
        return ComparisonResult(decide(partial(add_verdicts, found or {})), None)


def judge_and_report(results: Record, folder: Path) -> tuple[Record, Path]:
    """Add verdicts to a study's results and write `results.json` and the report; the results, and the page's path."""
    judged = add_verdicts(with_looks_without_plan(results, folder))
    write_json(folder / "results.json", judged)
    return judged, write_report(judged, folder, timings=read_timings(folder))


def _study(
    run: RunFunction,
    learning_rates: Sequence[float],
    seeds: Sequence[int] | Plan,
    margin: float,
    arms: Sequence[Any],
    tuning_seeds: Sequence[int],
    metric: Any,
) -> StudyConfig:
    if not callable(run):
        raise ConfigError(f"compare: run must be a function run(arm, learning_rate, seed), got {run!r:.80}.")
    if isinstance(arms, str) or len(arms) == 1:
        raise ConfigError(f"compare: arms must be a list of two or more, the last one the baseline, got {arms!r:.80}.")
    name = re.sub(r"[^A-Za-z0-9_-]", "", getattr(run, "__name__", "")) or "run"
    if isinstance(seeds, Plan) and seeds.alpha != ALPHA:
        raise ConfigError(f"compare: a plan's alpha must be {ALPHA}, as that of every comparison; got {seeds.alpha}.")
    task = {
        "name": name,
        "kind": "function",
        "function": name,
        "metric": metric,
        "margin": _numbers([margin], float, "margin")[0],
    }
    document: Record = {
        "name": name,
        "tasks": [task],
        "learning_rates": _numbers(learning_rates, float, "learning_rates"),
        "seeds": [0] if isinstance(seeds, Plan) else _numbers(seeds, int, "seeds"),
        "tuning_seeds": _numbers(tuning_seeds, int, "tuning_seeds"),
        "plan": {"looks": list(seeds.looks), "spending": seeds.spending} if isinstance(seeds, Plan) else None,
        "arms": [_arm(arm) for arm in arms],
    }
    if arms:
        last = document["arms"][-1]
        document["baseline"] = last if isinstance(last, str) else last.get("name")
    return validate(StudyConfig, document, "compare")


def _numbers(given: Any, kind: type[int | float], what: str) -> list[Any]:
    """Plain numbers of those that are given, which may be NumPy's or torch's; NaN passes and is refused later."""
    try:
        found = [kind(value) for value in given]
        fits = not isinstance(given, str) and all(map(_same, found, given))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        whole = "whole numbers" if kind is int else "numbers"
        raise ConfigError(f"compare: {what} must be {whole}, got {given!r:.80}.")
    return found


def _same(number: float, given: Any) -> bool:
    return not isinstance(given, str) and (number == given or number != number)


def _arm(arm: Any) -> str | dict[str, Any]:
    """An arm in short, or its fields."""
    if isinstance(arm, str):
        return arm
    if not isinstance(arm, Mapping | ArmConfig):
        raise ConfigError(
            f"compare: an arm is a text such as adamw+untuned_linear_warmup or a mapping, got {arm!r:.80}."
        )
    return dict(arm)
