"""What a set-up will really do to the learning rate, before a night is spent on it.

The real scheduler is built on a real optimizer of one parameter and stepped through the whole run, as the Trainer or a
script that prepares it with Accelerate, would step it; nothing is worked out from formulas a second time. So a
preview shows what every name that transformers knows does, ours or not, with its quirks. Deliberately absent:
schedules that react to metrics or losses, which no one can know beforehand.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType

from hf_warmup.lr_scheduler.names import untuned_period
from hf_warmup.lr_scheduler.notices import forget, remember
from hf_warmup.lr_scheduler.registration import registered_schedulers
from hf_warmup.lr_scheduler.scheduler import WarmupScheduler
from hf_warmup.schedules import effective_warmup_period
from hf_warmup.schedules.tables import ENDLESS_DECAYS, LOSS_ADAPTIVE_WARMUPS, TUNED_WARMUPS


# They are driven by evaluation results.
_REACTIVE = ("reduce_lr_on_plateau", "greedy")
# Updates between two reports of progress.
_TOLD_EVERY = 1024
# Each one is simulated: these take minutes.
_MOST_UPDATES = 10_000_000


@dataclass(frozen=True)
class Setup:
    """What a person would pass to their script. Its length is `num_training_steps`, or `dataset_size` and `epochs`.

    Attributes:
        name: any name in transformers' table of schedulers, this package's included.
        learning_rate: the optimizer's, > 0.
        beta2: the optimizer's, in (0, 1).
        optimizer: "adamw" or "radam".
        num_training_steps: length of the run in optimizer updates.
        dataset_size: training examples, >= 1.
        epochs: > 0.
        batch_size: examples per process and forward pass.
        num_processes: devices.
        gradient_accumulation_steps: forward passes per update.
        num_warmup_steps: for names that take one.
        prepared: the scheduler is handed to `Accelerator.prepare`, which then advances it `num_processes` times per
            update, while both lengths are passed to it as they are here.
        options: further keywords of the scheduler.
    """

    name: str = "untuned_linear_warmup"
    learning_rate: float = 1.0e-3
    beta2: float = 0.999
    optimizer: Literal["adamw", "radam"] = "adamw"
    num_training_steps: int | None = None
    dataset_size: int | None = None
    epochs: float = 3.0
    batch_size: int = 8
    num_processes: int = 1
    gradient_accumulation_steps: int = 1
    num_warmup_steps: int = 0
    prepared: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.num_training_steps is None) == (self.dataset_size is None):
            raise ValueError("give the length of the run either as num_training_steps or as dataset_size and epochs.")
        for name in (
            "num_training_steps",
            "dataset_size",
            "batch_size",
            "num_processes",
            "gradient_accumulation_steps",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name in ("learning_rate", "epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        if self.num_updates > _MOST_UPDATES:
            raise ValueError(
                f"a preview makes at most {_MOST_UPDATES} updates, got {self.num_updates}: shorten the run."
            )
        if not 0 < self.beta2 < 1:
            raise ValueError(f"beta2 must lie strictly between 0 and 1, got {self.beta2}.")
        if self.num_warmup_steps < 0:
            raise ValueError(f"num_warmup_steps must not be negative, got {self.num_warmup_steps}.")
        if self.optimizer not in ("adamw", "radam"):
            raise ValueError(f"optimizer must be adamw or radam, got {self.optimizer!r}.")

    @property
    def num_updates(self) -> int:
        """Length of the run in optimizer updates, counted as transformers' Trainer counts them."""
        if self.dataset_size is None:
            return int(self.num_training_steps or 0)
        batches = math.ceil(math.ceil(self.dataset_size / self.batch_size) / self.num_processes)
        return math.ceil(self.epochs * math.ceil(batches / self.gradient_accumulation_steps))

    @property
    def steps_per_update(self) -> int:
        """Times that the scheduler is advanced after each update."""
        return self.num_processes if self.prepared else 1


@dataclass(frozen=True)
class Preview:
    """What became of a set-up.

    Attributes:
        setup: what was simulated.
        multipliers: learning rate of update 1, 2, ... over the base learning rate; one per update.
        warmup_updates: length of the warmup in updates, 0 without one; 2 / (1 - beta2) for the untuned ones.
        effective_warmup_period: full-rate updates that the whole warmup costs, the sum of 1 - multiplier over it.
        warnings: what a person should know before they start, a sentence or two each.
    """

    setup: Setup
    multipliers: tuple[float, ...]
    warmup_updates: float
    effective_warmup_period: float
    warnings: tuple[str, ...]

    @property
    def warmup_share(self) -> float:
        """Length of the warmup as a fraction of the run; above 1 it does not finish."""
        return self.warmup_updates / len(self.multipliers)

    @property
    def peak_multiplier(self) -> float:
        """The largest multiplier of the run."""
        return max(self.multipliers)

    @property
    def peak_update(self) -> int:
        """The first update with the largest multiplier, 1-based."""
        return self.multipliers.index(self.peak_multiplier) + 1

    @property
    def last_learning_rate(self) -> float:
        """Learning rate of the last update."""
        return self.multipliers[-1] * self.setup.learning_rate


