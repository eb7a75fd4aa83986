"""The smallest step between two scores that there can be: what a spread must reach before it means anything.

An accuracy over 300 test examples is k/300, so runs that differ by less may tie. Where the number of examples is not
known, the scores themselves show their step.
"""

from collections.abc import Sequence

import numpy as np


# Scores that are nearer than this share of the largest differ by rounding (float32 keeps seven digits).
ROUNDING = 1e-6


def score_resolution(scores: Sequence[float]) -> float:
    """The largest step of which all differences between scores are multiples, up to rounding.

    Scores without a common step, such as losses, give a number of the size of rounding. Equal scores show no step.

    Args:
        scores: of all arms and seeds.

    Returns:
        The step, in units of the score; at least a millionth of the largest score.

    Example:
        >>> round(300 * score_resolution([271 / 300, 274 / 300, 281 / 300]), 6)
        1.0
    """
    values = np.unique(np.asarray(scores, dtype=float))
    least = ROUNDING * float(np.abs(values).max(initial=0.0))
    step = 0.0
    for gap in np.diff(values):
        step = _common_step(float(gap), step, least)
    return max(step, least)


def _common_step(larger: float, smaller: float, least: float) -> float:
    """Euclid's algorithm, in which a remainder below `least` is none."""
    while smaller > least:
        larger, smaller = smaller, abs(larger - round(larger / smaller) * smaller)
    return larger if larger > least else 0.0
