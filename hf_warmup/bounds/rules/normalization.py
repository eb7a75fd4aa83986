"""Rules of normalization: elements over a root of the sum of all their squares.

Such a quotient rises in its own element and falls in the sum of the others' squares, so its ends are at ends of both.
Loose only since an element and the others are taken as independent.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, from_ends, made, shared
from hf_warmup.bounds.rules.affine import batch_norm
from hf_warmup.bounds.rules.elementwise import undefined
from hf_warmup.bounds.rules.products import div, mul
from hf_warmup.bounds.rules.reductions import norm
from hf_warmup.bounds.rules.spelling import cleanly


def layer_norm(
    input: Any, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Interval:
    """`F.layer_norm`: deviations from the mean exactly, then the quotient."""
    over = list(range(-len(normalized_shape), 0))
    n = math.prod(normalized_shape)
    center = input.center - input.center.mean(over, keepdim=True)
    # Of x_i - mean(x): (1 - 1/n) of its own radius and 1/n of each other's.
    radius = (1 - 2 / n) * input.radius + input.radius.mean(over, keepdim=True)
    magnitude = input.center.abs() + input.radius
    magnitude = magnitude + magnitude.mean(over, keepdim=True)
    deviation = made(input, center, center, radius.clamp(min=0), magnitude=magnitude, terms=n + 2)
    # As deviations add up to 0, none exceeds sqrt(n - 1) standard deviations, whatever the radius.
    normal = _quotient(deviation, over, n, lambda q: torch.rsqrt(q / n + eps), math.sqrt(max(0, n - 1)), centered=True)
    normal = _where_zero(normal, deviation, over, eps)
    return _scaled(normal, weight, bias, F.layer_norm(input.clean, normalized_shape, weight, bias, eps))


def rms_norm(input: Any, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Interval:
    """`F.rms_norm` with a number for `eps`."""
    if eps is None:
        raise UnsupportedOperation("rms_norm with eps=None takes a number that depends on the dtype: give it one")
    over, least = list(range(-len(normalized_shape), 0)), eps
    n = math.prod(normalized_shape)
    normal = _quotient(input, over, n, lambda q: torch.rsqrt(q / n + least), math.sqrt(n), centered=False)
    normal = _where_zero(normal, input, over, eps)
    return _scaled(normal, weight, None, F.rms_norm(input.clean, normalized_shape, weight, eps))


def group_norm(
    input: Any, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Interval:
    """`F.group_norm`: a layer norm of each group of channels."""
    groups = input.reshape(input.shape[0], num_groups, -1)
    normal = layer_norm(groups, groups.shape[-1:], None, None, eps).reshape(input.shape)
    per_channel = [-1] + [1] * (input.dim() - 2)
    scale, shift = (None if each is None else each.view(per_channel) for each in (weight, bias))
    return _scaled(normal, scale, shift, F.group_norm(input.clean, num_groups, weight, bias, eps))


def instance_norm(
    input: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Interval:
    """`F.instance_norm`: a group norm of single channels, or with running statistics a batch norm."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None:
        raise UnsupportedOperation("instance_norm in training, with running statistics, has no rule")
    return group_norm(input, input.shape[1], weight, bias, eps)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: None = None) -> Interval:
    """`F.normalize`."""
    clean = F.normalize(input.clean, p, dim, eps)
    if p != 2.0:
        return shared(div(input, norm(input, p, dim, keepdim=True).clamp(min=eps)), clean=clean)
    over = [dim] if isinstance(dim, int) else list(dim)
    n = math.prod(input.shape[d] for d in over)
    result = _quotient(input, over, n, lambda q: 1 / q.sqrt().clamp(min=eps), 1.0, centered=False)
    return shared(_where_zero(result, input, over, eps), clean=clean)


def _quotient(
    x: Interval, over: list[int], n: int, factor: Callable[[Tensor], Tensor], limit: float, *, centered: bool
) -> Interval:
    """Ends of x_i factor(sum of all squares).

    Args:
        x: n elements each, along the dimensions `over`.
        factor: falls; x_i times it rises in x_i.
        limit: no quotient is greater, whatever x.
        centered: the n elements add up to 0.
    """
    low, high = x.lower, x.upper
    least = torch.where((low <= 0) & (high >= 0), torch.zeros_like(low), torch.minimum(low.abs(), high.abs())).square()
    most = torch.maximum(low.abs(), high.abs()).square()
    rounded, range_ = 2.0 * (n + 8) * x.rounding, torch.finfo(low.dtype)
    # The others' squares: the whole sum less their own, which loses as much as the sum's rounding error. A square that
    # over- or underflows is replaced by the end of the range on its safe side.
    fewest = (
        least.sum(over, keepdim=True).clamp(max=range_.max) * (1 - rounded) - least * (1 + rounded)
    ) - range_.tiny
    all_of_them = most.sum(over, keepdim=True) * (1 + rounded)
    greatest = (all_of_them - most * (1 - rounded)).nan_to_num(nan=math.inf) + range_.tiny
    if bool(x.center.isnan().any()):
        greatest = torch.where(all_of_them.isnan(), all_of_them, greatest)

    def outermost(end: Tensor) -> Tensor:
        others = fewest.clamp(min=0)
        if centered and n > 1:
            others = torch.maximum(others, end.square() * ((1 - rounded) / (n - 1)))
        return end * factor((end.square() + others).clamp(max=range_.max)) * (1 + rounded)

    def innermost(end: Tensor) -> Tensor:
        return end * factor(end.square() + greatest) * (1 - rounded)

    most_of_all = limit * (1 + rounded)
    lower = torch.where(low < 0, outermost(low).clamp(min=-most_of_all), innermost(low))
    upper = torch.where(high > 0, outermost(high).clamp(max=most_of_all), innermost(high))
    return from_ends(x, x.clean, lower, upper)


def _where_zero(result: Interval, x: Interval, over: list[int], eps: float) -> Interval:
    """Without a positive `eps` the quotient of nothing but zeros is none."""
    if eps > 0:
        return result
    zero = ((x.lower <= 0) & (x.upper >= 0)).to(x.clean.dtype).amin(over, keepdim=True) > 0
    return undefined(result, zero.expand(result.shape), "normalization with eps=0")


def _scaled(normal: Interval, weight: Any, bias: Any, clean: Tensor) -> Interval:
    if isinstance(weight, Interval) or isinstance(bias, Interval):
        raise UnsupportedOperation("normalization whose weights are intervals has no rule")
    result = normal if weight is None else mul(normal, weight)
    return shared(result if bias is None else result + bias, clean=clean)


TABLE: dict[Callable[..., Any], Rule] = {
    F.layer_norm: layer_norm,
    F.group_norm: group_norm,
    F.instance_norm: cleanly(F.instance_norm, instance_norm),
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    F.normalize: normalize,
}