def preview(setup: Setup, *, progress: Callable[[int, int], None] | None = None) -> Preview:
    """Step the real scheduler through the whole run.

    Args:
        setup: what is simulated.
        progress: called now and then with the updates made and the updates to make.

    Raises:
        ValueError: for a name that transformers does not know or that cannot be previewed, and whatever the
            scheduler itself refuses.
        TypeError: for an option that the scheduler does not take.

    Example:
        >>> seen = preview(Setup("untuned_linear_warmup", beta2=0.75, num_training_steps=10))
        >>> seen.warmup_updates, seen.effective_warmup_period, seen.peak_update
        (8.0, 3.5, 5)
    """
    if setup.name not in SchedulerType._value2member_map_:
        names = ", ".join(str(member.value) for member in SchedulerType if member.value not in registered_schedulers())
        raise ValueError(
            f"unknown scheduler {setup.name!r}; choose one of {', '.join(registered_schedulers()[:5])}, "
            f"DECAY_with_WARMUP such as cosine_with_untuned_linear_warmup, or transformers' own {names}."
        )
    if setup.name in _REACTIVE:
        raise ValueError(f"{setup.name!r} follows the evaluation results, so its curve can not be known beforehand.")
    if setup.name.endswith(LOSS_ADAPTIVE_WARMUPS):
        raise ValueError(f"{setup.name!r} follows the training loss, so its curve can not be known beforehand.")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer_class = torch.optim.RAdam if setup.optimizer == "radam" else torch.optim.AdamW
    optimizer = optimizer_class([parameter], lr=setup.learning_rate, betas=(0.9, setup.beta2))
    with _collected_warnings() as said:
        scheduler = get_scheduler(
            setup.name,
            optimizer,
            num_warmup_steps=setup.num_warmup_steps,
            num_training_steps=setup.num_updates,
            scheduler_specific_kwargs=dict(setup.options) or None,
        )
        multipliers = tuple(_simulate(setup, optimizer, scheduler, progress or (lambda done, total: None)))
    length, effective = _warmup(setup, scheduler)
    said += _warnings(setup, scheduler, multipliers, length)
    return Preview(setup, multipliers, length, effective, tuple(said))


def _simulate(
    setup: Setup, optimizer: torch.optim.Optimizer, scheduler: Any, progress: Callable[[int, int], None]
) -> Iterator[float]:
    for update in range(setup.num_updates):
        if update % _TOLD_EVERY == 0:
            progress(update, setup.num_updates)
        yield float(optimizer.param_groups[0]["lr"]) / setup.learning_rate
        optimizer.step()
        # What accelerate.scheduler.AcceleratedScheduler does on so many processes.
        for _ in range(setup.steps_per_update):
            scheduler.step()


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """What the package logs, collected and kept from the terminal."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage().removeprefix("hf_warmup: "))  # type: ignore[method-assign]
    package = logging.getLogger("hf_warmup")
    propagates, before = package.propagate, forget()
    package.addHandler(handler)
    package.propagate = False
    try:
        yield said
    finally:
        package.removeHandler(handler)
        package.propagate = propagates
        remember(before)


def _warmup(setup: Setup, scheduler: Any) -> tuple[float, float]:
    """Length and effective period of the warmup, in updates."""
    ours = isinstance(scheduler, WarmupScheduler)
    beta2 = _beta2(scheduler) if ours else None
    if beta2 is not None:
        return untuned_period(beta2), effective_warmup_period(scheduler.warmups[0])
    length = 0.0 if setup.name == SchedulerType.CONSTANT else setup.num_warmup_steps / setup.steps_per_update
    if ours:
        warmup = next(schedule for name, schedule in TUNED_WARMUPS.items() if setup.name.endswith(name))
        return length, effective_warmup_period(partial(warmup, period=length))
    return length, effective_warmup_period(partial(_stock_warmup, period=length))


def _beta2(scheduler: WarmupScheduler) -> float | None:
    """The beta2 of an untuned warmup, None for others."""
    found: float | None = getattr(scheduler.warmups[0], "keywords", {}).get("beta2")
    return found


def _stock_warmup(step: int, *, period: float) -> float:
    return min(1.0, step / period) if period else 1.0


def _warnings(setup: Setup, scheduler: Any, multipliers: tuple[float, ...], length: float) -> Iterator[str]:
    """What the scheduler itself had no way to see."""
    ours, updates = isinstance(scheduler, WarmupScheduler), setup.num_updates
    is_untuned = ours and _beta2(scheduler) is not None
    if length > updates and not is_untuned:
        yield (
            f"The warmup takes {length:.0f} updates, but the run has {updates}: the learning rate only reaches "
            f"{max(multipliers):.3g} of its value. Shorten num_warmup_steps, or let an untuned warmup choose: a beta2 "
            f"of {1 - 2 / max(2.5, 0.1 * updates):.4g} makes one of a tenth of the run."
        )
    if setup.optimizer == "radam" and length > 0 and not is_untuned:
        yield "RAdam already warms up by its rectification; this warms up a second time. Use AdamW, or no warmup."
    idle = next((k for k, multiplier in enumerate(multipliers) if multiplier > 0), updates)
    if idle and ours:
        yield (
            f"The first {idle} updates stand still, since RAdam does not rectify them; start=first_rectified begins "
            f"at once."
        )
    elif idle:
        yield (
            f"{setup.name} starts at a learning rate of 0, so {idle} of the updates is wasted. linear_warmup starts "
            f"at 1 / num_warmup_steps."
        )
    yield from _prepared_warnings(setup)


def _prepared_warnings(setup: Setup) -> Iterator[str]:
    factor = setup.steps_per_update
    decays = (setup.name, setup.options.get("decay"))
    endless = any(str(decay).startswith(ENDLESS_DECAYS) for decay in decays)
    if factor == 1 or (endless and not setup.num_warmup_steps):
        return
    lengths = "num_training_steps" + (" and num_warmup_steps" if setup.num_warmup_steps else "")
    yield (
        f"Accelerate advances a prepared scheduler {factor} times per update, so this one is through after "
        f"{math.ceil(setup.num_updates / factor)} of {setup.num_updates} updates: multiply {lengths} by {factor}, or "
        f"do not prepare it."
    )
