"""Rules of functions that act on each element alone: one line each in the table below."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, from_ends, shared
from hf_warmup.bounds.provenance import Affine, Softmax
from hf_warmup.bounds.rules.affine import as_interval
from hf_warmup.bounds.rules.spelling import each, spelled, without_inplace


# Torch's elementary functions are taken to err by no more than this many units in the last place.
ULPS = 8.0


def monotone(
    function: Callable[..., Tensor],
    *,
    taped: bool = False,
    falling: bool = False,
    above: float | None = None,
    about: float = 0.0,
) -> Callable[..., Interval]:
    """Rule of an elementwise function that never falls, or never rises: its values at the two ends.

    Args:
        function: such as relu.
        taped: append the input to the interval's tape, for the regularizers, which read ReLU's pre-activations.
        falling: it never rises.
        above: it is defined on what is greater than this alone, and there where its value is finite.
        about: it is computed as a difference of numbers of this size, so that it may err by units of that as well.
    """
    split = without_inplace(function)

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        args, kwargs, inplace = split(args, kwargs)
        if taped and input.tape is not None:
            input.tape.append(input)
        ends = [function(end, *args, **kwargs) for end in (input.lower, input.upper)]
        low, high = reversed(ends) if falling else ends
        result = from_ends(input, function(input.clean, *args, **kwargs), *_outward(input, low, high, about))
        if inplace:
            input.spent.append(True)
        if above is None:
            return result
        # A falling function is infinite at the lower end, a rising one minus infinite or not a number.
        return undefined(result, (input.lower < above) | ~torch.isfinite(ends[0]), _written(function))

    return rule


def turning(function: Callable[..., Tensor], place: float, least: float) -> Callable[..., Interval]:
    """Rule of a function that falls up to one place and rises from there (gelu, silu).

    Args:
        function: elementwise.
        place: where its minimum is, to ten digits.
        least: the minimum; a rounding error of it is within what is added with `rounding`.
    """
    split = without_inplace(function)

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        args, kwargs, inplace = split(args, kwargs)
        lower, upper = input.lower, input.upper
        ends = function(lower, *args, **kwargs), function(upper, *args, **kwargs)
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
        return from_ends(input, function(input.clean, *args, **kwargs), low, high)

    return rule


def kinked(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of a function that is 0 at 0, and monotone on both sides of it (abs, prelu)."""
    split = without_inplace(function)

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        args, kwargs, inplace = split(args, kwargs)
        if not isinstance(input, Interval) or any(isinstance(each, Interval) for each in args):
            raise UnsupportedOperation(f"{_written(function)} whose parameters are intervals has no rule")
        lower, upper = input.lower, input.upper
        ends = function(lower, *args, **kwargs), function(upper, *args, **kwargs)
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        across = (lower <= 0) & (upper >= 0)
        low, high = torch.where(across, low.clamp(max=0), low), torch.where(across, high.clamp(min=0), high)
        if inplace:
            input.spent.append(True)
        return from_ends(input, function(input.clean, *args, **kwargs), *_outward(input, low, high))

    return rule


def undefined(result: Interval, where: Tensor, operation: str) -> Interval:
    """The result without bounds (NaN) where the operation is not defined on all that its operand may be.

    Not a number is whatever is computed from it, so nothing is proven of such an image, and the others are.
    """
    if result.rounding and bool(where.any()):
        warnings.warn(
            f"{operation} is not defined on all that its operand can be within the radius, so nothing is proven of "
            "some images; add a positive number to the operand, or clamp it",
            RuntimeWarning,
            stacklevel=2,
        )
    center, radius = (part.masked_fill(where, math.nan) for part in (result.center, result.radius))
    return shared(result, center=center, radius=radius)


def hardsigmoid(input: Any, inplace: bool = False) -> Interval:
    """`F.hardsigmoid`, which modules tell by position whether to work in place."""
    return monotone(F.hardsigmoid)(input, inplace=inplace)


def clamp(input: Any, min: Any = None, max: Any = None) -> Interval:
    """`torch.clamp` between constants."""
    if not isinstance(input, Interval) or isinstance(min, Interval) or isinstance(max, Interval):
        raise UnsupportedOperation("clamp with limits that are intervals has no rule")
    return monotone(torch.clamp)(input, min, max)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Interval:
    """`F.threshold` that never falls."""
    if value > threshold:
        raise UnsupportedOperation(f"threshold {threshold} with the greater value {value} has no rule")
    return monotone(F.threshold)(input, threshold, value, inplace=inplace)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Interval:
    """`F.softplus`, which falls by a little where torch takes it for linear, beyond `threshold / beta`."""
    if beta <= 0:
        raise UnsupportedOperation(f"softplus with beta={beta} has no rule")
    lower, upper = input.lower, input.upper
    low, high = (F.softplus(end, beta, threshold) for end in (lower, upper))
    # Where the product with beta is rounded, either side may have been taken.
    place, near = threshold / beta, 1e-6 * abs(threshold / beta)
    reached = upper >= place - near
    low = torch.where(reached, torch.minimum(low, lower.clamp(min=place - near)), low)
    curved = F.softplus(upper.clamp(max=place + near), beta, math.inf)
    high = torch.where(reached & (lower <= place + near), torch.maximum(high, curved), high)
    return from_ends(input, F.softplus(input.clean, beta, threshold), *_outward(input, low, high))


