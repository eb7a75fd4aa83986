"""Whether curvature goes with the loss gap at all, in series whose neighbors resemble each other.

Two series that have nothing to do with each other seem related whenever both drift, as everything does that is
measured along a run. So the noise is taken to be autoregressive of an unknown coefficient, up to a random walk; the
statistic is the largest t value over curves log(c + gap^rho), each by feasible generalized least squares; and its
chance level is that of the least favorable coefficient, by simulation. The method is ours after Perron & Yabu,
"Estimating deterministic trends with an integrated or stationary noise component", Journal of Econometrics 151, 2009.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


Numbers = NDArray[np.float64]

# Curves that are tried: exponents, and where K0 takes over, as a share of the measured gaps.
_EXPONENTS = (0.25, 0.5, 1.0, 2.0, 4.0)
_KNEES = (0.1, 0.3, 0.5, 0.7)
# Autocorrelations of the noise that a chance finding is simulated with.
_COEFFICIENTS = (0.0, 0.5, 0.9, 1.0)
_SIMULATIONS = 200
# Longer series are averaged over neighbors: a drift is seen as well in this many points.
_MOST = 300


@dataclass(frozen=True)
class Relation:
    """What was found.

    Attributes:
        t: of the curve that fits best; positive if the curvature falls with the gap.
        p: how often chance alone gives as large a |t|, at the least favorable autocorrelation.
        time_is_better: a straight line in time explains log curvature better than every curve of the gap.
    """

    t: float
    p: float
    time_is_better: bool


def find_relation(gaps: Numbers, values: Numbers, *, seed: int = 0) -> Relation:
    """How curvature goes with the loss gap.

    Args:
        gaps, values: positive, (n,), in the run's order.
        seed: of the simulation.
    """
    log_gaps, logs = _thinned(np.log(gaps)), _thinned(np.log(values))[None]
    shapes = _shapes(log_gaps)
    t, likelihoods = _regress(logs, shapes)
    found = t[0, np.argmax(np.abs(t[0]))]
    drawn = np.random.default_rng(seed)
    p = 0.0
    for coefficient in _COEFFICIENTS:
        chance = np.abs(_regress(_noise(drawn, coefficient, len(log_gaps)), shapes)[0]).max(axis=1)
        p = max(p, (1 + int((chance >= abs(found)).sum())) / (1 + len(chance)))
    time = _standardized(np.arange(len(log_gaps), dtype=float)[None])
    # Two units of log likelihood: nearly the same curve, as where the gap falls geometrically, is no objection.
    better = float(_regress(logs, time)[1].max()) > float(likelihoods.max()) + 2.0
    return Relation(float(found), p, better)


def _shapes(log_gaps: Numbers) -> Numbers:
    """(K, n): log(c + gap^rho), standardized."""
    rows = [log_gaps]
    for rho in _EXPONENTS:
        rows += [np.logaddexp(rho * knee, rho * log_gaps) for knee in np.quantile(log_gaps, _KNEES)]
    return _standardized(np.array(rows))


def _standardized(rows: Numbers) -> Numbers:
    rows = rows - rows.mean(axis=1, keepdims=True)
    spread = rows.std(axis=1, keepdims=True)
    return rows / np.where(spread > 0, spread, 1.0)


def _thinned(series: Numbers) -> Numbers:
    """Means over equally many neighbors, of which at most `_MOST` are left; an incomplete last group is left out."""
    size = -(-len(series) // _MOST)
    means: Numbers = series[: len(series) // size * size].reshape(-1, size).mean(axis=1)
    return means


def _noise(drawn: np.random.Generator, coefficient: float, n: int) -> Numbers:
    """(simulations, n) of a stationary autoregression, or of a random walk."""
    noise = drawn.standard_normal((_SIMULATIONS, n))
    if coefficient < 1:
        noise[:, 0] /= np.sqrt(1 - coefficient**2)
    for i in range(1, n):
        noise[:, i] += coefficient * noise[:, i - 1]
    return noise


def _regress(series: Numbers, shapes: Numbers) -> tuple[Numbers, Numbers]:
    """t values and log likelihoods, (S, K), of each series, (S, n), on each standardized shape, (K, n).

    Series and shapes meet in sums of products alone, so that no array of size S K n is made.
    """
    n = series.shape[1]
    series = series - series.mean(axis=1, keepdims=True)
    scale = np.abs(series).max(axis=1, keepdims=True)
    series = series / np.where(scale > 0, scale, 1.0)
    one = np.ones((1, n))
    yy, zz, yz = _own(series)[:, :, None], _own(shapes)[:, None], _products(series, shapes)
    slope = yz[0] / np.maximum(zz[0], np.finfo(float).tiny)
    same, lagged, inner = yy - 2 * slope * yz + slope**2 * zz
    ends = same - inner  # squares of the first and the last residual
    power = np.maximum(same - ends / 2, np.finfo(float).tiny)
    phi = lagged / 2 / power
    # Least squares finds too little of it (the correction is that of a fitted trend), and near 1 it counts as 1.
    phi = np.clip(phi + (2 + 4 * phi) / n, -0.99, 1.0)
    phi = np.where(phi > 1 - n**-0.5, 1.0, phi)

    def whitened(products: Numbers) -> Numbers:
        found: Numbers = products[0] - phi * products[1] + phi**2 * products[2]
        return found

    # Regression on the constant first; under a random walk nothing is left of it.
    constant = whitened(_products(one, one))
    share = np.where(constant > 0, 1 / np.where(constant > 0, constant, 1.0), 0.0)
    y, z = whitened(_products(series, one)), whitened(_products(one, shapes))
    power_y, power_z = whitened(yy) - share * y**2, whitened(zz) - share * z**2
    power_z = np.maximum(power_z, np.finfo(float).tiny)
    both = whitened(yz) - share * y * z
    rest = np.maximum(power_y - both**2 / power_z, 1e-12)
    # The likelihood leaves out the term of the first value, which vanishes under a random walk.
    return both / (np.sqrt(power_z) * np.sqrt(rest / (n - 2))), -n / 2 * np.log(rest)


def _products(a: Numbers, b: Numbers) -> Numbers:
    """(3, A, B): sums of a_t b_t over all t, of a_t b_(t-1) + a_(t-1) b_t, and of a_t b_t without both ends."""
    lagged = a[:, 1:] @ b[:, :-1].T + a[:, :-1] @ b[:, 1:].T
    return np.stack([a @ b.T, lagged, a[:, 1:-1] @ b[:, 1:-1].T])


def _own(a: Numbers) -> Numbers:
    """(3, A): the same of each row with itself."""
    return np.stack([(a * a).sum(1), 2 * (a[:, 1:] * a[:, :-1]).sum(1), (a[:, 1:-1] ** 2).sum(1)])
