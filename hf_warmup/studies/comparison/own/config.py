"""Tasks that a person brings: a function, a Trainer's factory, a script.

Deliberately absent: data and models, which are the person's own.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hf_warmup.data.config import TaskConfig
from hf_warmup.statistics.metrics import Metric, as_metric


# TrainingArguments that the arm, the learning rate, the seed or the study sets.
OWNED = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "optim", "optim_args", "seed", "data_seed",
    "output_dir", "resume_from_checkpoint", "logging_nan_inf_filter",
)  # fmt: skip


class OwnTask(TaskConfig):
    """What every task of a person's own has."""

    metric: Annotated[Metric, BeforeValidator(as_metric)]
    """The score that chooses and judges: a key of what the Trainer's or the script's evaluation gives, without
    "eval_". A mapping tells more of it, such as {name: wer, lower_is_better: true}."""


class FunctionTask(OwnTask):
    """A Python function, which `hf_warmup.compare` is given; no YAML can hold one."""

    kind: Literal["function"]
    function: str
    """Its name."""


class TrainerTask(OwnTask):
    """Any transformers Trainer, made by a function of your own."""

    kind: Literal["trainer"]
    factory: str
    """FILE.py:FUNCTION or MODULE:FUNCTION. It is called with TrainingArguments, and returns a Trainer, or a pair of a
    Trainer and the data set that judges."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """TrainingArguments that all arms share, such as {num_train_epochs: 3}."""

    @model_validator(mode="after")
    def _given(self) -> "TrainerTask":
        _check_given(self.arguments)
        return self


class ScriptTask(OwnTask):
    """A script that takes the flags of TrainingArguments, unmodified, in a process of its own for each run."""

    kind: Literal["script"]
    command: list[str | int | float] = Field(min_length=1)
    """What you would type, word by word; a launcher such as accelerate launch may stand before the script."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """TrainingArguments that all arms share, which become flags behind the command."""

    @model_validator(mode="after")
    def _given(self) -> "ScriptTask":
        _check_given(self.arguments)
        return self


AnyOwnTask = FunctionTask | TrainerTask | ScriptTask


def _check_given(given: dict[str, Any]) -> None:
    """Raise ValueError for arguments that belong to the study."""
    if owned := sorted(given.keys() & set(OWNED)):
        raise ValueError(f"{', '.join(owned)}: set by the study for each run; remove {'them' if owned[1:] else 'it'}")
