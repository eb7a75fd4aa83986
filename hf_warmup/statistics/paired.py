"""Two arms trained with the same seeds, compared: differences, intervals, tests, and what more seeds would show.

The seeds are the pairs: initialization, data order and dropout are shared, so the differences seed by seed carry the
information. Equivalence is shown by two one-sided tests (TOST) at a margin stated beforehand, a difference by the
paired t test. A spread below the score's resolution is unknown, so no test is made of it. Everything is pure and
deterministic. Deliberately absent: words (`sentences`), decisions (`verdicts`), and tests over single examples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hf_warmup.statistics.power import MOST_SEEDS, detectable_effect, seeds_for_difference, seeds_for_equivalence
from hf_warmup.statistics.resolution import score_resolution


Array = NDArray[np.float64]
Interval = tuple[float, float]

# Fewer pairs than these: too few for anything but a t test of differences that are taken as normal.
FEW_SEEDS = 10
# From here on the BCa interval covers within .02 of the t interval; below, .73 at 3 pairs and .90 at 9
# (recipes/benchmarks/verdicts.py).
BOOTSTRAP_SEEDS = 20
# A sign-flip test cannot fall below .0078 with 8 pairs; of fewer it says little.
SIGN_FLIP_SEEDS = 8
_RESAMPLES = 9999
# Spreads are computed in floating point: a spread equal to the resolution is not below it.
_SLACK = 1 - 1e-6


@dataclass(frozen=True)
class Tests:
    """Both tests of many sets of differences at once; a p value is nan where no test can be made.

    Attributes:
        difference, spread: mean and standard deviation (n - 1) of the differences; nan spread of one pair.
        ttest_p: of the two-sided paired t test.
        tost_p: of equivalence within the margin, the larger of the two one-sided p.
    """

    difference: Array
    spread: Array
    ttest_p: Array
    tost_p: Array


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline, paired by seed; all differences are arm minus baseline, in units of the score.

    What cannot be computed is None: every spread and test of a single pair, and every test of a spread that is below
    the score's resolution.

    Attributes:
        n: number of pairs.
        arm_mean, arm_sd: scores of the arm; the standard deviation is over runs, with n - 1.
        baseline_mean, baseline_sd: the same of the baseline.
        difference, difference_sd: mean and standard deviation of the differences.
        resolution: smallest step between two scores; a smaller spread is unknown.
        bootstrap_interval: of the mean difference, at level 1 - alpha; None below 20 pairs.
        bootstrap_method: "BCa", "percentile", or "none".
        t_interval: of the mean difference, at level 1 - alpha.
        equivalence_interval: t interval at level 1 - 2 alpha; TOST decides when it lies within the margin.
        margin: largest difference that still counts as equivalent.
        tost_p: p value of equivalence within the margin.
        ttest_p: p value of the paired t test of no difference.
        sign_flip_p: p value of no difference by flipping signs, which needs symmetry only; None below 8 pairs.
        effect_size: mean difference over the standard deviation of the differences (Cohen's d_z).
        smallest_detectable_effect: difference that the t test would have found with probability 0.8 at this n and sd.
        equivalence_needs: smallest margin at which TOST would decide, given this difference, n and sd.
        more_seeds_for_difference: about how many more pairs would show this difference with power 0.8, the spread's
            uncertainty counted; None when a test decides already, and above 1000.
        more_seeds_for_equivalence: the same for equivalence; None also where the difference exceeds the margin.
        more_seeds_needed: the smaller of the two.
        note: what to know before reading the numbers; may be empty.
    """

    n: int
    arm_mean: float
    arm_sd: float | None
    baseline_mean: float
    baseline_sd: float | None
    difference: float
    margin: float
    alpha: float
    resolution: float
    difference_sd: float | None = None
    bootstrap_interval: Interval | None = None
    bootstrap_method: str = "none"
    t_interval: Interval | None = None
    equivalence_interval: Interval | None = None
    tost_p: float | None = None
    ttest_p: float | None = None
    sign_flip_p: float | None = None
    effect_size: float | None = None
    smallest_detectable_effect: float | None = None
    equivalence_needs: float | None = None
    more_seeds_for_difference: int | None = None
    more_seeds_for_equivalence: int | None = None
    more_seeds_needed: int | None = None
    note: str = ""


