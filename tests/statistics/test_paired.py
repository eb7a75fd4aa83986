"""Paired comparisons against hand-computed numbers, statsmodels, and properties that any comparison must have."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from hf_warmup.statistics.paired import (
    BOOTSTRAP_SEEDS,
    bootstrap_interval,
    compare_with_baseline,
    paired_tests,
    sign_flip_p,
)
from hf_warmup.statistics.resolution import score_resolution


# Scores on a dyadic grid, so that shifts are exact in floating point.
score = st.integers(0, 256).map(lambda k: k / 256)
pairs = st.lists(st.tuples(score, score), min_size=1, max_size=8)
quick = settings(max_examples=60, deadline=None)


def compare(scores, *, margin=0.05, shift=0.0, sign=1):
    arm, baseline = zip(*scores, strict=True)
    return compare_with_baseline(
        [sign * (a + shift) for a in arm], [sign * (b + shift) for b in baseline], margin=margin, resolution=1 / 256
    )


def decisions(comparison):
    values = (comparison.tost_p, comparison.ttest_p, comparison.more_seeds_needed)
    return [-1.0 if value is None else value for value in values]


def test_numbers_computed_by_hand():
    # Differences .01 .02 .00 .03: mean .015, sd sqrt(.0005/3); t quantiles of 3 degrees of freedom from tables.
    result = compare_with_baseline([0.91, 0.93, 0.92, 0.96], [0.90, 0.91, 0.92, 0.93], margin=0.02)
    sd = math.sqrt(0.0005 / 3)
    assert result.n == 4
    assert result.difference == pytest.approx(0.015, rel=1e-12)
    assert result.difference_sd == pytest.approx(sd, rel=1e-12)
    assert result.effect_size == pytest.approx(0.015 / sd, rel=1e-12)
    assert result.t_interval == pytest.approx((0.015 - 3.182446 * sd / 2, 0.015 + 3.182446 * sd / 2), abs=1e-7)
    needed = 2.353363 * sd / 2
    assert result.equivalence_needs == pytest.approx(0.015 + needed, abs=1e-7)
    assert result.equivalence_interval == pytest.approx((0.015 - needed, 0.015 + needed), abs=1e-7)
    # t = .015 / (sd / 2) = 2.32379 on 3 degrees of freedom.
    assert result.ttest_p == pytest.approx(0.1027, abs=1e-4)
    assert result.tost_p == pytest.approx(stats.t.sf(0.005 / (sd / 2), 3), rel=1e-9)
    assert (result.arm_mean, result.baseline_mean) == pytest.approx((0.93, 0.915))
    assert result.arm_sd == pytest.approx(math.sqrt(0.0014 / 3), rel=1e-9)


@pytest.mark.parametrize(("n", "effect_size"), [(4, 2.127949), (10, 0.996002), (34, 0.495029)])
def test_smallest_detectable_effect_has_the_tabled_power(n, effect_size):
    # 34 pairs are what tables give for d = .5; all three are checked against the noncentral t distribution below.
    differences = np.linspace(-1, 1, n)
    result = compare_with_baseline(list(differences), [0.0] * n, margin=0.5)
    found = result.smallest_detectable_effect / result.difference_sd
    assert found == pytest.approx(effect_size, abs=1e-5)
    critical = stats.t.ppf(0.975, n - 1)
    power = stats.nct.sf(critical, n - 1, found * math.sqrt(n)) + stats.nct.cdf(-critical, n - 1, found * math.sqrt(n))
    assert power == pytest.approx(0.8, abs=1e-4)


def test_more_tests_need_more_seeds_and_larger_effects():
    arm, baseline = [0.95, 0.96, 0.94], [0.94, 0.94, 0.95]
    alone, family = (compare_with_baseline(arm, baseline, margin=0.01, num_tests=k) for k in (1, 4))
    assert family.more_seeds_needed > alone.more_seeds_needed
    assert family.smallest_detectable_effect > alone.smallest_detectable_effect
    assert family.t_interval == alone.t_interval


@pytest.mark.parametrize(
    ("arm", "baseline", "margin", "alpha", "num_tests", "message"),
    [
        ([0.9, math.nan], [0.9, 0.9], 0.01, 0.05, 1, "finite"),
        ([0.9, 0.8], [0.9, math.inf], 0.01, 0.05, 1, "finite"),
        ([0.9], [0.9, 0.9], 0.01, 0.05, 1, "1 and 2 scores"),
        ([], [], 0.01, 0.05, 1, "0 and 0 scores"),
        ([0.9], [0.9], 0.0, 0.05, 1, "margin"),
        ([0.9], [0.9], math.nan, 0.05, 1, "margin"),
        ([0.9], [0.9], 0.01, 0.5, 1, "alpha"),
        ([0.9], [0.9], 0.01, 0.05, 0, "num_tests"),
    ],
)
def test_what_cannot_be_compared_is_refused(arm, baseline, margin, alpha, num_tests, message):
    with pytest.raises(ValueError, match=message):
        compare_with_baseline(arm, baseline, margin=margin, alpha=alpha, num_tests=num_tests)


@quick
@given(pairs)
def test_sign_flip_changes_no_decision(scores):
    assert decisions(compare(scores)) == pytest.approx(decisions(compare(scores, sign=-1)), rel=1e-9, abs=1e-12)


@quick
@given(pairs)
def test_the_order_of_seeds_does_not_matter(scores):
    assert decisions(compare(scores)) == pytest.approx(decisions(compare(scores[::-1])), rel=1e-9, abs=1e-12)


def test_one_pair_makes_no_test():
    result = compare_with_baseline([0.95], [0.94], margin=0.05)
    assert result.n == 1
    assert (result.tost_p, result.ttest_p, result.t_interval, result.bootstrap_interval) == (None,) * 4
    assert "no test" in result.note


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([4, 4], False),  # the issue's: two seeds, both +4/300
        ([0, 0, 0], False),
        ([4, 4, 5], False),
        ([7, 7, 7, 7, 8, 7, 7, 7], False),
        ([4, 5, 6], True),
        ([0, 2], True),
    ],
)
def test_a_spread_below_the_resolution_is_unknown(steps, known):
    baseline = [(271 + 3 * k) / 300 for k in range(len(steps))]
    arm = [score + step / 300 for score, step in zip(baseline, steps, strict=True)]
    for margin in (0.001, 0.01, 0.5):
        result = compare_with_baseline(arm, baseline, margin=margin, resolution=1 / 300)
        assert (result.ttest_p is not None, result.tost_p is not None, result.t_interval is not None) == (known,) * 3
        assert ("unknown rather than zero" in result.note) != known
        assert result.more_seeds_needed is None or known


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("examples", [100, 300, 1000])
def test_scores_show_their_own_resolution(examples, dtype):
    scores = np.array([70, 79, 84, 91, 62, 75]) / examples
    assert score_resolution(scores.astype(dtype).tolist()) * examples == pytest.approx(1, abs=1e-2)


def test_scores_without_a_step_are_only_rounded():
    losses = np.random.default_rng(0).normal(2.3, 0.05, 20)
    assert score_resolution(losses.tolist()) < 1e-4
    assert score_resolution([0.5, 0.5]) == 5e-7
    # Runs that differ by rounding only, and by as much in all pairs.
    result = compare_with_baseline([0.1 + 0.2, 0.7 + 0.1, 0.3], [0.0, 0.5, 0.0], margin=0.01)
    assert result.ttest_p is None


def test_a_resolution_must_be_a_number():
    with pytest.raises(ValueError, match="resolution"):
        compare_with_baseline([0.9, 0.8], [0.9, 0.7], margin=0.1, resolution=math.nan)


def test_many_studies_at_once_are_those_one_by_one():
    arms, baselines = np.random.default_rng(3).normal([[[0.01]], [[0.0]]], 0.02, (2, 50, 7))
    tests = paired_tests(arms - baselines, margin=0.02)
    for i, (arm, baseline) in enumerate(zip(arms, baselines, strict=True)):
        assert tests.ttest_p[i] == pytest.approx(stats.ttest_rel(arm, baseline).pvalue, rel=1e-9)
        assert tests.tost_p[i] == pytest.approx(ttost_paired(arm, baseline, -0.02, 0.02)[0], rel=1e-9)
    assert np.isnan(paired_tests(np.ones((4, 1)), margin=1.0).tost_p).all()


def test_bootstrap_from_twenty_pairs_on():
    differences = np.random.default_rng(1).normal(0.01, 0.02, 400)
    result = compare_with_baseline(list(differences), [0.0] * 400, margin=0.01)
    assert result.bootstrap_method == "BCa"
    assert result.bootstrap_interval == pytest.approx(result.t_interval, abs=3e-4)
    few = compare_with_baseline(list(differences[: BOOTSTRAP_SEEDS - 1]), [0.0] * (BOOTSTRAP_SEEDS - 1), margin=0.01)
    assert (few.bootstrap_interval, few.bootstrap_method) == (None, "none")
    assert few.t_interval is not None


def test_bootstrap_falls_back_to_percentiles(monkeypatch):
    original = stats.bootstrap

    def not_finite(data, statistic, **kwargs):
        result = original(data, statistic, **kwargs)
        if kwargs["method"] == "BCa":
            result.confidence_interval = type(result.confidence_interval)(math.nan, math.nan)
        return result

    monkeypatch.setattr(stats, "bootstrap", not_finite)
    low, high, method = bootstrap_interval(np.array([0.0, 0.01, 0.03]), 0.05, resamples=99)
    assert method == "percentile"
    assert low < high


@pytest.mark.parametrize("n", [8, 14])
def test_sign_flips_are_those_of_scipy(n):
    differences = np.random.default_rng(n).normal(0.5, 1.0, n)
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=99_999, rng=0)
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue, abs=0 if n == 8 else 0.01)


@quick
@given(pairs, st.integers(-64, 64).map(lambda k: k / 64))
def test_a_constant_added_to_both_arms_changes_nothing(scores, shift):
    plain, shifted = compare(scores), compare(scores, shift=shift)
    assert decisions(shifted) == pytest.approx(decisions(plain), rel=1e-9, abs=1e-12)


@quick
@given(pairs.filter(lambda scores: len(scores) > 1), st.floats(0.001, 1), st.floats(0.001, 1))
def test_equivalence_is_monotone_in_the_margin(scores, one, other):
    narrow, wide = (compare(scores, margin=margin) for margin in sorted([one, other]))
    if wide.tost_p is not None:
        assert wide.tost_p <= narrow.tost_p + 1e-12
        assert (wide.tost_p < 0.05) == (wide.equivalence_needs < wide.margin)


@quick
@given(pairs.filter(lambda scores: len(scores) > 1))
def test_intervals_and_p_values_tell_one_story(scores):
    result = compare(scores)
    assert json.loads(json.dumps(result.__dict__, allow_nan=False))["n"] == len(scores)
    if result.difference_sd < 1 / 256 - 1e-9:
        assert (result.t_interval, result.ttest_p, result.tost_p) == (None, None, None)
    else:
        low, high = result.t_interval
        assert low <= result.difference <= high
        assert (result.ttest_p < 0.05) == (low > 0 or high < 0)
        assert 0 <= result.tost_p <= 1
        assert 0 <= result.ttest_p <= 1
