"""What radii were proven, as a local `evaluate` module: no network needed."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import datasets
import evaluate
import numpy as np


class CertifiedRadius(evaluate.Metric):  # type: ignore[misc]
    """Mean and median certified radius, and the share of images proven at radii of interest.

    A radius of 0 means that nothing is proven of the image, be it misclassified or not, so it counts at no radius.
    Comparisons are exact: 0.1, a float, is a little more than "1/10".

    Example:
        >>> radii = [0.0, 0.25, 0.1, 0.5]
        >>> found = CertifiedRadius(keep_in_memory=True).compute(radii=radii, eps=[0, "1/10", "1/4", 0.3])
        >>> round(found["certified_radius_mean"], 4), round(found["certified_radius_median"], 4)
        (0.2125, 0.175)
        >>> found["certified_accuracy"]
        {'0': 0.75, '1/10': 0.75, '1/4': 0.5, '0.3': 0.25}
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean, median and exceedance shares of the radii within which images are proven.",
            citation="",
            inputs_description=(
                "radii: of each image, in units of pixels that lie in [0, 1], 0 where nothing is proven; optionally "
                "eps, radii at which the certified accuracy is wanted, numbers or texts such as '8/255'."
            ),
            features=datasets.Features({"radii": datasets.Value("float64")}),
        )

    def _compute(self, radii: list[float], eps: Sequence[float | str] = ()) -> dict[str, Any]:
        values = np.asarray(radii, dtype=np.float64)
        if not len(values):
            raise ValueError("there is no image: radii is empty.")
        # NaN fails both comparisons.
        if not bool(np.all((values >= 0) & (values <= 1))):
            raise ValueError(f"radii must lie in [0, 1], as pixels do; got {values.min():g} to {values.max():g}.")
        exact = [Fraction(radius) for radius in values.tolist() if radius > 0]
        return {
            "certified_radius_mean": float(values.mean()),
            "certified_radius_median": float(np.median(values)),
            "certified_accuracy": {
                str(radius): sum(proven >= Fraction(radius) for proven in exact) / len(values) for radius in eps
            },
        }
