"""Looks at a growing number of pairs, declared beforehand, so that stopping early does not raise the error rates.

A study may look after 5, 8, 12, ... seeds and stop as soon as it is decided. Each look then spends a part of alpha,
and its tests use a smaller nominal level. An arm is *different* if the paired t test's p is below the two-sided level,
*equivalent* if both one-sided p are below the one-sided level. The two claims share no alpha, because at no true
difference are both wrong. Deliberately absent: which arms still run, which the study decides.

Source: Lan & DeMets, Biometrika 70, 1983 (spending); Jennison & Turnbull, Group Sequential Methods, 2000, chapters 3
(nominal levels applied to t tests) and 19 (numerical integration).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri


Array = NDArray[np.float64]

SPENDING = ("pocock", "obrien_fleming")
FIRST_LOOK = 5
# t statistics of few pairs cross the bounds of the Brownian motion a little too often: at alpha = .05 in up to .0556
# of simulated studies (looks at every n from 5 to 40), so a plan spends nine tenths of its alpha.
_SPENT = 0.9
# Nodes of the Gauss-Legendre rule, and where a normal deviate may be taken as infinite.
_NODES, _FAR = np.polynomial.legendre.leggauss(120), 12.0


@dataclass(frozen=True)
class Plan:
    """Looks that are declared before anything runs.

    Attributes:
        looks: numbers of pairs at which the study is judged, increasing, the first at least 5.
        spending: "pocock" decides early; "obrien_fleming" keeps almost all of alpha for the last looks, and keeps its
            level better where differences are skewed.
        alpha: bound of either error rate over all looks together.

    Raises:
        ValueError: for looks that do not increase or begin too early, and for values out of range.
    """

    looks: tuple[int, ...] = (5, 8, 12, 20, 30)
    spending: str = "pocock"
    alpha: float = 0.05

    def __post_init__(self) -> None:
        looks = tuple(self.looks)
        if not looks or looks[0] < FIRST_LOOK or any(b <= a for a, b in zip(looks, looks[1:], strict=False)):
            raise ValueError(
                f"looks must increase and begin at {FIRST_LOOK} or more pairs, such as 5, 8, 12, 20, 30; got {looks}."
            )
        _check(self.spending, self.alpha)
        object.__setattr__(self, "looks", looks)

    def look(self, n: int) -> int | None:
        """Which look `n` pairs are, from 1 on; None between looks and outside the plan."""
        return self.looks.index(n) + 1 if n in self.looks else None

    def levels(self, n: int, *, num_tests: int = 1) -> tuple[float, float]:
        """Levels for p at `n` pairs: of the two-sided t test, and of either one-sided test.

        Pairs outside the plan have the plain level, whose cost `error_rate` says.

        Args:
            n: number of pairs.
            num_tests: tests (tasks) that share alpha equally.
        """
        alpha, look = self.alpha / num_tests, self.look(n)
        if look is None:
            return alpha, alpha
        two, one = (nominal_levels(self.looks, alpha * _SPENT, spending=self.spending, sides=s) for s in (2, 1))
        return two[look - 1], one[look - 1]

    def error_rate(self, n: int) -> float:
        """Chance of a false "different" if `n` pairs, in the plan or not, are judged after the looks before them."""
        before = [look for look in self.looks if look < n]
        return false_different([*before, n], [self.levels(look)[0] for look in [*before, n]])


@cache
def nominal_levels(
    looks: tuple[int, ...], alpha: float = 0.05, *, spending: str = "pocock", sides: int = 2
) -> tuple[float, ...]:
    """Level of each look's p value so that the Brownian motion crosses at any look with chance `alpha`.

    With the share of information t = n / n_last, alpha*(t) is spent by look t: alpha ln(1 + (e - 1) t) for "pocock",
    2 (1 - Phi(z_{1 - alpha/2} / sqrt t)) for "obrien_fleming".

    Args:
        looks: increasing numbers of pairs.
        alpha: chance of crossing at any look.
        spending: "pocock" or "obrien_fleming".
        sides: 2 for the test of a difference, 1 for either test of TOST.

    Raises:
        ValueError: for an unknown spending function and an alpha out of range.

    Example:
        >>> [round(level, 4) for level in nominal_levels((5, 8, 12, 20, 30))]
        [0.0126, 0.01, 0.012, 0.0178, 0.0206]
    """
    _check(spending, alpha)
    motion, spent, levels = _Motion(sides), 0.0, []
    for look in looks:
        time = look / looks[-1]
        target = _spent_by(time, alpha, spending) - spent
        spent += target
        far = _FAR * math.sqrt(time)
        bound = far if motion.crossing(time, far) >= target else brentq(_excess, 0.0, far, (motion, time, target))
        motion.advance(time, bound)
        levels.append(sides * float(ndtr(-bound / math.sqrt(time))))
    return tuple(levels)


def false_different(looks: Sequence[int], levels: Sequence[float]) -> float:
    """Chance that the paired t test crosses its level at any of the looks, though there is no difference.

    Args:
        looks: increasing numbers of pairs.
        levels: two-sided level of each look.

    Example:
        >>> round(false_different([20], [0.05]), 3), round(false_different(range(3, 21), [0.05] * 18), 2)
        (0.05, 0.22)
    """
    motion, total = _Motion(sides=2), 0.0
    for look, level in zip(looks, levels, strict=True):
        time = look / looks[-1]
        bound = -float(ndtri(level / 2)) * math.sqrt(time)
        crossing = motion.crossing(time, bound)
        total += crossing / _SPENT if motion.time else crossing
        motion.advance(time, bound)
    return total


class _Motion:
    """Where the Brownian motion may be that has not crossed yet: points and their weights."""

    def __init__(self, sides: int) -> None:
        self.sides, self.time = sides, 0.0
        self.points: Array = np.zeros(1)
        self.weights: Array = np.ones(1)

    def crossing(self, time: float, bound: float) -> float:
        """Chance of not having crossed before and lying beyond `bound` at `time`."""
        deviation = math.sqrt(time - self.time)
        tail = ndtr((self.points - bound) / deviation)
        if self.sides == 2:
            tail = tail + ndtr((-bound - self.points) / deviation)
        return float(self.weights @ tail)

    def advance(self, time: float, bound: float) -> None:
        """Go on to `time`, without what lies beyond `bound`."""
        low = -bound if self.sides == 2 else -_FAR * math.sqrt(time)
        half = (bound - low) / 2
        points = low + half * (1 + _NODES[0])
        deviation = math.sqrt(time - self.time)
        density = np.exp(-(((points[:, None] - self.points) / deviation) ** 2) / 2) / (
            deviation * math.sqrt(2 * math.pi)
        )
        self.weights = density @ self.weights * _NODES[1] * half
        self.points, self.time = points, time


def _excess(bound: float, motion: _Motion, time: float, target: float) -> float:
    return motion.crossing(time, bound) - target


def _spent_by(time: float, alpha: float, spending: str) -> float:
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * time)
    return 2 * float(ndtr(ndtri(alpha / 2) / math.sqrt(time)))


def _check(spending: str, alpha: float) -> None:
    if spending not in SPENDING:
        raise ValueError(f"spending must be one of {', '.join(SPENDING)}; got {spending!r}.")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha}; 0.05 is usual.")
