"""Whether curvature goes with the loss gap: seldom found where nothing is planted, and found where a law is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted import planted

from hf_warmup.smoothness import fit_smoothness
from hf_warmup.smoothness.relation import find_relation


N = 50
Series = np.ndarray[Any, np.dtype[np.float64]]


def noise(seed: int, correlation: float, n: int = N) -> Series:
    """An autoregression, or a random walk."""
    drawn = np.random.default_rng(seed)
    found = drawn.standard_normal(n)
    for i in range(1, n):
        found[i] += correlation * found[i - 1]
    return found


GAPS: dict[str, Callable[[int], Series]] = {
    "falls": lambda seed: np.geomspace(10, 0.05, N),
    "falls unevenly": lambda seed: 10 / np.arange(1, N + 1) * np.exp(0.2 * noise(seed, 0.0)),
    "wanders": lambda seed: np.exp(0.3 * noise(seed, 1.0)),
}


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 1.0])
def test_unrelated_series_are_seldom_called_related(correlation: float) -> None:
    found = [
        find_relation(gaps(1000 + seed), np.exp(0.3 * noise(seed, correlation)))
        for gaps in GAPS.values()
        for seed in range(12)
    ]
    supported = sum(relation.p <= 0.05 and relation.t > 0 for relation in found)
    # 5 % of 36, and two standard errors.
    assert supported <= 36 * (0.05 + 2 * (0.05 * 0.95 / 36) ** 0.5)


def test_verdicts_on_random_walks_rest_on_the_relation() -> None:
    gaps = GAPS["falls"](0)
    rows = [
        [{"gap": g, "smoothness": v} for g, v in zip(gaps, np.exp(0.3 * noise(seed, 1.0)), strict=True)]
        for seed in range(15)
    ]
    assert sum(fit_smoothness(series, resamples=1).verdict == "supported" for series in rows) <= 2


@pytest.mark.parametrize("law", [(1.0, 2.0, 5.0), (0.5, 0.5, 3.0), (2.0, 1.0, 0.4), (0.5, 0.0, 12.0)])
@pytest.mark.parametrize(("correlation", "least"), [(0.0, 5), (0.5, 5), (0.9, 4)])
def test_planted_laws_are_found(law: tuple[float, float, float], correlation: float, least: int) -> None:
    found = [
        find_relation(np.array([row["gap"] for row in rows]), np.array([row["smoothness"] for row in rows]))
        for rows in (planted(*law, seed=seed, n=100, correlation=correlation) for seed in range(5))
    ]
    assert sum(relation.p <= 0.05 and relation.t > 0 and not relation.time_is_better for relation in found) >= least


def test_what_only_time_explains_is_no_law() -> None:
    """The curvature falls evenly with time; the gap falls at once and then stands still."""
    time = np.linspace(0, 1, N)
    gaps = 0.5 + 10 * np.exp(-40 * time)
    values = np.exp(5 - 3 * time + 0.05 * noise(0, 0.0))
    assert find_relation(gaps, values).time_is_better
    rows = [{"gap": g, "smoothness": v} for g, v in zip(gaps, values, strict=True)]
    assert fit_smoothness(rows, resamples=1).verdict != "supported"


def test_long_series_are_thinned_and_still_the_same() -> None:
    rows = planted(1.0, 2.0, 5.0, seed=0, n=3000, noise=0.5)
    relation = find_relation(np.array([row["gap"] for row in rows]), np.array([row["smoothness"] for row in rows]))
    assert relation.p <= 0.01
    assert relation.t > 0


@pytest.mark.parametrize("n", [12, 800])
def test_series_that_stand_still_are_no_law(n: int) -> None:
    rows = [{"gap": 1.0 + 3 * (i % 2), "smoothness": 2.0} for i in range(n)]
    assert "no trend" in fit_smoothness(rows, resamples=1).verdict
    relation = find_relation(np.array([row["gap"] for row in rows]), np.exp(noise(0, 0.0, n)))
    assert np.isfinite(relation.t)
    assert relation.p > 0.05
