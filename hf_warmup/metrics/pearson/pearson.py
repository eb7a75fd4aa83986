"""Pearson correlation, a metric of STS-B, as a local `evaluate` module: no network needed."""

import datasets
import evaluate
import numpy as np


class Pearson(evaluate.Metric):  # type: ignore[misc]
    """Correlation of predicted and true value in [-1, 1]; 0 if either is constant."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Linear correlation of predictions and labels.",
            citation="",
            inputs_description="predictions and references: numbers, one per example.",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        if len(set(predictions)) < 2 or len(set(references)) < 2:
            return {"pearson": 0.0}
        return {"pearson": float(np.corrcoef(predictions, references)[0, 1])}
