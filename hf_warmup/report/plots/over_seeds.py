"""Curves of several runs brought together for a picture: smoothing, mean and range over seeds, where runs end.

A mean is drawn only as far as all runs go. Beyond, it would be a mean of survivors, which looks like an improvement
exactly where a run has diverged; the runs that go on are handed back one by one instead. Deliberately absent: drawing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_warmup.records.files import Record


Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """One arm's runs at the steps that all of them reached.

    Attributes:
        steps: updates, shape (k,).
        mean, low, high: over seeds, shape (k,); NaN before a run's first value.
        survivors: (steps, values) of each run that goes on after the first one has ended, from that place on.
    """

    steps: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers
    survivors: tuple[tuple[Numbers, Numbers], ...]


def curve(run: Record, column: str) -> tuple[Numbers, Numbers]:
    """(steps, values) of one column of a run's curve; missing values are NaN."""
    return np.array(run["curve"]["step"], dtype=float), np.array(run["curve"][column], dtype=float)


def evaluations(run: Record) -> tuple[Numbers, Numbers]:
    """(steps, validation scores) of a run."""
    found = run["evaluations"]
    steps = np.array([e["step"] for e in found], dtype=float)
    return steps, np.array([e["validation"] for e in found], dtype=float)


def smooth(steps: Numbers, values: Numbers, *, width: float) -> Numbers:
    """Centered running mean over `width` updates, narrower towards the ends so that they stay where they are.

    Points count for as many updates as they stand for; NaN counts for nothing and stays NaN.
    """
    weights = np.gradient(steps) if len(steps) > 1 else np.ones_like(steps)
    known = np.isfinite(values)
    smoothed = np.full_like(values, np.nan)
    if not known.any():
        return smoothed
    first, last = steps[known][[0, -1]]
    for i in np.flatnonzero(known):
        half = min(width / 2, steps[i] - first, last - steps[i])
        near = known & (np.abs(steps - steps[i]) <= half)
        smoothed[i] = np.average(values[near], weights=weights[near])
    return smoothed


def over_seeds(runs: Sequence[tuple[Numbers, Numbers]]) -> Spread:
    """Mean and range of runs, each (steps, values), as far as every run has finite values.

    Runs that end early may be recorded at other steps, so values are interpolated, never beyond a run's own ends.
    """
    finite = [(steps[np.isfinite(values)], values[np.isfinite(values)]) for steps, values in runs]
    ends = [float(steps.max(initial=-np.inf)) for steps, _ in finite]
    end = min(ends)
    longest = max((steps for steps, _ in runs), key=lambda steps: float(steps.max(initial=-np.inf)))
    common = longest[longest <= end]
    if len(common) and common[-1] < end:
        common = np.append(common, end)
    table = [np.interp(common, *run, left=np.nan, right=np.nan) for run in finite] if len(common) else [common]
    survivors = tuple(
        (steps[steps >= end], values[steps >= end])
        for (steps, values), own_end in zip(finite, ends, strict=True)
        if own_end > end
    )
    return Spread(common, np.mean(table, axis=0), np.min(table, axis=0), np.max(table, axis=0), survivors)
