"""Scores of predictions that do not look at their input: what a run must leave behind to have learned anything."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_warmup.data.tasks import Task
from hf_warmup.training.evaluation import load_metric


def constant_scores(task: Task) -> list[float]:
    """Test scores of all constant predictions.

    Of an accuracy these are the shares of the classes, of a correlation 0, and of a loss that of saying each token
    with its share of the test part, which no constant prediction beats.
    """
    metric = task.config.metric
    if metric in ("pearson", "spearman", "matthews_correlation"):
        return [0.0]
    found = task.test_labels or [example["labels"] for example in task.test]  # type: ignore[attr-defined]
    labels = [np.ravel(each) for each in found]
    if metric == "entity_f1":
        return _scores_of_names(task, labels)
    # A language model has nothing to say about the first place of a block.
    ahead = 1 if task.predicts == "classes" else 0
    known = np.concatenate([each[ahead:] if len(each) > 1 else each for each in labels])
    known = known[known >= 0]
    _, counts = np.unique(known, return_counts=True)
    shares = counts / counts.sum()
    if metric == "accuracy":
        return sorted({float(share) for share in shares})
    if metric == "f1":
        f1 = load_metric("f1")
        constants = (np.full_like(known, label) for label in range(task.num_labels))
        return sorted({float(f1.compute(predictions=each, references=known)["f1"]) for each in constants})
    entropy = float(-(shares * np.log(shares)).sum())
    return [float(np.exp(entropy)) if metric == "perplexity" else entropy]


def _scores_of_names(task: Task, labels: list[NDArray[Any]]) -> list[float]:
    metric, names = load_metric("entity_f1"), task.label_names
    true = [[names[label] for label in each if label >= 0] for each in labels]
    found = (metric.compute(predictions=[[name] * len(row) for row in true], references=true) for name in names)
    return sorted({float(each["entity_f1"]) for each in found})
