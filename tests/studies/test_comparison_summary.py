"""What tells runs that learned from runs that did not: scores of constant predictions, and losses."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from hf_warmup.statistics.metrics import METRICS
from hf_warmup.studies.comparison.constants import constant_scores
from hf_warmup.studies.comparison.summary import best_rate, loss_fell


@dataclass
class FakeTask:
    config: Any
    test: list[dict[str, Any]]
    predicts: str = "classes"
    num_labels: int = 2
    label_names: tuple[str, ...] = ()
    test_labels: tuple[int, ...] = ()


def test_constant_predictions_score_the_shares_of_the_classes() -> None:
    examples = [{"labels": label} for label in (0, 0, 0, 1)]
    assert constant_scores(FakeTask(SimpleNamespace(metric="accuracy"), examples)) == [0.25, 0.75]  # type: ignore[arg-type]
    blocks = [{"labels": [5, 1, 1, 2, -100]}]
    scores = constant_scores(FakeTask(SimpleNamespace(metric="accuracy"), blocks))  # type: ignore[arg-type]
    assert scores == pytest.approx([1 / 3, 2 / 3])
    assert constant_scores(FakeTask(SimpleNamespace(metric="matthews_correlation"), examples)) == [0.0]  # type: ignore[arg-type]


def test_a_loss_has_fallen_if_its_end_lies_below_its_beginning() -> None:
    assert loss_fell([2.0 - 0.01 * step for step in range(100)]) is True
    assert loss_fell([0.7] * 100) is False
    assert loss_fell([0.7] * 50 + [None, float("nan"), 9.0] * 20) is False
    assert loss_fell([2.0, 1.0]) is None


def test_the_best_rate_follows_the_metrics_direction() -> None:
    scores = {0.1: [0.5, 0.6], 0.01: [0.4, 0.5], 0.001: [0.4, None], 0.02: [0.4, 0.5]}
    assert best_rate(scores, METRICS["accuracy"]) == 0.1
    assert best_rate(scores, METRICS["loss"]) == 0.01, "the smaller of two rates, and none without a score"
