"""Warmups: schedules that rise from (almost) 0 to 1. `t = step + 1` is the update about to be made."""

import math

from hf_warmup.schedules._checks import check_beta2, check_positive


def linear_warmup(step: int, *, period: float) -> float:
    """Linear warmup, `min(1, t / period)` with `t = step + 1`.

    Unlike transformers' own linear warmup (`step / period`) it does not waste the first update on multiplier 0.

    Args:
        period: length of the warmup, > 0; need not be whole.

    Source: Ma & Yarats, arXiv 1910.04209, section 5.

    Example:
        >>> linear_warmup(0, period=4), linear_warmup(1, period=4), linear_warmup(9, period=4)
        (0.25, 0.5, 1.0)
    """
    check_positive("period", period)
    return min(1.0, (step + 1) / period)


def exponential_warmup(step: int, *, period: float) -> float:
    """Exponential warmup, `1 - exp(-t / period)` with `t = step + 1` and time constant `period` > 0.

    Source: Ma & Yarats, arXiv 1910.04209, section 5.

    Example:
        >>> round(exponential_warmup(0, period=4), 4), round(exponential_warmup(39, period=4), 4)
        (0.2212, 1.0)
    """
    check_positive("period", period)
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
    check_beta2(beta2)
    return min(1.0, (step + 1) * (1.0 - beta2) / 2.0)


def untuned_exponential_warmup(step: int, *, beta2: float) -> float:
    """Exponential warmup with time constant `1 / (1 - beta2)`: `1 - exp(-(1 - beta2) t)`, `t = step + 1`.

    Source: Ma & Yarats, arXiv 1910.04209, section 5.1.

    Example:
        >>> round(untuned_exponential_warmup(0, beta2=0.98), 6)
        0.019801
    """
    check_beta2(beta2)
    return -math.expm1(-(1.0 - beta2) * (step + 1))


RADAM_THRESHOLDS = (4.0, 5.0)
FIRST_RECTIFIED = "first_rectified"


def radam_warmup(step: int, *, beta2: float, threshold: float = 5.0, start: str = "zero") -> float:
    """RAdam's rectification `r_t` as a warmup for plain Adam.

    `rho_inf = 2 / (1 - beta2) - 1`, `rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)` and
    `r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))` while `rho_t > threshold`.
    Before that RAdam takes a few steps of momentum SGD, which no multiplier of Adam can imitate: here those updates
    have multiplier 0. From there on Adam under this schedule *is* RAdam, without weight decay: a decoupled decay
    follows the learning rate, so that r_t scales it here and not in RAdam.

    Args:
        beta2: Adam's decay rate of the second moment, in (0.6, 1): below, `rho_inf <= 4` and RAdam never rectifies.
        threshold: 5 as in torch.optim.RAdam and the authors' code, or 4 as in the paper.
        start: "zero" stands still until the first rectified update; "first_rectified" begins at that update's
            value at once, so that no update is wasted, and holds it until then (pytorch_warmup begins at once too,
            but shifts the whole curve: its update t has r_(t+4)).

    Source: Liu et al. 2019, arXiv 1908.03265, algorithm 2; as a warmup: Ma & Yarats, arXiv 1910.04209, section 3.

    Example:
        >>> radam_warmup(4, beta2=0.999), round(radam_warmup(5, beta2=0.999), 10)
        (0.0, 0.0258211128)
        >>> round(radam_warmup(4, beta2=0.999, threshold=4), 10)
        0.0173115032
    """
    check_beta2(beta2)
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
