"""Verdicts on studies: words, families of tasks, runs that learned nothing, and runs without a score."""

import json
import math

import numpy as np
import pytest
from arm_scores import CLOSE, EQUAL, FAR, NOISY, study_of
from statsmodels.stats.multitest import multipletests
from synthetic_study import make_results

from hf_warmup.statistics.verdicts import add_verdicts, median_steps


def verdicts_of(*args, **kwargs):
    return [task["verdicts"][0] for task in add_verdicts(study_of(*args, **kwargs))["tasks"]]


def test_medians_of_steps_count_runs_that_never_arrived():
    assert median_steps([100, None, 300, 200]) == {"median": 250.0, "reached": 3, "n": 4}
    assert median_steps([100, None, 300, None]) == {"median": None, "reached": 2, "n": 4}
    assert median_steps([]) == {"median": None, "reached": 0, "n": 0}


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


def test_an_arm_that_a_look_leaves_open_is_planned_at_the_levels_of_the_look():
    """Equivalent at 5 %, but not at the level of the first of four looks: a few more seeds would show it."""
    differences = np.array([-1.0, 1.0, -0.5, 0.5, 0.0]) * 0.0095 + 0.001
    study = study_of([(0.9 + differences).tolist()], [[0.9] * 5])
    plain = add_verdicts(study)["tasks"][0]["verdicts"][0]
    assert plain["verdict"] == "equivalent"
    looked = add_verdicts({**study, "plan": {"looks": [5, 8, 12, 20], "spending": "pocock"}})["tasks"][0]["verdicts"][
        0
    ]
    assert looked["level_equivalence"] < looked["tost_p"] < 0.05
    assert looked["verdict"] == "not decided"
    assert 1 <= looked["more_seeds_for_equivalence"] <= 12
    assert "more than 1000" not in looked["sentence"]
    assert looked["equivalence_needs"] > looked["margin"] > plain["equivalence_needs"]
    assert looked["smallest_detectable_effect"] > plain["smallest_detectable_effect"]
