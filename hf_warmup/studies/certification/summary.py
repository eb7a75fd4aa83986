"""What the runs of certified training amount to: each one's scores, their spread, and the differences of methods."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from hf_warmup.certified.verifier import VERIFIER
from hf_warmup.data.images import ImageData
from hf_warmup.records.files import Record
from hf_warmup.statistics.paired import compare_with_baseline
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.plan import CertifiedCell


ACCURACIES = ("clean_accuracy", "pgd_accuracy", "verified_accuracy")
# Equivalence is not judged here, but the comparison asks for a margin.
MARGIN = 0.01


def summarise_certified(
    study: CertifiedStudyConfig,
    data: ImageData,
    cells: Sequence[CertifiedCell],
    records_of: Callable[[CertifiedCell], list[Record]],
) -> Record:
    """The part of `results.json` that says what came out; the same records give the same document."""
    arms = [
        _summarise_arm(arm.name, {cell.seed: records_of(cell) for cell in cells if cell.arm == arm})
        for arm in study.arms
    ]
    return {
        "reproduces": study.reproduces,
        "verifier": VERIFIER,
        "updates_per_epoch": cells[0].epoch_length,
        "sizes": {
            name: len(part)
            for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test))
            if part is not None
        },
        "arms": arms,
        "differences": [_difference(arm, arms[0]) for arm in arms[1:]],
    }


def _summarise_arm(name: str, stored: Mapping[int, list[Record]]) -> Record:
    """What came out of a method, from the records of its runs by seed."""
    runs = []
    for seed, (*records, result) in stored.items():
        curve = [record for record in records if record["kind"] == "evaluation"]
        interval = clopper_pearson(result["num_verified"], result["num_examples"])
        scores = {key: value for key, value in result.items() if key != "kind"}
        runs.append({"seed": seed, **scores, "verified_interval": list(interval), "evaluations": curve})
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
