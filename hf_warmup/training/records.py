"""What the loop yields: plain records, one for each thing that happened."""

from dataclasses import asdict, dataclass, field

from hf_warmup.records.files import Record


@dataclass(frozen=True)
class StepRecord:
    """One optimizer update.

    Attributes:
        step: number of the update, 1-based (the papers' t).
        loss: mean over the update's batches and processes.
        lr: learning rate of the first parameter group, and `multiplier`, that over its base learning rate.
        grad_norm: global L2 norm before clipping.
        skipped: the update was not made, because its gradients were not finite.
        update_mean, update_ratio_mean, update_ratio_median: see `UpdateStatistics`; None where not measured.
        metrics: what the objective returned for the update's last batch.
    """

    step: int
    loss: float
    lr: float
    multiplier: float
    grad_norm: float
    skipped: bool = False
    update_mean: float | None = None
    update_ratio_mean: float | None = None
    update_ratio_median: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRecord:
    """What `evaluate` returned after update number `step`."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class DivergedRecord:
    """The run ended at update number `step`, since gradients had stopped being finite."""

    step: int


TrainRecord = StepRecord | EvaluationRecord | DivergedRecord


def as_line(record: TrainRecord) -> Record:
    """A training record as it is stored."""
    if isinstance(record, StepRecord):
        values = asdict(record)
        return {"kind": "step", **{key: value for key, value in values.items() if key != "metrics"}}
    if isinstance(record, EvaluationRecord):
        return {"kind": "evaluation", "step": record.step, **record.metrics}
    return {"kind": "diverged", "step": record.step}
