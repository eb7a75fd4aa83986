"""Rules over several elements: means and pools, normalization over features, softmax."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, UnsupportedOperation, from_ends, made, shared
from hf_warmup.bounds.provenance import Affine, Softmax
from hf_warmup.bounds.rules.elementwise import ULPS
from hf_warmup.bounds.rules.products import mul


def average(function: Callable[..., Tensor], count: Callable[..., int] | None = None) -> Callable[..., Interval]:
    """Rule of means and average pooling: weights are positive, so the radius goes the center's way.

    Args:
        function: the operation.
        count: (input, *args, **kwargs) -> number of elements that are averaged, for the rounding bound; by default
            what the whole has over what is left of it, which other images of the batch do not change.
    """

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        magnitude = function(input.center.abs() + input.radius, *args, **kwargs) if input.rounding else None
        parts = [function(part, *args, **kwargs) for part in (input.clean, input.center, input.radius)]
        if parts[0].dtype != input.dtype:
            raise UnsupportedOperation(f"a mean in {parts[0].dtype} of an interval in {input.dtype} has no rule")
        whole = input.numel() // max(1, parts[0].numel())
        terms = whole if count is None else count(input, *args, **kwargs)
        return made(input, *parts, magnitude=magnitude, terms=terms + 1)

    return rule


def max_pool(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of pooling by maximum, which is monotone in each input."""

    def rule(input: Any, *args: Any, return_indices: bool = False, **kwargs: Any) -> Interval:
        if return_indices:
            raise UnsupportedOperation("max_pool with return_indices has no rule")
        lower, upper = (function(end, *args, **kwargs) for end in (input.lower, input.upper))
        return from_ends(input, function(input.clean, *args, **kwargs), lower, upper)

    return rule


def extreme(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `amax` and `amin`, which are monotone in each input."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        clean, lower, upper = (function(part, *args, **kwargs) for part in (input.clean, input.lower, input.upper))
        return from_ends(input, clean, lower, upper)

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


def group_norm(
    input: Any, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Interval:
    """`F.group_norm`: a layer norm of each group of channels."""
    groups = input.reshape(input.shape[0], num_groups, -1)
    result = layer_norm(groups, groups.shape[-1:], None, None, eps).reshape(input.shape)
    per_channel = [-1] + [1] * (input.dim() - 2)
    if weight is not None:
        result = result * weight.view(per_channel)
    if bias is not None:
        result = result + bias.view(per_channel)
    return shared(result, clean=F.group_norm(input.clean, num_groups, weight, bias, eps))


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
    ends = (least * (1 - unit)).clamp(min=0), (most * (1 + unit)).clamp(max=1)
    result = from_ends(input, F.softmax(input.clean, dim), *ends)
    over_classes = input.dim() == 2 and dim in (1, -1)
    return shared(result, provenance=Softmax(input)) if over_classes else result


def log_softmax(input: Any, dim: int, _stacklevel: Any = 3, dtype: Any = None) -> Interval:
    """`F.log_softmax`, which changes no difference of two logits."""
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype
    if dtype is not None and dtype != input.dtype:
        raise UnsupportedOperation(f"log_softmax in {dtype} of an interval in {input.dtype} has no rule")
    lower, upper = input.lower, input.upper
    unit = 4.0 * (input.rounding or torch.finfo(input.dtype).eps)
    # 1 + the others' sum is their sum with the element's own term: log(1 + s).
    ends = -torch.log1p(_others(upper, lower, dim, unit)), -torch.log1p(_others(lower, upper, dim, -unit))
    steps = 2 * ULPS * input.rounding
    result = from_ends(input, F.log_softmax(input.clean, dim), ends[0] * (1 + steps), ends[1] * (1 - steps))
    kept = input.provenance if input.dim() == 2 and dim in (1, -1) else None
    return shared(result, provenance=kept) if isinstance(kept, Affine) else result


def _others(ends: Tensor, own: Tensor, dim: int, unit: float) -> Tensor:
    """Sum over j != i of exp(ends_j - own_i), no less than it for unit > 0, no more for unit < 0."""
    top = ends.amax(dim, keepdim=True)
    shares = (ends - top).exp()
    lost = unit * (ends.shape[dim] + ULPS)
    # By subtraction, which loses as much as the whole sum's rounding error.
    others = (shares.sum(dim, keepdim=True) * (1 + lost) - shares).clamp(min=0)
    distance, range_ = top - own, torch.finfo(ends.dtype)
    limit = math.log(range_.max) - 1
    # The distance's rounding is a relative error of its exponential.
    factor = distance.clamp(max=limit).exp() * (1 + unit * (distance.abs().clamp(max=limit) + ULPS))
    if unit < 0:
        return (others * factor - 2 * range_.tiny).clamp(min=0)
    return torch.where(distance > limit, torch.full_like(others, math.inf), others * factor + 2 * range_.tiny)
