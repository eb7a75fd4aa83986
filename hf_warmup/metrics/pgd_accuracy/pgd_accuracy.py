"""Share of images that an attack failed to break, as a local `evaluate` module: no network needed."""

from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest


class PgdAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy under an attack in [0, 1]: no more than this can be true of these images, and it proves nothing more.

    An image counts as broken if it is misclassified somewhere within the radius, as it is or as the attack changed it.

    Example:
        >>> found = PgdAccuracy(keep_in_memory=True).compute(broken=[False, True, False, False])
        >>> found["pgd_accuracy"], found["num_broken"], found["num_attacked"]
        (0.75, 1, 4)
        >>> [round(end, 4) for end in found["pgd_interval"]]
        [0.1941, 0.9937]
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of images for which projected gradient descent found no misclassified point.",
            citation="Interval: Clopper and Pearson, Biometrika 26, 1934.",
            inputs_description=(
                "broken: whether a misclassified point was found for each image, bool (or 0 and 1); optionally "
                "confidence, the coverage of the interval in (0, 1), 0.95 by default."
            ),
            # As a column of booleans any number but 0 would count as true, margins that prove nothing among them.
            features=datasets.Features({"broken": datasets.Value("float64")}),
        )

    def _compute(self, broken: list[float], confidence: float = 0.95) -> dict[str, Any]:
        if not len(broken):
            raise ValueError("there is no image: broken is empty.")
        other = [value for value in broken if value not in (0, 1)]
        if other:
            raise ValueError(f"broken must be true or false for each image, got {other[0]!r}.")
        num_broken, num_attacked = int(np.sum(broken)), len(broken)
        interval = binomtest(num_attacked - num_broken, num_attacked).proportion_ci(confidence, method="exact")
        return {
            "pgd_accuracy": (num_attacked - num_broken) / num_attacked,
            "pgd_interval": [float(interval.low), float(interval.high)],
            "num_broken": num_broken,
            "num_attacked": num_attacked,
        }
