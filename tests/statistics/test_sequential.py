"""Looks declared beforehand: levels against the specification's, error rates against simulation, refusals."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from hf_warmup.statistics.paired import paired_tests
from hf_warmup.statistics.sequential import Plan, false_different, nominal_levels


LOOKS = (5, 8, 12, 20, 30)


@pytest.mark.parametrize(
    ("spending", "sides", "expected"),
    [
        ("pocock", 2, (0.0121, 0.0097, 0.0116, 0.0175, 0.0203)),
        ("pocock", 1, (0.0124, 0.0103, 0.0126, 0.0189, 0.0223)),
        ("obrien_fleming", 2, (0.0000, 0.0001, 0.0019, 0.0153, 0.0434)),
        ("obrien_fleming", 1, (0.0000, 0.0001, 0.0018, 0.0156, 0.0446)),
    ],
)
def test_levels_of_five_looks(spending, sides, expected):
    # From an integration on a grid of step .004, which is what the tolerance is for.
    assert nominal_levels(LOOKS, spending=spending, sides=sides) == pytest.approx(expected, abs=6e-4)


def test_the_first_level_is_what_is_spent_first_and_one_look_has_all():
    first = 0.05 * math.log(1 + (math.e - 1) * 5 / 30)
    assert nominal_levels(LOOKS)[0] == pytest.approx(first, rel=1e-9)
    assert nominal_levels((7,)) == pytest.approx((0.05,), rel=1e-9)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
def test_the_brownian_motion_crosses_as_often_as_alpha_says(spending, sides):
    steps = np.random.default_rng(0).normal(size=(100_000, 30))
    places = np.cumsum(steps, axis=1)[:, [look - 1 for look in LOOKS]] / np.sqrt(LOOKS)
    levels = nominal_levels(LOOKS, spending=spending, sides=sides)
    bounds = norm.isf(np.array(levels) / sides)
    crossed = ((np.abs(places) if sides == 2 else places) > bounds).any(axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=0.0021)


@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
@pytest.mark.parametrize("resolution", [0.0, 0.5])
def test_both_errors_of_t_tests_stay_below_alpha(spending, resolution):
    plan, repetitions = Plan(spending=spending), 20_000
    differences = np.random.default_rng(4).normal(size=(repetitions, 30))
    if resolution:
        differences = np.round(differences / resolution) * resolution
    different, equivalent = np.zeros((2, repetitions), dtype=bool)
    for n in plan.looks:
        levels = plan.levels(n)
        none = paired_tests(differences[:, :n], margin=1.0, resolution=resolution)
        edge = paired_tests(differences[:, :n] + 1.0, margin=1.0, resolution=resolution)
        different |= none.ttest_p < levels[0]
        equivalent |= edge.tost_p < levels[1]
    bound = 0.05 + 2 * math.sqrt(0.05 * 0.95 / repetitions)
    assert 0.035 < different.mean() <= bound
    assert 0.035 < equivalent.mean() <= bound


def test_the_chance_of_an_error_without_a_plan():
    assert false_different([12], [0.05]) == pytest.approx(0.05, rel=1e-6)
    # 23 % in the specification's simulation of t tests.
    assert false_different(range(3, 21), [0.05] * 18) == pytest.approx(0.23, abs=0.015)
    plan = Plan()
    assert plan.error_rate(30) == pytest.approx(0.05, abs=0.003)
    assert 0.06 < plan.error_rate(40) < 0.1


def test_looks_of_a_plan():
    plan = Plan(looks=[5, 8, 12])
    assert [plan.look(n) for n in (5, 7, 12, 20)] == [1, None, 3, None]
    assert plan.levels(7) == (0.05, 0.05)
    assert all(two < one for two, one in zip(plan.levels(5, num_tests=2), plan.levels(5), strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"looks": (3, 5)}, "begin at 5"),
        ({"looks": (5, 5)}, "increase"),
        ({"looks": ()}, "looks"),
        ({"spending": "all"}, "pocock, obrien_fleming"),
        ({"alpha": 0.7}, "alpha"),
    ],
)
def test_what_is_no_plan_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Plan(**fields)
