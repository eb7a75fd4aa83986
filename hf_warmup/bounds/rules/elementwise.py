"""Rules of activations, which act on each element alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, UnsupportedOperation, from_ends, shared
from hf_warmup.bounds.provenance import Affine, Softmax


# Torch's elementary functions are taken to err by no more than this many units in the last place.
ULPS = 8.0


def monotone(function: Callable[..., Tensor], *, taped: bool = False) -> Callable[..., Interval]:
    """Rule of a non-decreasing elementwise function: its values at the two ends.

    Args:
        function: such as relu.
        taped: append the input to the interval's tape, for the regularizers, which read ReLU's pre-activations.
    """

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        inplace = kwargs.pop("inplace", False)
        if taped and input.tape is not None:
            input.tape.append(input)
        ends = [function(end, *args, **kwargs) for end in (input.lower, input.upper)]
        result = from_ends(input, function(input.clean, *args, **kwargs), *_outward(input, *ends))
        if inplace:
            input.spent.append(True)
        return result

    return rule


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Interval:
    """`F.leaky_relu` with a slope of at least 0; below, it is not monotone."""
    if negative_slope < 0:
        raise UnsupportedOperation(f"leaky_relu with negative_slope={negative_slope} has no rule")
    return monotone(F.leaky_relu)(input, negative_slope, inplace=inplace)


def hardsigmoid(input: Any, inplace: bool = False) -> Interval:
    """`F.hardsigmoid`, which modules tell by position whether to work in place."""
    return monotone(F.hardsigmoid)(input, inplace=inplace)


def clamp(input: Any, min: Any = None, max: Any = None) -> Interval:
    """`torch.clamp` between constants."""
    if not isinstance(input, Interval) or isinstance(min, Interval) or isinstance(max, Interval):
        raise UnsupportedOperation("clamp with limits that are intervals has no rule")
    return monotone(torch.clamp)(input, min, max)


def one_minimum(function: Callable[..., Tensor], place: float, least: float) -> Callable[..., Interval]:
    """Rule of a function that falls up to one place and rises from there (gelu, silu).

    Args:
        function: elementwise.
        place: where its minimum is, to ten digits.
        least: the minimum; a rounding error of it is within what is added with `rounding`.
    """

    def rule(input: Any, inplace: bool = False, **kwargs: Any) -> Interval:
        lower, upper = input.lower, input.upper
        ends = function(lower, **kwargs), function(upper, **kwargs)
        # A margin about the place, as it is rounded; so near to it the function differs from its minimum by 1e-18.
        around = (lower <= place + 1e-9) & (upper >= place - 1e-9)
        low = torch.minimum(*ends)
        low = torch.where(around, low.clamp(max=least), low)
        high = torch.maximum(*ends)
        if input.rounding:
            # One factor may be computed as 1 - (almost 1), with an absolute error; the product's is |x| times that.
            error = 2.0 * ULPS * input.rounding * torch.maximum(lower.abs(), upper.abs())
            low, high = low - error, high + error
        if inplace:
            input.spent.append(True)
        return from_ends(input, function(input.clean, **kwargs), low, high)

    return rule


def kept_order(input: Interval) -> Affine | Softmax | None:
    """What an interval came from, for a result whose elements are the same at the same places."""
    return input.provenance if isinstance(input.provenance, Affine | Softmax) else None


def gelu(input: Any, *, approximate: str = "none") -> Interval:
    """`F.gelu`; the minimum of its approximation is another one."""
    if approximate == "none":
        return one_minimum(F.gelu, place=-0.7517915247, least=-0.16997120747990369)(input)
    return one_minimum(F.gelu, place=-0.7524614221, least=-0.17004075057125405)(input, approximate=approximate)


def _outward(like: Interval, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Ends that were computed by an elementary function, moved apart by its possible error."""
    if not like.rounding:
        return lower, upper
    unit = 2.0 * ULPS * like.rounding
    return lower - unit * lower.abs(), upper + unit * upper.abs()


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Interval:
    """`F.dropout` where it does nothing."""
    if training and p > 0:
        raise UnsupportedOperation("dropout in training has no rule; call model.eval(), or set its rate to 0")
    return shared(input, provenance=kept_order(input))
