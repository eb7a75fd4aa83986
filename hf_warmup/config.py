"""A study as a person writes it: one YAML, parsed once, with every mistake named before anything is computed.

Types are strict and unknown keys are errors, so that a misspelt key can not be silently ignored. Deliberately absent:
defaults that depend on the machine.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hf_warmup.errors import ConfigError


class Strict(BaseModel):
    """Base of all parts of a YAML: strict types, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Parsed = TypeVar("Parsed", bound=Strict)


class ModelConfig(Strict):
    """The model: `pretrained` (Hub name, folder, or `package:NAME/FOLDER`) or `architecture`, a transformers model
    type to be trained from nothing. `config` overrides fields of its transformers configuration."""

    pretrained: str | None = None
    architecture: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_two(self) -> "ModelConfig":
        if (self.pretrained is None) == (self.architecture is None):
            raise ValueError("give exactly one of `pretrained` and `architecture`")
        return self


class SplitConfig(Strict):
    """Where the three parts come from: a split's name, or a number of examples taken out of `train`."""

    train: str = "train"
    validation: str | int = "validation"
    test: str | int = "test"


class TaskConfig(Strict):
    """One data set with its metric.

    `kind` is text (a Hub data set or folder with text columns), digits (scikit-learn's 8x8 digits) or characters
    (next-character prediction in one text file).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    kind: Literal["text", "digits", "characters"]
    dataset: str | None = None
    # Where this machine keeps a copy of `dataset`: no part of what the study is, hence of no record of it.
    folder: str | None = Field(default=None, exclude=True)
    subset: str | None = None
    columns: list[str] = Field(default_factory=list)
    label_column: str = "label"
    splits: SplitConfig = SplitConfig()
    max_length: int = Field(default=128, ge=2)
    train_examples: int | None = Field(default=None, ge=1)
    metric: Literal["accuracy", "matthews_correlation"] = "accuracy"
    margin: float = Field(default=0.01, gt=0)
    target: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> "TaskConfig":
        if self.kind != "digits" and self.dataset is None:
            raise ValueError(f"a task of kind {self.kind} needs `dataset`")
        if self.kind == "text" and len(self.columns) not in (1, 2):
            raise ValueError("a task of kind text needs `columns`, one or two names")
        return self


class TrainingConfig(Strict):
    """What all arms share. Exactly one of `num_training_steps` (updates) and `epochs`."""

    num_training_steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int = Field(ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    weight_decay: float = Field(default=0.01, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, gt=0, lt=1)
    adam_epsilon: float = Field(default=1.0e-8, gt=0)
    decay: Literal["constant", "linear", "cosine", "polynomial", "wsd"] = "linear"
    on_short_run: Literal["raise", "warn", "cap"] = "raise"
    evaluate_every: int = Field(default=50, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    update_statistics_every: int = Field(default=1, ge=0)
    log_with: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if (self.num_training_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of `num_training_steps` and `epochs`")
        return self


Warmup = Literal[
    "untuned_linear_warmup",
    "untuned_exponential_warmup",
    "radam_warmup",
    "linear_warmup",
    "exponential_warmup",
    "loss_adaptive_warmup",
    "h0_h1_warmup",
]


class ArmConfig(Strict):
    """What is compared: an optimizer and its warmup, and nothing else. `num_warmup_steps` is for tuned warmups."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.+-]+$")
    optimizer: Literal["adamw", "radam"]
    warmup: Warmup | None = None
    num_warmup_steps: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _length_where_tuned(self) -> "ArmConfig":
        tuned = self.warmup in ("linear_warmup", "exponential_warmup")
        if tuned != (self.num_warmup_steps > 0):
            raise ValueError(
                f"arm {self.name!r}: linear_warmup and exponential_warmup need `num_warmup_steps`, others take none"
            )
        return self


