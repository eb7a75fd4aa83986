"""What differs between arms, made from their names: the optimizer and the course of its learning rate.

What arms share is passed to each optimizer as far as it takes it; all optimizers run torch's foreach kernels and
decouple weight decay, as AdamW does, where they can. Deliberately absent: the training.
"""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType

from hf_warmup.errors import ConfigError, first_line
from hf_warmup.lr_scheduler.loss_adaptive import get_loss_adaptive_schedule
from hf_warmup.lr_scheduler.names import check_known
from hf_warmup.lr_scheduler.scheduler import get_schedule
from hf_warmup.schedules.tables import LOSS_ADAPTIVE_WARMUPS
from hf_warmup.studies.comparison.config import ArmConfig, TrainingConfig


_SHORT = {"adamw": "torch.optim.AdamW", "radam": "torch.optim.RAdam"}
# They are driven by evaluation results, which a study's runs do not hand to a schedule.
_REACTIVE = ("reduce_lr_on_plateau", "greedy")
# transformers drops their options without a word, and the first one's length too.
_WITHOUT_OPTIONS = ("constant", "constant_with_warmup")
# Updates of a trial: longer than any warmup. Whether warmups fit into a task's runs is known only with its data.
_TRIAL_LENGTH = 10**9


def check_arms(arms: Iterable[ArmConfig], training: TrainingConfig) -> None:
    """Let each arm make one update of a trial model, so that what cannot work is refused before anything is loaded.

    Raises:
        ConfigError: for an import path that leads to no optimizer, a schedule that does not exist, and options that
            either does not take.
    """
    for arm in arms:
        if arm.optimizer in _SHORT and not arm.optimizer_kwargs and arm.schedule is None:
            continue
        try:
            _make_one_update(arm, training)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name}: {error}") from None
        except Exception as error:  # optimizers and schedules raise many kinds, all of which mean: it cannot be used
            course = arm.schedule or arm.warmup or "no warmup"
            given = f", {_in_words(arm.optimizer_kwargs)}," if arm.optimizer_kwargs else ""
            raise ConfigError(
                f"arm {arm.name}: {arm.optimizer} with {course}{given} cannot be used: {first_line(error)}"
            ) from None


def _in_words(options: Mapping[str, Any]) -> str:
    """An optimizer's keywords, and which of them YAML has read as texts, as it does with 1e-8."""
    words = ", ".join(f"{key}={value!r}" for key, value in options.items())
    texts = [key for key, value in options.items() if isinstance(value, str)]
    return words + (f" ({', '.join(texts)} read as text; YAML wants a number such as 1.0e-8)" if texts else "")


def _make_one_update(arm: ArmConfig, training: TrainingConfig) -> None:
    if arm.schedule is not None:
        check_known("schedule", arm.schedule, [name.value for name in SchedulerType if name.value not in _REACTIVE])
        if arm.schedule in _WITHOUT_OPTIONS and arm.schedule_kwargs:
            raise ValueError(f"{arm.schedule} takes no schedule_kwargs, got {arm.schedule_kwargs}; remove them.")
        if arm.schedule == "constant" and arm.num_warmup_steps:
            raise ValueError("constant has no warmup; write schedule: constant_with_warmup, or no num_warmup_steps.")
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model, training, arm, 1e-3)
    scheduler = make_scheduler(optimizer, training, arm, _TRIAL_LENGTH)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler.step()


def make_optimizer(model: nn.Module, training: TrainingConfig, arm: ArmConfig, learning_rate: float) -> Optimizer:
    """The arm's optimizer on a model; biases and normalization weights do not decay.

    Raises:
        ConfigError: as `optimizer_class`.
        ValueError: for a keyword that the optimizer does not take, and from the optimizer itself.
    """
    made, options = optimizer_and_options(arm, training)
    decay = options.pop("weight_decay", None)
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() >= 2]},
        {"params": [p for p in parameters if p.dim() < 2]},
    ]
    if decay is not None:
        groups[0]["weight_decay"], groups[1]["weight_decay"] = decay, 0.0
    # Of LoRA, for one, no bias is trained.
    return made([group for group in groups if group["params"]], **{"lr": learning_rate, **options})


def optimizer_and_options(arm: ArmConfig, training: TrainingConfig) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class of an arm's optimizer, and its keywords but for the learning rate.

    Raises:
        ConfigError: as `optimizer_class`.
        ValueError: for a keyword that the optimizer does not take.
    """
    made = optimizer_class(arm.optimizer)
    takes = inspect.signature(made).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    # YAML has no tuples, which is what betas are.
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in arm.optimizer_kwargs.items()}
    for key in () if takes_all else own:
        check_known(f"keyword of {made.__name__}", key, [name for name in takes if name not in ("params", "lr")])
    decay = {"weight_decay": training.weight_decay} if takes_all or "weight_decay" in takes else {}
    return made, {**decay, **_shared(training, takes), **own}


def _shared(training: TrainingConfig, takes: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """What all arms share, as far as an optimizer of these parameters takes it."""
    offered: dict[str, Any] = {
        "betas": (training.beta1, training.beta2),
        "eps": training.adam_epsilon,
        "foreach": True,
        "decoupled_weight_decay": True,
    }
    if "eps" in takes and isinstance(takes["eps"].default, tuple):
        # Adafactor's pair has another meaning.
        del offered["eps"]
    return {key: value for key, value in offered.items() if key in takes}


def optimizer_class(name: str) -> type[Optimizer]:
    """The class that an arm's `optimizer` names.

    Raises:
        ConfigError: for an import path at which there is none, with those that are most like it.
    """
    path = _SHORT.get(name, name)
    module, _, last = path.rpartition(".")
    try:
        place = importlib.import_module(module)
    except Exception as error:  # whatever a module does when it is imported
        near = max(_optimizers_in(torch.optim), key=lambda known: SequenceMatcher(None, path, known).ratio())
        raise ConfigError(
            f"optimizer {name!r}: {module} cannot be imported ({first_line(error)}); write an import path such as "
            f"{near}, and install the package that it is in."
        ) from None
    found = getattr(place, last, None)
    if found is None:
        try:
            check_known("optimizer", path, _optimizers_in(place) or _optimizers_in(torch.optim))
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise ConfigError(f"optimizer {name!r} is no torch.optim.Optimizer but {found!r}; name a class that is one.")
    return found


def _optimizers_in(place: Any) -> list[str]:
    classes = {name: value for name, value in vars(place).items() if isinstance(value, type)}
    return [
        f"{place.__name__}.{name}"
        for name, value in classes.items()
        if issubclass(value, Optimizer) and value is not Optimizer
    ]


def make_scheduler(optimizer: Optimizer, training: TrainingConfig, arm: ArmConfig, length: int) -> LRScheduler:
    """The arm's schedule, or its warmup times the decay that all arms share; no warmup is one over a single update."""
    if arm.schedule is not None:
        short: dict[str, Any] = {"on_short_run": training.on_short_run} if arm.untuned_warmup else {}
        made: LRScheduler = get_scheduler(
            arm.schedule,
            optimizer,
            num_warmup_steps=arm.num_warmup_steps,
            num_training_steps=length,
            scheduler_specific_kwargs={**short, **arm.schedule_kwargs},
        )
        return made
    if arm.warmup in LOSS_ADAPTIVE_WARMUPS:
        return get_loss_adaptive_schedule(optimizer, 0, length, decay=training.decay)
    return get_schedule(
        optimizer,
        arm.num_warmup_steps if arm.warmup else 1,
        length,
        warmup=arm.warmup or "linear_warmup",
        decay=training.decay,
        on_short_run=training.on_short_run,
    )
