"""Looks of a study: those that are declared before anything runs, and those that a person takes without a plan.

Deliberately absent: the levels that looks have (`statistics.sequential`).
"""

from pathlib import Path

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json
from hf_warmup.studies.comparison.config import PlanConfig, StudyConfig
from hf_warmup.yaml_config import validate


def declare_plan(
    study: StudyConfig, folder: Path, *, until_decided: bool, max_seeds: int | None, by_hand: bool
) -> StudyConfig:
    """The study with the plan that it follows: the one that its folder was begun with, else that of the command.

    Args:
        study: as it was read.
        folder: of its results, which may hold a part of it.
        until_decided, max_seeds: what the command asks for.
        by_hand: whether the command states the number of seeds itself.

    Raises:
        ConfigError: for options that contradict each other, and for a plan that comes too late or changes.
    """
    if until_decided and by_hand:
        raise ConfigError("--until-decided chooses the number of seeds; leave --seeds out, or use --max-seeds.")
    path = folder / "study.json"
    begun = read_json(path) if path.is_file() else None
    stored = begun.get("plan") if isinstance(begun, dict) else None
    present = study.plan or (validate(PlanConfig, stored, str(path)) if stored else None)
    if max_seeds is not None and not (until_decided or present):
        raise ConfigError("--max-seeds goes with --until-decided; use --seeds for a fixed number of seeds.")
    if begun is not None and stored is None and until_decided:
        raise ConfigError(
            f"{folder} holds a study that was begun without a plan; looks must be declared before anything runs. "
            f"Choose another --out, or add seeds by --seeds; the report then says what that costs."
        )
    wanted = present or (PlanConfig() if until_decided else None)
    if wanted and max_seeds is not None:
        wanted = validate(PlanConfig, {**wanted.model_dump(), "looks": wanted.up_to(max_seeds)}, "--max-seeds")
    if stored and wanted and wanted != validate(PlanConfig, stored, str(path)):
        looks = ", ".join(map(str, stored["looks"]))
        raise ConfigError(
            f"{folder} was begun with looks after {looks} seeds, and a plan stays as it was declared; leave "
            f"--max-seeds out, or choose another --out."
        )
    if wanted is None:
        return study
    return validate(StudyConfig, {**dict(study), "plan": wanted}, "--until-decided")


def with_looks_without_plan(results: Record, folder: Path) -> Record:
    """Results that say at how many seeds the study was judged before, outside a plan.

    A study to which nobody adds seeds says nothing, so that its results do not change.

    Args:
        results: of all runs, about to be judged.
        folder: the study's, with the results that were judged last.
    """
    path = folder / "results.json"
    earlier = read_json(path) if path.is_file() else {}
    before = {*earlier.get("looks_without_plan", []), len(earlier.get("seeds", []))}
    planned = (results.get("plan") or {}).get("looks", [])
    looks = sorted(n for n in before - {0, len(results["seeds"])} if n not in planned)
    return {**results, "looks_without_plan": looks} if looks else results