def default_arms(tuned_warmup_steps: int) -> list[ArmConfig]:
    """The six arms of the comparison; the last is the baseline."""
    adamw = [ArmConfig(name="adamw", optimizer="adamw")]
    untuned: tuple[Warmup, ...] = ("untuned_linear_warmup", "untuned_exponential_warmup", "radam_warmup")
    adamw += [ArmConfig(name=f"adamw+{warmup}", optimizer="adamw", warmup=warmup) for warmup in untuned]
    tuned = ArmConfig(
        name="adamw+linear_warmup", optimizer="adamw", warmup="linear_warmup", num_warmup_steps=tuned_warmup_steps
    )
    return [*adamw, tuned, ArmConfig(name="radam", optimizer="radam")]


class StudyConfig(Strict):
    """A whole study: tasks x arms x learning rates x seeds."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: ModelConfig
    tasks: list[TaskConfig] = Field(min_length=1)
    training: TrainingConfig
    learning_rates: list[float] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    tuned_warmup_steps: int = Field(ge=1)
    arms: list[ArmConfig] = Field(default_factory=list)
    baseline: str = "radam"

    @field_validator("learning_rates")
    @classmethod
    def _positive_rates(cls, rates: list[float]) -> list[float]:
        if min(rates) <= 0:
            raise ValueError("learning rates must be positive")
        return rates

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        if not self.arms:
            object.__setattr__(self, "arms", default_arms(self.tuned_warmup_steps))
        for what, values in (
            ("arm", [arm.name for arm in self.arms]),
            ("task", [task.name for task in self.tasks]),
            ("seed", self.seeds),
            ("learning rate", self.learning_rates),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"every {what} must be named once, got {values}")
        if self.baseline not in [arm.name for arm in self.arms]:
            raise ValueError(f"baseline {self.baseline!r} is not an arm; arms: {[arm.name for arm in self.arms]}")
        return self


def load_study(path: Path, *, overrides: tuple[str, ...] = (), num_seeds: int | None = None) -> StudyConfig:
    """Read, override and check a study.

    Args:
        path: a YAML file.
        overrides: `key=value` with dotted keys, list items by number: `training.batch_size=16`,
            `tasks.0.dataset=some/folder`; values are read as YAML.
        num_seeds: use seeds 0 ... num_seeds - 1 instead of the file's.

    Raises:
        ConfigError: for anything that does not fit, naming file, key, value received and what is allowed.
    """
    return parse(StudyConfig, path, overrides=overrides, num_seeds=num_seeds)


def parse(kind: type[Parsed], path: Path, *, overrides: tuple[str, ...] = (), num_seeds: int | None = None) -> Parsed:
    """A config of any kind from a YAML file; arguments and errors as in `load_study`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a mapping of keys such as name, model, training; got {document!r}.")
    for override in overrides:
        _apply(document, override)
    if num_seeds is not None:
        if num_seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {num_seeds}.")
        document["seeds"] = list(range(num_seeds))
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_error(error)}") from None


def _apply(document: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, such as training.batch_size=16.")
    *parents, last = key.split(".")
    node: Any = document
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        parsed = yaml.safe_load(value)
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (IndexError, ValueError, TypeError, AttributeError):
        raise ConfigError(f"override {override!r}: the study has no place named {key!r}.") from None
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: the value cannot be read as YAML.") from None


def _first_error(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "the study"
    received = problem["input"]
    message = f"{place}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] == "missing":
        return f"{message}; this key must be given."
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key (its value: {received!r}); remove it or mend its spelling."
    if isinstance(received, dict | BaseModel):
        return f"{message}."
    hint = ""
    if isinstance(received, str) and problem["type"].startswith(("float", "int")):
        hint = "; YAML reads it as text" + (
            f", write {received.lower().replace('e', '.0e', 1)}" if _is_bare_exponent(received) else ""
        )
    return f"{message}, got {received!r}{hint}."


def _is_bare_exponent(text: str) -> bool:
    mantissa, _, exponent = text.lower().partition("e")
    return mantissa.lstrip("-").isdigit() and exponent.lstrip("+-").isdigit()
