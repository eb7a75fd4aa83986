"""Warmup that follows the loss: the learning rate grows as the gap to the lowest loss closes.

Where the curvature is bounded by the loss gap, ||Hess f(w)|| <= K0 + Krho Delta^rho with Delta = f(w) - f* (Liu, Ge,
Pan, Kang & Zhang, arXiv 2509.07972), a step of 1 / (K0 + Krho Delta^rho) is safe. As a share of the step 1 / K0 that
is safe at the bottom it is

    1 / (1 + kappa (Delta / Delta_0)^rho),   kappa = Krho Delta_0^rho / K0,

a warmup that needs losses instead of a length. Where the loss stays far from its lowest value this would never reach
1, so kappa is faded out with time, on a straight line. This form, its smoothing and its hand-over are ours, derived
from the paper's assumption; the paper's own schedule could not be read. rho = 1 is the (H0, H1)-smoothness of
Alimisis, Islamov & Lucchi (arXiv 2510.03164). Both are about gradient descent; under Adam the rule is a heuristic.
"""

import math
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.choice import warn_of_optimizer
from hf_warmup.lr_scheduler.handover import bind_handover
from hf_warmup.lr_scheduler.names import (
    check_length,
    check_numbers,
    check_schedule,
)
from hf_warmup.lr_scheduler.notices import say_once
from hf_warmup.lr_scheduler.process_group import mean_over_processes, num_processes
from hf_warmup.lr_scheduler.scheduler import WarmupScheduler
from hf_warmup.lr_scheduler.trainer_losses import feed_trainer_losses
from hf_warmup.lr_scheduler.updates import unwrap
from hf_warmup.schedules import Schedule
from hf_warmup.schedules.tables import DECAYS


# A single loss may at most double the smoothed gap.
_LARGEST_JUMP = 2.0
_UPDATES_WITHOUT_LOSS = 10


def loss_multiplier(gap_ratio: float, *, kappa: float, rho: float) -> float:
    """1 / (1 + kappa (Delta / Delta_0)^rho), in (0, 1].

    Args:
        gap_ratio: Delta / Delta_0, >= 0.
        kappa: curvature at the start that is due to the gap, over the rest, >= 0.
        rho: exponent of the gap, > 0.

    Example:
        >>> loss_multiplier(1.0, kappa=9.0, rho=1.0), loss_multiplier(0.0, kappa=9.0, rho=1.0)
        (0.1, 1.0)
    """
    growth: float = gap_ratio**rho
    return 1.0 / (1.0 + kappa * growth)


