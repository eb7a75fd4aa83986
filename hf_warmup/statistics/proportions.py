"""Confidence intervals of proportions."""


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion, (low, high).

    Source: Clopper & Pearson, Biometrika 26, 1934.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)
