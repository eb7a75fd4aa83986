"""What an arm sets of transformers' TrainingArguments, beside what a person gives to all arms.

The same values reach a factory as an object and a script as flags. Deliberately absent: the optimizer's class, which
no argument names (`equipment`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_warmup.errors import ConfigError
from hf_warmup.schedules.tables import LOSS_ADAPTIVE_WARMUPS
from hf_warmup.studies.comparison.plan import Cell


def arm_arguments(cell: Cell, output: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of TrainingArguments for one run.

    Args:
        cell: which run.
        output: folder of its checkpoints.
        given: what a person gives to all arms; `lr_scheduler_kwargs` in it, such as `decay`, go to each warmup.
    """
    values = {**_defaults(given), **given}
    values["lr_scheduler_type"], values["lr_scheduler_kwargs"] = _schedule(cell, given.get("lr_scheduler_kwargs"))
    if "weight_decay" in cell.arm.optimizer_kwargs:  # the Trainer's own groups have it
        values["weight_decay"] = cell.arm.optimizer_kwargs["weight_decay"]
    # No warmup is one over a single update, as in every study.
    whole = cell.arm.schedule is not None or cell.arm.warmup is not None
    return {
        **values,
        "learning_rate": cell.learning_rate,
        "warmup_steps": cell.arm.num_warmup_steps if whole else 1,
        "optim": "adamw_torch",
        "seed": cell.seed,
        "data_seed": cell.seed,
        "output_dir": str(output),
        "logging_nan_inf_filter": False,
    }


def _schedule(cell: Cell, given: Any) -> tuple[str, dict[str, Any]]:
    arm = cell.arm
    if isinstance(given, str):
        given = json.loads(given)
    # A study of runs that end before their warmup compares learning rates.
    short = {"on_short_run": "raise"} if arm.untuned_warmup else {}
    if arm.schedule is not None:
        return arm.schedule, {**short, **arm.schedule_kwargs}
    if arm.warmup in LOSS_ADAPTIVE_WARMUPS:
        return str(arm.warmup), {key: value for key, value in (given or {}).items() if key != "on_short_run"}
    return arm.warmup or "linear_warmup", {**short, **(given or {})}


def _defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Records of each update, one checkpoint, and evaluations and checkpoints only where their interval is given."""
    values: dict[str, Any] = {"logging_strategy": "steps", "logging_steps": 1, "report_to": "none"}
    values |= {"disable_tqdm": True, "save_total_limit": 1}
    for kind in ("eval", "save"):
        values[f"{kind}_strategy"] = "steps" if f"{kind}_steps" in given else "no"
    return values


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Arguments as a script's parser reads them."""
    flags: list[str] = []
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            flags += [f"--{key}", json.dumps(value)]
        elif isinstance(value, list | tuple):
            flags += [f"--{key}", *map(str, value)]
        else:
            flags += [f"--{key}", str(value)]
    return flags


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint of a Trainer that is whole; its state is the last file that is written."""
    found = {}
    for path in output.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if not number.isdigit():
            continue
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found[int(number)] = path
    return found[max(found)] if found else None


def find_metric(scores: Mapping[str, Any], metric: str, prefixes: tuple[str, ...], where: str) -> Any:
    """The score of a metric, whose name carries one of the prefixes or none.

    Raises:
        ConfigError: if there is none, naming those that there are.
    """
    bare = metric.removeprefix("eval_")
    for name in (*(f"{prefix}_{bare}" for prefix in prefixes), bare):
        if name in scores:
            return scores[name]
    numbers = sorted(
        name.removeprefix(f"{prefixes[0]}_")
        for name, value in scores.items()
        if name.startswith(prefixes[0]) and isinstance(value, int | float) and not _is_speed(name)
    )
    raise ConfigError(f"{where} has no metric {bare!r}; it has {', '.join(numbers) or 'none'}. Mend `metric`.")


def _is_speed(name: str) -> bool:
    return name.endswith(("_runtime", "_per_second", "_samples", "_compilation_time"))
