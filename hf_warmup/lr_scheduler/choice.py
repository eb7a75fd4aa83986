"""What a person asked for, checked, and turned into schedules for each param group of an optimizer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch.optim.optimizer import Optimizer

from hf_warmup.lr_scheduler.names import (
    bind,
    check_length,
    check_numbers,
    check_schedule,
    group_beta2,
    untuned_period,
)
from hf_warmup.lr_scheduler.notices import say_once
from hf_warmup.lr_scheduler.short_runs import ON_SHORT_RUN, fit_to_run
from hf_warmup.schedules import Schedule, constant, product
from hf_warmup.schedules.tables import DECAYS, ENDLESS_DECAYS, TUNED_WARMUPS, UNTUNED_WARMUPS, WARMUPS


@dataclass(frozen=True)
class Choice:
    """A warmup, a decay and their options, as in `get_schedule`; called with param groups it binds them.

    Raises:
        ValueError: for names that do not exist, callables that are no schedules, options that are no numbers, and
            lengths that are missing or contradict the names.
    """

    warmup: str | Schedule
    decay: str | Schedule
    num_warmup_steps: float | None
    num_training_steps: int | None
    beta2: float | None
    on_short_run: str
    max_warmup_ratio: float
    warmup_options: Mapping[str, Any] = field(default_factory=dict)
    decay_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_schedule("warmup", self.warmup, WARMUPS)
        check_schedule("decay", self.decay, DECAYS)
        numbers = {key: value for key, value in self.warmup_options.items() if key != "start"}
        numbers |= {**self.decay_options, "beta2": self.beta2, "max_warmup_ratio": self.max_warmup_ratio}
        check_numbers(**numbers, num_warmup_steps=self.num_warmup_steps, num_training_steps=self.num_training_steps)
        self._check_lengths()
        if self.on_short_run not in ON_SHORT_RUN:
            raise ValueError(f"on_short_run must be one of {', '.join(ON_SHORT_RUN)}, got {self.on_short_run!r}.")
        if not 0.0 < self.max_warmup_ratio <= 1.0:
            raise ValueError(f"max_warmup_ratio must lie in (0, 1], got {self.max_warmup_ratio!r}.")

    def _check_lengths(self) -> None:
        if self.is_tuned and not (self.num_warmup_steps and 0 < self.num_warmup_steps < math.inf):
            raise ValueError(
                f"{self.warmup} needs its length: num_warmup_steps must be positive, got {self.num_warmup_steps!r}. "
                f"In TrainingArguments set warmup_steps; untuned_{self.warmup} needs none."
            )
        if callable(self.warmup) and self.num_warmup_steps:
            raise ValueError(
                f"a warmup that is a function knows its length, but num_warmup_steps={self.num_warmup_steps} was "
                f"given as well. Leave it out."
            )
        if callable(self.warmup) and self.decay == "inverse_sqrt":
            raise ValueError(
                "inverse_sqrt takes the warmup's length as its timescale, which a function does not tell. Pass "
                "decay=functools.partial(hf_warmup.schedules.inverse_sqrt_decay, timescale=...)."
            )
        if not self.is_tuned and self.num_warmup_steps:
            raise ValueError(
                f"{self.warmup} takes its length from beta2, but num_warmup_steps={self.num_warmup_steps} was given "
                f"as well. Write warmup_steps=0, or use linear_warmup to keep your own length."
            )
        check_length(self.decay, self.num_training_steps)

    @property
    def is_tuned(self) -> bool:
        """Whether a person gives the warmup's length, in scheduler steps."""
        return isinstance(self.warmup, str) and self.warmup in TUNED_WARMUPS

    def __call__(self, groups: Sequence[Mapping[str, Any]]) -> tuple[list[Schedule], list[Schedule]]:
        """Bind warmup and decay for each of an optimizer's param groups.

        Returns:
            One schedule of the optimizer updates and one of the scheduler steps per group; groups of equal beta2
            share theirs. A tuned warmup, being in scheduler steps, is a factor of the second.
        """
        if callable(self.warmup):
            own = bind({}, self.warmup, beta2=self.beta2, **self.warmup_options)
            return [own] * len(groups), [self._decay(math.nan)] * len(groups)
        if self.is_tuned:
            period = float(self.num_warmup_steps or 0)
            warmup = bind(WARMUPS, self.warmup, period=period, **self.warmup_options)
            both: Schedule = partial(product, factors=(warmup, self._decay(period)))
            return [constant] * len(groups), [both] * len(groups)
        betas = [group_beta2(group, index, self.beta2) for index, group in enumerate(groups)]
        pairs = {beta2: self._untuned(beta2) for beta2 in dict.fromkeys(betas)}
        return [pairs[beta2][0] for beta2 in betas], [pairs[beta2][1] for beta2 in betas]

    def _untuned(self, beta2: float) -> tuple[Schedule, Schedule]:
        assert isinstance(self.warmup, str)
        fitted = fit_to_run(
            self.warmup,
            beta2,
            self.num_training_steps,
            on_short_run=self.on_short_run,
            max_warmup_ratio=self.max_warmup_ratio,
            decay=self._decay(untuned_period(beta2)),
        )
        return bind(WARMUPS, self.warmup, beta2=fitted, **self.warmup_options), self._decay(untuned_period(fitted))

    def _decay(self, period: float) -> Schedule:
        return bind_decay(self.decay, period, self.num_training_steps, **self.decay_options)

    def warn_of(self, optimizer: Optimizer) -> None:
        """Say what an untuned warmup should not be combined with."""
        if isinstance(self.warmup, str) and self.warmup in UNTUNED_WARMUPS:
            warn_of_optimizer(optimizer, self.warmup, takes_beta2=self.beta2 is None)


def bind_decay(decay: str | Schedule, period: float, num_training_steps: int | None, **options: Any) -> Schedule:
    """A decay over a run; inverse_sqrt takes the warmup's period as its timescale, a callable neither.

    Raises:
        ValueError: for an option that this decay does not take.
    """
    if not isinstance(decay, str):
        return bind(DECAYS, decay, **options)
    if decay == "inverse_sqrt":
        options["timescale"] = period
    return bind(DECAYS, decay, num_training_steps=None if decay in ENDLESS_DECAYS else num_training_steps, **options)


def warn_of_optimizer(optimizer: Optimizer, warmup: str, *, takes_beta2: bool) -> None:
    """Say so if an optimizer warms up by itself, or if its beta2 is not Adam's.

    Args:
        optimizer: that the warmup is for.
        warmup: its name.
        takes_beta2: the warmup's length comes from the optimizer's own beta2.
    """
    name = type(optimizer).__name__
    if "radam" in name.lower():
        say_once(
            f"{name} already warms up by its rectification; {warmup} warms up a second time. Use AdamW with it, or "
            f"RAdam alone."
        )
    if "lion" in name.lower() and takes_beta2:
        say_once(
            f"{name}'s beta2 is the decay of its momentum, not that of Adam's squared gradients, from which the rule "
            f"of 2 / (1 - beta2) updates comes: {warmup} has no ground here. Pass the beta2 that you would give to "
            f'Adam, lr_scheduler_kwargs={{"beta2": 0.999}}, or use linear_warmup with warmup_steps.'
        )
