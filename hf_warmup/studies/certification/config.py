"""A certified training recipe as a person writes it."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.data.config import DataConfig
from hf_warmup.studies.certification.method import MethodKeys, check_methods
from hf_warmup.training.precision import Precision
from hf_warmup.yaml_config import ArmName, Name, Strict


class CertifiedTrainingConfig(MethodKeys):
    """What all arms share; lengths are in epochs of full batches.

    The radius is 0 for `ramp_start` epochs, rises for `ramp_epochs`, and stays. `milestones` are the epochs after
    which the learning rate falls by `lr_factor`. `precision` is that of training; what is proven is proven in float32
    and float64. With `swa_start` the result is the average of the weights after every `swa_every`-th update (10)
    behind that many epochs, with statistics of batch normalization from all training images.
    """

    epochs: int = Field(ge=1)
    ramp_start: float = Field(default=1.0, ge=0)
    ramp_epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=5.0e-4, gt=0)
    milestones: list[int] = Field(default_factory=list)
    lr_factor: float = Field(default=0.2, gt=0, le=1)
    max_grad_norm: float | None = Field(default=10.0, gt=0)
    flip: bool = False
    crop_padding: int = Field(default=0, ge=0)
    robust_weight: float = Field(default=1.0, ge=0, le=1)
    l1_weight: float = Field(default=0.0, ge=0)
    precise_batch_norm: bool = False
    swa_start: int | None = Field(default=None, ge=0)
    swa_every: int | None = Field(default=None, ge=1)
    evaluate_every: int = Field(default=1, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    precision: Precision = "float32"
    # How this machine computes a step, not what the recipe is; None chooses by the device.
    compile: bool | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _lengths_fit(self) -> "CertifiedTrainingConfig":
        if self.swa_every is not None and self.swa_start is None:
            raise ValueError("`swa_every` counts updates behind `swa_start`; give that as well, or remove the key")
        if self.swa_start is not None and self.swa_start >= self.epochs:
            raise ValueError(f"`swa_start` leaves nothing to average: it must be less than the {self.epochs} epochs")
        if self.ramp_start + self.ramp_epochs > self.epochs:
            raise ValueError(
                f"the ramp ends after epoch {self.ramp_start + self.ramp_epochs:g} of {self.epochs}: the model would "
                "never be trained at the full radius"
            )
        return self


class CertifiedArmConfig(MethodKeys):
    """What is compared: vanilla IBP has all switches off, the paper's method all on, an ablation some.

    An arm may be trained by another method than the others, see `MethodKeys`.
    """

    name: ArmName
    ibp_init: bool = True
    tightness: bool = True
    relu_balance: bool = True
    batch_norm: Literal["full", "conv", "none"] = "full"


class CertifiedStudyConfig(Strict):
    """A recipe: one data set, model and radius; arms x seeds. `reproduces` names table, row and expected value.

    With `threads`, each run computes with so many CPU threads, on which the last digits of its numbers depend.
    """

    name: Name
    reproduces: str
    data: DataConfig
    model: dict[str, Any]
    eps: str
    train_eps: str | None = None
    reg_weight: float = Field(default=0.5, ge=0)
    training: CertifiedTrainingConfig
    pgd: PgdConfig = PgdConfig()
    arms: list[CertifiedArmConfig] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    threads: int | None = Field(default=None, ge=1)

    @field_validator("eps", "train_eps", mode="before")
    @classmethod
    def _radius(cls, value: Any) -> Any:
        from hf_warmup.certified import parse_eps

        if value is not None and parse_eps(value) == 0:
            raise ValueError("a radius must be positive")
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _distinct(self) -> "CertifiedStudyConfig":
        for what, values in (("arm", [arm.name for arm in self.arms]), ("seed", self.seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"every {what} must be named once, got {values}")
        check_methods(self.training, {arm.name: arm for arm in self.arms})
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `threads` that are not stated: studies from before they were offered stay what they are."""
        found: dict[str, Any] = handler(self)
        if self.threads is None:
            found.pop("threads", None)
        return found
