"""Measurements of curvature whose law is known."""

import math

import numpy as np


def planted(
    rho: float, k0: float, krho: float, *, seed: int, n: int = 200, noise: float = 0.2, correlation: float = 0.0
) -> list[dict[str, float]]:
    """Measurements of a falling loss, with multiplicative noise that resembles that of the measurement before."""
    drawn = np.random.default_rng(seed).standard_normal(n)
    for i in range(1, n):
        drawn[i] = correlation * drawn[i - 1] + math.sqrt(1 - correlation**2) * drawn[i]
    gaps = np.geomspace(10, 0.05, n)
    values = (k0 + krho * gaps**rho) * np.exp(noise * drawn)
    return [{"gap": float(g), "loss": float(g) + 1, "smoothness": float(v)} for g, v in zip(gaps, values, strict=True)]
