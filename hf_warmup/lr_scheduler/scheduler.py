"""Schedules bound to an optimizer, on two clocks.

A warmup is counted in optimizer updates, by a hook that runs after each of them; a decay in scheduler steps, the unit
in which training scripts state the length of a run. So the learning rate at update k is the same whether the scheduler
is prepared by Accelerate (which advances it once per process), left alone, or driven by the Trainer, and an update
that a gradient scaler skips does not count. The state is plain numbers. Deliberately absent: the formulas, which are
in `schedules`, and the checks of options, which are in `names`.
"""

import logging
import weakref
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from hf_warmup.lr_scheduler.names import (
    bind,
    check_choices,
    fit_to_run,
    group_beta2,
    untuned_period,
)
from hf_warmup.lr_scheduler.process_group import num_processes
from hf_warmup.schedules import Schedule
from hf_warmup.schedules.tables import DECAYS, ENDLESS_DECAYS, TUNED_WARMUPS, WARMUPS


logger = logging.getLogger(__name__)

# So many scheduler steps without one update seen mean that the hook does not reach the optimizer that works.
_STEPS_WITHOUT_UPDATE = 10


class WarmupScheduler(LRScheduler):
    """Learning rate = base x warmup(updates) x decay(scheduler steps), per param group; built by `get_schedule`.

    Args:
        optimizer: whose param groups are driven; Accelerate's wrapper is taken off.
        warmups: one schedule per param group, of the optimizer updates made.
        decays: one schedule per param group.
        decay_in_updates: count the decay in optimizer updates as well.
        warmup_in_scheduler_steps: the warmups' periods are in scheduler steps, and are converted by the number of
            scheduler steps seen per update (known from the second update on).
        last_epoch: as in torch's schedulers; -1 for a fresh run.

    Attributes:
        updates: optimizer updates made so far.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmups: list[Schedule],
        decays: list[Schedule],
        decay_in_updates: bool = False,
        warmup_in_scheduler_steps: bool = False,
        last_epoch: int = -1,
    ) -> None:
        optimizer = unwrap(optimizer)
        self.warmups = warmups
        self.decays = decays
        # Groups that share their schedules, the usual case, share the arithmetic.
        self._pairs = list(dict.fromkeys(zip(warmups, decays, strict=True)))
        self._pair_of_group = [self._pairs.index(pair) for pair in zip(warmups, decays, strict=True)]
        self._decay_in_updates = decay_in_updates
        self._warmup_in_scheduler_steps = warmup_in_scheduler_steps
        self.updates = last_epoch + 1
        self._sees_updates = self._watch(optimizer)
        super().__init__(optimizer, last_epoch)

    def _watch(self, optimizer: Optimizer) -> bool:
        """Count the optimizer's updates from now on; False if it has no hooks."""
        if not hasattr(optimizer, "_optimizer_step_post_hooks"):
            if num_processes() > 1:
                logger.warning(
                    "%s has no step hooks, so the warmup is counted in scheduler steps: if Accelerate prepares this "
                    "scheduler, it will be %d times too short.",
                    type(optimizer).__name__,
                    num_processes(),
                )
            return False
        # The optimizer must not keep a discarded scheduler alive, and must stay picklable.
        reference = weakref.ref(self)

        def count_update(*_: Any) -> None:
            scheduler = reference()
            if scheduler is not None:
                scheduler.updates += 1

        handle = optimizer.register_step_post_hook(count_update)
        weakref.finalize(self, handle.remove)
        return True

    def step(self, epoch: int | None = None) -> None:
        """Advance by one scheduler step and set the learning rates."""
        if epoch is not None:
            raise ValueError(f"step() takes no epoch (got {epoch}); restore a position with load_state_dict instead.")
        self._step_count += 1
        self.last_epoch += 1
        if not self._sees_updates:
            self.updates = self.last_epoch
        elif self.updates == 0 and self.last_epoch == _STEPS_WITHOUT_UPDATE:
            logger.warning(
                "%d scheduler steps and not one update of %s: the warmup stands still. Is this the optimizer that is "
                "being stepped?",
                _STEPS_WITHOUT_UPDATE,
                type(self.optimizer).__name__,
            )
        self._set_learning_rates()

    def _set_learning_rates(self) -> None:
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def get_lr(self) -> list[float | torch.Tensor]:
        """Learning rate of the next update, per param group."""
        values = self._pair_values()
        return [base * values[i] for base, i in zip(self.base_lrs, self._pair_of_group, strict=True)]

    def multipliers(self) -> list[float]:
        """Learning rate of the next update over its base, per param group."""
        values = self._pair_values()
        return [values[i] for i in self._pair_of_group]

    def _pair_values(self) -> list[float]:
        updates, steps = self.updates, self.updates if self._decay_in_updates else self.last_epoch
        if self._warmup_in_scheduler_steps and updates:
            # Update k is followed by k x scale scheduler steps, so the next one's share of the period is scaled.
            updates = (updates + 1) * max(1, round(self.last_epoch / updates)) - 1
        return [warmup(updates) * decay(steps) for warmup, decay in self._pairs]

    def state_dict(self) -> dict[str, Any]:
        """The two clocks and the base learning rates, as plain numbers."""
        return {
            "last_epoch": self.last_epoch,
            "updates": self.updates,
            "_step_count": self._step_count,
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "_last_lr": [float(lr) for lr in self._last_lr],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both clocks and set the learning rates that belong to them.

        Raises:
            ValueError: if the state is of another scheduler or another number of param groups.
        """
        if "updates" not in state_dict or len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"this state is not of a WarmupScheduler with {len(self.base_lrs)} param groups; it has "
                f"{sorted(state_dict)}."
            )
        self.last_epoch = int(state_dict["last_epoch"])
        self.updates = int(state_dict["updates"])
        self._step_count = int(state_dict["_step_count"])
        self.base_lrs = list(state_dict["base_lrs"])
        self._set_learning_rates()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_sees_updates"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._sees_updates = self._watch(self.optimizer)


def get_schedule(
    optimizer: Optimizer,
    num_warmup_steps: float | None = 0,
    num_training_steps: int | None = None,
    *,
    warmup: str = "untuned_linear_warmup",
    decay: str = "linear",
    beta2: float | None = None,
    on_short_run: str = "warn",
    max_warmup_ratio: float = 0.1,
    min_lr_ratio: float | None = None,
    power: float | None = None,
    decay_ratio: float | None = None,
    threshold: float | None = None,
    start: str | None = None,
    last_epoch: int = -1,
) -> WarmupScheduler:
    """A warmup times a decay, bound to an optimizer; every name registered with transformers is this function.

    Both run from the first update on: at update k the learning rate is base x warmup(k - 1) x decay(k - 1).

    Args:
        optimizer: torch optimizer, or Accelerate's wrapper around one.
        num_warmup_steps: length of `linear_warmup` or `exponential_warmup` in scheduler steps (as transformers'
            scripts scale it); must be 0 or None for the untuned ones, which take theirs from beta2.
        num_training_steps: length of the run in scheduler steps; may be None for decays that need none.
        warmup: a key of `schedules.tables.WARMUPS`.
        decay: a key of `schedules.tables.DECAYS`. inverse_sqrt takes the warmup's length as its timescale.
        beta2: replaces each param group's own `betas[1]`; required for optimizers without betas.
        on_short_run: what to do if the run is shorter than an untuned warmup: "warn", "cap" (shorten the warmup to
            `max_warmup_ratio` of the run) or "raise".
        max_warmup_ratio: see `on_short_run`, in (0, 1].
        min_lr_ratio: floor of linear, cosine, polynomial and wsd, as a fraction of the base learning rate.
        power: exponent of polynomial (default 2).
        decay_ratio: share of the run in which wsd decays (default 0.1).
        threshold: radam_warmup's, 4 or 5 (default 5, as torch).
        start: radam_warmup's "zero" (default) or "first_rectified".
        last_epoch: as in torch's schedulers.

    Raises:
        ValueError: for an unknown name, an option that the chosen schedule does not take, a beta2 missing or outside
            (0, 1), a warmup length where none belongs or none where one does, a missing length of the run.

    Source: warmups from Ma & Yarats, arXiv 1910.04209; the two clocks are ours.
    """
    check_choices(warmup, decay, num_warmup_steps, num_training_steps, on_short_run, max_warmup_ratio)
    optimizer = unwrap(optimizer)
    groups = optimizer.param_groups
    options: dict[str, Any] = {"num_training_steps": num_training_steps if decay not in ENDLESS_DECAYS else None}
    options |= {"min_lr_ratio": min_lr_ratio, "power": power, "decay_ratio": decay_ratio}
    is_tuned = warmup in TUNED_WARMUPS
    if is_tuned:
        periods = [float(num_warmup_steps or 0)] * len(groups)
        warmups = [bind(WARMUPS, warmup, period=p, threshold=threshold, start=start) for p in periods]
    else:
        _warn_of_double_warmup(optimizer, warmup)
        betas = [group_beta2(group, index, beta2) for index, group in enumerate(groups)]
        fitted = {
            b: fit_to_run(warmup, b, num_training_steps, on_short_run=on_short_run, max_warmup_ratio=max_warmup_ratio)
            for b in dict.fromkeys(betas)
        }
        warmups = [bind(WARMUPS, warmup, beta2=fitted[b], threshold=threshold, start=start) for b in betas]
        periods = [untuned_period(fitted[b]) for b in betas]
    decays = [bind(DECAYS, decay, timescale=p if decay == "inverse_sqrt" else None, **options) for p in periods]
    return WarmupScheduler(
        optimizer,
        warmups=shared(warmups),
        decays=shared(decays),
        decay_in_updates=decay == "inverse_sqrt",
        warmup_in_scheduler_steps=is_tuned,
        last_epoch=last_epoch,
    )


def unwrap(optimizer: Any) -> Optimizer:
    """The torch optimizer inside Accelerate's wrapper, or the optimizer itself.

    Raises:
        TypeError: if there is none.
    """
    inner = optimizer
    while not hasattr(inner, "_optimizer_step_post_hooks") and hasattr(inner, "optimizer"):
        inner = inner.optimizer
    if not isinstance(inner, Optimizer):
        raise TypeError(f"expected a torch optimizer, got {type(optimizer).__name__}.")
    return inner


def shared(bound: list[Schedule]) -> list[Schedule]:
    """Equal schedules made one object, as partials compare by identity."""
    first: dict[str, Schedule] = {}
    return [first.setdefault(repr(schedule), schedule) for schedule in bound]


def _warn_of_double_warmup(optimizer: Optimizer, warmup: str) -> None:
    if "radam" in type(optimizer).__name__.lower():
        logger.warning(
            "%s already warms up by its rectification; %s warms up a second time. Use AdamW with it, or RAdam alone.",
            type(optimizer).__name__,
            warmup,
        )
