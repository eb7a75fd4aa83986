"""Schedules: pure functions `step -> multiplier`, and nothing else.

Whatever changes over training is one of these: the warmup and the decay of the learning rate, the ramp of a
perturbation radius, the weight of a regularizer. `step` is the number of optimizer updates already made, so the value
belongs to the *next* update, the papers' `t = step + 1`. There is no object to advance: bind the keywords with
`functools.partial`, pickle the result, and resume by passing the step. Periods and lengths are in optimizer updates;
a keyword outside its stated range is a `ValueError`. Deliberately absent: torch, and state.
"""

import math
from collections.abc import Callable, Sequence


Schedule = Callable[[int], float]


def _check_beta2(beta2: float) -> None:
    if not 0.0 < beta2 < 1.0:
        raise ValueError(f"beta2 must lie strictly between 0 and 1, got {beta2!r}; Adam's usual value is 0.999.")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value!r}.")


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")


# Warmups: from (almost) 0 to 1.


def linear_warmup(step: int, *, period: float) -> float:
    """Linear warmup, `min(1, t / period)` with `t = step + 1`.

    Unlike transformers' own linear warmup (`step / period`) it does not waste the first update on multiplier 0.

    Args:
        period: length of the warmup in updates, > 0; need not be whole.

    Source: Ma & Yarats, arXiv 1910.04209, section 5.

    Example:
        >>> linear_warmup(0, period=4), linear_warmup(1, period=4), linear_warmup(9, period=4)
        (0.25, 0.5, 1.0)
    """
    _check_positive("period", period)
    return min(1.0, (step + 1) / period)


def exponential_warmup(step: int, *, period: float) -> float:
    """Exponential warmup, `1 - exp(-t / period)` with `t = step + 1`.

    Args:
        period: time constant in updates, > 0.

    Source: Ma & Yarats, arXiv 1910.04209, section 5.

    Example:
        >>> round(exponential_warmup(0, period=4), 4), round(exponential_warmup(39, period=4), 4)
        (0.2212, 1.0)
    """
    _check_positive("period", period)
    return -math.expm1(-(step + 1) / period)


def untuned_linear_warmup(step: int, *, beta2: float) -> float:
    """Linear warmup over `2 / (1 - beta2)` updates: the paper's recommended default, with nothing to tune.

    The period is never rounded: `min(1, t (1 - beta2) / 2)` with `t = step + 1`.

    Args:
        beta2: Adam's decay rate of the second moment, in (0, 1).

    Source: Ma & Yarats, arXiv 1910.04209, section 5.2.

    Example:
        >>> untuned_linear_warmup(0, beta2=0.75), untuned_linear_warmup(3, beta2=0.75)
        (0.125, 0.5)
        >>> untuned_linear_warmup(100, beta2=0.75)
        1.0
    """
    _check_beta2(beta2)
    return min(1.0, (step + 1) * (1.0 - beta2) / 2.0)


def untuned_exponential_warmup(step: int, *, beta2: float) -> float:
    """Exponential warmup with time constant `1 / (1 - beta2)`: `1 - exp(-(1 - beta2) t)`, `t = step + 1`.

    Args:
        beta2: Adam's decay rate of the second moment, in (0, 1).

    Source: Ma & Yarats, arXiv 1910.04209, section 5.1.

    Example:
        >>> round(untuned_exponential_warmup(0, beta2=0.98), 6)
        0.019801
    """
    _check_beta2(beta2)
    return -math.expm1(-(1.0 - beta2) * (step + 1))


RADAM_THRESHOLDS = (4.0, 5.0)
FIRST_RECTIFIED = "first_rectified"


