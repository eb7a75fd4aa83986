"""Two arms trained with the same seeds, compared: differences, intervals, tests, and what more seeds would show.

The seeds are the pairs: initialization, data order and dropout are shared, so the differences seed by seed carry the
information. Equivalence is shown by two one-sided tests (TOST) at a margin stated beforehand, a difference by the
paired t test, and where neither decides, the numbers say what could have been seen and what would decide. Everything
is pure and deterministic. Deliberately absent: words (`statistics`), and tests over single examples.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired


POWER = 0.8
MOST_SEEDS = 1000
FEW_SEEDS = 10
_RESAMPLES = 9999
# Differences whose spread is below this share of the scores differ by rounding only.
_ROUNDING = 1e-12

Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline, paired by seed; all differences are arm minus baseline, in units of the score.

    What cannot be computed (every spread and test of a single pair) is None.

    Attributes:
        n: number of pairs.
        arm_mean, arm_sd: scores of the arm; the standard deviation is over runs, with n - 1.
        baseline_mean, baseline_sd: the same of the baseline.
        difference, difference_sd: mean and standard deviation of the differences.
        bootstrap_interval: of the mean difference, at level 1 - alpha.
        bootstrap_method: "BCa", "percentile", or "none" where the differences do not vary.
        t_interval: of the mean difference, at level 1 - alpha.
        equivalence_interval: t interval at level 1 - 2 alpha; TOST decides when it lies within the margin.
        margin: largest difference that still counts as equivalent.
        tost_p: p value of equivalence within the margin.
        ttest_p: p value of the paired t test of no difference.
        effect_size: mean difference over the standard deviation of the differences (Cohen's d_z).
        smallest_detectable_effect: difference that the t test would have found with probability 0.8 at this n and sd.
        equivalence_needs: smallest margin at which TOST would decide, given this difference, n and sd.
        more_seeds_needed: about how many more pairs would decide, if difference and spread stay as they are; None
            when one of the tests decides already, with one pair, and above 1000.
        note: what to know before reading the numbers; may be empty.
    """

    n: int
    arm_mean: float
    arm_sd: float | None
    baseline_mean: float
    baseline_sd: float | None
    difference: float
    difference_sd: float | None
    bootstrap_interval: Interval | None
    bootstrap_method: str
    t_interval: Interval | None
    equivalence_interval: Interval | None
    margin: float
    alpha: float
    tost_p: float | None
    ttest_p: float | None
    effect_size: float | None
    smallest_detectable_effect: float | None
    equivalence_needs: float | None
    more_seeds_needed: int | None
    note: str


def compare_with_baseline(
    arm: Sequence[float], baseline: Sequence[float], *, margin: float, alpha: float = 0.05, num_tests: int = 1
) -> Comparison:
    """Compare two arms whose i-th scores come from the same seed.

    Args:
        arm: one score a seed.
        baseline: scores of the same seeds, in the same order.
        margin: largest difference that still counts as equivalent, in units of the score.
        alpha: level of the tests.
        num_tests: tests among which alpha will be shared (Holm); the planning numbers (smallest detectable effect,
            margin and seeds needed) use the strictest share, alpha / num_tests.

    Raises:
        ValueError: for lengths that differ, no scores, scores that are not finite, and values out of range.
    """
    _check(arm, baseline, margin, alpha, num_tests)
    scores, reference = np.asarray(arm, dtype=float), np.asarray(baseline, dtype=float)
    differences = scores - reference
    n, difference = len(differences), float(differences.mean())
    common: dict[str, Any] = {
        "n": n,
        "arm_mean": float(scores.mean()),
        "arm_sd": _sd(scores),
        "baseline_mean": float(reference.mean()),
        "baseline_sd": _sd(reference),
        "difference": difference,
        "margin": margin,
        "alpha": alpha,
    }
    spread = _sd(differences)
    if spread is None:
        return Comparison(**common, **_UNDECIDABLE)
    if spread <= _ROUNDING * max(1.0, float(np.abs([scores, reference]).max())):
        return Comparison(**common, **_without_spread(difference, margin, n, alpha / num_tests))
    low, high, method = _bootstrap(differences, alpha)
    standard_error = spread / math.sqrt(n)
    tails = (alpha / 2, alpha, alpha / num_tests)
    wide, narrow, strict = (float(stats.t.ppf(1 - tail, n - 1)) * standard_error for tail in tails)
    more_seeds = more_seeds_needed(difference, spread, n, margin=margin, alpha=alpha / num_tests)
    return Comparison(
        **common,
        difference_sd=spread,
        bootstrap_interval=(low, high),
        bootstrap_method=method,
        t_interval=(difference - wide, difference + wide),
        equivalence_interval=(difference - narrow, difference + narrow),
        tost_p=float(ttost_paired(scores, reference, -margin, margin)[0]),
        ttest_p=float(stats.ttest_rel(scores, reference).pvalue),
        effect_size=difference / spread,
        smallest_detectable_effect=_detectable(n, alpha / num_tests) * spread,
        equivalence_needs=abs(difference) + strict,
        more_seeds_needed=more_seeds or None,
        note=_note(n, more_seeds),
    )


