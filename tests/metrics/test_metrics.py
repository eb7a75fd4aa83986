"""Metrics: local, offline, and equal to scikit-learn's, scipy's and seqeval's."""

import evaluate
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from hf_warmup.training.evaluation import METRICS, load_metric


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, references = rng.integers(classes, size=(2, 40)).tolist()
    for name, expected in (("accuracy", accuracy_score), ("matthews_correlation", matthews_corrcoef)):
        metric = evaluate.load(str(METRICS / name))
        found = metric.compute(predictions=predictions, references=references)
        assert found == {name: pytest.approx(expected(references, predictions))}
    average = "binary" if classes == 2 else "macro"
    found = load_metric("f1").compute(predictions=predictions, references=references)
    assert found == {"f1": pytest.approx(f1_score(references, predictions, average=average))}


def test_a_model_that_says_one_thing_has_no_correlation() -> None:
    metric = evaluate.load(str(METRICS / "matthews_correlation"))
    assert metric.compute(predictions=[1, 1, 1], references=[0, 1, 1]) == {"matthews_correlation": 0.0}


def test_f1_of_one_class_alone_is_that_of_class_one() -> None:
    f1 = load_metric("f1")
    assert f1.compute(predictions=[0, 0, 0], references=[0, 0, 0]) == {"f1": 0.0}
    assert f1.compute(predictions=[1, 1, 1, 1], references=[0, 1, 1, 0]) == {"f1": pytest.approx(2 / 3)}
    assert f1.compute(predictions=[2, 2, 0], references=[2, 0, 0]) == {"f1": pytest.approx(2 / 3)}


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, references = rng.normal(size=(2, 30))
    references = (references + predictions).round(1)  # with ties
    for name, expected in (("pearson", pearsonr), ("spearman", spearmanr)):
        found = load_metric(name).compute(predictions=predictions, references=references)
        assert found == {name: pytest.approx(expected(predictions, references).statistic, rel=1e-12)}
        assert load_metric(name).compute(predictions=[1.0] * 30, references=references) == {name: 0.0}


TRUE = """
B-Y I-X O E-X S-Y B-X O O O
E-X I-X O B-Y I-Y I-X B-X O I-X
B-Y O I-X I-X B-Y B-X I-X I-X I-Y
O I-Y E-X B-Y B-X B-Y S-Y I-X O
I-X O I-X I-X B-Y E-X E-X I-X E-X
S-Y B-X B-Y I-X I-X O O O S-Y
"""
PREDICTED = """
B-Y I-X O E-X S-Y B-Y O S-Y O
E-X I-Y O B-Y I-Y B-Y B-X O O
B-Y O I-X I-X B-Y I-X I-Y I-X I-Y
E-X O E-X B-Y B-X B-Y S-Y I-Y O
I-X O I-X I-X B-Y E-X E-X O E-X
S-Y B-X B-Y I-X I-X O O O I-X
"""


def test_entities_are_those_of_seqeval() -> None:
    """Spans and score as seqeval 1.2.2 has them, also of labels that no scheme allows."""
    f1 = load_metric("entity_f1")
    rows = [[line.split() for line in text.strip().splitlines()] for text in (PREDICTED, TRUE)]
    found = f1.compute(predictions=rows[0], references=rows[1])
    assert found == {"entity_f1": pytest.approx(0.7142857142857144, rel=1e-12)}

    def entities(row: str) -> int:
        """How many there are: against itself with one entity more at its end, 2 n / (2 n + 1)."""
        labels = row.split()
        score = f1.compute(predictions=[[*labels, "O", "O"]], references=[[*labels, "O", "B-Q"]])["entity_f1"]
        return round(score / (2 * (1 - score))) if score < 1 else 0

    rows_of = {"B-X I-X O B-X B-X": 3, "I-X I-X O I-Y": 2, "B-X I-Y I-Y O": 2, "B-X E-X I-X": 2, "S-X S-X": 2}
    assert {row: entities(row) for row in rows_of} == rows_of
    assert entities("B I O I") == 2
    # The type counts, and both ends.
    for wrong in ("B-Y I-Y O", "B-X O O", "B-X I-X I-X"):
        assert f1.compute(predictions=[wrong.split()], references=[["B-X", "I-X", "O"]]) == {"entity_f1": 0.0}
    assert f1.compute(predictions=[["O"]], references=[["O"]]) == {"entity_f1": 0.0}
