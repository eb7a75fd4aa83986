"""Share of images that are proven, as a local `evaluate` module: no network needed."""

from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest


class VerifiedAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Verified accuracy in [0, 1], with the exact interval of the share in the population the images are drawn from.

    An image counts as verified if it is classified correctly everywhere within the radius, and that is proven.

    Example:
        >>> found = VerifiedAccuracy(keep_in_memory=True).compute(verified=[True, True, False, True])
        >>> found["verified_accuracy"], found["num_verified"], found["num_examples"]
        (0.75, 3, 4)
        >>> [round(end, 4) for end in found["verified_interval"]]
        [0.1941, 0.9937]
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of images that are proven to be classified correctly within a radius.",
            citation="Interval: Clopper and Pearson, Biometrika 26, 1934.",
            inputs_description=(
                "verified: whether each image is proven, bool (or 0 and 1); optionally confidence, the coverage of "
                "the interval in (0, 1), 0.95 by default."
            ),
            # As a column of booleans any number but 0 would count as true, margins that prove nothing among them.
            features=datasets.Features({"verified": datasets.Value("float64")}),
        )

    def _compute(self, verified: list[float], confidence: float = 0.95) -> dict[str, Any]:
        if not len(verified):
            raise ValueError("there is no image: verified is empty.")
        other = [value for value in verified if value not in (0, 1)]
        if other:
            raise ValueError(
                f"verified must be true or false for each image, got {other[0]!r}. A margin above 0 is verified."
            )
        num_verified, num_examples = int(np.sum(verified)), len(verified)
        interval = binomtest(num_verified, num_examples).proportion_ci(confidence, method="exact")
        return {
            "verified_accuracy": num_verified / num_examples,
            "verified_interval": [float(interval.low), float(interval.high)],
            "num_verified": num_verified,
            "num_examples": num_examples,
        }