class LossAdaptiveScheduler(WarmupScheduler):
    """Learning rate = base x loss_multiplier, of a kappa that fades, x decay; built by `get_loss_adaptive_schedule`.

    Losses are averaged over an update's passes and over processes, so that all have the same rate (one host
    synchronization an update), and smoothed exponentially. A loss that is not finite, or not above `f_star`, tells
    nothing and is passed over. If the first one is not above it, as in reinforcement learning, where losses start at
    0, there is no gap to measure others by: then kappa fades with time alone.

    Args:
        optimizer: whose param groups are driven.
        fades: per param group, the share of kappa that is left by now; must reach 0.
        kappa, rho: see `loss_multiplier`.
        f_star: the lowest loss there is.
        smoothing: weight of the past in the moving average of losses, in [0, 1).
        monotone: let the gap only fall, so that the multiplier only rises.
        options: as of `WarmupScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        fades: list[Schedule],
        kappa: float,
        rho: float,
        f_star: float,
        smoothing: float,
        monotone: bool,
        **options: Any,
    ) -> None:
        self._kappa, self._rho, self._f_star = kappa, rho, f_star
        self._smoothing, self._monotone = smoothing, monotone
        self._pending: list[float | torch.Tensor] = []
        self._seen = {"initial_gap": math.nan, "smoothed_gap": math.nan, "gap": math.nan, "updates": 0}
        super().__init__(optimizer, warmups=fades, **options)

    def observe(self, loss: float | torch.Tensor) -> None:
        """Take note of the training loss of one forward pass of this process; `step` uses their mean."""
        self._pending.append(loss.detach() if isinstance(loss, torch.Tensor) else loss)

    def step(self, epoch: int | None = None, *, loss: float | torch.Tensor | None = None) -> None:
        """Advance by one scheduler step.

        Args:
            epoch: not supported.
            loss: of the update just made, unless `observe` was told it.

        Raises:
            ConfigError: if 10 updates were made and no loss has come.
        """
        if loss is not None:
            self.observe(loss)
        # Accelerate's wrapper advances several times after one update, with the same loss: one of them counts.
        if self.updates != self._seen["updates"] or not self._counter.sees_updates:
            self._take_in()
            self._seen["updates"] = self.updates
        self._pending.clear()
        super().step(epoch)

    def _take_in(self) -> None:
        if self._pending:
            gap = self._mean_loss() - self._f_star
            if math.isfinite(gap):
                self._follow_gap(gap)
        elif math.isnan(self._seen["initial_gap"]) and self.updates >= _UPDATES_WITHOUT_LOSS:
            raise ConfigError(
                f"{self.updates} updates and no loss: a loss-adaptive warmup follows the training loss. In your own "
                f"loop call scheduler.step(loss=loss); transformers' Trainer passes it by itself if it was imported "
                f"before the scheduler was built."
            )

    def _follow_gap(self, gap: float) -> None:
        seen = self._seen
        if math.isnan(seen["initial_gap"]):
            # An initial gap of 0 marks a warmup that goes by time alone.
            gap = max(gap, 0.0)
            seen.update(initial_gap=gap, smoothed_gap=gap, gap=gap)
            if not gap:
                say_once(
                    f"the first loss is not above f_star={self._f_star:g}, the lowest loss there is, so a "
                    f"loss-adaptive warmup has nothing to follow: it goes by time alone. Pass a lower f_star, or use "
                    f"untuned_linear_warmup."
                )
            return
        if gap <= 0 or not seen["initial_gap"]:
            return
        gap = min(gap, _LARGEST_JUMP * seen["smoothed_gap"])
        seen["smoothed_gap"] = self._smoothing * seen["smoothed_gap"] + (1.0 - self._smoothing) * gap
        seen["gap"] = min(seen["gap"], seen["smoothed_gap"]) if self._monotone else seen["smoothed_gap"]

    def _mean_loss(self) -> float:
        values = [float(loss) for loss in self._pending]
        mean = math.fsum(values) / len(values)
        if num_processes() == 1:
            return mean
        device = self.optimizer.param_groups[0]["params"][0].device
        return float(mean_over_processes(torch.tensor(mean, dtype=torch.float64, device=device)))

    def _pair_values(self) -> list[float]:
        gap, initial = self._seen["gap"], self._seen["initial_gap"]
        ratio = gap / initial if initial > 0 else 1.0
        steps = self.updates if self._decay_in_updates else self.last_epoch
        return [
            loss_multiplier(ratio, kappa=self._kappa * fade(self.updates), rho=self._rho) * decay(steps)
            for fade, decay in self._pairs
        ]

    def state_dict(self) -> dict[str, Any]:
        """Both clocks, the base learning rates and what was seen of the loss, as plain numbers."""
        return {**super().state_dict(), "loss": dict(self._seen)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: if the state is of another scheduler or another number of param groups.
        """
        if "loss" not in state_dict:
            raise ValueError("this state is not of a loss-adaptive schedule: it has no losses.")
        self._seen = dict(state_dict["loss"])
        super().load_state_dict(state_dict)


