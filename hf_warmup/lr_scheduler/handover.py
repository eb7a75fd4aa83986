"""How a loss-adaptive warmup ends: what its loss term weighs falls to 0 over a number of updates."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hf_warmup.lr_scheduler.choice import bind_decay
from hf_warmup.lr_scheduler.names import group_beta2, holds_beta2, untuned_period
from hf_warmup.schedules import Schedule, linear_decay


# Without betas the warmup is over after this share of the run, and with them at the latest then.
_LONGEST_SHARE = 0.25


def bind_handover(
    groups: Sequence[Mapping[str, Any]],
    *,
    decay: str | Schedule,
    handover: float | None,
    length: int | None,
    options: Mapping[str, float | None],
) -> tuple[list[Schedule], list[Schedule]]:
    """The share of kappa that is left and the decay, for each param group; equal ones are shared."""
    periods = [handover or _handover(group, index, length) for index, group in enumerate(groups)]
    pairs = {
        period: (partial(linear_decay, num_training_steps=period), bind_decay(decay, period, length, **options))
        for period in dict.fromkeys(periods)
    }
    return [pairs[period][0] for period in periods], [pairs[period][1] for period in periods]


def _handover(group: Mapping[str, Any], index: int, num_training_steps: int | None) -> float:
    longest = math.inf if num_training_steps is None else max(1.0, _LONGEST_SHARE * num_training_steps)
    if not holds_beta2(group) and num_training_steps is not None:
        return longest
    return min(longest, untuned_period(group_beta2(group, index, None)))
