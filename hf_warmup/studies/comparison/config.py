"""A study as a person writes it: one YAML, parsed once, with every mistake named before anything is computed.

Types are strict and unknown keys are errors, so that a misspelt key can not be silently ignored. Deliberately absent:
defaults that depend on the machine.
"""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import BuiltInTask
from hf_warmup.schedules.tables import LOSS_ADAPTIVE_WARMUPS, TUNED_WARMUPS, UNTUNED_WARMUPS, WARMUPS
from hf_warmup.studies.comparison.own.config import AnyOwnTask, OwnTask
from hf_warmup.studies.comparison.training_config import TrainingConfig as TrainingConfig
from hf_warmup.yaml_config import ArmName, Name, Strict, parse


def shared_settings(**settings: Any) -> TrainingConfig:
    """What all arms share, for a run that knows its own length and batches; those stay unread."""
    return TrainingConfig(num_training_steps=1, batch_size=1, **settings)


def _known_warmup(name: str) -> str:
    known = (*WARMUPS, *LOSS_ADAPTIVE_WARMUPS)
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return name


def _known_optimizer(name: str) -> str:
    path = name.split(".")
    if name not in ("adamw", "radam") and not (len(path) > 1 and all(part.isidentifier() for part in path)):
        raise ValueError("must be adamw, radam or an import path such as torch.optim.NAdam")
    return name


class ArmConfig(Strict):
    """What is compared: an optimizer and the course of its learning rate, and nothing else."""

    name: ArmName
    """Of the arm, in results and pictures."""
    optimizer: Annotated[str, AfterValidator(_known_optimizer)]
    """adamw, radam or a class's import path, such as torch.optim.NAdam. It is given what all arms share as far as
    it takes it: lr, betas, eps, weight_decay, and decoupled_weight_decay: true."""
    optimizer_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the optimizer, which replace those."""
    warmup: Annotated[str, AfterValidator(_known_warmup)] | None = None
    """A warmup, which is multiplied by the decay that all arms share; null is none."""
    schedule: str | None = None
    """The whole course of the learning rate instead: any name that transformers' `get_scheduler` takes."""
    schedule_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Options of `schedule`."""
    num_warmup_steps: int = Field(default=0, ge=0)
    """Updates of a tuned warmup, or of `schedule`; untuned ones take none."""

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        optimizer, _, warmup = given.partition("+")
        return {"name": given, "optimizer": optimizer, "warmup": warmup or None}

    @model_validator(mode="after")
    def _one_course(self) -> "ArmConfig":
        if self.schedule and self.warmup:
            raise ValueError(
                f"arm {self.name!r}: `schedule` is the whole course of the learning rate, so `warmup` can not stand "
                f"beside it; keep one, or write a name such as cosine_with_untuned_linear_warmup"
            )
        if self.schedule_kwargs and not self.schedule:
            raise ValueError(f"arm {self.name!r}: `schedule_kwargs` go with `schedule`; remove them")
        for key in sorted({"lr", "params"} & self.optimizer_kwargs.keys()):
            raise ValueError(
                f"arm {self.name!r}: optimizer_kwargs holds {key!r}, which the study gives; rates are `learning_rates`"
            )
        return self

    @model_validator(mode="after")
    def _length_where_tuned(self) -> "ArmConfig":
        tuned = self.warmup in TUNED_WARMUPS or (self.schedule is not None and self.num_warmup_steps > 0)
        if tuned != (self.num_warmup_steps > 0):
            raise ValueError(
                f"arm {self.name!r}: {' and '.join(TUNED_WARMUPS)} need `num_warmup_steps`, others take none"
            )
        return self

    @property
    def untuned_warmup(self) -> str | None:
        """The untuned warmup that the arm has, by `warmup` or within the name of its `schedule`."""
        name = (self.warmup or self.schedule or "").rpartition("_with_")[2]
        return name if name in UNTUNED_WARMUPS else None

    def beta2(self, shared: float) -> float:
        """That of its untuned warmup: its own where it states one, else what all arms share."""
        betas = self.optimizer_kwargs.get("betas", (None, self.optimizer_kwargs.get("beta2", shared)))
        return float(self.schedule_kwargs.get("beta2", betas[1]))

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that are not used: studies from before they were offered stay what they are."""
        found: dict[str, Any] = handler(self)
        return {
            key: value
            for key, value in found.items()
            if value or key not in ("optimizer_kwargs", "schedule", "schedule_kwargs")
        }


def default_arms(tuned_warmup_steps: int | None) -> list[ArmConfig]:
    """The arms of the comparison, with a tuned warmup where its length is given; the last is the baseline."""
    radam = ArmConfig(name="radam", optimizer="radam")
    adamw = [ArmConfig(name="adamw", optimizer="adamw")]
    adamw += [ArmConfig(name=f"adamw+{warmup}", optimizer="adamw", warmup=warmup) for warmup in UNTUNED_WARMUPS]
    if tuned_warmup_steps is None:
        return [*adamw, radam]
    tuned = ArmConfig(
        name="adamw+linear_warmup", optimizer="adamw", warmup="linear_warmup", num_warmup_steps=tuned_warmup_steps
    )
    return [*adamw, tuned, radam]