def get_loss_adaptive_schedule(
    optimizer: Any,
    num_warmup_steps: float | None = 0,
    num_training_steps: int | None = None,
    *,
    decay: str | Schedule = "linear",
    rho: float = 1.0,
    initial_multiplier: float = 0.1,
    kappa: float | None = None,
    f_star: float = 0.0,
    smoothing: float = 0.9,
    monotone: bool = True,
    handover_updates: float | None = None,
    min_lr_ratio: float | None = None,
    power: float | None = None,
    decay_ratio: float | None = None,
    last_epoch: int = -1,
) -> LRScheduler:
    """A warmup that follows the loss times a decay; `loss_adaptive_warmup` for transformers.

    Args:
        optimizer: torch optimizer, or Accelerate's wrapper around one.
        num_warmup_steps: must be 0 or None: the loss takes its place.
        num_training_steps: length of the run in scheduler steps; may be None for decays that need none.
        decay: a key of `schedules.tables.DECAYS`, or a function from the scheduler steps made to a multiplier.
        rho: exponent of the loss gap in the curvature's bound, > 0; 1 is Alimisis et al.'s.
        initial_multiplier: share of the learning rate at the first update, in (0, 1]; sets kappa = 1 / it - 1.
        kappa: instead of `initial_multiplier`, such as from `fit_smoothness`.
        f_star: lowest loss there is.
        smoothing: weight of the past in the moving average of losses, in [0, 1).
        monotone: the multiplier only rises.
        handover_updates: updates after which the warmup is over whatever the loss: until then kappa fades on a
            straight line. By default 2 / (1 - beta2) of each param group, the untuned rule's length, at most a
            quarter of the run; math.inf for never.
        min_lr_ratio, power, decay_ratio: of the decay, see `get_schedule`.
        last_epoch: as in torch's schedulers.

    Raises:
        ValueError: for an unknown decay, an option out of range, a warmup length, or an optimizer without betas where
            neither `handover_updates` nor `num_training_steps` is given.
    """
    check_schedule("decay", decay, DECAYS)
    options = {"min_lr_ratio": min_lr_ratio, "power": power, "decay_ratio": decay_ratio}
    check_numbers(
        num_warmup_steps=num_warmup_steps,
        num_training_steps=num_training_steps,
        rho=rho,
        initial_multiplier=initial_multiplier,
        kappa=kappa,
        f_star=f_star,
        smoothing=smoothing,
        handover_updates=handover_updates,
        **options,
    )
    _check(num_warmup_steps, rho, initial_multiplier, kappa, smoothing, handover_updates)
    if not math.isfinite(f_star):
        raise ValueError(f"f_star must be finite, got {f_star!r}; it is the lowest loss there is.")
    if not isinstance(monotone, bool):
        raise ValueError(f"monotone must be true or false, got {monotone!r}.")
    check_length(decay, num_training_steps)
    feed_trainer_losses()
    optimizer = unwrap(optimizer)
    warn_of_optimizer(optimizer, "a loss-adaptive warmup", takes_beta2=handover_updates is None)
    binding = partial(
        bind_handover, decay=decay, handover=handover_updates, length=num_training_steps, options=options
    )
    fades, decays = binding(optimizer.param_groups)
    return LossAdaptiveScheduler(
        optimizer,
        fades=fades,
        kappa=1.0 / initial_multiplier - 1.0 if kappa is None else kappa,
        rho=rho,
        f_star=f_star,
        smoothing=smoothing,
        monotone=monotone,
        decays=decays,
        decay_in_updates=decay == "inverse_sqrt",
        binding=binding,
        last_epoch=last_epoch,
    )


def _check(
    num_warmup_steps: float | None,
    rho: float,
    initial_multiplier: float,
    kappa: float | None,
    smoothing: float,
    handover_updates: float | None,
) -> None:
    if num_warmup_steps:
        raise ValueError(
            f"a loss-adaptive warmup takes no length, but num_warmup_steps={num_warmup_steps} was given. Write "
            f"warmup_steps=0; handover_updates bounds its length."
        )
    for name, value, fits, allowed in (
        ("rho", rho, 0 < rho < math.inf, "positive and finite"),
        ("initial_multiplier", initial_multiplier, 0 < initial_multiplier <= 1, "in (0, 1]"),
        ("kappa", kappa, kappa is None or 0 <= kappa < math.inf, "at least 0 and finite"),
        ("smoothing", smoothing, 0 <= smoothing < 1, "in [0, 1)"),
        ("handover_updates", handover_updates, handover_updates is None or handover_updates > 0, "positive"),
    ):
        if not fits:
            raise ValueError(f"{name} must be {allowed}, got {value!r}.")
