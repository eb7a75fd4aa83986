"""A certified training study: arms x seeds into one folder; a cell is stored when complete, resumed when killed."""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_warmup.certified.verifier import VERIFIER
from hf_warmup.data.images import ImageData
from hf_warmup.records.files import Record, read_lines
from hf_warmup.records.provenance import versions
from hf_warmup.statistics.paired import compare_with_baseline
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.run import CertifiedCell, OnModel, epoch_length, run_certified_cell
from hf_warmup.studies.folder import claim_folder, read_provenance, run_path, store_run, sweep


ACCURACIES = ("clean_accuracy", "pgd_accuracy", "verified_accuracy")
# Equivalence is not judged here, but the comparison asks for a margin.
MARGIN = 0.01

OnCertifiedRecord = Callable[[CertifiedCell, Record], None]


def plan_certified(study: CertifiedStudyConfig) -> list[CertifiedCell]:
    """All cells, seed by seed, so that an unfinished study has compared every arm on its first seeds."""
    return [CertifiedCell(arm, seed) for seed in study.seeds for arm in study.arms]


def run_certified_study(
    study: CertifiedStudyConfig,
    data: ImageData,
    folder: Path,
    *,
    on_record: OnCertifiedRecord,
    on_model: OnModel | None = None,
) -> Record:
    """Run the missing cells and return the results; `on_record` and `on_model` see them as they come.

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
        records = run_certified_cell(study, data, cell, folder=folder, on_model=on_model)
        store_run(folder, cell.name, records, on_record=partial(on_record, cell))
    return collect_certified(study, data, folder)


def collect_certified(study: CertifiedStudyConfig, data: ImageData, folder: Path) -> Record:
    """The study's results from its complete cells; the same cells give the same document."""
    arms = [_collect_arm(study, arm.name, folder) for arm in study.arms]
    return {
        "format": 1,
        "name": study.name,
        "reproduces": study.reproduces,
        "config": study.model_dump(mode="json"),
        "versions": versions(),
        **read_provenance(folder),
        "verifier": VERIFIER,
        "updates_per_epoch": epoch_length(study, data, PartialState().num_processes),
        "sizes": {"train": len(data.train), "test": len(data.test)},
        "arms": arms,
        "differences": [_difference(arm, arms[0]) for arm in arms[1:]],
    }


def _collect_arm(study: CertifiedStudyConfig, name: str, folder: Path) -> Record:
    cells = [cell for cell in plan_certified(study) if cell.arm.name == name]
    runs = []
    for cell in cells:
        *records, result = read_lines(run_path(folder, cell.name))
        curve = [record for record in records if record["kind"] == "evaluation"]
        interval = clopper_pearson(result["num_verified"], result["num_examples"])
        scores = {key: value for key, value in result.items() if key != "kind"}
        runs.append({"seed": cell.seed, **scores, "verified_interval": list(interval), "evaluations": curve})
    summary: Record = {"name": name, "n": len(runs)}
    for key in ACCURACIES:
        values = [run[key] for run in runs]
        summary[key] = {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(runs) > 1 else None}
    return {**summary, "runs": runs}


def _difference(arm: Record, baseline: Record) -> Record:
    """Arm minus baseline, paired by seed: mean, 95 % t interval and p value of the paired t test, per accuracy."""
    found: Record = {"arm": arm["name"], "baseline": baseline["name"]}
    for key in ACCURACIES:
        scores = [[run[key] for run in each["runs"]] for each in (arm, baseline)]
        compared = compare_with_baseline(*scores, margin=MARGIN)
        found[key] = {"mean": compared.difference, "t_interval": compared.t_interval, "p": compared.ttest_p}
    return found
