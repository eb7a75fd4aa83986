"""Verdicts on studies: words, families of tasks, looks, runs that learned nothing, and all arms at once."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from synthetic_study import make_results

from hf_warmup.statistics.sequential import Plan
from hf_warmup.statistics.verdicts import add_verdicts, median_steps


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


def test_medians_of_steps_count_runs_that_never_arrived():
    assert median_steps([100, None, 300, 200]) == {"median": 250.0, "reached": 3, "n": 4}
    assert median_steps([100, None, 300, None]) == {"median": None, "reached": 2, "n": 4}
    assert median_steps([]) == {"median": None, "reached": 0, "n": 0}


EQUAL = [0.950, 0.952, 0.951, 0.949, 0.953]
CLOSE = [0.9512, 0.9533, 0.9526, 0.9511, 0.9541]
FAR = [0.90, 0.91, 0.90, 0.89, 0.91]
NOISY = [0.93, 0.97, 0.95, 0.90, 0.96]


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


def test_verdict_equivalent_names_a_small_difference():
    [verdict] = verdicts_of([CLOSE], [EQUAL])
    assert verdict["verdict"] == "equivalent"
    assert verdict["ttest_p_adjusted"] < 0.05
    sentence = verdict["sentence"]
    assert sentence.startswith("a and radam are equivalent on task0: the difference of +0.15 points of accuracy (95 %")
    assert "n = 5 seeds" in sentence
    assert "within ±1.00 points" in sentence
    assert "a difference of 0.15 points (better) is there, but it is smaller than the margin" in sentence


def test_verdict_not_decided_says_what_would_decide():
    [verdict] = verdicts_of([NOISY], [EQUAL])
    assert verdict["verdict"] == "not decided"
    smallest = f"(power .8) is {100 * verdict['smallest_detectable_effect']:.2f} points"
    assert smallest in verdict["sentence"]
    planned = verdict["more_seeds_for_difference"], verdict["more_seeds_for_equivalence"]
    known = [seeds for seeds in planned if seeds is not None]
    assert verdict["more_seeds_needed"] == min(known)
    assert f"about {min(known)} more seeds would show" in verdict["sentence"]
    assert "with power .8, if this difference is the true one" in verdict["sentence"]


def test_verdict_not_decided_beyond_the_cap():
    [verdict] = verdicts_of([[0.0, 1.0, 0.501]], [[0.5, 0.5, 0.5]], margins=[1e-5])
    assert verdict["more_seeds_needed"] is None
    assert "more than 1000 further seeds" in verdict["sentence"]


def test_one_pair_decides_nothing():
    [verdict] = verdicts_of([[0.95]], [[0.95]])
    assert verdict["verdict"] == "not decided"
    assert "at least three" in verdict["sentence"]


@pytest.mark.parametrize("difference", [0.0, 4 / 300, 0.2])
@pytest.mark.parametrize("n", [2, 3, 12])
@pytest.mark.parametrize("margin", [0.01, 0.1])
def test_equal_differences_decide_nothing(difference, n, margin):
    baseline = [(270 + 2 * seed) / 300 for seed in range(n)]
    [verdict] = verdicts_of([[score + difference for score in baseline]], [baseline], margins=[margin])
    assert verdict["verdict"] == "not decided"
    assert "all differences are equal: a spread below the score's resolution is unknown" in verdict["sentence"]
    assert verdict["difference_sd"] is not None


def test_the_resolution_is_that_of_the_test_part_where_it_is_known():
    # .004 apart on 250 examples is one example; on 25,000 it is a hundred.
    arm, baseline = [0.944, 0.944, 0.948], [0.94, 0.944, 0.944]
    study = study_of([arm], [baseline])
    for examples, decided in ((250, False), (25_000, True)):
        study["tasks"][0]["sizes"] = {"test": examples}
        [verdict] = add_verdicts(study)["tasks"][0]["verdicts"]
        assert (verdict["ttest_p"] is not None) == decided
        assert verdict["resolution"] == 1 / examples


def test_holm_over_tasks_is_that_of_statsmodels():
    found = verdicts_of([CLOSE, NOISY, FAR], [EQUAL] * 3, margins=[0.01, 0.02, 0.03])
    for kind in ("tost_p", "ttest_p"):
        expected = multipletests([verdict[kind] for verdict in found], method="holm")[1]
        assert [verdict[f"{kind}_adjusted"] for verdict in found] == pytest.approx(list(expected), rel=1e-12)
        assert [verdict[f"{kind}_adjusted"] for verdict in found] != [verdict[kind] for verdict in found]
    assert "Holm over 3 tasks" in found[0]["sentence"]


def test_a_task_without_a_test_does_not_count_for_holm():
    found = verdicts_of([CLOSE, EQUAL], [EQUAL, EQUAL], margins=[0.01, 0.01])
    assert found[1]["tost_p_adjusted"] is None
    assert found[0]["tost_p_adjusted"] == found[0]["tost_p"]


def test_verdicts_pair_by_seed_not_by_position():
    study = study_of([CLOSE], [EQUAL])
    study["tasks"][0]["arms"][0]["runs"].reverse()
    [verdict] = add_verdicts(study)["tasks"][0]["verdicts"]
    assert verdict["verdict"] == "equivalent"
    study["tasks"][0]["arms"][0]["runs"].pop()
    assert add_verdicts(study)["tasks"][0]["verdicts"][0]["n"] == 4


# Arms that predict the class of 52 % of the examples, while the baseline mostly predicts the other.
CONSTANT = [0.52, 0.52, 0.52, 0.52]
OTHER = [0.48, 0.48, 0.48, 0.52]


def test_runs_that_score_as_a_constant_prediction_decide_nothing():
    study = study_of([CONSTANT], [OTHER])
    study["tasks"][0] |= {"resolution": 0.01, "constant_score": [0.52, 0.48]}
    [verdict] = add_verdicts(study)["tasks"][0]["verdicts"]
    assert verdict["verdict"] == "nothing was learned"
    assert verdict["sentence"].startswith("Nothing was learned by a and radam on task0: in 4 of 4 pairs both runs")
    assert verdict["unlearned"] == {"a": 4, "radam": 4}
    assert verdict["more_seeds_needed"] is None
    study["tasks"][0]["constant_score"] = 0.0  # Matthews correlation of any constant
    assert add_verdicts(study)["tasks"][0]["verdicts"][0]["verdict"] != "nothing was learned"


def test_an_arm_that_alone_learned_nothing_is_worse():
    study = study_of([CONSTANT], [EQUAL[:4]])
    study["tasks"][0]["constant_score"] = 0.52
    [verdict] = add_verdicts(study)["tasks"][0]["verdicts"]
    assert verdict["verdict"] == "different"
    assert "is worse" in verdict["sentence"]
    assert "; runs that learned nothing: 4 of a." in verdict["sentence"]


@pytest.mark.parametrize(
    ("stuck", "expected"), [(5, "nothing was learned"), (3, "nothing was learned"), (2, "different")]
)
def test_runs_whose_loss_has_not_fallen_decide_nothing(stuck, expected):
    study = study_of([FAR], [EQUAL])
    for arm in study["tasks"][0]["arms"]:
        for run in arm["runs"]:
            run["loss_fell"] = run["seed"] >= stuck
    [verdict] = add_verdicts(study)["tasks"][0]["verdicts"]
    assert verdict["verdict"] == expected


def test_looks_declared_beforehand_have_levels_of_their_own():
    arm = [0.940, 0.939, 0.950, 0.937, 0.949]
    study = study_of([arm], [EQUAL])
    [alone] = add_verdicts(study)["tasks"][0]["verdicts"]
    assert 0.012 < alone["ttest_p"] < 0.05
    assert alone["verdict"] == "different"
    [found] = add_verdicts({**study, "plan": {"looks": [5, 8, 12], "spending": "pocock"}})["tasks"][0]["verdicts"]
    assert found["verdict"] == "not decided"
    assert (found["look"], found["looks"]) == (1, 3)
    assert found["level_difference"] < found["ttest_p"]
    assert found["sentence"].endswith("; not decided at the first of three looks.")
    [far] = add_verdicts({**study_of([FAR], [EQUAL]), "plan": {"looks": [5, 8]}})["tasks"][0]["verdicts"]
    assert far["sentence"].endswith("; decided at the first of two looks.")
    assert ", level ." in far["sentence"]


def test_seeds_added_outside_a_plan_are_said_to_cost():
    study = study_of([FAR], [EQUAL])
    [planned] = add_verdicts({**study, "plan": {"looks": [6, 8]}})["tasks"][0]["verdicts"]
    assert (planned["look"], planned["error_rate"]) == (None, pytest.approx(0.05))
    [added] = add_verdicts({**study, "looks_without_plan": [3, 4]})["tasks"][0]["verdicts"]
    assert 0.08 < added["error_rate"] < 0.12
    assert (
        "seeds were added outside a plan, so that a difference which is not there is found in about 1"
        in added["sentence"]
    )
    [once] = add_verdicts({**study, "looks_without_plan": [5]})["tasks"][0]["verdicts"]
    assert once["error_rate"] is None
    assert "plan" not in once["sentence"]


def test_tasks_share_the_plan():
    plan = {"looks": [5, 8], "spending": "obrien_fleming"}
    found = add_verdicts({**study_of([FAR, CLOSE], [EQUAL] * 2, margins=[0.01, 0.01]), "plan": plan})["tasks"]
    expected = Plan(looks=(5, 8), spending="obrien_fleming").levels(5, num_tests=2)
    for task in found:
        [verdict] = task["verdicts"]
        assert (verdict["level_difference"], verdict["level_equivalence"]) == expected
        assert verdict["ttest_p_adjusted"] == verdict["ttest_p"]


def test_all_arms_at_once_by_dunnett():
    task = add_verdicts(make_results(tasks=1))["tasks"][0]
    scores = {arm["name"]: [run["test"] for run in arm["runs"]] for arm in task["arms"]}
    control = scores.pop("radam")
    expected = stats.dunnett(*scores.values(), control=control, rng=1).pvalue
    found = {verdict["arm"]: verdict["simultaneous_p"] for verdict in task["verdicts"]}
    assert list(found) == list(scores)
    assert list(found.values()) == pytest.approx(list(expected), abs=2e-3)
    assert task["simultaneous"].startswith("All 3 arms against radam at once (Dunnett's test, runs unpaired): ")
    assert "adamw differs (p < .001)" in task["simultaneous"]


def test_one_arm_alone_needs_no_simultaneous_test():
    [task] = add_verdicts(study_of([FAR], [EQUAL]))["tasks"]
    assert task["simultaneous"] is None
    assert task["verdicts"][0]["simultaneous_p"] is None


@pytest.mark.parametrize("score", [None, math.nan, math.inf])
def test_an_arm_with_runs_without_a_score_gets_a_sentence_and_no_mean(score):
    study = study_of([FAR, FAR], [EQUAL, EQUAL], margins=(0.01, 0.01))
    alone = add_verdicts(study_of([FAR], [EQUAL]))["tasks"][0]["verdicts"]
    study["tasks"][1]["arms"][0]["runs"][1]["test"] = score
    first, second = add_verdicts(study)["tasks"]
    assert "unscored" not in first
    assert first["verdicts"] == alone, "a test that cannot be made counts as none"
    assert second["unscored"] == {"a": "a cannot be judged on task1: 1 of its 5 runs has no score (not a number)."}
    assert (second["arms"][0]["mean"], second["arms"][0]["n"]) == (None, 5)
    assert (second["verdicts"], second["simultaneous"]) == ([], None)
