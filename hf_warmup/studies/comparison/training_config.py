"""What all arms of a study share, as a person writes it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hf_warmup.yaml_config import Strict


def _as_text(given: Any) -> Any:
    # YAML reads a bare no as false.
    return "no" if given is False else given


# More would take years on any machine: a number like it is a slip of the pen.
MOST_UPDATES = 10**9


class TrainingConfig(Strict):
    """What all arms share. Exactly one of `num_training_steps` (updates) and `epochs`."""

    num_training_steps: int | None = Field(default=None, ge=1, le=MOST_UPDATES)
    """Length of a run in updates."""
    epochs: float | None = Field(default=None, gt=0, le=1.0e6)
    """Length of a run in passes over the training examples, counted in full batches."""
    batch_size: int = Field(ge=1)
    """Examples of one batch on one process."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Batches whose gradients make one update."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are clipped to this global L2 norm; null clips nothing."""
    mixed_precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_as_text)] = "no"
    """What Accelerate computes in; fp16 needs a GPU."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled, as in AdamW; biases and normalization weights do not decay."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Of all arms' optimizers that take it."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """Of all arms' optimizers that take it. An untuned linear warmup takes 2 / (1 - beta2) updates."""
    adam_epsilon: float = Field(default=1.0e-8, gt=0)
    """Added to the root of the second moment."""
    decay: Literal["constant", "linear", "cosine", "polynomial", "wsd"] = "linear"
    """What all arms' warmups are multiplied by."""
    on_short_run: Literal["raise", "warn"] = "raise"
    """What to do where an untuned warmup is longer than the run."""
    evaluate_every: int = Field(default=50, ge=1)
    """Updates between two evaluations on validation data; the last update is always followed by one."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Updates between two checkpoints, behind which a killed run goes on; null makes none."""
    update_statistics_every: int = Field(default=1, ge=0)
    """Updates between two measurements of their size; the first 100 are all measured, 0 measures none."""
    log_with: list[str] = Field(default_factory=list)
    """Trackers of Accelerate that get every number, such as [tensorboard]."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if (self.num_training_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of `num_training_steps` and `epochs`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _no_cap(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("on_short_run") == "cap":
            raise ValueError(
                "on_short_run: cap would shorten AdamW's untuned warmups and leave the one inside RAdam as long as it "
                "is, so the arms would not differ in one thing only. Choose a beta2 whose warmup of 2 / (1 - beta2) "
                "updates fits into the run, or a longer run"
            )
        return given
