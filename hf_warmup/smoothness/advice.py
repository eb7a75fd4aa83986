"""What a fitted curvature means for a run: how the learning rate should have grown, and for how long.

A step is safe up to 1 / L, with L = K0 + Krho Delta^rho at the loss gap Delta (Liu et al., arXiv 2509.07972). As a
share of the step that was safe at the lowest gap of the run that is a warmup, read off backwards here; the scheduler
`loss_adaptive_warmup` finds it as it goes. Both speak of gradient descent: under Adam they are heuristics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hf_warmup.smoothness.fit import SmoothnessFit
from hf_warmup.smoothness.records import SmoothnessRecord


@dataclass(frozen=True)
class Advice:
    """The warmup that a fit implies for the run it was measured on.

    Attributes:
        steps: numbers of the measured updates, 1-based.
        multipliers: learning rate at each of them over that at the lowest gap, in (0, 1].
        linear_period: length in updates of the linear warmup that costs as many full updates as this one.
        untuned_period: length in updates of the untuned linear warmup, 2 / (1 - beta2).
        largest_initial_step: 1 / L at the first gap: gradient descent's largest safe learning rate.
        largest_final_step: the same at the lowest gap.
        initial_multiplier: of the first update; what `loss_adaptive_warmup` takes under this name.
    """

    steps: tuple[int, ...]
    multipliers: tuple[float, ...]
    linear_period: float
    untuned_period: float
    largest_initial_step: float
    largest_final_step: float
    initial_multiplier: float


def advise(
    fit: SmoothnessFit, records: Sequence[SmoothnessRecord], *, beta2: float = 0.999, smoothing: float = 0.9
) -> Advice:
    """The warmup that `fit` implies for the run that `records` are of.

    Args:
        fit: from `fit_smoothness`, of the same records.
        records: in the run's order.
        beta2: Adam's, for the untuned rule, in (0, 1).
        smoothing: weight of the past, per update, in the average of the gaps, in [0, 1); as the scheduler's.

    Raises:
        ValueError: for fewer than two records, or a beta2 out of range.
    """
    if len(records) < 2:
        raise ValueError(f"advice needs at least two records, got {len(records)}.")
    if not 0 < beta2 < 1:
        raise ValueError(f"beta2 must lie strictly between 0 and 1, got {beta2!r}.")
    gaps = _followed([record.loss - fit.f_star for record in records], [r.step for r in records], smoothing)
    safe = [1.0 / fit.smoothness(gap) for gap in gaps]
    multipliers = tuple(step / safe[-1] for step in safe)
    steps = tuple(record.step for record in records)
    # A linear warmup over tau updates costs (tau - 1) / 2 full ones. Between measurements the multiplier is constant.
    lengths = [after - before for before, after in zip(steps, steps[1:], strict=False)]
    cost = sum(length * (1.0 - share) for length, share in zip(lengths, multipliers, strict=False))
    return Advice(
        steps, multipliers, 1.0 + 2.0 * cost, 2.0 / (1.0 - beta2), safe[0], safe[-1], initial_multiplier=multipliers[0]
    )


def _followed(gaps: list[float], steps: list[int], smoothing: float) -> list[float]:
    """Gaps as the scheduler sees them: smoothed, and falling only."""
    smoothed, lowest, found = gaps[0], gaps[0], [gaps[0]]
    for gap, before, after in zip(gaps[1:], steps, steps[1:], strict=False):
        weight = smoothing ** (after - before)
        smoothed = weight * smoothed + (1.0 - weight) * gap
        lowest = min(lowest, smoothed)
        found.append(lowest)
    return found
