"""The curvature as a function of the loss gap: L = K0 + Krho Delta^rho, fitted as an upper envelope.

A robust least-squares fit of log L gives the curve's shape; it is then raised until a given share of the measurements
lies below it. Intervals are percentiles of a moving-block bootstrap, since neighbors in a run resemble each other: the
more they do, the longer the blocks. Whether curvature and gap are related at all is asked first, of `relation`. The
model is Liu et al.'s (arXiv 2509.07972); this way of fitting it is ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import norm
from scipy.stats import t as student_t

from hf_warmup.smoothness.relation import find_relation


Numbers = NDArray[np.float64]

FEWEST = 12
# The gap must fall at least by this factor, or an exponent can not be told.
LEAST_RANGE = 2.0
# A relation that chance gives more often than this counts as none.
SIGNIFICANT = 0.05
_STARTS = (0.5, 1.0, 2.0)
# Where the exponent is looked for.
_EXPONENTS = (0.01, 6.0)
# A K0 below this share of the smallest curvature can not be told from 0.
_NOTHING = 1e-3


@dataclass(frozen=True)
class SmoothnessFit:
    """L <= K0 + Krho Delta^rho for the given share of the measurements.

    Attributes:
        rho, k0, krho: the fit.
        rho_interval, k0_interval, krho_interval: 95 % bootstrap intervals.
        quantile: share of measurements at or below the curve.
        r_squared: of log L, for the curve through the middle; 1 is perfect, 0 no better than a constant.
        n: number of measurements.
        f_star: lowest loss, which the gaps were taken from.
        verdict: "supported", or in words why the data do not support the model.
    """

    rho: float
    k0: float
    krho: float
    rho_interval: tuple[float, float]
    k0_interval: tuple[float, float]
    krho_interval: tuple[float, float]
    quantile: float
    r_squared: float
    n: int
    f_star: float
    verdict: str

    def smoothness(self, gap: float) -> float:
        """The curve at a loss gap."""
        growth: float = max(gap, 0.0) ** self.rho
        return self.k0 + self.krho * growth

    def kappa(self, initial_gap: float) -> float:
        """Krho Delta_0^rho / K0, for `get_loss_adaptive_schedule`; infinite if K0 is 0."""
        growth = self.krho * initial_gap**self.rho
        return growth / self.k0 if self.k0 else math.inf


def fit_smoothness(
    records: Sequence[Any],
    *,
    f_star: float | None = None,
    quantile: float = 0.9,
    resamples: int = 400,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SmoothnessFit:
    """Fit measurements of smoothness against loss gap.

    Args:
        records: `SmoothnessRecord`s, or mappings with `smoothness` and `gap` (and `loss`, if `f_star` is given).
        f_star: takes the gaps anew from the losses; None keeps the records' own.
        quantile: share of the measurements that shall lie at or below the curve, in (0, 1); .5 is the middle.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        progress: called with the resamples that are fitted and how many there are.

    Raises:
        ValueError: for fewer than 12 measurements with positive gap and smoothness, or a quantile out of range.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie in (0, 1), got {quantile!r}.")
    gaps, values = _columns(records, f_star)
    if len(gaps) < FEWEST:
        raise ValueError(
            f"{len(gaps)} measurements with a positive loss gap and smoothness; a fit needs {FEWEST}, so measure "
            "more often."
        )
    found = _fit(gaps, values, quantile)
    rho, k0, krho = found
    residuals = np.log(values) - np.log(k0 + krho * gaps**rho)
    block = _block_length(residuals)
    drawn = np.random.default_rng(seed)
    again = []
    for done in range(resamples):
        starts = drawn.integers(0, len(gaps) - block + 1, size=-(-len(gaps) // block))
        chosen = (starts[:, None] + np.arange(block)).reshape(-1)[: len(gaps)]
        again.append(_fit(gaps[chosen], values[chosen], quantile, start=found))
        if progress is not None:
            progress(done + 1, resamples)
    tail = _tail(len(gaps) / block)
    low, high = np.quantile(np.array(again), [tail, 1 - tail], axis=0)
    rho_interval, k0_interval, krho_interval = ((float(a), float(b)) for a, b in zip(low, high, strict=True))
    spread = float(np.var(np.log(values)))
    r_squared = 1.0 - float(np.var(residuals)) / spread if spread else 0.0
    return SmoothnessFit(
        rho,
        k0,
        krho,
        rho_interval,
        k0_interval,
        krho_interval,
        quantile,
        r_squared,
        len(gaps),
        0.0 if f_star is None else f_star,
        _verdict(gaps, values, rho),
    )


def _block_length(residuals: Numbers) -> int:
    """Length of the bootstrap's blocks: n^(1/3), or more for noise that resembles itself for longer, at most n / 4.

    Source: Andrews, "Heteroskedasticity and autocorrelation consistent covariance matrix estimation", Econometrica 59,
        1991, equations 5.3 and 6.4, whose bandwidth of the Bartlett kernel is the block length that fits.
    """
    n = len(residuals)
    left = residuals - residuals.mean()
    power = float((left[:-1] ** 2).sum())
    phi = float(np.clip((left[:-1] * left[1:]).sum() / power, -0.97, 0.97)) if power else 0.0
    persistence: float = 4 * phi**2 / (1 - phi**2) ** 2
    length: float = max(n ** (1 / 3), 1.1447 * (persistence * n) ** (1 / 3))
    return max(1, round(min(length, n / 4)))


def _tail(blocks: float) -> float:
    """Share beyond either end of a 95 % percentile interval, widened as for few blocks it falls short.

    Source: the expanded percentile interval of Hesterberg, "What teachers should know about the bootstrap", The
        American Statistician 69, 2015.
    """
    expanded = math.sqrt(blocks / (blocks - 1)) * float(student_t.ppf(0.025, blocks - 1))
    return float(norm.cdf(expanded))


def _columns(records: Sequence[Any], f_star: float | None) -> tuple[Numbers, Numbers]:
    rows = [record if isinstance(record, Mapping) else vars(record) for record in records]
    gaps = np.array([row["gap"] if f_star is None else row["loss"] - f_star for row in rows], dtype=float)
    values = np.array([row["smoothness"] for row in rows], dtype=float)
    usable = (gaps > 0) & (values > 0) & np.isfinite(gaps) & np.isfinite(values)
    return gaps[usable], values[usable]


def _fit(
    gaps: Numbers, values: Numbers, quantile: float, start: tuple[float, float, float] | None = None
) -> tuple[float, float, float]:
    """(rho, K0, Krho)."""
    scale = float(np.exp(np.mean(np.log(gaps))))  # gaps in units of their middle: better conditioned
    logs, ratios = np.log(values), np.log(gaps / scale)
    middle, least = float(np.median(logs)), float(logs.min())

    def predicted(x: Numbers) -> Numbers:
        log_k0, log_k, rho = x
        found: Numbers = np.logaddexp(log_k0, log_k + rho * ratios)
        return found

    def jacobian(x: Numbers) -> Numbers:
        log_k0, log_k, rho = x
        share = np.exp(log_k + rho * ratios - predicted(x))
        return np.stack([1 - share, share, share * ratios], axis=1)

    low, high = _EXPONENTS
    bounds = ([least - 12, least - 12, low], [float(logs.max()) + 2, float(logs.max()) + 5, high])
    starts = [(least - 1, middle - 0.5, rho) for rho in _STARTS]
    if start is not None:
        rho, k0, krho = start
        starts = [(math.log(max(k0, math.exp(least - 11))), math.log(krho * scale**rho), rho)]
    fits = [
        least_squares(
            lambda x: predicted(x) - logs,
            np.clip(x0, np.array(bounds[0]) + 1e-6, np.array(bounds[1]) - 1e-6),
            jac=jacobian,
            bounds=bounds,
            loss="soft_l1",
            f_scale=0.3,
        )
        for x0 in starts
    ]
    best = min(fits, key=lambda fit: float(fit.cost))
    raised = float(np.quantile(logs - predicted(best.x), quantile))
    log_k0, log_k, rho = (float(x) for x in best.x)
    k0, krho = math.exp(log_k0 + raised), math.exp(log_k + raised) / scale**rho
    return rho, 0.0 if k0 < _NOTHING * math.exp(least) else k0, krho


def _verdict(gaps: Numbers, values: Numbers, rho: float) -> str:
    reach = float(gaps.max() / gaps.min())
    if reach < LEAST_RANGE:
        return f"too little range: the loss gap changes by a factor of {reach:.2f} only, {LEAST_RANGE:g} are needed"
    relation = find_relation(gaps, values)
    if relation.p > SIGNIFICANT:
        return (
            "no trend: nothing shows that curvature and loss gap are related; of unrelated series that resemble their "
            f"own past {100 * relation.p:.0f} % look as if they were"
        )
    if relation.t < 0:
        return f"reversed: curvature grows as the loss falls (p = {relation.p:.2g})"
    if relation.time_is_better:
        return "no trend of its own: a straight line in time explains the curvature better than the loss gap does"
    low, high = _EXPONENTS
    if not 1.01 * low < rho < 0.99 * high:
        return f"undetermined exponent: {rho:.2g}, the edge of the range {low:g} to {high:g}, fits best"
    return "supported"
