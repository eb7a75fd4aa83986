"""What a number of pairs could show: power of the paired t test and of TOST, and how many more pairs would decide.

Planning counts that the spread is itself an estimate: power is averaged over what the true spread may be, given the
observed one. Deliberately absent: uncertainty of the difference, which plans take as observed and say so.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr
from statsmodels.stats.power import TTestPower


Array = NDArray[np.float64]

POWER = 0.8
MOST_SEEDS = 1000
# Middles of equally likely parts of a distribution.
_PARTS = (np.arange(48) + 0.5) / 48


def difference_power(n: int, effect: Array, *, alpha: float = 0.05) -> Array:
    """Chance that the two-sided paired t test of `n` pairs finds a difference.

    Args:
        n: number of pairs, at least 2.
        effect: true difference over the true spread of differences, any shape.
        alpha: level.

    Returns:
        Chances, shaped as `effect`.
    """
    center = np.asarray(effect)[..., None] * math.sqrt(n)
    critical = stats.t.isf(alpha / 2, n - 1) * _sample_spreads(n)
    return np.asarray((ndtr(center - critical) + ndtr(-center - critical)).mean(axis=-1))


def equivalence_power(n: int, effect: Array, margin: Array, *, alpha: float = 0.05) -> Array:
    """Chance that TOST of `n` pairs shows equivalence.

    Args:
        n: number of pairs, at least 2.
        effect: true difference over the true spread, any shape.
        margin: margin over the true spread, shaped as `effect`.
        alpha: level of either one-sided test.

    Returns:
        Chances, shaped as `effect`.

    Source: Schuirmann 1987; the chance given the sample's spread, averaged over that spread's distribution.
    """
    root = math.sqrt(n)
    critical = stats.t.isf(alpha, n - 1) * _sample_spreads(n)
    above = np.asarray(margin - effect)[..., None] * root - critical
    below = np.asarray(margin + effect)[..., None] * root - critical
    return np.asarray(np.maximum(0.0, ndtr(above) - ndtr(-below)).mean(axis=-1))


def seeds_for_difference(difference: float, spread: float, n: int, *, alpha: float = 0.05) -> int | None:
    """How many pairs beyond `n` show a difference with power 0.8, if the true difference is the observed one.

    Args:
        difference, spread: mean and standard deviation of the differences of `n` pairs.
        n: number of pairs, at least 2.
        alpha: level of the t test.

    Returns:
        At least 1; None if 1000 are not enough.
    """
    effect = difference / (spread * _true_spreads(n))
    return _search(n, lambda size: float(difference_power(size, effect, alpha=alpha).mean()))


def seeds_for_equivalence(
    difference: float, spread: float, n: int, *, margin: float, alpha: float = 0.05
) -> int | None:
    """How many pairs beyond `n` show equivalence with power 0.8; as `seeds_for_difference`, None beyond the margin."""
    if abs(difference) >= margin:
        return None
    true = spread * _true_spreads(n)
    return _search(
        n, lambda size: float(equivalence_power(size, difference / true, margin / true, alpha=alpha).mean())
    )


def detectable_effect(n: int, alpha: float) -> float:
    """Effect size d_z that a two-sided paired t test of `n` pairs finds with probability 0.8."""
    return float(np.squeeze(TTestPower().solve_power(nobs=n, alpha=alpha, power=POWER)))


def _sample_spreads(n: int) -> Array:
    """Likely values of the sample's spread over the true one."""
    return np.asarray(np.sqrt(stats.chi2.ppf(_PARTS, n - 1) / (n - 1)))


def _true_spreads(n: int) -> Array:
    """Likely values of the true spread over the sample's."""
    return 1 / _sample_spreads(n)


def _search(n: int, power: Callable[[int], float]) -> int | None:
    """The first number of pairs beyond `n` with enough power, which grows with the number."""
    low, high = n, n + MOST_SEEDS
    if power(high) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high - n
