"""The interval about a verified accuracy, with the standard library alone."""

import math
from typing import Any


# Of Clopper and Pearson's interval.
CONFIDENCE = 0.95


def is_interval(stated: Any, successes: int, trials: int) -> bool:
    """Whether two numbers are the ends of Clopper and Pearson's interval, to nine digits: beyond each of them, what
    was found would be found with a probability of less than (1 - CONFIDENCE) / 2.

    Source: Clopper & Pearson, Biometrika 26, 1934.
    """
    if not isinstance(stated, list) or len(stated) != 2 or any(type(end) is not float for end in stated):
        return False
    low, high = stated
    if not 0 <= low <= high <= 1:
        return False
    rare = (1 - CONFIDENCE) / 2
    return (low == 0 if successes == 0 else abs(_tail(successes, trials, low) - rare) < 1e-9) and (
        high == 1 if successes == trials else abs(_tail(trials - successes, trials, 1 - high) - rare) < 1e-9
    )


def _tail(least: int, trials: int, share: float) -> float:
    """The probability of at least so many successes."""
    if not 0 < share < 1:
        return 0.0 if share <= 0 else 1.0
    whole, logs = math.lgamma(trials + 1), (math.log(share), math.log1p(-share))
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * logs[0] + (trials - k) * logs[1])
        for k in range(least, trials + 1)
    )
