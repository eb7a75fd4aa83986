"""Activations between two lines.

A line below takes the rows' positive coefficients, a line above the negative ones. Lines are exact statements about
the numbers that they are stored as: with `rounding` their intercepts are moved apart by what computing them may have
lost. Source: ReLU as in CROWN, arXiv 1811.00866, section 3.3, with its adaptive lower slope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, least
from hf_warmup.bounds.linear.backward import Backward, LinearRule, extent, gamma, weighted
from hf_warmup.bounds.linear.between import between
from hf_warmup.bounds.provenance import Step


@dataclass(frozen=True)
class Lines:
    """`lower_slope * x + lower_intercept <= f(x) <= upper_slope * x + upper_intercept`, each of x's shape.

    A lower intercept of None is 0.
    """

    lower_slope: Tensor
    lower_intercept: Tensor | None
    upper_slope: Tensor
    upper_intercept: Tensor


# (the operation's input, its other arguments) -> lines, or None where there are none.
Relaxation = Callable[..., Lines | None]
# Roundings between the ends of an interval and a line's intercept, elementary functions included.
_ROUNDINGS = 64.0


def relaxed(relaxation: Relaxation, choose: Callable[[Step, Tensor], Tensor] | None = None) -> LinearRule:
    """Rule of an elementwise operation that lies between two lines.

    Args:
        relaxation: what gives the lines.
        choose: replaces slopes below, (B, *shape), by others of a rectifier, in [0, 1], (S, B, *shape); units that do
            not cross 0 keep theirs.
    """

    def rule(step: Step, result: Interval, rows: Tensor) -> Backward | None:
        lines = _call(relaxation, step)
        if lines is None:
            return None
        x: Interval = step.operands()[0]
        lower_slope = lines.lower_slope
        if choose is not None:
            crossing = lines.lower_slope != lines.upper_slope
            lower_slope = torch.where(crossing, choose(step, lines.lower_slope.expand_as(rows)), lower_slope)
        coefficients, constant = between(
            rows, lower_slope, lines.lower_intercept, lines.upper_slope, lines.upper_intercept
        )
        slack = None
        if x.rounding:
            slopes = lines.lower_slope.abs() + lines.upper_slope.abs()
            slopes = slopes if choose is None else slopes + 1.0
            intercepts = lines.upper_intercept.abs()
            if lines.lower_intercept is not None:
                intercepts = intercepts + lines.lower_intercept.abs()
            size = slopes * extent(x) + intercepts
            slack = gamma(4 * x.center[0].numel() + 16, x) * weighted(rows.abs(), size)
        return Backward([(x, coefficients)], constant, slack)

    return rule


def _call(relaxation: Relaxation, step: Step) -> Lines | None:
    kwargs = {key: value for key, value in step.kwargs.items() if key not in ("input", "inplace")}
    return relaxation(step.operands()[0], *step.args[1:], **kwargs)


def widened(x: Interval, lines: Lines, exact: Tensor | None, *sizes: Tensor) -> Lines:
    """Lines moved apart by the rounding of slopes and intercepts that were made of numbers of these sizes.

    Lines that are the function itself, where `exact` says so, were not computed and stay.
    """
    if not x.rounding:
        return lines
    size = extent(x) * (1.0 + lines.lower_slope.abs() + lines.upper_slope.abs())
    lower = torch.zeros_like(size) if lines.lower_intercept is None else lines.lower_intercept
    for one in (lower, lines.upper_intercept, *sizes):
        size = size + one.abs()
    slack = _ROUNDINGS * 2.0 * x.rounding * size + least(size.dtype)
    if exact is not None:
        slack = torch.where(exact, torch.zeros_like(slack), slack)
    return Lines(lines.lower_slope, lower - slack, lines.upper_slope, lines.upper_intercept + slack)


def relu(x: Interval, *_: Any) -> Lines | None:
    """ReLU: its chord above; below, a line through 0 whose slope is 1 where the unit is more often active, else 0."""
    return leaky_relu(x, 0.0)


def leaky_relu(x: Interval, negative_slope: float = 0.01, *_: Any) -> Lines | None:
    """Leaky ReLU with a slope in [0, 1]; `relu` is the slope 0."""
    if not 0 <= negative_slope <= 1:
        return None
    lower, upper = x.lower, x.upper
    crossing = (lower < 0) & (upper > 0)
    # Of the ReLU first: its share of a leaky one is 1 - negative_slope.
    width = torch.where(crossing, upper - lower, 1.0)
    chord = torch.where(crossing, upper / width, (lower >= 0).to(lower.dtype))
    # A convex function lies below a line that it does not exceed at both ends, whatever the slope: a width that
    # overflows makes it 0.
    intercept = torch.where(crossing, torch.maximum(-chord * lower, upper - chord * upper), 0.0)
    if negative_slope:
        # Exactly 1 where the unit is active.
        chord = torch.where(lower >= 0, chord, negative_slope + (1.0 - negative_slope) * chord)
        intercept = (1.0 - negative_slope) * intercept
    below = (chord > 0.5).to(lower.dtype)
    if negative_slope:
        below = torch.where(crossing, below.clamp(min=negative_slope), chord)
    return widened(x, Lines(below, None, chord, intercept), ~crossing)


def clamped(x: Interval, min_val: float = -1.0, max_val: float = 1.0, *_: Any) -> Lines | None:
    """`hardtanh`: constant, then rising with slope 1, then constant."""
    if not min_val < max_val:
        return None
    lower, upper = x.lower, x.upper
    below, above = lower < min_val, upper > max_val
    height, width = max_val - min_val, (upper - lower).clamp(min=torch.finfo(lower.dtype).tiny)
    one = torch.ones_like(lower)
    # Below: from the lower kink to the value at the upper end; with the upper kink alone, the chord.
    rise = torch.where(above, height / (upper - min_val).clamp(min=height), one)
    bottom = torch.where(above & ~below, (max_val - lower) / width, rise)
    lower_point = torch.where(above & ~below, lower, min_val * one)
    # Above: from the value at the lower end to the upper kink; with the lower kink alone, the chord.
    fall = torch.where(below, height / (max_val - lower).clamp(min=height), one)
    top = torch.where(below & ~above, (upper - min_val) / width, fall)
    upper_point = torch.where(below & ~above, upper, max_val * one)
    # Where most of the interval lies beyond a kink, a constant is nearer; where all of it does, it is exact.
    flat = (upper <= min_val) | (lower >= max_val)
    low_flat = flat | (below & (upper - min_val < min_val - lower))
    high_flat = flat | (above & (max_val - lower < upper - max_val))
    level = torch.where(upper <= min_val, min_val * one, max_val * one)
    lines = Lines(
        torch.where(low_flat, 0.0 * one, bottom),
        torch.where(low_flat, torch.where(flat, level, min_val * one), lower_point - bottom * lower_point),
        torch.where(high_flat, 0.0 * one, top),
        torch.where(high_flat, torch.where(flat, level, max_val * one), upper_point - top * upper_point),
    )
    return widened(x, lines, flat | ~(below | above), abs(min_val) * one, abs(max_val) * one)


def clipped(x: Interval, min: Any = None, max: Any = None, *_: Any) -> Lines | None:
    """`torch.clamp` between two numbers."""
    if not isinstance(min, int | float) or not isinstance(max, int | float):
        return None
    return clamped(x, float(min), float(max))


def relu6(x: Interval, *_: Any) -> Lines | None:
    """`hardtanh` between 0 and 6."""
    return clamped(x, 0.0, 6.0)