def more_seeds_needed(difference: float, spread: float, n: int, *, margin: float, alpha: float = 0.05) -> int | None:
    """How many pairs beyond `n` until TOST or the t test decides, if difference and spread stay as they are.

    Returns:
        0 when `n` pairs decide already, None when 1000 more would not.
    """
    sizes = np.arange(n, n + MOST_SEEDS + 1)
    error = spread / np.sqrt(sizes)
    equivalent = stats.t.sf((margin - abs(difference)) / error, sizes - 1)
    different = 2 * stats.t.sf(abs(difference) / error, sizes - 1)
    decided = np.flatnonzero(np.minimum(equivalent, different) < alpha)
    return int(decided[0]) if len(decided) else None


def median_steps(steps: Sequence[int | None]) -> dict[str, Any]:
    """Median of the updates until a target was reached, where None means never.

    A run that never reached it counts as later than all others, so the median is None unless more than half of the
    runs reached the target.

    >>> median_steps([240, None, 300])
    {'median': 300.0, 'reached': 2, 'n': 3}
    """
    median = float(statistics.median([math.inf if step is None else step for step in steps])) if steps else math.inf
    return {
        "median": median if math.isfinite(median) else None,
        "reached": sum(step is not None for step in steps),
        "n": len(steps),
    }


_UNDECIDABLE: dict[str, Any] = {
    "difference_sd": None,
    "bootstrap_interval": None,
    "bootstrap_method": "none",
    "t_interval": None,
    "equivalence_interval": None,
    "tost_p": None,
    "ttest_p": None,
    "effect_size": None,
    "smallest_detectable_effect": None,
    "equivalence_needs": None,
    "more_seeds_needed": None,
    "note": "one pair has no spread, so no test can be made; run at least three seeds",
}


def _without_spread(difference: float, margin: float, n: int, alpha: float) -> dict[str, Any]:
    """All differences are equal: the tests' limits as the spread goes to 0, with a warning to the reader."""
    same = abs(difference) <= _ROUNDING
    return {
        "difference_sd": 0.0,
        "bootstrap_interval": (difference, difference),
        "bootstrap_method": "none",
        "t_interval": (difference, difference),
        "equivalence_interval": (difference, difference),
        "tost_p": 0.0 if abs(difference) < margin else 1.0,
        "ttest_p": 1.0 if same else 0.0,
        "effect_size": 0.0 if same else None,
        "smallest_detectable_effect": 0.0,
        "equivalence_needs": abs(difference),
        "more_seeds_needed": None,
        "note": f"all {n} differences are equal, so their spread is unknown rather than zero; read with care",
    }


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


def _sd(values: Any) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _bootstrap(differences: Any, alpha: float) -> tuple[float, float, str]:
    """Interval of the mean by 9999 resamples of the pairs, drawn by a fixed generator."""
    for method in ("BCa", "percentile"):
        interval = stats.bootstrap(
            (differences,),
            np.mean,
            confidence_level=1 - alpha,
            n_resamples=_RESAMPLES,
            method=method,
            random_state=np.random.default_rng(0),
        ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return float(interval.low), float(interval.high), method
    raise AssertionError(f"no percentile interval of {differences}")


def _detectable(n: int, alpha: float) -> float:
    """Effect size d_z that a two-sided paired t test of n pairs finds with probability 0.8."""
    return float(np.squeeze(TTestPower().solve_power(nobs=n, alpha=alpha, power=POWER)))


def _note(n: int, more_seeds: int | None) -> str:
    notes = []
    if n < FEW_SEEDS:
        notes.append(f"with {n} pairs the bootstrap interval is too narrow; the t interval is the safer one")
    if more_seeds is None:
        notes.append(f"more than {MOST_SEEDS} further seeds would be needed to decide")
    return "; ".join(notes)
