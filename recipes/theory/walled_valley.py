"""The functions of `warmup_gap` and `stochastic_gap`: a valley with a steep wall on one side, a plateau on the other.

f(x, y) = phi(x) + log(1 + exp(-y)), f* = 0, with b = pi / sqrt 2 and

    phi(x) = cosh x - 1 for x >= 0;   (1 - cos(pi x / b)) / 2 for -b <= x <= 0;   1 for x <= -b.

phi and phi' are continuous; |phi''| is cosh x = 1 + phi, |cos(pi x / b)| <= 1, and 0; the other second derivative is
at most 1/4. So apart from the line x = -b, ||Hess f|| <= 1 + f: Liu, Ge, Pan, Kang & Zhang's ||Hess f|| <= K0 + Krho
(f - f*)^rho (arXiv 2509.07972) with rho = K0 = Krho = 1. Their constructions could not be read; this one is ours.

A run of T updates starts at y = 0 and x = X(T) with sinh(X) / (X + b) = T, so that a first step of 1 / T just reaches
the plateau, which has no gradient in x. For large T, X is about log T and f there about T X. The curvature's bound
does not depend on T.

Deliberately absent: convexity. The plateau stands for a run that one step too large has ruined; a convex wall in one
dimension has lucky steps instead, as x^4 has.
"""

from math import exp, log, log1p

import numpy as np
import scipy
from common import Array, Point, Slopes, Step, last, states

from hf_warmup.lr_scheduler.loss_adaptive import loss_multiplier


EDGE = -np.pi / np.sqrt(2)
NOISE = {"A": 0.1, "B": 0.25, "C": 1.0}


def loss(x: Array, y: Array) -> Array:
    """f(x, y)."""
    hill = (1 - np.cos(np.pi * np.maximum(x, EDGE) / EDGE)) / 2
    # A quarter of the time of np.logaddexp(0, -y).
    river = np.maximum(-y, 0) + np.log1p(np.exp(-np.abs(y)))
    return np.where(x >= 0, np.cosh(np.maximum(x, 0)) - 1, hill) + river


def gradient(x: Array, y: Array) -> Point:
    """Both partial derivatives of f; exactly 0 in x on the plateau."""
    hill = (x > EDGE) * np.pi / (2 * EDGE) * np.sin(np.pi * np.maximum(x, EDGE) / EDGE)
    return np.where(x >= 0, np.sinh(np.maximum(x, 0)), hill), -1 / (1 + np.exp(y))


def noisy_gradient(generator: np.random.Generator, runs: int) -> Slopes:
    """The gradient as it is seen: times 1 + sqrt B xi, in y also plus sqrt(A f + C) zeta, xi and zeta random signs.

    `runs` runs lie along the last axis; other axes share the noise, so that they can be compared.
    """

    def slopes(x: Array, y: Array) -> Point:
        xi, zeta = 2.0 * generator.integers(0, 2, (2, runs), dtype=np.int8) - 1
        along_x, along_y = gradient(x, y)
        factor = 1 + NOISE["B"] ** 0.5 * xi
        return factor * along_x, factor * along_y + np.sqrt(NOISE["A"] * loss(x, y) + NOISE["C"]) * zeta

    return slopes


def start(length: int) -> Point:
    """(X, 0) for T = `length`; X in logarithms, so that no T is too large."""

    def excess(x: float) -> float:
        return x + log1p(-exp(-2 * x)) - log(2 * (x - EDGE)) - log(length)

    x = scipy.optimize.brentq(excess, 0.01, 10 + 2 * log(length), xtol=1e-14)
    return np.asarray(x), np.zeros(())


def rule(length: int, peak: float | Array) -> Step:
    """peak / (1 + peak f) = 1 / (K0 + f) with K0 = 1 / peak, written as `peak` times the package's multiplier.

    With a peak below 1, K0 is larger than it need be; it bounds the curvature just as well.
    """
    first = float(loss(*start(length)))
    return lambda t, x, y: peak * loss_multiplier(loss(x, y) / first, kappa=peak * first, rho=1.0)


def descend(length: int, step: Step, slopes: Slopes = gradient) -> Array:
    """f after T updates from the start for T updates, in one run or in many at once."""
    return loss(*last(states(length, start(length), step, slopes)))


def curve(length: int, step: Step) -> Array:
    """f before each of T updates of one run from the start for T updates, and after the last."""
    return np.array([float(loss(*point)) for point in states(length, start(length), step, gradient)])