def paired_tests(differences: ArrayLike, *, margin: float, resolution: float = 0.0) -> Tests:
    """The paired t test and TOST of many studies at once.

    Args:
        differences: arm minus baseline, shape (..., n).
        margin: largest difference that still counts as equivalent.
        resolution: smallest step between two scores; no test is made where the spread is 0 or smaller than this.

    Returns:
        Arrays of shape (...).

    Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987 (TOST).
    """
    values = np.asarray(differences, dtype=float)
    n, mean = values.shape[-1], values.mean(axis=-1)
    if n < 2:
        unknown = np.full(mean.shape, np.nan)
        return Tests(mean, unknown, unknown, unknown)
    spread = values.std(axis=-1, ddof=1)
    known = (spread > 0) & (spread >= resolution * _SLACK)
    error = np.where(known, spread, np.nan) / math.sqrt(n)
    size = np.abs(mean)
    return Tests(mean, spread, 2 * stats.t.sf(size / error, n - 1), stats.t.sf((margin - size) / error, n - 1))


def compare_with_baseline(
    arm: Sequence[float],
    baseline: Sequence[float],
    *,
    margin: float,
    alpha: float = 0.05,
    num_tests: int = 1,
    resolution: float | None = None,
    levels: tuple[float, float] | None = None,
) -> Comparison:
    """Compare two arms whose i-th scores come from the same seed.

    Args:
        arm: one score a seed.
        baseline: scores of the same seeds, in the same order.
        margin: largest difference that still counts as equivalent, in units of the score.
        alpha: level of the tests.
        num_tests: tests among which alpha will be shared (Holm); the planning numbers (smallest detectable effect,
            margin and seeds needed) use the strictest share, alpha / num_tests.
        resolution: smallest step between two scores, such as 1 over the number of test examples for an accuracy; by
            default the step that the scores themselves show.
        levels: at which a difference and equivalence will be decided, for the planning numbers; alpha / num_tests by
            default.

    Raises:
        ValueError: for lengths that differ, no scores, scores that are not finite, and values out of range.
    """
    _check(arm, baseline, margin, alpha, num_tests)
    if resolution is not None and not (math.isfinite(resolution) and resolution >= 0):
        raise ValueError(f"resolution must be finite and not negative, got {resolution}; 1/300 for 300 test examples.")
    scores, reference = np.asarray(arm, dtype=float), np.asarray(baseline, dtype=float)
    differences = scores - reference
    step = score_resolution([*arm, *baseline]) if resolution is None else resolution
    # Whatever is said of the resolution, differences of floating-point numbers are no finer than rounding.
    step = max(step, 1e-12 * float(np.abs([scores, reference]).max()))
    tests = paired_tests(differences, margin=margin, resolution=step)
    n, strict = len(differences), alpha / num_tests
    common: dict[str, Any] = {
        "n": n,
        "arm_mean": float(scores.mean()),
        "arm_sd": _sd(scores),
        "baseline_mean": float(reference.mean()),
        "baseline_sd": _sd(reference),
        "difference": float(tests.difference),
        "margin": margin,
        "alpha": alpha,
        "resolution": step,
    }
    if n == 1:
        return Comparison(**common, note="one pair has no spread, so no test can be made; run at least three seeds")
    if math.isnan(tests.ttest_p):
        note = "all differences are equal" if np.ptp(differences) < step / 2 else "the spread is small"
        note += ": a spread below the score's resolution is unknown rather than zero, so no test can be made"
        return Comparison(**common, difference_sd=float(tests.spread), note=note)
    return Comparison(**common, **_evidence(differences, tests, margin, alpha, levels or (strict, strict)))