def radam_warmup(step: int, *, beta2: float, threshold: float = 5.0, start: str = "zero") -> float:
    """RAdam's rectification `r_t` as a warmup for plain Adam.

    `rho_inf = 2 / (1 - beta2) - 1`, `rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)` and
    `r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))` while `rho_t > threshold`.
    Before that RAdam takes a few steps of momentum SGD, which no multiplier of Adam can imitate: here those updates
    have multiplier 0. From there on Adam under this schedule *is* RAdam.

    Args:
        beta2: Adam's decay rate of the second moment, in (0.6, 1): below, `rho_inf <= 4` and RAdam never rectifies.
        threshold: 5 as in torch.optim.RAdam and the authors' code, or 4 as in the paper.
        start: "zero" stands still until the first rectified update; "first_rectified" begins at that update's
            value at once, so that no update is wasted (as pytorch_warmup does).

    Source: Liu et al. 2019, arXiv 1908.03265, algorithm 2; as a warmup: Ma & Yarats, arXiv 1910.04209, section 3.

    Example:
        >>> radam_warmup(4, beta2=0.999), round(radam_warmup(5, beta2=0.999), 10)
        (0.0, 0.0258211128)
        >>> round(radam_warmup(4, beta2=0.999, threshold=4), 10)
        0.0173115032
    """
    _check_beta2(beta2)
    if threshold not in RADAM_THRESHOLDS:
        raise ValueError(f"threshold must be 4 (the paper) or 5 (torch), got {threshold!r}.")
    if start not in ("zero", FIRST_RECTIFIED):
        raise ValueError(f"start must be 'zero' or '{FIRST_RECTIFIED}', got {start!r}.")
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    if rho_inf <= threshold:
        raise ValueError(
            f"beta2={beta2} gives rho_inf={rho_inf:.3g}, at or below the threshold {threshold:g}: RAdam would never "
            f"rectify. Use a beta2 above {1 - 2 / (threshold + 1):.4g}."
        )
    t = step + 1
    if start == FIRST_RECTIFIED:
        while _rho(t, beta2) <= threshold:
            t += 1
    rho = _rho(t, beta2)
    if rho <= threshold:
        return 0.0
    return math.sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))


def _rho(t: int, beta2: float) -> float:
    # The published form subtracts two numbers near 2 / (1 - beta2) and loses digits just where rho_t - 4 is small.
    # While t is small the same quantity is -1 + 2 sum (k+1) beta2^k / sum beta2^k over k < t: all terms positive.
    if t <= 32:
        powers = [beta2**k for k in range(t)]
        return 2.0 * math.fsum((k + 1) * p for k, p in enumerate(powers)) / math.fsum(powers) - 1.0
    log_power = t * math.log(beta2)
    return 2.0 / (1.0 - beta2) - 1.0 + 2.0 * t * math.exp(log_power) / math.expm1(log_power)


# Decays: from 1 downwards.


def constant(step: int) -> float:
    """No decay: 1 for ever."""
    return 1.0


def _progress(step: float, num_training_steps: float) -> float:
    _check_positive("num_training_steps", num_training_steps)
    return min(1.0, max(0.0, step / num_training_steps))


def linear_decay(step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0) -> float:
    """Straight line from 1 at step 0 to `min_lr_ratio` at `num_training_steps` and after.

    Args:
        num_training_steps: length of the run in updates.
        min_lr_ratio: floor, as a fraction of the base learning rate, in [0, 1].

    Example:
        >>> [linear_decay(s, num_training_steps=4) for s in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """
    _check_fraction("min_lr_ratio", min_lr_ratio)
    return 1.0 - (1.0 - min_lr_ratio) * _progress(step, num_training_steps)


def cosine_decay(step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0) -> float:
    """Half a cosine from 1 to `min_lr_ratio` over `num_training_steps` updates (SGDR without restarts).

    Args: as `linear_decay`.

    Source: Loshchilov & Hutter, arXiv 1608.03983, equation 5.

    Example:
        >>> [round(cosine_decay(s, num_training_steps=4, min_lr_ratio=0.1), 3) for s in (0, 2, 4)]
        [1.0, 0.55, 0.1]
    """
    _check_fraction("min_lr_ratio", min_lr_ratio)
    half_cosine = 0.5 * (1.0 + math.cos(math.pi * _progress(step, num_training_steps)))
    return min_lr_ratio + (1.0 - min_lr_ratio) * half_cosine


