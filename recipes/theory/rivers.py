"""The functions of `river_valley`: a steep valley whose walls flatten as the loss falls along its river.

f(x, y) = (1 + R r(y)) x^2 / 2 + r(y), f* = 0: x leads across the valley, r >= 0 falls along the river, and with it the
curvature of the walls. The open river, r = log(1 + exp(-y)), falls for ever; the closed one, r = m y^2 / 2, ends in a
basin.

||Hess f|| <= K0 + K1 f with K0 = 1, K1 = R (1 + sqrt m), where |r''| <= m <= 1 (open: m = 1/4): rho = 1 in the bound
||Hess f|| <= K0 + Krho (f - f*)^rho of Liu, Ge, Pan, Kang & Zhang (arXiv 2509.07972). Their river valley could not be
read; this one is ours. Proof: as x^2 / 2 + r <= f, f_xx = 1 + R r and |f_yy| = |r''| (1 + R x^2 / 2) are <= 1 + R f. A
function >= 0 with r'' <= m has r'^2 <= 2 m r, so |f_xy| = R |r' x| <= 2 R sqrt m sqrt(r x^2 / 2) <= R sqrt m f. A
symmetric matrix has norm <= max(|f_xx|, |f_yy|) + |f_xy|.

Deliberately absent: schedules, and what comes of them (`river_valley`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from common import Array, Point, Step

from hf_warmup.lr_scheduler.loss_adaptive import loss_multiplier


R, BASIN = 30.0, 0.1


@dataclass(frozen=True)
class River:
    """Height r and slope r' along the river as functions of y, m that bounds |r''|, and the starts' y."""

    height: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    m: float
    y: Array

    @property
    def k1(self) -> float:
        """K1 in ||Hess f|| <= 1 + K1 f."""
        return R * (1 + self.m**0.5)

    def starts(self) -> Point:
        """Every start's y with x from 0.1 to 1."""
        x, y = np.meshgrid(np.linspace(0.1, 1, 7), self.y)
        return x, y

    def loss(self, x: Array, y: Array) -> Array:
        """f(x, y)."""
        return (1 + R * self.height(y)) * x**2 / 2 + self.height(y)

    def gradient(self, x: Array, y: Array) -> Point:
        """Both partial derivatives of f."""
        return (1 + R * self.height(y)) * x, self.slope(y) * (1 + R * x**2 / 2)

    def rule(self, share: float | Array, start: Point) -> Step:
        """1 / (1 + share K1 f), written as the package's multiplier; a share of 1 is what is safe."""
        first = self.loss(*start)
        kappa = share * self.k1 * first
        return lambda t, x, y: loss_multiplier(self.loss(x, y) / first, kappa=kappa, rho=1.0)


def softplus(y: Array) -> Array:
    """log(1 + exp y)."""
    return np.logaddexp(0, y)


_FAR = np.sqrt(2 / BASIN)  # where the closed river is 1 high
RIVERS = {
    "closed": River(lambda y: BASIN * y**2 / 2, lambda y: BASIN * y, BASIN, _FAR * np.sqrt(np.linspace(0.25, 1, 6))),
    "open": River(lambda y: softplus(-y), lambda y: -np.exp(-softplus(y)), 1 / 4, np.linspace(-1, 1, 6)),
}
