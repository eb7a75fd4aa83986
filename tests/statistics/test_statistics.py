"""Statistics against hand-computed numbers, statsmodels, simulation, and properties that any verdict must have."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired
from synthetic_study import make_results

from hf_warmup.statistics.paired import _bootstrap
from hf_warmup.statistics.verdicts import add_verdicts, compare_with_baseline, median_steps, more_seeds_needed


# Scores on a dyadic grid, so that shifts are exact in floating point.
score = st.integers(0, 256).map(lambda k: k / 256)
pairs = st.lists(st.tuples(score, score), min_size=1, max_size=8)
quick = settings(max_examples=60, deadline=None)


def compare(scores, *, margin=0.05, shift=0.0, sign=1):
    arm, baseline = zip(*scores, strict=True)
    return compare_with_baseline(
        [sign * (a + shift) for a in arm], [sign * (b + shift) for b in baseline], margin=margin
    )


def decisions(comparison):
    values = (comparison.tost_p, comparison.ttest_p, comparison.more_seeds_needed)
    return [-1.0 if value is None else value for value in values]


def study_of(arm_scores, baseline_scores, *, margins=(0.01,)):
    """A study whose k-th task has the k-th lists of test scores."""

    def arm(name, scores):
        runs = [
            {"seed": seed, "test": test, "diverged": False, "steps_to_target": None}
            for seed, test in enumerate(scores)
        ]
        return {"name": name, "runs": runs}

    tasks = [
        {"name": f"task{k}", "metric": "accuracy", "margin": margin, "arms": [arm("a", ours), arm("radam", theirs)]}
        for k, (ours, theirs, margin) in enumerate(zip(arm_scores, baseline_scores, margins, strict=True))
    ]
    return {"baseline": "radam", "tasks": tasks}


def verdicts_of(*args, **kwargs):
    return [task["verdicts"][0] for task in add_verdicts(study_of(*args, **kwargs))["tasks"]]


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


@pytest.mark.parametrize("n", [2, 3])
def test_smallest_detectable_effect_in_simulation_with_few_pairs(n):
    result = compare_with_baseline(list(np.arange(n, dtype=float)), [0.0] * n, margin=0.5)
    found = result.smallest_detectable_effect / result.difference_sd
    samples = np.random.default_rng(0).normal(found, 1, size=(40_000, n))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_more_seeds_are_the_first_that_decide():
    more = more_seeds_needed(0.002, 0.01, 3, margin=0.01)

    def smallest_p(n):
        pattern = np.resize([-1.0, 1.0], n) if n % 2 == 0 else np.array([0.0, *np.resize([-1.0, 1.0], n - 1)])
        differences = 0.002 + 0.01 * pattern / pattern.std(ddof=1)
        tost = ttost_paired(differences, np.zeros(n), -0.01, 0.01)[0]
        return min(tost, stats.ttest_1samp(differences, 0).pvalue)

    assert more > 0
    assert smallest_p(3 + more) < 0.05 <= smallest_p(3 + more - 1)


def test_more_seeds_at_the_ends():
    assert more_seeds_needed(0.0, 1e-6, 3, margin=0.01) == 0
    assert more_seeds_needed(0.01, 1.0, 3, margin=0.01) is None
    far = compare_with_baseline([0.0, 1.0, 0.501], [0.5, 0.5, 0.5], margin=1e-6)
    assert far.more_seeds_needed is None
    assert "more than 1000 further seeds" in far.note
    decided = compare_with_baseline([0.90, 0.91, 0.92], [0.5, 0.5, 0.51], margin=0.01)
    assert decided.more_seeds_needed is None
    assert "1000" not in decided.note


def test_more_tests_need_more_seeds_and_larger_effects():
    arm, baseline = [0.95, 0.96, 0.94], [0.94, 0.94, 0.95]
    alone, family = (compare_with_baseline(arm, baseline, margin=0.01, num_tests=k) for k in (1, 4))
    assert family.more_seeds_needed > alone.more_seeds_needed
    assert family.smallest_detectable_effect > alone.smallest_detectable_effect
    assert family.t_interval == alone.t_interval


def test_one_pair_decides_nothing():
    result = compare_with_baseline([0.95], [0.94], margin=0.05)
    assert result.n == 1
    assert (result.tost_p, result.ttest_p, result.t_interval, result.bootstrap_interval) == (None,) * 4
    assert "no test" in result.note
    [verdict] = verdicts_of([[0.95]], [[0.95]])
    assert verdict["verdict"] == "not decided"
    assert "at least three" in verdict["sentence"]


@pytest.mark.parametrize(
    ("difference", "tost_p", "ttest_p", "verdict"),
    [(0.0, 0.0, 1.0, "equivalent"), (0.125, 0.0, 0.0, "equivalent"), (0.25, 1.0, 0.0, "different")],
)
def test_differences_without_spread(difference, tost_p, ttest_p, verdict):
    baseline = [0.25, 0.5, 0.125]
    arm = [value + difference for value in baseline]
    result = compare_with_baseline(arm, baseline, margin=0.25)
    assert (result.tost_p, result.ttest_p) == (tost_p, ttest_p)
    assert result.bootstrap_interval == (difference, difference)
    assert "unknown rather than zero" in result.note
    assert verdicts_of([arm], [baseline], margins=[0.25])[0]["verdict"] == verdict


def test_spread_that_is_only_rounding_counts_as_none():
    result = compare_with_baseline([0.1 + 0.2, 0.7 + 0.1, 0.3], [0.0, 0.5, 0.0], margin=0.01)
    assert result.difference_sd == 0.0


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


def test_bootstrap_is_bca_and_close_to_normal_theory_for_many_pairs():
    differences = np.random.default_rng(1).normal(0.01, 0.02, 400)
    result = compare_with_baseline(list(differences), [0.0] * 400, margin=0.01)
    assert result.bootstrap_method == "BCa"
    assert result.bootstrap_interval == pytest.approx(result.t_interval, abs=3e-4)
    assert result.note == ""


def test_bootstrap_falls_back_to_percentiles(monkeypatch):
    original = stats.bootstrap

    def not_finite(data, statistic, **kwargs):
        result = original(data, statistic, **kwargs)
        if kwargs["method"] == "BCa":
            result.confidence_interval = type(result.confidence_interval)(math.nan, math.nan)
        return result

    monkeypatch.setattr(stats, "bootstrap", not_finite)
    low, high, method = _bootstrap(np.array([0.0, 0.01, 0.03]), 0.05)
    assert method == "percentile"
    assert low < high


@quick
@given(pairs)
def test_sign_flip_changes_no_decision(scores):
    assert decisions(compare(scores)) == pytest.approx(decisions(compare(scores, sign=-1)), rel=1e-9, abs=1e-12)


@quick
@given(pairs, st.integers(-64, 64).map(lambda k: k / 64))
def test_a_constant_added_to_both_arms_changes_nothing(scores, shift):
    plain, shifted = compare(scores), compare(scores, shift=shift)
    assert decisions(shifted) == pytest.approx(decisions(plain), rel=1e-9, abs=1e-12)
    assert shifted.bootstrap_interval == plain.bootstrap_interval


@quick
@given(pairs.filter(lambda scores: len(scores) > 1), st.floats(0.001, 1), st.floats(0.001, 1))
def test_equivalence_is_monotone_in_the_margin(scores, one, other):
    narrow, wide = (compare(scores, margin=margin) for margin in sorted([one, other]))
    assert wide.tost_p <= narrow.tost_p + 1e-12
    assert (wide.tost_p < 0.05) == (wide.equivalence_needs < wide.margin)


@quick
@given(pairs.filter(lambda scores: len(scores) > 1))
def test_intervals_and_p_values_tell_one_story(scores):
    result = compare(scores)
    low, high = result.t_interval
    assert low <= result.difference <= high
    if result.difference_sd:
        assert (result.ttest_p < 0.05) == (low > 0 or high < 0)
    assert 0 <= result.tost_p <= 1
    assert 0 <= result.ttest_p <= 1
    assert json.loads(json.dumps(result.__dict__, allow_nan=False))["n"] == len(scores)


@quick
@given(pairs)
def test_the_order_of_seeds_does_not_matter(scores):
    assert decisions(compare(scores)) == pytest.approx(decisions(compare(scores[::-1])), rel=1e-9, abs=1e-12)


def test_medians_of_steps_count_runs_that_never_arrived():
    assert median_steps([100, None, 300, 200]) == {"median": 250.0, "reached": 3, "n": 4}
    assert median_steps([100, None, 300, None]) == {"median": None, "reached": 2, "n": 4}
    assert median_steps([]) == {"median": None, "reached": 0, "n": 0}


EQUAL = [0.950, 0.952, 0.951, 0.949, 0.953]
CLOSE = [0.951, 0.953, 0.953, 0.951, 0.954]
FAR = [0.90, 0.91, 0.90, 0.89, 0.91]
NOISY = [0.93, 0.97, 0.95, 0.90, 0.96]


def test_verdict_equivalent_names_a_small_difference():
    [verdict] = verdicts_of([CLOSE], [EQUAL])
    assert verdict["verdict"] == "equivalent"
    assert verdict["ttest_p_adjusted"] < 0.05
    sentence = verdict["sentence"]
    assert sentence.startswith("a and radam are equivalent on task0: the difference of +0.14 points of accuracy (95 %")
    assert "n = 5 seeds" in sentence
    assert "within ±1.00 points" in sentence
    assert "a difference of 0.14 points (better) is there, but it is smaller than the margin" in sentence


def test_verdict_equivalent_without_a_difference():
    [verdict] = verdicts_of([[0.951, 0.951, 0.951, 0.950, 0.952]], [EQUAL])
    assert verdict["verdict"] == "equivalent"
    assert "is there" not in verdict["sentence"]


def test_verdict_different_names_its_direction():
    [worse] = verdicts_of([FAR], [EQUAL])
    [better] = verdicts_of([EQUAL], [FAR])
    assert worse["verdict"] == better["verdict"] == "different"
    assert worse["sentence"].startswith("a is worse than radam on task0: the difference of −4.90 points")
    assert better["sentence"].startswith("a is better than radam on task0: the difference of +4.90 points")
    assert "margin ±1.00" in worse["sentence"]
    assert worse["more_seeds_needed"] is None


def test_verdict_not_decided_says_what_would_decide():
    [verdict] = verdicts_of([NOISY], [EQUAL])
    assert verdict["verdict"] == "not decided"
    smallest = f"(power .8) is {100 * verdict['smallest_detectable_effect']:.2f} points"
    assert smallest in verdict["sentence"]
    assert f"about {verdict['more_seeds_needed']} more seeds would decide" in verdict["sentence"]
    assert verdict["more_seeds_needed"] >= 1


def test_verdict_not_decided_beyond_the_cap():
    [verdict] = verdicts_of([[0.0, 1.0, 0.501]], [[0.5, 0.5, 0.5]], margins=[1e-5])
    assert verdict["more_seeds_needed"] is None
    assert "more than 1000 further seeds" in verdict["sentence"]


def test_holm_over_tasks_is_that_of_statsmodels():
    found = verdicts_of([CLOSE, NOISY, FAR], [EQUAL] * 3, margins=[0.01, 0.02, 0.03])
    for kind in ("tost_p", "ttest_p"):
        expected = multipletests([verdict[kind] for verdict in found], method="holm")[1]
        assert [verdict[f"{kind}_adjusted"] for verdict in found] == pytest.approx(list(expected), rel=1e-12)
        assert [verdict[f"{kind}_adjusted"] for verdict in found] != [verdict[kind] for verdict in found]
    assert "Holm over 3 tasks" in found[0]["sentence"]


def test_holm_can_take_a_verdict_away():
    # p is about .03 alone; beside a second task without any evidence Holm doubles it.
    arm = [0.934, 0.931, 0.940, 0.930]
    [alone] = verdicts_of([arm], [[0.93] * 4], margins=[0.01])
    assert 0.025 < alone["tost_p"] < 0.05
    assert alone["verdict"] == "equivalent"
    first, second = verdicts_of([arm, NOISY], [[0.93] * 4, EQUAL], margins=[0.01, 0.0001])
    assert first["verdict"] == second["verdict"] == "not decided"
    assert first["more_seeds_needed"] >= 1


def test_arms_get_mean_sd_and_n_and_the_input_stays_as_it_was():
    study = make_results()
    before = json.dumps(study)
    results = add_verdicts(study)
    assert json.dumps(study) == before
    for task in results["tasks"]:
        assert [verdict["arm"] for verdict in task["verdicts"]] == [a["name"] for a in task["arms"][:-1]]
        for arm in task["arms"]:
            scores = [run["test"] for run in arm["runs"]]
            assert arm["mean"] == pytest.approx(np.mean(scores), rel=1e-12)
            assert arm["sd"] == pytest.approx(np.std(scores, ddof=1), rel=1e-9)
            assert arm["n"] == 3
    assert add_verdicts(results) == results
    assert json.dumps(add_verdicts(study), allow_nan=False) == json.dumps(results)


def test_verdicts_pair_by_seed_not_by_position():
    study = study_of([NOISY], [NOISY])
    study["tasks"][0]["arms"][0]["runs"].reverse()
    [verdict] = add_verdicts(study)["tasks"][0]["verdicts"]
    assert verdict["difference"] == 0.0
    assert verdict["verdict"] == "equivalent"
    study["tasks"][0]["arms"][0]["runs"].pop()
    assert add_verdicts(study)["tasks"][0]["verdicts"][0]["n"] == 4


def test_steps_to_target_and_divergence_are_reported():
    study = make_results(learning_rates=(0.01,))
    adamw = add_verdicts(study)["tasks"][0]["verdicts"][0]
    assert adamw["steps_to_target"]["adamw"]["n"] == 3
    assert adamw["steps_to_target"]["radam"]["reached"] == 3
    assert adamw["diverged"] == {"adamw": 1, "radam": 0}
    assert "diverged runs, counted with the score they have: 1 of adamw." in adamw["sentence"]


def test_a_study_without_its_baseline_or_common_seeds_is_refused():
    study = study_of([EQUAL], [EQUAL])
    with pytest.raises(ValueError, match="baseline 'nobody' is not among"):
        add_verdicts({**study, "baseline": "nobody"})
    for run in study["tasks"][0]["arms"][0]["runs"]:
        run["seed"] += 100
    with pytest.raises(ValueError, match="share no seed"):
        add_verdicts(study)


def test_a_study_of_the_baseline_alone_has_no_verdicts():
    study = study_of([EQUAL], [EQUAL])
    study["tasks"][0]["arms"] = study["tasks"][0]["arms"][1:]
    assert add_verdicts(study)["tasks"][0]["verdicts"] == []
