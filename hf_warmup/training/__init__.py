"""The one training loop: a generator of records over Accelerate."""

from hf_warmup.training.config import TrainConfig
from hf_warmup.training.loop import train
from hf_warmup.training.records import DivergedRecord, EvaluationRecord, StepRecord, TrainRecord
from hf_warmup.training.update import Batch, Objective


__all__ = [
    "Batch",
    "DivergedRecord",
    "EvaluationRecord",
    "Objective",
    "StepRecord",
    "TrainConfig",
    "TrainRecord",
    "train",
]