def elu(function: Callable[..., Tensor]) -> Rule:
    """Rule of `F.elu` and `F.celu`, which never fall for a positive alpha."""
    split = without_inplace(function)

    def rule(input: Any, alpha: float = 1.0, *args: Any, **kwargs: Any) -> Interval:
        if alpha <= 0:
            raise UnsupportedOperation(f"{_written(function)} with alpha={alpha} has no rule")
        (_, *_), _, inplace = split((alpha, *args), kwargs)
        return monotone(function, about=max(1.0, alpha))(input, alpha, inplace=inplace)

    return rule


def of_two(function: Callable[..., Tensor]) -> Rule:
    """Rule of `maximum` and `minimum`, which never fall in either operand."""

    def rule(input: Any, other: Any) -> Interval:
        a, b = as_interval(input, other), as_interval(other, input)
        ends = function(a.lower, b.lower), function(a.upper, b.upper)
        return from_ends(a, function(a.clean, b.clean), *ends)

    return rule


def kept_order(input: Interval) -> Affine | Softmax | None:
    """What an interval came from, for a result whose elements are the same at the same places."""
    return input.provenance if isinstance(input.provenance, Affine | Softmax) else None


def gelu(input: Any, *, approximate: str = "none") -> Interval:
    """`F.gelu`; the minimum of its approximation is another one."""
    if approximate == "none":
        return turning(F.gelu, place=-0.7517915247, least=-0.16997120747990369)(input)
    return turning(F.gelu, place=-0.7524614221, least=-0.17004075057125405)(input, approximate=approximate)


def _outward(like: Interval, lower: Tensor, upper: Tensor, about: float = 0.0) -> tuple[Tensor, Tensor]:
    """Ends that were computed by an elementary function, moved apart by its possible error."""
    if not like.rounding:
        return lower, upper
    unit = 2.0 * ULPS * like.rounding
    return lower - unit * (lower.abs() + about), upper + unit * (upper.abs() + about)


def _written(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", function))


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Interval:
    """`F.dropout` and its kin where they do nothing."""
    if training and p > 0:
        raise UnsupportedOperation(
            "dropout in training has no rule: certify in eval mode (model.eval()), and train with its rate at 0"
        )
    return shared(input, provenance=kept_order(input))


# Never falling, defined everywhere.
_RISING = ("sigmoid", "tanh", "exp", "exp2", "atan", "arctan", "erf", "asinh")
# Never falling, defined above a number: at it, if there it is finite.
_RISING_ABOVE = {"log": 0.0, "log2": 0.0, "log10": 0.0, "sqrt": 0.0, "log1p": -1.0}
_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)

TABLE: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys((F.relu, *spelled("relu")), monotone(F.relu, taped=True)),
    **each(monotone, *_RISING),
    **each(lambda function: monotone(function, about=1.0), "expm1", "sinh"),
    **{f: monotone(f, above=least) for name, least in _RISING_ABOVE.items() for f in spelled(name)},
    **each(lambda function: monotone(function, falling=True, above=0.0), "rsqrt"),
    **dict.fromkeys(_DROPOUTS, dropout),
    **dict.fromkeys((*spelled("clamp", "clip"),), clamp),
    **dict.fromkeys(spelled("clamp_min"), monotone(torch.clamp_min)),
    **dict.fromkeys(spelled("clamp_max"), monotone(torch.clamp_max)),
    **each(of_two, "maximum", "minimum"),
    **each(kinked, "abs"),
    F.leaky_relu: kinked(F.leaky_relu),
    F.prelu: kinked(F.prelu),
    F.hardtanh: monotone(F.hardtanh),
    F.relu6: monotone(F.relu6),
    F.hardsigmoid: hardsigmoid,
    F.threshold: threshold,
    F.logsigmoid: monotone(F.logsigmoid),
    F.softsign: monotone(F.softsign),
    F.tanhshrink: monotone(F.tanhshrink, about=1.0),
    F.softshrink: monotone(F.softshrink),
    F.hardshrink: monotone(F.hardshrink),
    F.elu: elu(F.elu),
    F.celu: elu(F.celu),
    F.selu: monotone(F.selu, about=2.0),
    F.softplus: softplus,
    F.gelu: gelu,
    F.silu: turning(F.silu, place=-1.2784645428, least=-0.2784645427610738),
    F.mish: turning(F.mish, place=-1.1924312118, least=-0.30884341301725043),
    F.hardswish: turning(F.hardswish, place=-1.5, least=-0.375),
}
