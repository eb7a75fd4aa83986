"""Sigmoid and tanh between two lines, each of which touches the function's hull in the middle of the interval.

No line leaves less between itself and the function: the area below a line hangs on its height in the middle, which no
line below the function lifts above the convex hull. Over an interval about 0 the hull is the function up to the point
where a line through the upper end touches it, and that line from there. Source: CROWN, arXiv 1811.00866, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.linear.relaxations import Lines, Relaxation, widened


# Each doubles the digits of the touching point.
_TOUCHES = 6
# Below this width chords are made of rounding, and the flatter slope of both ends loses nothing.
_NARROW = 1e-6


def s_shaped(
    function: Callable[[Tensor], Tensor], slope_of: Callable[[Tensor], Tensor], *, steepest: float, stretch: float
) -> Relaxation:
    """Relaxation of a rising function that is convex below 0, and the same turned about its value there.

    Args:
        function: elementwise; a sigmoid, moved and stretched.
        slope_of: its derivative as a function of its value.
        steepest: its derivative at 0.
        stretch: how much wider it is than the sigmoid.
    """

    @torch.no_grad()
    def touching(upper: Tensor) -> Tensor:
        """Where, left of 0, a line through the function at `upper` > 0 touches it from below.

        Chords from the left of that point are flatter than it, and where the function is as steep as one lies between.
        """
        place = -upper / 2
        for _ in range(_TOUCHES):
            ratio = (function(upper) - function(place)) / (upper - place) / steepest
            ratio = ratio.clamp(torch.finfo(upper.dtype).tiny, 1.0)
            place = stretch * (ratio.log() - 2.0 * torch.log1p((1.0 - ratio).sqrt()))
        return place

    def below(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and intercept of the line below."""
        middle, narrow = (lower + upper) / 2, upper - lower <= _NARROW
        turn = torch.where(upper > 0, touching(upper.clamp(min=_NARROW)), upper)
        at = torch.maximum(lower, torch.minimum(turn, middle))
        at = torch.where(narrow, lower, at)
        value, high = function(at), function(upper)
        steepness = slope_of(value)
        chord = (high - value) / (upper - at).clamp(min=_NARROW / 2)
        slope = torch.where(turn >= middle, steepness, chord)
        slope = torch.where(narrow, torch.minimum(steepness, slope_of(high)), slope)
        # Right of 0 the function lies above the line if its ends do. Left of 0 it lies above the tangent at `at`.
        turned = (steepness - slope).detach()
        missed = turned.clamp(min=0) * (at - lower) - turned.clamp(max=0) * (-at).clamp(min=0)
        return slope, torch.minimum(value - slope * at, high - slope * upper) - missed

    def relaxation(x: Interval, *_: Any) -> Lines:
        lower, upper = x.lower, x.upper
        centre = function(torch.zeros((), dtype=x.dtype, device=x.device))
        lower_slope, lower_intercept = below(lower, upper)
        upper_slope, turned = below(-upper, -lower)
        lines = Lines(lower_slope, lower_intercept, upper_slope, 2.0 * centre - turned)
        return widened(x, lines, None, function(lower), function(upper), turned)

    return relaxation


sigmoid = s_shaped(torch.sigmoid, lambda value: value * (1 - value), steepest=0.25, stretch=1.0)
tanh = s_shaped(torch.tanh, lambda value: 1 - value * value, steepest=1.0, stretch=0.5)