def polynomial_decay(
    step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0, power: float = 2.0
) -> float:
    """`(1 - step / num_training_steps)^power`, scaled to end at `min_lr_ratio`.

    Args:
        num_training_steps: length of the run in updates.
        min_lr_ratio: floor, as a fraction of the base learning rate, in [0, 1].
        power: exponent, > 0; 1 is `linear_decay`.

    Example:
        >>> [polynomial_decay(s, num_training_steps=4) for s in (0, 2, 4)]
        [1.0, 0.25, 0.0]
    """
    _check_fraction("min_lr_ratio", min_lr_ratio)
    _check_positive("power", power)
    return min_lr_ratio + (1.0 - min_lr_ratio) * (1.0 - _progress(step, num_training_steps)) ** power


def inverse_sqrt_decay(step: int, *, timescale: float) -> float:
    """`sqrt(timescale / t)` once `t = step + 1` exceeds `timescale`, 1 before.

    Times a linear warmup of the same period it is the Transformer's schedule.

    Args:
        timescale: updates at full rate before the decay sets in, > 0.

    Source: Vaswani et al., arXiv 1706.03762, section 5.3.

    Example:
        >>> [inverse_sqrt_decay(s, timescale=4) for s in (0, 3, 15)]
        [1.0, 1.0, 0.5]
    """
    _check_positive("timescale", timescale)
    return math.sqrt(timescale / max(step + 1, timescale))


def wsd_decay(step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0, decay_ratio: float = 0.1) -> float:
    """Warmup-stable-decay's second half: 1, then a straight line to `min_lr_ratio` over the run's last part.

    Args:
        num_training_steps: length of the run in updates.
        min_lr_ratio: floor, as a fraction of the base learning rate, in [0, 1].
        decay_ratio: share of the run that decays, in (0, 1].

    Source: Hu et al. (MiniCPM), arXiv 2404.06395, section 4.

    Example:
        >>> [wsd_decay(s, num_training_steps=100, decay_ratio=0.5) for s in (0, 50, 75, 100)]
        [1.0, 1.0, 0.5, 0.0]
    """
    _check_positive("decay_ratio", decay_ratio)
    _check_fraction("decay_ratio", decay_ratio)
    decay_steps = decay_ratio * num_training_steps
    return linear_decay(
        max(0.0, step - (num_training_steps - decay_steps)),  # type: ignore[arg-type]
        num_training_steps=decay_steps,  # type: ignore[arg-type]
        min_lr_ratio=min_lr_ratio,
    )


def multistep_decay(step: int, *, milestones: Sequence[int], factor: float) -> float:
    """`factor` to the number of milestones reached, as torch's MultiStepLR.

    Args:
        milestones: steps, increasing, at which the rate drops.
        factor: what it is multiplied by at each, in [0, 1].

    Example:
        >>> [multistep_decay(s, milestones=(2, 4), factor=0.5) for s in (1, 2, 4)]
        [1.0, 0.5, 0.25]
    """
    _check_fraction("factor", factor)
    if list(milestones) != sorted(milestones):
        raise ValueError(f"milestones must increase, got {list(milestones)!r}.")
    return factor ** sum(step >= milestone for milestone in milestones)


# Ramps and joints.


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
        >>> warmup = partial(linear_warmup, period=2)
        >>> product(0, factors=(warmup, partial(linear_decay, num_training_steps=4)))
        0.5
    """
    return math.prod(factor(step) for factor in factors)


def after(step: int, *, first: Schedule, num_steps: int, then: Schedule) -> float:
    """`first` for `num_steps` steps, then `then` with its clock started afresh.

    Example:
        >>> from functools import partial
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
