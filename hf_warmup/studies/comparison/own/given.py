"""TrainingArguments that a person may not give, as they belong to the study."""

from collections.abc import Mapping
from typing import Any


# Set by the arm, the learning rate, the seed or the study.
OWNED = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "optim", "optim_args", "seed", "data_seed",
    "output_dir", "resume_from_checkpoint", "logging_nan_inf_filter",
)  # fmt: skip


def check_given(given: Mapping[str, Any]) -> None:
    """Refuse arguments that belong to the study.

    Raises:
        ValueError: naming them.
    """
    if owned := sorted(given.keys() & set(OWNED)):
        raise ValueError(f"{', '.join(owned)}: set by the study for each run; remove {'them' if owned[1:] else 'it'}")
