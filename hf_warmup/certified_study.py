"""A certified training study: arms x seeds into one folder; a cell is stored when complete, resumed when killed."""

import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_warmup.certified_cells import CertifiedCell, epoch_length, run_certified_cell
from hf_warmup.certified_config import CertifiedStudyConfig
from hf_warmup.image_data import ImageData
from hf_warmup.records import Record, read_lines
from hf_warmup.statistics import clopper_pearson
from hf_warmup.study_folder import claim_folder, run_path, store_run, sweep, versions


OnCertifiedRecord = Callable[[CertifiedCell, Record], None]


def plan_certified(study: CertifiedStudyConfig) -> list[CertifiedCell]:
    """All cells, seed by seed, so that an unfinished study has compared every arm on its first seeds."""
    return [CertifiedCell(arm, seed) for seed in study.seeds for arm in study.arms]


def run_certified_study(
    study: CertifiedStudyConfig, data: ImageData, folder: Path, *, on_record: OnCertifiedRecord
) -> Record:
    """Run the missing cells and return the results.

    Raises:
        ConfigError: if `folder` holds a study with other settings, or a setting cannot be used.
    """
    claim_folder(study.model_dump(mode="json", exclude={"seeds"}), folder)
    if PartialState().is_main_process:
        sweep(folder, [cell.name for cell in plan_certified(study)])
    missing = [cell for cell in plan_certified(study) if not run_path(folder, cell.name).exists()]
    # All processes must agree, though only the first one's disk may hold the files.
    [missing] = broadcast_object_list([missing])
    for cell in missing:
        records = run_certified_cell(study, data, cell, folder=folder)
        store_run(folder, cell.name, records, on_record=partial(on_record, cell))
    return collect_certified(study, data, folder)


def collect_certified(study: CertifiedStudyConfig, data: ImageData, folder: Path) -> Record:
    """The study's results from its complete cells; the same cells give the same document."""
    return {
        "format": 1,
        "name": study.name,
        "config": study.model_dump(mode="json"),
        "versions": versions(),
        "updates_per_epoch": epoch_length(study, data, PartialState().num_processes),
        "sizes": {"train": len(data.train), "test": len(data.test)},
        "arms": [_collect_arm(study, arm.name, folder) for arm in study.arms],
    }


def _collect_arm(study: CertifiedStudyConfig, name: str, folder: Path) -> Record:
    cells = [cell for cell in plan_certified(study) if cell.arm.name == name]
    runs = []
    for cell in cells:
        records = list(read_lines(run_path(folder, cell.name)))
        curve = [record for record in records if record["kind"] == "evaluation"]
        result = {key: value for key, value in records[-1].items() if key != "kind"}
        low, high = clopper_pearson(result["num_verified"], result["num_examples"])
        runs.append({"seed": cell.seed, **result, "verified_interval": [low, high], "evaluations": curve})
    summary: Record = {"name": name, "n": len(runs), "runs": runs}
    for key in ("clean_accuracy", "pgd_accuracy", "verified_accuracy"):
        values = [run[key] for run in runs]
        summary[key] = statistics.fmean(values)
        summary[f"{key}_sd"] = statistics.stdev(values) if len(values) > 1 else math.nan
    return summary
