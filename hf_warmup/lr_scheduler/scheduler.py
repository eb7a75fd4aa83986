"""Schedules bound to an optimizer, on two clocks.

An untuned warmup is counted in optimizer updates, by a hook that runs after each of them; a decay, and a warmup whose
length a person gives, in scheduler steps, the unit in which training scripts state lengths. So the learning rate at
update k is the same whether the scheduler is prepared by Accelerate (which advances it once per process), left alone,
or driven by the Trainer, and an update that a gradient scaler skips does not count. The state is plain numbers.
Deliberately absent: the formulas, which are in `schedules`, and the checks of options, which are in `choice`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from hf_warmup.lr_scheduler.choice import Choice
from hf_warmup.lr_scheduler.notices import say_once
from hf_warmup.lr_scheduler.process_group import num_processes
from hf_warmup.lr_scheduler.updates import UpdateCounter, hook_weakly, unwrap
from hf_warmup.schedules import Schedule


# So many scheduler steps without one update seen mean that the hook does not reach the optimizer that works.
_STEPS_WITHOUT_UPDATE = 10

# From the optimizer's param groups to one schedule of updates and one of scheduler steps for each of them.
Binding = Callable[[Sequence[Mapping[str, Any]]], tuple[list[Schedule], list[Schedule]]]


class WarmupScheduler(LRScheduler):
    """Learning rate = base x warmup(updates) x decay(scheduler steps), per param group; built by `get_schedule`.

    Args:
        optimizer: whose param groups are driven; Accelerate's wrapper is taken off.
        warmups: one schedule per param group, of the optimizer updates made.
        decays: one schedule per param group, of the scheduler steps made.
        decay_in_updates: count the decay in optimizer updates as well.
        binding: gives warmups and decays anew once the optimizer has loaded a state, which may hold another beta2.
        last_epoch: as in torch's schedulers; -1 for a fresh run.

    Attributes:
        updates: optimizer updates made so far under this schedule.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmups: list[Schedule],
        decays: list[Schedule],
        decay_in_updates: bool = False,
        binding: Binding | None = None,
        last_epoch: int = -1,
    ) -> None:
        optimizer = unwrap(optimizer)
        self._take(warmups, decays)
        self._decay_in_updates = decay_in_updates
        self._binding = binding
        self._watch(optimizer, last_epoch + 1)
        super().__init__(optimizer, last_epoch)

    def _take(self, warmups: list[Schedule], decays: list[Schedule]) -> None:
        self.warmups, self.decays = warmups, decays
        # Groups that share their schedules, the usual case, share the arithmetic.
        self._pairs = list(dict.fromkeys(zip(warmups, decays, strict=True)))
        self._pair_of_group = [self._pairs.index(pair) for pair in zip(warmups, decays, strict=True)]

    def _watch(self, optimizer: Optimizer, updates: int) -> None:
        """Count the optimizer's updates from now on, and notice when it loads a state."""
        self._counter = UpdateCounter(optimizer, updates)
        if self._counter.sees_updates:
            hook_weakly(self, WarmupScheduler._follow, optimizer.register_load_state_dict_post_hook)
        elif num_processes() > 1:
            say_once(
                f"{type(optimizer).__name__} has no step hooks, so the warmup is counted in scheduler steps: if "
                f"Accelerate prepares this scheduler, it will be {num_processes()} times too short."
            )

    def _follow(self, optimizer: Optimizer) -> None:
        """Take beta2 from the optimizer again: a checkpoint's replaces that of the run's arguments."""
        if self._binding is None:
            return
        warmups, decays = self._binding(optimizer.param_groups)
        if [*map(repr, warmups), *map(repr, decays)] != [*map(repr, self.warmups), *map(repr, self.decays)]:
            say_once(
                "the optimizer's loaded state has another beta2 than it was built with. The optimizer works with the "
                "loaded one, and the warmup follows it."
            )
            self._take(warmups, decays)

    @property
    def updates(self) -> int:
        """Optimizer updates made so far under this schedule."""
        return self._counter.count

    def step(self, epoch: int | None = None) -> None:
        """Advance by one scheduler step and set the learning rates."""
        if epoch is not None:
            raise ValueError(f"step() takes no epoch (got {epoch}); restore a position with load_state_dict instead.")
        super().step()

    def _update_lr(self, epoch: int | None = None) -> None:
        """What torch's `step` leaves to be done; its `SequentialLR` calls this with 0 where a later part begins."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if epoch is not None or self._is_initial or not self._counter.sees_updates:
            self._counter.count = self.last_epoch
        elif self.last_epoch == 1 and self.updates > 1 and not self._governs():
            # Another schedule has set the rates until now; this one takes over with the last update.
            self._counter.count = 1
        elif self.updates == 0 and self.last_epoch == _STEPS_WITHOUT_UPDATE:
            say_once(
                f"{_STEPS_WITHOUT_UPDATE} scheduler steps and not one update of {type(self.optimizer).__name__}: the "
                f"warmup stands still. Is this the optimizer that is being stepped?"
            )
        self._counter.end_pass()
        self._set_learning_rates()

    def _governs(self) -> bool:
        """Whether the optimizer's learning rates are those that this schedule has set."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        return rates == [float(rate) for rate in self._last_lr]

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
        steps = self.updates if self._decay_in_updates else self.last_epoch
        return [warmup(self.updates) * decay(steps) for warmup, decay in self._pairs]

    def state_dict(self) -> dict[str, Any]:
        """The two clocks, the base learning rates, and whether they are in force, as plain numbers."""
        return {
            "last_epoch": self.last_epoch,
            "updates": self.updates,
            "_step_count": self._step_count,
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "_last_lr": [float(lr) for lr in self._last_lr],
            "governs": int(self._governs()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both clocks and, unless another schedule was in force, set the learning rates that belong to them.

        Raises:
            ValueError: if the state is of another scheduler or another number of param groups.
        """
        if "updates" not in state_dict or len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"this state is not of a WarmupScheduler with {len(self.base_lrs)} param groups; it has "
                f"{sorted(state_dict)}."
            )
        self.last_epoch = int(state_dict["last_epoch"])
        self._counter.count = int(state_dict["updates"])
        self._step_count = int(state_dict["_step_count"])
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = list(state_dict["_last_lr"])
        self._follow(self.optimizer)
        if state_dict.get("governs", 1):
            self._set_learning_rates()

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != "_counter"}
        return {**state, "updates": self.updates}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.get("_warmup_in_scheduler_steps"):
            raise ValueError(
                "this scheduler was pickled by an earlier version, which counted tuned warmups in another way; build "
                "it again and load the state_dict() of the old one."
            )
        self.__dict__.update({"_binding": None, **state})
        self._watch(self.optimizer, self.__dict__.pop("updates"))


def get_schedule(
    optimizer: Optimizer,
    num_warmup_steps: float | None = 0,
    num_training_steps: int | None = None,
    *,
    warmup: str | Schedule = "untuned_linear_warmup",
    decay: str | Schedule = "linear",
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
        warmup: a key of `schedules.tables.WARMUPS`, or any function from the optimizer updates made to a multiplier.
        decay: a key of `schedules.tables.DECAYS`, or any function from the scheduler steps made to a multiplier.
            inverse_sqrt takes the warmup's length as its timescale.
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
        ValueError: for an unknown name, a function that is no schedule, an option that the chosen schedule does not
            take, a beta2 missing or outside (0, 1), a warmup length where none belongs or none where one does, a
            missing length of the run.

    Source: warmups from Ma & Yarats, arXiv 1910.04209; the two clocks are ours.
    """
    choice = Choice(
        warmup=warmup,
        decay=decay,
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        beta2=beta2,
        on_short_run=on_short_run,
        max_warmup_ratio=max_warmup_ratio,
        warmup_options={"threshold": threshold, "start": start},
        decay_options={"min_lr_ratio": min_lr_ratio, "power": power, "decay_ratio": decay_ratio},
    )
    optimizer = unwrap(optimizer)
    choice.warn_of(optimizer)
    warmups, decays = choice(optimizer.param_groups)
    return WarmupScheduler(
        optimizer,
        warmups=warmups,
        decays=decays,
        decay_in_updates=decay == "inverse_sqrt" and not choice.is_tuned,
        binding=choice,
        last_epoch=last_epoch,
    )
