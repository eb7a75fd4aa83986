"""Metrics: which way is better and in which unit, from the name or as a person states it."""

from typing import Any

import pytest

from hf_warmup.statistics.metrics import METRICS, Metric, as_metric, metric_of
from hf_warmup.statistics.scores import judge_scores, verdict
from hf_warmup.statistics.verdicts import add_verdicts


def results(metric: str, scores: dict[str, list[float]], **stated: Any) -> dict[str, Any]:
    arms = [
        {"name": name, "runs": [{"seed": seed, "test": score} for seed, score in enumerate(found)]}
        for name, found in scores.items()
    ]
    return {"baseline": "b", "tasks": [{"name": "t", "metric": metric, "margin": 0.01, **stated, "arms": arms}]}


LOSSES = {"a": [1.2, 1.21, 1.19, 1.22, 1.2], "b": [1.0, 1.02, 0.99, 1.01, 1.02]}


@pytest.mark.parametrize(
    ("metric", "stated", "expected"),
    [
        ("accuracy", {}, "a is better than b on t: the difference of +19.60 points of accuracy"),
        ("loss", {}, "a is worse than b on t: the difference of +0.196 in loss (95 % interval"),
        ("perplexity", {}, "a is worse than b on t: the difference of +0.196 in perplexity"),
        ("wer", {"lower_is_better": True}, "a is worse than b on t: the difference of +0.196 in wer"),
        ("loss", {"unit": "nats"}, "a is worse than b on t: the difference of +0.196 nats in loss"),
        ("matthews_correlation", {}, "a is better than b on t: the difference of +0.196 in Matthews correlation"),
    ],
)
def test_a_sentence_follows_direction_and_unit(metric: str, stated: dict[str, Any], expected: str) -> None:
    [found] = add_verdicts(results(metric, LOSSES, **stated))["tasks"][0]["verdicts"]
    assert found["verdict"] == "different"
    assert found["sentence"].startswith(expected)
    assert ("points" in found["sentence"]) == (metric == "accuracy")


def test_a_loss_that_is_no_better_than_a_constant_prediction_learned_nothing() -> None:
    def word(constant: float) -> str:
        return str(
            add_verdicts(results("loss", LOSSES, constant_score=constant))["tasks"][0]["verdicts"][0]["verdict"]
        )

    assert word(0.9) == "nothing was learned"
    assert word(1.1) == "different"
    # A score above that of a constant prediction is what learning gives.
    above = results("pearson", LOSSES, constant_score=0.0)
    assert add_verdicts(above)["tasks"][0]["verdicts"][0]["verdict"] == "different"


def test_names_that_are_known_need_no_more() -> None:
    assert Metric.model_validate(as_metric("eval_loss")) == METRICS["loss"]
    assert Metric.model_validate(as_metric({"name": "loss", "unit": "nats"})).label == "loss (nats)"
    wer = Metric.model_validate(as_metric({"name": "wer", "lower_is_better": True}))
    assert wer.stored() == {"lower_is_better": True, "in_points": False, "unit": ""}
    assert metric_of({"metric": "wer", **wer.stored()}) == wer
    with pytest.raises(ValueError, match=r"metric: \{name: wer, lower_is_better: false\}"):
        as_metric("wer")
    assert METRICS["accuracy"].stored() == {}
    assert not METRICS["loss"].reaches(None, 2.0)
    assert METRICS["loss"].reaches(1.9, 2.0)
    assert not METRICS["accuracy"].reaches(0.4, 0.5)


def test_scores_alone_are_judged_in_their_direction() -> None:
    found = verdict(LOSSES["a"], LOSSES["b"], margin=0.01, lower_is_better=True)
    assert str(found).startswith("the arm is worse than the baseline: the difference of +0.196 in score")
    judged = judge_scores({"a": {0: 1.0, 1: 1.1}, "b": {0: 1.0, 1: 1.2}}, baseline="b", margin=0.1)
    assert "in_points" not in judged["tasks"][0]
