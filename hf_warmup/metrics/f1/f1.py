"""F1, the metric of MRPC and QQP, as a local `evaluate` module: no network needed."""

import datasets
import evaluate
import numpy as np


class F1(evaluate.Metric):  # type: ignore[misc]
    """Of class 1 where there are the classes 0 and 1, else the mean over the classes that occur; in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Harmonic mean of precision and recall; 0 for a class that is never rightly predicted.",
            citation="",
            inputs_description="predictions and references: class numbers, one per example.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        classes = np.union1d(predictions, references)
        if classes.max() <= 1:
            classes = np.array([1])
        predicted = np.asarray(predictions)[:, None] == classes
        true = np.asarray(references)[:, None] == classes
        either = predicted.sum(0) + true.sum(0)
        both = 2 * np.sum(predicted & true, axis=0)
        return {"f1": float(np.mean(both / np.maximum(either, 1)))}
