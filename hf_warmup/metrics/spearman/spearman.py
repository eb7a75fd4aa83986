"""Spearman correlation, a metric of STS-B, as a local `evaluate` module: no network needed."""

import datasets
import evaluate
import numpy as np
from scipy.stats import rankdata


class Spearman(evaluate.Metric):  # type: ignore[misc]
    """Correlation of the ranks of predicted and true value in [-1, 1]; 0 if either is constant."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Correlation of the ranks of predictions and labels; ties have their mean rank.",
            citation="",
            inputs_description="predictions and references: numbers, one per example.",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        if len(set(predictions)) < 2 or len(set(references)) < 2:
            return {"spearman": 0.0}
        return {"spearman": float(np.corrcoef(rankdata(predictions), rankdata(references))[0, 1])}
