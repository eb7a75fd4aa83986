"""Share of predictions that equal their label, as a local `evaluate` module: no network needed."""

import datasets
import evaluate
import numpy as np


class Accuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions that equal their label.",
            citation="",
            inputs_description="predictions and references: class numbers, one per example.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}
