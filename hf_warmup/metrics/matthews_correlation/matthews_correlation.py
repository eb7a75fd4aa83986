"""Matthews correlation, the metric of CoLA, as a local `evaluate` module: no network needed."""

import datasets
import evaluate
import numpy as np


class MatthewsCorrelation(evaluate.Metric):  # type: ignore[misc]
    """Correlation of predicted and true class in [-1, 1]; 0 if all predictions or all labels are one class."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Correlation of predicted and true class (Matthews 1975; Gorodkin 2004 for several classes).",
            citation="",
            inputs_description="predictions and references: class numbers, one per example.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        classes = np.union1d(predictions, references)
        predicted = np.asarray(predictions)[:, None] == classes
        true = np.asarray(references)[:, None] == classes
        size = len(predicted)
        # Covariances of the one-hot codes, up to a common factor.
        both = size * np.sum(predicted & true) - np.dot(predicted.sum(0), true.sum(0))
        spread = (size**2 - np.sum(predicted.sum(0) ** 2)) * (size**2 - np.sum(true.sum(0) ** 2))
        return {"matthews_correlation": float(both / np.sqrt(spread)) if spread else 0.0}
