"""Rules of activations, maximum pooling, normalization over features, softmax, attention and changes of shape."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.affine_rules import matmul, mul
from hf_warmup.bounds.interval import Interval, UnsupportedOperation, copied, from_ends, made, shared


# Torch's elementary functions are taken to err by no more than this many units in the last place.
_ULPS = 8.0


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


def one_minimum(function: Callable[..., Tensor], place: float, least: float) -> Callable[..., Interval]:
    """Rule of a function that falls up to one place and rises from there (gelu, silu).

    Args:
        function: elementwise.
        place: about where its minimum is.
        least: a number just below the minimum.
    """

    def rule(input: Any, **kwargs: Any) -> Interval:
        inplace = kwargs.pop("inplace", False)
        lower, upper = input.lower, input.upper
        ends = function(lower, **kwargs), function(upper, **kwargs)
        # A margin about the place, as it is known to a few digits only; the value there is flat.
        around = (lower <= place + 1e-3) & (upper >= place - 1e-3)
        low = torch.where(around, torch.full_like(lower, least), torch.minimum(*ends))
        high = torch.maximum(*ends)
        if input.rounding:
            # One factor may be computed as 1 - (almost 1), with an absolute error; the product's is |x| times that.
            error = 2.0 * _ULPS * input.rounding * torch.maximum(lower.abs(), upper.abs())
            low, high = low - error, high + error
        if inplace:
            input.spent.append(True)
        return from_ends(input, function(input.clean, **kwargs), low, high)

    return rule


def _outward(like: Interval, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Ends that were computed by an elementary function, moved apart by its possible error."""
    if not like.rounding:
        return lower, upper
    unit = 2.0 * _ULPS * like.rounding
    return lower - unit * lower.abs(), upper + unit * upper.abs()