def _evidence(
    differences: Array, tests: Tests, margin: float, alpha: float, levels: tuple[float, float]
) -> dict[str, Any]:
    """Everything that rests on a spread which is known."""
    n = len(differences)
    difference, spread = float(tests.difference), float(tests.spread)
    ttest_p, tost_p = float(tests.ttest_p), float(tests.tost_p)
    tails = (alpha / 2, alpha, levels[1])
    wide, narrow, needed = (float(stats.t.isf(tail, n - 1)) * spread / math.sqrt(n) for tail in tails)
    found: dict[str, Any] = {
        "difference_sd": spread,
        "t_interval": (difference - wide, difference + wide),
        "equivalence_interval": (difference - narrow, difference + narrow),
        "tost_p": tost_p,
        "ttest_p": ttest_p,
        "sign_flip_p": sign_flip_p(differences) if n >= SIGN_FLIP_SEEDS else None,
        "effect_size": difference / spread,
        "smallest_detectable_effect": detectable_effect(n, levels[0]) * spread,
        "equivalence_needs": abs(difference) + needed,
    }
    if n >= BOOTSTRAP_SEEDS:
        low, high, found["bootstrap_method"] = bootstrap_interval(differences, alpha)
        found["bootstrap_interval"] = (low, high)
    if ttest_p >= levels[0] and tost_p >= levels[1]:
        different = seeds_for_difference(difference, spread, n, alpha=levels[0])
        equivalent = seeds_for_equivalence(difference, spread, n, margin=margin, alpha=levels[1])
        known = [seeds for seeds in (different, equivalent) if seeds is not None]
        found |= {
            "more_seeds_for_difference": different,
            "more_seeds_for_equivalence": equivalent,
            "more_seeds_needed": min(known, default=None),
            "note": "" if known else f"more than {MOST_SEEDS} further seeds would be needed to decide",
        }
    return found


def sign_flip_p(differences: Array) -> float:
    """p value of no difference: the share of sign patterns whose mean is at least as far from 0.

    All patterns up to 12 pairs, else 9999 drawn by a fixed generator and the observed one.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    n = len(differences)
    if n <= 12:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], size=(_RESAMPLES, n))
        signs = np.concatenate([np.ones((1, n), dtype=int), signs])
    observed = abs(float(differences.sum()))
    return float((np.abs(signs @ differences) >= observed * (1 - 1e-9)).mean())


def _check(arm: Sequence[float], baseline: Sequence[float], margin: float, alpha: float, num_tests: int) -> None:
    if len(arm) != len(baseline) or not len(arm):
        raise ValueError(
            f"expected one score a seed for both arms, paired, got {len(arm)} and {len(baseline)} scores; "
            f"compare the seeds that both have."
        )
    for scores in (arm, baseline):
        if not all(math.isfinite(score) for score in scores):
            raise ValueError(f"scores must be finite, got {list(scores)}; give a diverged run the score it has.")
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be positive and finite, got {margin}; 0.01 is one point of accuracy.")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha}; 0.05 is usual.")
    if num_tests < 1:
        raise ValueError(f"num_tests must be at least 1, got {num_tests}.")


def _sd(values: Array) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def bootstrap_interval(differences: Array, alpha: float, *, resamples: int = _RESAMPLES) -> tuple[float, float, str]:
    """BCa interval of the mean (low, high, method) by resampling the pairs with a fixed generator."""
    for method in ("BCa", "percentile"):
        interval = stats.bootstrap(
            (differences,),
            np.mean,
            confidence_level=1 - alpha,
            n_resamples=resamples,
            method=method,
            random_state=np.random.default_rng(0),
        ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return float(interval.low), float(interval.high), method
    raise AssertionError(f"no percentile interval of {differences}")
