"""The ramp of a perturbation radius, the two ways of joining schedules, and what a warmup costs in updates."""

import math
from collections.abc import Callable


Schedule = Callable[[int], float]


def product(step: int, *, factors: tuple[Schedule, ...]) -> float:
    """Product of several schedules at one step: a warmup times a decay.

    Example:
        >>> from functools import partial
        >>> from hf_warmup.schedules import linear_decay, linear_warmup
        >>> warmup = partial(linear_warmup, period=2)
        >>> product(0, factors=(warmup, partial(linear_decay, num_training_steps=4)))
        0.5
    """
    return math.prod(factor(step) for factor in factors)


def after(step: int, *, first: Schedule, num_steps: int, then: Schedule) -> float:
    """`first` for `num_steps` steps, then `then` with its clock started afresh.

    Example:
        >>> from functools import partial
        >>> from hf_warmup.schedules import constant, linear_decay
        >>> schedule = partial(after, first=constant, num_steps=10, then=partial(linear_decay, num_training_steps=4))
        >>> schedule(9), schedule(10), schedule(12)
        (1.0, 1.0, 0.5)
    """
    return first(step) if step < num_steps else then(step - num_steps)


def effective_warmup_period(schedule: Schedule, *, max_steps: int = 10_000_000) -> float:
    """The updates that a warmup costs: `T = sum over t >= 1 of (1 - omega_t)`.

    Args:
        schedule: a warmup, rising to 1.
        max_steps: where to give up.

    Returns:
        T in updates: (period - 1) / 2 for a linear warmup of whole period.

    Source: Ma & Yarats, arXiv 1910.04209, section 4.

    Example:
        >>> from functools import partial
        >>> from hf_warmup.schedules import linear_warmup
        >>> effective_warmup_period(partial(linear_warmup, period=20))
        9.5
    """
    total, step, size = 0.0, 0, 1024
    while step < max_steps:
        block = math.fsum(1.0 - schedule(s) for s in range(step, step + size))
        total += block
        if abs(block) <= 1e-14 * max(1.0, total):
            return total
        step, size = step + size, 2 * size
    raise ValueError(f"the schedule does not settle at 1 within {max_steps} updates, so it has no effective period.")