def max_pool(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of pooling by maximum, which is monotone in each input."""

    def rule(input: Any, *args: Any, return_indices: bool = False, **kwargs: Any) -> Interval:
        if return_indices:
            raise UnsupportedOperation("max_pool with return_indices has no rule")
        lower, upper = (function(end, *args, **kwargs) for end in (input.lower, input.upper))
        return from_ends(input, function(input.clean, *args, **kwargs), lower, upper)

    return rule


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Interval:
    """`F.dropout` where it does nothing."""
    if training and p > 0:
        raise UnsupportedOperation("dropout in training has no rule; call model.eval(), or set its rate to 0")
    return shared(input)


def same_shape_change(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rule of operations that only move elements: they do the same to clean, center and radius."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Any:
        clean, center, radius = (function(part, *args, **kwargs) for part in (input.clean, input.center, input.radius))
        if isinstance(clean, tuple | list):
            return tuple(
                shared(input, clean=a, center=b, radius=c) for a, b, c in zip(clean, center, radius, strict=True)
            )
        return shared(input, clean=clean, center=center, radius=radius)

    return rule


def joined(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `cat` and `stack`; constants among the parts have radius 0."""

    def rule(tensors: Any, dim: int = 0) -> Interval:
        like = next(part for part in tensors if isinstance(part, Interval))
        parts = [p if isinstance(p, Interval) else Interval(p, p, torch.zeros_like(p)) for p in tensors]
        clean, center, radius = (
            function([getattr(part, name) for part in parts], dim) for name in ("clean", "center", "radius")
        )
        return copied(like, clean=clean, center=center, radius=radius)

    return rule


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Interval:
    """`F.pad`; what is added by "constant" is known exactly."""
    values = {"value": value} if mode == "constant" else {}
    clean, center = (F.pad(part, pad, mode, **values) for part in (input.clean, input.center))
    return copied(input, clean=clean, center=center, radius=F.pad(input.radius, pad, mode))


def interpolate(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any) -> Any:
    """`F.interpolate` that repeats elements."""
    if mode not in ("nearest", "nearest-exact"):
        raise UnsupportedOperation(f"interpolate with mode={mode!r} has no rule; only 'nearest' and 'nearest-exact'")
    return same_shape_change(F.interpolate)(input, size, scale_factor, mode, **options)


def convert(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `to` and its kin: the device may change, the precision may not fall."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        clean = function(input.clean, *args, **kwargs)
        if not clean.is_floating_point() or torch.finfo(clean.dtype).eps > torch.finfo(input.dtype).eps:
            raise UnsupportedOperation(f"a conversion from {input.dtype} to {clean.dtype} loses precision")
        result: Interval = same_shape_change(function)(input, *args, **kwargs)
        return result

    return rule


def layer_norm(
    input: Any, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Interval:
    """`F.layer_norm`: deviations from the mean exactly, their variance from their squares' ranges, then the quotient.

    Loose, since deviation and variance are taken as independent, but no deviation can exceed sqrt(n - 1) standard
    deviations, which keeps it finite for any radius.
    """
    if weight is not None and isinstance(weight, Interval):
        raise UnsupportedOperation("layer_norm whose weights are intervals has no rule")
    over = list(range(-len(normalized_shape), 0))
    n = math.prod(normalized_shape)
    center = input.center - input.center.mean(over, keepdim=True)
    # Of x_i - mean(x): (1 - 1/n) of its own radius and 1/n of each other's.
    radius = (1 - 2 / n) * input.radius + input.radius.mean(over, keepdim=True)
    magnitude = input.center.abs() + input.radius
    magnitude = magnitude + magnitude.mean(over, keepdim=True)
    deviation = made(input, center, center, radius.clamp(min=0), magnitude=magnitude, terms=n + 2)
    low, high = deviation.lower, deviation.upper
    least = torch.where((low <= 0) & (high >= 0), torch.zeros_like(low), torch.minimum(low.abs(), high.abs()))
    most = torch.maximum(low.abs(), high.abs())
    slack = 1.0 + 2.0 * (n + 8) * input.rounding
    # A square that over- or underflows is replaced by the end of the range on its safe side.
    range_ = torch.finfo(low.dtype)
    smallest = (least.square().mean(over, keepdim=True) / slack - range_.tiny).clamp(min=0, max=range_.max)
    largest = most.square().mean(over, keepdim=True) * slack + range_.tiny
    sharpest, flattest = torch.rsqrt(smallest + eps) * slack, torch.rsqrt(largest + eps) / slack
    limit = math.sqrt(max(0, n - 1)) * slack
    lower = torch.where(low < 0, low * sharpest, low * flattest).clamp(min=-limit)
    upper = torch.where(high > 0, high * sharpest, high * flattest).clamp(max=limit)
    normal = from_ends(input, F.layer_norm(input.clean, normalized_shape, None, None, eps), lower, upper)
    result = normal if weight is None else mul(normal, weight)
    if bias is not None:
        result = result + bias
    return shared(result, clean=F.layer_norm(input.clean, normalized_shape, weight, bias, eps))


def softmax(input: Any, dim: int, _stacklevel: Any = 3, dtype: Any = None) -> Interval:
    """`F.softmax`: an entry is least where it is at its lower end and all others at their upper ends."""
    # The third argument of torch.softmax is dtype; that of F.softmax is _stacklevel.
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype
    if dtype is not None and dtype != input.dtype:
        raise UnsupportedOperation(f"softmax in {dtype} of an interval in {input.dtype} has no rule")
    lower, upper = input.lower, input.upper
    unit = 4.0 * (input.rounding or torch.finfo(input.dtype).eps)
    # least = 1 / (1 + sum of the others' exp(upper_j - lower_i)), and most with the ends exchanged.
    least = 1 / (1 + _others(upper, lower, dim, unit))
    most = 1 / (1 + _others(lower, upper, dim, -unit))
    ends = (least.nan_to_num(nan=0.0) * (1 - unit)).clamp(min=0), (most.nan_to_num(nan=1.0) * (1 + unit)).clamp(max=1)
    return from_ends(input, F.softmax(input.clean, dim), *ends)


def _others(ends: Tensor, own: Tensor, dim: int, unit: float) -> Tensor:
    """Sum over j != i of exp(ends_j - own_i), no less than it for unit > 0, no more for unit < 0."""
    top = ends.amax(dim, keepdim=True)
    shares = (ends - top).exp()
    lost = unit * (ends.shape[dim] + _ULPS)
    # By subtraction, which loses as much as the whole sum's rounding error.
    others = (shares.sum(dim, keepdim=True) * (1 + lost) - shares).clamp(min=0)
    distance, range_ = top - own, torch.finfo(ends.dtype)
    limit = math.log(range_.max) - 1
    # The distance's rounding is a relative error of its exponential.
    factor = distance.clamp(max=limit).exp() * (1 + unit * (distance.abs().clamp(max=limit) + _ULPS))
    if unit < 0:
        return (others * factor - 2 * range_.tiny).clamp(min=0)
    return torch.where(distance > limit, torch.full_like(others, math.inf), others * factor + 2 * range_.tiny)


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Interval:
    """`F.scaled_dot_product_attention` as products and a softmax."""
    if is_causal or enable_gqa or dropout_p > 0:
        raise UnsupportedOperation("attention that is causal, grouped or with dropout has no rule")
    factor = scale if scale is not None else 1.0 / math.sqrt(query.shape[-1])
    scores = mul(matmul(query, key.transpose(-2, -1)), factor)
    if attn_mask is not None:
        raise UnsupportedOperation("attention with a mask has no rule")
    result = matmul(softmax(scores, -1), value)
    clean = F.scaled_dot_product_attention(query.clean, key.clean, value.clean, scale=scale)
    return shared(result, clean=clean)
