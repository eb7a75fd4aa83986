"""The runs of certified training, (method, seed), with their lengths in epochs and updates."""

from dataclasses import dataclass

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record
from hf_warmup.studies.certification.config import CertifiedArmConfig, CertifiedStudyConfig, CertifiedTrainingConfig


@dataclass(frozen=True)
class CertifiedCell:
    """One run of a study; an epoch has `epoch_length` updates."""

    arm: CertifiedArmConfig
    seed: int
    epochs: int
    epoch_length: int

    @property
    def name(self) -> str:
        """File name of its records, without suffix."""
        return f"{self.arm.name}--{self.seed}"

    @property
    def pair(self) -> tuple[str, int]:
        """There is one task: the seed."""
        return "", self.seed

    @property
    def num_updates(self) -> int:
        """Its length."""
        return self.epochs * self.epoch_length

    def describe(self, record: Record) -> str:
        """A record in a few words."""
        if record["kind"] == "step":
            epoch = (record["step"] - 1) // self.epoch_length + 1
            return f"{self.name} epoch {epoch}/{self.epochs} eps {record['metrics']['eps']:.4f}"
        if record["kind"] == "evaluation":
            return f"verified {100 * record['verified_accuracy']:.1f} %"
        keys = ("clean", "pgd", "verified")
        return ", ".join(f"{key} {100 * record[f'{key}_accuracy']:.2f} %" for key in keys)


def plan_certified(study: CertifiedStudyConfig, epoch_length: int) -> list[CertifiedCell]:
    """All runs, seed by seed, so that an unfinished study has compared every arm on its first seeds."""
    epochs = study.training.epochs
    return [CertifiedCell(arm, seed, epochs, epoch_length) for seed in study.seeds for arm in study.arms]


def epoch_length(training: CertifiedTrainingConfig, num_examples: int, num_processes: int) -> int:
    """Optimizer updates of one epoch; incomplete batches are dropped.

    Raises:
        ConfigError: if there are too few examples for one update.
    """
    per_update = training.batch_size * training.gradient_accumulation_steps * num_processes
    if num_examples < per_update:
        raise ConfigError(
            f"an update takes {per_update} examples, but there are {num_examples} to train on; lower "
            f"training.batch_size, which is {training.batch_size}."
        )
    return num_examples // per_update
