"""Metrics: local, offline, and equal to scikit-learn's."""

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from hf_warmup.training.evaluation import METRICS


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, references = rng.integers(classes, size=(2, 40)).tolist()
    for name, expected in (("accuracy", accuracy_score), ("matthews_correlation", matthews_corrcoef)):
        metric = evaluate.load(str(METRICS / name))
        found = metric.compute(predictions=predictions, references=references)
        assert found == {name: pytest.approx(expected(references, predictions))}


def test_a_model_that_says_one_thing_has_no_correlation() -> None:
    metric = evaluate.load(str(METRICS / "matthews_correlation"))
    assert metric.compute(predictions=[1, 1, 1], references=[0, 1, 1]) == {"matthews_correlation": 0.0}
