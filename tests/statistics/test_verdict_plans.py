"""Verdicts at looks that were declared, at looks that were not, and of several tests at once."""

import pytest
from arm_scores import CLOSE, EQUAL, FAR, study_of
from scipy import stats
from synthetic_study import make_results

from hf_warmup.statistics.sequential import Plan
from hf_warmup.statistics.verdicts import add_verdicts


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
