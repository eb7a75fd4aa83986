"""The ramp of a perturbation radius, the two ways of joining schedules, and what a warmup costs in updates."""

import math
from collections.abc import Callable


Schedule = Callable[[int], float]


def smoothed_ramp(step: int, *, start: int, length: int) -> float:
    """Ramp from 0 to 1 for a perturbation radius: quartic for the first quarter, then linear with equal slope.

    With `mid` a quarter of the way (whole steps): `a (step - start)^4` before `mid`, a straight line from there to 1
    at `start + length`, where `a` makes value and slope continuous.

    Args:
        start: the last step at 0.
        length: steps of the ramp, >= 1.

    Source: Shi et al., arXiv 2103.17268, appendix; the schedule of their published code.

    Example:
        >>> [round(smoothed_ramp(s, start=10, length=100), 6) for s in (10, 35, 110)]
        [0.0, 0.076923, 1.0]
    """
    if length < 1:
        raise ValueError(f"length must be at least 1 step, got {length!r}.")
    quarter = int(length * 0.25)
    elapsed = step - start
    if elapsed <= 0:
        return 0.0
    at_quarter = quarter / (4 * (length - quarter) + quarter)
    if elapsed < quarter:
        return at_quarter * (elapsed / quarter) ** 4
    return min(1.0, at_quarter + (1.0 - at_quarter) * (elapsed - quarter) / (length - quarter))


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
