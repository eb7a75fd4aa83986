"""Power against statsmodels and published simulation, and plans that hold what they promise."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from hf_warmup.statistics.paired import compare_with_baseline, paired_tests
from hf_warmup.statistics.power import (
    POWER,
    detectable_effect,
    difference_power,
    equivalence_power,
    seeds_for_difference,
    seeds_for_equivalence,
)


@pytest.mark.parametrize("n", [2, 3, 5, 20, 100])
def test_power_of_a_difference_is_that_of_statsmodels(n):
    effects = np.array([0.1, 0.4, 0.7])
    expected = [TTestPower().power(effect, n, 0.05) for effect in effects]
    assert difference_power(n, effects) == pytest.approx(np.array(expected), abs=2e-3)


@pytest.mark.parametrize(("n", "expected"), [(12, 0.57), (20, 0.89), (30, 0.98)])
def test_power_of_equivalence_at_a_margin_of_three_quarters(n, expected):
    # Simulated with 40,000 repetitions for the specification of looks.
    assert equivalence_power(n, np.array(0.0), np.array(0.75)) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("n", [2, 3])
def test_smallest_detectable_effect_in_simulation_with_few_pairs(n):
    samples = np.random.default_rng(0).normal(detectable_effect(n, 0.05), 1, size=(40_000, n))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(POWER, abs=0.01)


@pytest.mark.parametrize(("difference", "margin"), [(0.0, 1.0), (0.3, 1.0), (1.0, 0.1), (-0.8, 0.1)])
@pytest.mark.parametrize("first", [3, 5])
def test_the_planned_seeds_decide_with_the_power_that_is_said(difference, margin, first):
    # The true spread is as uncertain as the first pairs leave it; the seeds that are run are new.
    rng = np.random.default_rng(1)
    equivalence = abs(difference) < margin
    if equivalence:
        more = seeds_for_equivalence(difference, 1.0, first, margin=margin)
    else:
        more = seeds_for_difference(difference, 1.0, first)
    true = np.sqrt((first - 1) / rng.chisquare(first - 1, 4000))
    tests = paired_tests(rng.normal(difference, true[:, None], (4000, first + more)), margin=margin)
    decided = (tests.tost_p if equivalence else tests.ttest_p) < 0.05
    assert 0.78 < decided.mean() < 0.84


def test_plans_at_the_ends():
    assert seeds_for_equivalence(0.02, 0.01, 5, margin=0.01) is None
    assert seeds_for_difference(1e-6, 1.0, 5) is None
    assert seeds_for_difference(1.0, 1e-3, 3) == 1
    far = compare_with_baseline([0.0, 1.0, 0.501], [0.5, 0.5, 0.5], margin=1e-6)
    assert far.more_seeds_needed is None
    assert "more than 1000 further seeds" in far.note
    decided = compare_with_baseline([0.90, 0.91, 0.92], [0.5, 0.5, 0.51], margin=0.01, resolution=0.001)
    assert decided.more_seeds_needed is None
    assert decided.note == ""