Seed = Annotated[int, Field(ge=0, lt=2**32)]


class PlanConfig(Strict):
    """Looks that are declared before anything runs: after each, arms that are decided get no more seeds."""

    looks: list[int] = Field(default_factory=lambda: [5, 8, 12, 20, 30])
    """Numbers of seeds after which arms are judged."""
    spending: Literal["pocock", "obrien_fleming"] = "pocock"
    """How alpha is spent over the looks (`statistics.sequential.Plan`)."""

    @model_validator(mode="after")
    def _increasing(self) -> "PlanConfig":
        from hf_warmup.statistics.sequential import Plan

        try:
            Plan(looks=tuple(self.looks), spending=self.spending)
        except ValueError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return self

    def up_to(self, max_seeds: int) -> list[int]:
        """The looks below `max_seeds`, and one at `max_seeds`."""
        return [*(look for look in self.looks if look < max_seeds), max_seeds]


class StudyConfig(Strict):
    """A whole study: tasks x arms x learning rates x seeds."""

    name: Name
    """Of the study, in its report and its folder."""
    model: ModelConfig | None = None
    """What is trained on all tasks; kinds trainer and script bring their own."""
    tasks: list[Annotated[BuiltInTask | AnyOwnTask, Field(discriminator="kind")]] = Field(min_length=1)
    """What it is trained on, each with its metric and its margin."""
    training: TrainingConfig | None = None
    """What all arms share; kinds trainer and script have `arguments` instead."""
    learning_rates: list[float] = Field(min_length=1)
    """The same for all arms; each arm is judged at the one that is best for it on validation data."""
    seeds: list[Seed] = Field(min_length=1)
    """Of the runs that judge: arms are compared seed by seed. With `plan` the first ones, behind which the next
    whole numbers follow."""
    tuning_seeds: list[Seed] = Field(default_factory=list)
    """Choose each arm's learning rate, by validation data alone; `seeds` then run at that rate alone."""
    plan: PlanConfig | None = None
    """Add seeds until every arm is decided; `--until-decided` is the same on the command line."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each run, on which the last digits of its numbers depend; as many as torch chooses if left
    out."""
    tuned_warmup_steps: int | None = Field(default=None, ge=1)
    """Updates of the tuned linear warmup among the arms that a study has by itself; without it there is none."""
    arms: list[ArmConfig] = Field(default_factory=list)
    """What is compared; in short an optimizer and, behind a plus sign, its warmup: adamw+untuned_linear_warmup. By
    default AdamW without warmup, with each untuned warmup and with a tuned one, and RAdam."""
    baseline: str = "radam"
    """The arm that all others are compared with. Where no arm is called radam, it is the last one by default."""

    @field_validator("learning_rates")
    @classmethod
    def _positive_rates(cls, rates: list[float]) -> list[float]:
        if min(rates) <= 0:
            raise ValueError("learning rates must be positive")
        return rates

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        for key in ("model", "training"):
            if getattr(self, key) is None and any(not isinstance(task, OwnTask) for task in self.tasks):
                raise ValueError(f"`{key}` must be given for tasks of a kind that is not trainer or script")
        if not self.arms:
            object.__setattr__(self, "arms", default_arms(self.tuned_warmup_steps))
        names = [arm.name for arm in self.arms]
        if "baseline" not in self.model_fields_set and self.baseline not in names:
            object.__setattr__(self, "baseline", names[-1])
        for what, values in (
            ("arm", names),
            ("task", [task.name for task in self.tasks]),
            ("seed", [*self.seeds, *self.tuning_seeds]),
            ("learning rate", self.learning_rates),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"every {what} must be named once, got {values}")
        if self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is not an arm; arms: {names}")
        if self.tuning_seeds and len(self.learning_rates) < 2:
            raise ValueError("`tuning_seeds` choose among `learning_rates`; give two rates or more, or remove the key")
        if self.plan and len(self.learning_rates) > 1 and not self.tuning_seeds:
            raise ValueError(
                "seeds until decided need a learning rate that stays the same from look to look; give "
                "`tuning_seeds`, such as [1000, 1001, 1002], on which it is chosen, or one of `learning_rates`"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that are not used: studies from before they were offered stay what they are."""
        found: dict[str, Any] = handler(self)
        for key in ("tuning_seeds", "plan", "threads", "model", "training", "tuned_warmup_steps"):
            if not found.get(key):
                found.pop(key, None)
        return found

    def first_seeds(self, count: int) -> list[int]:
        """`count` seeds: those that are given, then whole numbers that follow and choose no learning rate."""
        following = (seed for seed in itertools.count(max(self.seeds) + 1) if seed not in self.tuning_seeds)
        return [*self.seeds, *itertools.islice(following, max(0, count - len(self.seeds)))][:count]


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
